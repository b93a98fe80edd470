//! Looks at a peer and at the servers several times a second while a load runs, by the wall clock, so that
//! the load generator's own account of when it measured can be laid beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::servers;
use crate::target::process;
use crate::target::tree::{self, Meter};

/// Between two looks: rare enough not to be in the load's way on the CPU they share.
const PERIOD: Duration = Duration::from_millis(200);
/// Looks between two searches for new processes, which cost a millisecond.
const LOOKS_PER_SEARCH: usize = 10;

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Microseconds since 1970.
    pub at_us: u64,
    /// CPU of the peer's tree so far.
    pub peer_us: u64,
    /// CPU of the servers so far.
    pub servers_us: u64,
    pub rss_kib: u64,
    /// Busy time of the peers' first CPU and of the load's, whoever used it.
    pub busy_us: [u64; 2],
}

/// Microseconds of a jiffy in the kernel's accounts.
const JIFFY_US: u64 = 10_000;

/// What is looked at.
pub struct Watched {
    /// The peer's keeper, where there is a peer.
    pub keeper: Option<u32>,
    pub servers: Vec<u32>,
    /// The peers' first CPU and the load's.
    pub cpus: [usize; 2],
}

/// Samples that are being taken, until [`Sampler::stop`].
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Begins.
    pub fn start(watched: Watched) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut meter = Meter::default();
            let mut samples = Vec::new();
            loop {
                let last = stopped.load(Ordering::Relaxed);
                if let Some(keeper) = watched.keeper
                    && (last || samples.len() % LOOKS_PER_SEARCH == 0)
                {
                    meter.search(keeper);
                }
                samples.push(look(&mut meter, &watched));
                if last {
                    return samples;
                }
                std::thread::sleep(PERIOD);
            }
        });
        Self { stop, thread }
    }

    /// All samples, the last one taken now.
    pub fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn look(meter: &mut Meter, watched: &Watched) -> Sample {
    Sample {
        peer_us: meter.read_us(),
        servers_us: servers::Running::cpu_nanos(&watched.servers) / 1_000,
        busy_us: watched.cpus.map(|cpu| process::cpu_jiffies(cpu).0 * JIFFY_US),
        rss_kib: tree::rss_kib(meter.pids()),
        at_us: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_micros() as u64),
    }
}

/// What `of` grew by between two moments; between samples it grows evenly.
pub fn growth(samples: &[Sample], from_us: u64, to_us: u64, of: fn(&Sample) -> u64) -> f64 {
    (at(samples, to_us, of) - at(samples, from_us, of)).max(0.0)
}

fn at(samples: &[Sample], moment_us: u64, of: fn(&Sample) -> u64) -> f64 {
    let next = samples.partition_point(|sample| sample.at_us < moment_us);
    let (before, after) = match (next.checked_sub(1), samples.get(next)) {
        (None, None) => return 0.0,
        (Some(last), None) => return of(&samples[last]) as f64,
        (None, Some(first)) => return of(first) as f64,
        (Some(before), Some(after)) => (&samples[before], after),
    };
    let share = (moment_us - before.at_us) as f64 / (after.at_us - before.at_us).max(1) as f64;
    // A server that was replaced in between has used less than the one before it.
    of(before) as f64 + share * (of(after) as f64 - of(before) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_even_between_samples() {
        let sample = |at_us, peer_us| Sample { at_us, peer_us, ..Sample::default() };
        let samples = [sample(100, 0), sample(200, 50), sample(300, 150)];
        let grown = |from, to| growth(&samples, from, to, |sample| sample.peer_us);
        assert_eq!(grown(100, 300), 150.0);
        assert_eq!(grown(150, 250), 75.0);
        assert_eq!(grown(0, 1000), 150.0);
        assert_eq!(growth(&[], 0, 10, |sample| sample.peer_us), 0.0);
    }
}
