//! What one server costs: 300 streams at engine pace, and the CPU time of its thread. Says figures and judges
//! none: `cargo test --release -p sluice-sim --test cost -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{counts, start, stream};
use sluice_sim::engine::{EngineConfig, MILLISECOND};
use sluice_sim::server::ServerConfig;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const STREAMS: usize = 300;
const MEASURED: Duration = Duration::from_secs(2);
/// How long all streams may take to begin.
const WARM: Duration = Duration::from_secs(1);

/// CPU nanoseconds of the server's thread so far.
fn server_nanos() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let read = |task: &std::fs::DirEntry, name: &str| {
        std::fs::read_to_string(task.path().join(name)).unwrap_or_default()
    };
    let servers = tasks.filter(|task| read(task, "comm").trim() == "sluice-sim");
    let nanos = servers.map(|task| {
        read(&task, "schedstat").split(' ').next().and_then(|text| text.parse::<u64>().ok())
    });
    nanos.map(|nanos| nanos.unwrap_or(0)).sum()
}

/// Streams that have been asked for.
fn open(addr: SocketAddr) -> Vec<TcpStream> {
    let begun = |_| {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.write_all(stream(100_000, "").as_bytes()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    (0..STREAMS).map(begun).collect()
}

/// Reads whatever comes for so long; the events.
fn read_for(sockets: &mut [TcpStream], time: Duration) -> usize {
    let (end, mut events, mut buffer) = (Instant::now() + time, 0, vec![0; 64 << 10]);
    while Instant::now() < end {
        for socket in &mut *sockets {
            match socket.read(&mut buffer) {
                Ok(count) => {
                    events += buffer[..count].windows(6).filter(|w| *w == b"data: ").count()
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    events
}

#[test]
fn three_hundred_streams_at_engine_pace() {
    for tokens_per_second in [20, 50] {
        let step_base = 1_000 * MILLISECOND / tokens_per_second;
        let engine = EngineConfig {
            step_base,
            step_per_sequence: 0,
            step_per_prefill_token: 0,
            max_num_seqs: STREAMS as u32,
            ..EngineConfig::default()
        };
        let server = start(ServerConfig { engine, ..ServerConfig::default() });
        let mut sockets = open(server.addr);
        read_for(&mut sockets, WARM);
        let (before, began) = (server_nanos(), Instant::now());
        let events = read_for(&mut sockets, MEASURED);
        let (spent, took) = (server_nanos() - before, began.elapsed());
        println!(
            "{STREAMS} streams of {tokens_per_second} tokens a second: {:.1} % of a core, {:.1} us for each of {events} events",
            100.0 * spent as f64 / took.as_nanos() as f64,
            spent as f64 / 1e3 / events.max(1) as f64,
        );
        assert_eq!(counts(server.addr)["requests"]["chat"], STREAMS);
        // All of them run at the engine's pace, as far as this machine lets them.
        assert!(events >= STREAMS, "{events} events");
    }
}
