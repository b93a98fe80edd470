//! What one shard counts for one endpoint.

use super::admission::Share;
use super::cell::{Counter, Gauge};
use super::histogram::{Histogram, WAIT};

/// Why an attempt at an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// No resolved address, or refused, unreachable, out of time while connecting.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A reused connection died before a response byte.
    Stale,
    /// The connection died before the answer's head was whole.
    Reset,
    /// The answer was not lawful HTTP.
    BadResponse,
    /// It answered 429.
    Limited,
    /// It answered with another 4xx.
    Rejected,
    /// It answered 5xx.
    ServerError,
    /// No first byte in time.
    Timeout,
    /// Silent for too long inside an answer.
    Stall,
    /// The answer broke off after the commit point.
    Broken,
    /// An error event inside a stream, or an error behind a 200.
    ErrorEvent,
}

impl Failure {
    /// Every class, in the order of its discriminants.
    pub const ALL: [Failure; 12] = [
        Failure::Connect,
        Failure::Tls,
        Failure::Stale,
        Failure::Reset,
        Failure::BadResponse,
        Failure::Limited,
        Failure::Rejected,
        Failure::ServerError,
        Failure::Timeout,
        Failure::Stall,
        Failure::Broken,
        Failure::ErrorEvent,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Tls => "tls",
            Failure::Stale => "stale",
            Failure::Reset => "reset",
            Failure::BadResponse => "bad_response",
            Failure::Limited => "limited",
            Failure::Rejected => "rejected",
            Failure::ServerError => "server_error",
            Failure::Timeout => "timeout",
            Failure::Stall => "stall",
            Failure::Broken => "broken",
            Failure::ErrorEvent => "error_event",
        }
    }
}

/// What an endpoint has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Attempts that hold it.
    pub requests: u64,
    /// Uncached prompt tokens of those that have given no content yet.
    pub prefill_tokens: u64,
    /// Prompt and expected output tokens of all of them.
    pub context_tokens: u64,
}

/// One shard's numbers for one configured endpoint.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct EndpointSeries {
    // What other shards read for each decision comes first: one cache line.
    /// Attempts that hold this endpoint now.
    pub in_flight: Gauge,
    /// Uncached prompt tokens of those that have given no content yet, as estimated.
    pub prefill_tokens: Gauge,
    /// Prompt and expected output tokens of all of them, as estimated.
    pub context_tokens: Gauge,
    /// Its places that are this shard's, if there are only so many.
    pub share: Share,
    /// Tokens of prompts that were expected in this endpoint's cache, of answers that told their number.
    pub cached_expected: Counter,
    /// Those that were there.
    pub cached_got: Counter,
    /// By how many tokens the expectations were wrong, either way.
    pub cached_error: Counter,
    /// Times its cache was found empty, and what was known of it forgotten.
    pub cache_resets: Counter,
    pub attempts: Counter,
    /// Fresh connections made.
    pub connects: Counter,
    /// Attempts that rode on a pooled connection.
    pub reused: Counter,
    failures: [Counter; Failure::ALL.len()],
    /// Pooled connections without a request.
    pub pool_idle: Gauge,
    /// Connections open, idle or not.
    pub pool_open: Gauge,
    /// From the request's last byte sent to the answer's head.
    pub head_wait: Histogram,
}

impl Default for EndpointSeries {
    fn default() -> Self {
        Self {
            in_flight: Gauge::default(),
            prefill_tokens: Gauge::default(),
            context_tokens: Gauge::default(),
            share: Share::default(),
            cached_expected: Counter::default(),
            cached_got: Counter::default(),
            cached_error: Counter::default(),
            cache_resets: Counter::default(),
            attempts: Counter::default(),
            connects: Counter::default(),
            reused: Counter::default(),
            failures: Default::default(),
            pool_idle: Gauge::default(),
            pool_open: Gauge::default(),
            head_wait: Histogram::new(&WAIT),
        }
    }
}

impl EndpointSeries {
    /// Counts one failed attempt, if that was the endpoint's doing.
    #[inline]
    pub fn failed(&self, class: impl Into<Option<Failure>>) {
        if let Some(class) = class.into() {
            self.failures[class as usize].inc();
        }
    }

    /// How many attempts failed so.
    pub fn failures(&self, class: Failure) -> u64 {
        self.failures[class as usize].get()
    }
}
