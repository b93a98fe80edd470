//! What one shard publishes of places and of waiting for them, for the bank and for the other shards.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::{Counter, Gauge};
use super::histogram::{Histogram, WAIT};

/// One shard's share of an endpoint's places. `ordered` is written by the bank alone, everything else by the
/// shard alone; what the words mean, and why no more is used than there is, belongs to routing.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Share {
    ordered: AtomicU64,
    held: AtomicU64,
    /// Places taken.
    pub used: Gauge,
    /// Requests that wait and could go there.
    pub wanted: Gauge,
    /// The shard's present plan, for requests that keep an earlier one: its `requests_max`, 0 for no bound,
    /// and its `kv_percent_max`.
    pub requests_max: Gauge,
    pub kv_percent_max: Gauge,
}

impl Share {
    /// The bank's last word.
    pub fn ordered(&self) -> u64 {
        self.ordered.load(Ordering::Acquire)
    }

    /// The bank speaks.
    pub fn order(&self, word: u64) {
        self.ordered.store(word, Ordering::Release);
    }

    /// The shard's last word.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// The shard answers.
    pub fn hold(&self, word: u64) {
        self.held.store(word, Ordering::Release);
    }
}

/// Tenants that can be told apart, by hash, when their requests are summed over shards.
pub const STAKES: usize = 1_024;

/// Tokens that a shard's tenants have waiting or under way, by hash of model and tenant.
#[derive(Debug)]
pub struct Stakes(Box<[Gauge]>);

impl Default for Stakes {
    fn default() -> Self {
        Self((0..STAKES).map(|_| Gauge::default()).collect())
    }
}

impl Stakes {
    /// One tenant's tokens (and of those who share its hash).
    pub fn of(&self, hash: u64) -> &Gauge {
        &self.0[hash as usize % STAKES]
    }
}

/// Why a request that had to wait for a place was sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The queue was full.
    Full,
    /// It waited as long as it may.
    Late,
    /// It gave way to a more urgent one, or to a tenant with less in the queue.
    Displaced,
}

impl Refusal {
    /// Every refusal, in the order of its discriminants.
    pub const ALL: [Refusal; 3] = [Refusal::Full, Refusal::Late, Refusal::Displaced];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::Late => "late",
            Refusal::Displaced => "displaced",
        }
    }
}

/// One shard's queue for one model, one class of it.
#[derive(Debug)]
pub struct QueueSeries {
    /// Requests that wait.
    pub waiting: Gauge,
    /// How long those waited that got a place.
    pub wait: Histogram,
    refused: [Counter; Refusal::ALL.len()],
}

impl Default for QueueSeries {
    fn default() -> Self {
        let (waiting, wait) = (Gauge::default(), Histogram::new(&WAIT));
        Self { waiting, wait, refused: Default::default() }
    }
}

impl QueueSeries {
    /// Counts one that was sent away.
    pub fn refuse(&self, why: Refusal) {
        self.refused[why as usize].inc();
    }

    /// How many were sent away for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].get()
    }
}
