//! What the simulated servers say of a measurement afterwards.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::scenario::{Scenario, ServerKind};

/// One note with what all servers counted, where they count.
pub fn of_servers(scenario: &Scenario, servers: &[SocketAddr]) -> Option<String> {
    if scenario.servers.kind != ServerKind::Sim {
        return None;
    }
    let counts: Vec<Value> = servers.iter().filter_map(|at| counts(*at)).collect();
    let sum = |name: &str| counts.iter().filter_map(|it| it.get(name)?.as_u64()).sum::<u64>();
    let parts = ["completed", "aborted", "errors", "faulted"].map(|name| {
        let count = sum(name);
        format!("{count} {name}")
    });
    (!counts.is_empty()).then(|| format!("servers: {}", parts.join(", ")))
}

fn counts(at: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /sim/counts HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    serde_json::from_str(said.split_once("\r\n\r\n")?.1).ok()
}
