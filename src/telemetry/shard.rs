//! What one shard counts about itself.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::admission::Stakes;
use super::cell::{Counter, Gauge};
use super::histogram::{Histogram, WAIT, WORK};
use super::ledger::Board;
use crate::lifecycle::outcome::Outcome;

/// Where a shard is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShardState {
    /// Building its runtime, or being restarted.
    Starting,
    /// Accepting connections.
    Serving,
    /// Not accepting; finishing what it has.
    Draining,
    /// Nothing left; its last ledgers are published.
    Drained,
    /// Its thread is gone.
    Dead,
}

impl ShardState {
    /// Every state, in the order of its discriminants.
    pub const ALL: [ShardState; 5] = [
        ShardState::Starting,
        ShardState::Serving,
        ShardState::Draining,
        ShardState::Drained,
        ShardState::Dead,
    ];

    /// The name in metrics and at the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            ShardState::Starting => "starting",
            ShardState::Serving => "serving",
            ShardState::Draining => "draining",
            ShardState::Drained => "drained",
            ShardState::Dead => "dead",
        }
    }
}

/// The kernel interface a shard came to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DriverInUse {
    /// Not chosen yet.
    None,
    Uring,
    Epoll,
}

impl DriverInUse {
    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            DriverInUse::None => "none",
            DriverInUse::Uring => "uring",
            DriverInUse::Epoll => "epoll",
        }
    }
}

/// The stages of a request whose latency is measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// First byte of the head to last byte of the body.
    Read,
    /// Reading what the request asks for, and whether it may.
    Scan,
    /// Choosing an endpoint and getting a place there.
    Place,
    /// Waiting to be told what engines hold of the prompt.
    Consult,
    /// Waiting for a place.
    Queue,
    /// A fresh connection, handshake included.
    Connect,
    /// Request sent to first byte of the answer.
    FirstByte,
    /// First byte of the answer to its last.
    Relay,
}

impl Stage {
    /// Every stage, in the order of its discriminants.
    pub const ALL: [Stage; 8] = [
        Stage::Read,
        Stage::Scan,
        Stage::Place,
        Stage::Consult,
        Stage::Queue,
        Stage::Connect,
        Stage::FirstByte,
        Stage::Relay,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Scan => "scan",
            Stage::Place => "place",
            Stage::Consult => "consult",
            Stage::Queue => "queue",
            Stage::Connect => "connect",
            Stage::FirstByte => "first_byte",
            Stage::Relay => "relay",
        }
    }

    /// Sluice's own work, counted in nanoseconds; the others wait for someone else, in
    /// microseconds.
    pub const fn own_work(self) -> bool {
        matches!(self, Stage::Scan | Stage::Place)
    }
}

/// One shard's numbers about itself.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardSeries {
    state: AtomicU8,
    driver: AtomicU8,
    /// Submission queue entries of the ring, 0 without one.
    pub ring_entries: Gauge,
    /// Generation of the plan that new requests get.
    pub plan_generation: Gauge,
    pub ticks: Counter,
    /// Time spent working rather than waiting, microseconds.
    pub busy_micros: Counter,

    pub connections_open: Gauge,
    pub connections_accepted: Counter,
    /// Closed at once: over a limit.
    pub connections_refused: Counter,
    /// Given to another shard before their first read.
    pub connections_handed_off: Counter,
    /// Answers being relayed event by event.
    pub streams_open: Gauge,
    /// Request body bytes held.
    pub body_bytes_held: Gauge,
    /// Blocks of prompts in the prefix table, of those that fit, and those that made room.
    pub prefix_blocks: Gauge,
    pub prefix_blocks_max: Gauge,
    pub prefix_evictions: Counter,
    /// News of prompts from other shards, to them, and lost on the way to them.
    pub news_heard: Counter,
    pub news_told: Counter,
    pub news_lost: Counter,
    /// Requests whose model is not known, by [`Outcome`].
    unrouted: [Counter; Outcome::ALL.len()],
    /// Time a request spent in Sluice and not waiting for a peer.
    pub overhead: Histogram,
    stages: [Histogram; Stage::ALL.len()],

    /// What tenants have here, where places are limited.
    pub stakes: Stakes,
    pub ledgers: Board,
    /// Epochs whose ledgers did not balance.
    pub ledger_faults: Counter,
    /// Panics caught.
    pub panics: Counter,
    /// Times its thread was started anew; whoever restarts it counts, after the old one is gone.
    /// The control plane then sends the present plan and views again.
    pub restarts: Counter,
}

impl Default for ShardSeries {
    fn default() -> Self {
        let stage = |stage: Stage| Histogram::new(if stage.own_work() { &WORK } else { &WAIT });
        Self {
            state: AtomicU8::new(ShardState::Starting as u8),
            driver: AtomicU8::new(DriverInUse::None as u8),
            ring_entries: Gauge::default(),
            plan_generation: Gauge::default(),
            ticks: Counter::default(),
            busy_micros: Counter::default(),
            connections_open: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_handed_off: Counter::default(),
            streams_open: Gauge::default(),
            body_bytes_held: Gauge::default(),
            prefix_blocks: Gauge::default(),
            prefix_blocks_max: Gauge::default(),
            prefix_evictions: Counter::default(),
            news_heard: Counter::default(),
            news_told: Counter::default(),
            news_lost: Counter::default(),
            unrouted: Default::default(),
            overhead: Histogram::new(&WORK),
            stages: Stage::ALL.map(stage),
            stakes: Stakes::default(),
            ledgers: Board::default(),
            ledger_faults: Counter::default(),
            panics: Counter::default(),
            restarts: Counter::default(),
        }
    }
}

impl ShardSeries {
    /// Announces a state. What the shard wrote before is seen by whoever sees the state.
    pub fn set_state(&self, state: ShardState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// The last announced state.
    pub fn state(&self) -> ShardState {
        ShardState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    /// Announces the driver and, for io_uring, the ring's entries.
    pub fn set_driver(&self, driver: DriverInUse, ring_entries: u32) {
        self.ring_entries.set(u64::from(ring_entries));
        self.driver.store(driver as u8, Ordering::Release);
    }

    /// The announced driver.
    pub fn driver(&self) -> DriverInUse {
        match self.driver.load(Ordering::Acquire) {
            1 => DriverInUse::Uring,
            2 => DriverInUse::Epoll,
            _ => DriverInUse::None,
        }
    }

    /// Counts one stage of one request.
    #[inline]
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].record(took);
    }

    /// A stage's histogram.
    pub fn stage_histogram(&self, stage: Stage) -> &Histogram {
        &self.stages[stage as usize]
    }

    /// Counts the one outcome of a request that named no known model.
    #[inline]
    pub fn ended_unrouted(&self, outcome: Outcome) {
        self.unrouted[outcome as usize].inc();
    }

    /// How many requests without a known model ended so.
    pub fn unrouted(&self, outcome: Outcome) -> u64 {
        self.unrouted[outcome as usize].get()
    }
}
