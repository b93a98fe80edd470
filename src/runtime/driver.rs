//! Which kernel interface the shards use, and the thread each of them runs on.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::config::plan::Driver;

/// Fewest submission entries worth having; below this epoll is the better driver. monoio builds no
/// smaller ring.
const RING_ENTRIES_MIN: u32 = 256;
/// A ring of the probe is uncharged from RLIMIT_MEMLOCK a moment after it is closed; so long the real one is
/// tried again.
const RING_BUILD_PATIENCE: Duration = Duration::from_secs(2);

/// The driver kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Uring,
    Epoll,
}

/// When a ring's completions run, the best way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completions {
    /// Only when the shard asks for them (Linux 6.1): its other system calls do not pay for them.
    Deferred,
    /// On the shard's own system calls instead of interrupting it (Linux 5.19).
    Cooperative,
    /// As the kernel likes.
    Plain,
}

/// What was chosen for all shards, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    pub kind: Kind,
    /// Submission queue entries per ring; 0 with epoll.
    pub entries: u32,
    /// How the ring runs its completions.
    pub completions: Completions,
    /// One line for the log.
    pub why: String,
}

thread_local! {
    static CURRENT: Cell<Kind> = const { Cell::new(Kind::Epoll) };
}

/// The driver of the shard on this thread.
pub fn current() -> Kind {
    CURRENT.get()
}

impl Kind {
    /// The name in the log and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Uring => "io_uring",
            Kind::Epoll => "epoll",
        }
    }
}

/// Chooses by building the real rings, all shards' at once: rings count against RLIMIT_MEMLOCK.
///
/// # Errors
/// The kernel's refusal, when the configuration insists on io_uring.
pub fn choose(wanted: Driver, shards: usize, entries: u32) -> io::Result<Choice> {
    if wanted == Driver::Epoll {
        return Ok(epoll("the configuration asks for epoll".into()));
    }
    match probe(shards, entries) {
        Ok(choice) => Ok(choice),
        Err(error) if wanted == Driver::Uring => Err(io::Error::new(
            error.kind(),
            format!("runtime.driver = \"uring\", but no ring for each of {shards} shards: {error}"),
        )),
        Err(error) => Ok(epoll(format!("io_uring refused: {error}"))),
    }
}

fn epoll(why: String) -> Choice {
    Choice { kind: Kind::Epoll, entries: 0, completions: Completions::Plain, why }
}

fn probe(shards: usize, wanted: u32) -> io::Result<Choice> {
    let mut entries = wanted.max(RING_ENTRIES_MIN).next_power_of_two();
    loop {
        let ways = [Completions::Deferred, Completions::Cooperative, Completions::Plain];
        let mut tried = Err(io::ErrorKind::Unsupported.into());
        for way in ways {
            tried = tried.or_else(|_: io::Error| rings(shards, entries, way).map(|()| way));
        }
        match tried {
            Ok(completions) => {
                let why = format!("a real ring for each of {shards} shards, {entries} entries");
                return Ok(Choice { kind: Kind::Uring, entries, completions, why });
            }
            Err(error) if entries == RING_ENTRIES_MIN => return Err(error),
            Err(_) => entries /= 2,
        }
    }
}

fn rings(shards: usize, entries: u32, completions: Completions) -> io::Result<()> {
    let mut held = Vec::with_capacity(shards);
    for _ in 0..shards {
        let ring = ring_builder(completions).build(entries)?;
        if !ring.params().is_feature_ext_arg() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "kernel older than 5.11"));
        }
        held.push(ring);
    }
    Ok(())
}

fn ring_builder(completions: Completions) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    match completions {
        // The thread that builds the ring must be the only one that enters it: shards build their own.
        Completions::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
        Completions::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
        Completions::Plain => &mut builder,
    };
    builder
}

/// Runs `main` to its end on this thread, which should be pinned already. The ring is built here: built
/// elsewhere, it would spin with dead timers.
///
/// # Errors
/// The kernel's, when the driver cannot be built after all.
pub fn block_on<F: Future>(choice: &Choice, main: impl FnOnce() -> F) -> io::Result<F::Output> {
    CURRENT.set(choice.kind);
    match choice.kind {
        Kind::Uring => {
            let mut runtime = patiently(|| {
                RuntimeBuilder::<IoUringDriver>::new()
                    .with_entries(choice.entries)
                    .uring_builder(ring_builder(choice.completions))
                    .enable_timer()
                    .build()
            })?;
            Ok(runtime.block_on(async { main().await }))
        }
        Kind::Epoll => {
            let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
            Ok(runtime.block_on(async { main().await }))
        }
    }
}

fn patiently<T>(mut build: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = std::time::Instant::now();
    loop {
        match build() {
            Err(_) if began.elapsed() < RING_BUILD_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}
