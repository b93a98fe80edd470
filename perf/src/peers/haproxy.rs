//! HAProxy: `http-no-delay` for streamed answers, `abortonclose` so that a client that leaves is noticed,
//! buffers of 64 KiB, connections to the servers shared by all clients.

use std::path::PathBuf;

use rustix::process::Signal;

use super::{Peer, Places, Plan, Version, Wanted, command, on_path, written};
use crate::Failure;

pub const PEER: Peer = Peer {
    name: "haproxy",
    install: "apt-get install -y haproxy",
    find,
    version: Version::Says(&["-v"]),
    plan,
    balances: true,
};

fn find(places: &Places) -> Option<PathBuf> {
    on_path("haproxy", places)
}

fn plan(wanted: &Wanted<'_>) -> Result<Plan, Failure> {
    let config = config(wanted);
    let file = written(wanted.dir, "haproxy.cfg", &config)?;
    // A master and its worker, in the foreground: only so can it reload.
    let command = command(wanted.program, &["-W", "-db", "-f", &file]);
    Ok(Plan { command, config, reload: Some(Signal::USR2), ..Plan::default() })
}

fn config(wanted: &Wanted<'_>) -> String {
    let (listen, threads) = (wanted.listen, wanted.cpus);
    let server = |(index, at)| format!("  server s{index} {at} check inter 1s fall 2 rise 1\n");
    let servers: String = wanted.upstreams.iter().enumerate().map(server).collect();
    format!(
        "global
  nbthread {threads}
  maxconn 8192
  tune.bufsize 65536
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 75s
  option http-no-delay
  option abortonclose
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
  http-reuse always
frontend clients
  bind {listen} backlog 4096
  default_backend servers
backend servers
  balance roundrobin
  option httpchk GET /health
{servers}"
    )
}
