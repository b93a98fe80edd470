//! nginx: buffering off, as its documentation says for streamed answers; keep-alive to the servers, which it
//! must be told; request bodies held in memory.

use std::path::PathBuf;

use rustix::process::Signal;

use super::{Peer, Places, Plan, Version, Wanted, command, on_path, written};
use crate::Failure;

pub const PEER: Peer = Peer {
    name: "nginx",
    install: "apt-get install -y nginx",
    find,
    version: Version::Says(&["-v"]),
    plan,
    balances: true,
};

fn find(places: &Places) -> Option<PathBuf> {
    on_path("nginx", places)
}

fn plan(wanted: &Wanted<'_>) -> Result<Plan, Failure> {
    let config = config(wanted);
    let file = written(wanted.dir, "nginx.conf", &config)?;
    let command = command(wanted.program, &["-c", &file, "-e", "stderr"]);
    Ok(Plan { command, config, reload: Some(Signal::HUP), ..Plan::default() })
}

fn config(wanted: &Wanted<'_>) -> String {
    let (dir, listen, workers) = (wanted.dir.display(), wanted.listen, wanted.cpus);
    let servers: String =
        wanted.upstreams.iter().map(|server| format!("    server {server};\n")).collect();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {dir}/{kind};\n"))
        .concat();
    format!(
        "daemon off;
user root;
worker_processes {workers};
worker_rlimit_nofile 65536;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
{places}  keepalive_timeout 75s;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  client_body_buffer_size 4m;
  tcp_nodelay on;
  upstream servers {{
{servers}    keepalive 2048;
    keepalive_requests 100000000;
    keepalive_timeout 60s;
  }}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_connect_timeout 5s;
      proxy_send_timeout 600s;
      proxy_read_timeout 600s;
      proxy_next_upstream error timeout non_idempotent;
    }}
  }}
}}
"
    )
}
