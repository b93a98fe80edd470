//! Memory of idle streams.

use std::net::TcpListener;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::target::process::{self, Memory};
use crate::target::{self, Bench, Driver, Start, Target};
use crate::traffic::hold::{Held, Silent};

/// Streams that come and stay before the first reading, so that what is allocated once is not counted.
const FIRST: usize = 20;

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Idle {
    pub streams: usize,
    pub before: Memory,
    pub after: Memory,
}

impl Idle {
    /// Resident bytes per stream.
    pub fn rss_each(&self) -> f64 {
        (self.after.rss_bytes as f64 - self.before.rss_bytes as f64) / self.streams as f64
    }
}

/// Opens `streams` streams, each with its connection to the upstream, and lets them idle.
///
/// # Errors
/// One of them does not begin.
pub fn measure(
    bench: &Bench,
    target: Target,
    driver: Driver,
    tls: bool,
    streams: usize,
) -> Result<Idle, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let upstream = listener.local_addr()?;
    let running = target::start(bench, &Start { target, driver, upstream, tls, profile: None })?;
    let _silent = Silent::begin(listener);
    let trust = tls.then(|| bench.scratch.join("tls.crt"));
    let mut held = Held::new();
    held.open(FIRST, running.address, trust.as_deref())?;
    let before = settled(running.child.pid());
    held.open(streams, running.address, trust.as_deref())?;
    let after = settled(running.child.pid());
    Ok(Idle { streams, before, after })
}

fn settled(pid: u32) -> Memory {
    std::thread::sleep(Duration::from_millis(500));
    process::memory(pid)
}
