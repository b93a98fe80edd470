//! What one shard counts for one model.

use std::time::Duration;

use super::admission::QueueSeries;
use super::cell::{Counter, Gauge};
use super::histogram::{GAP, Histogram, TOKENS, WAIT};
use super::route::{Course, Reason};
use super::row::Tokens;
use crate::lifecycle::outcome::Outcome;

/// One shard's numbers for one configured model.
#[derive(Debug)]
#[repr(align(128))]
pub struct ModelSeries {
    /// By [`Outcome`], in the order of its discriminants.
    requests: [Counter; Outcome::ALL.len()],
    /// Requests under way.
    pub in_flight: Gauge,
    /// Input tokens of each request that reported them, cached ones included.
    pub input_tokens: Histogram,
    pub output_tokens: Histogram,
    pub cached_tokens: Counter,
    pub cache_write_tokens: Counter,
    pub reasoning_tokens: Counter,
    /// Answers that ended without saying how many tokens they cost.
    pub usage_unknown: Counter,
    /// From the request's first byte to the first event with content.
    pub time_to_first_token: Histogram,
    /// (last token − first token) / (output tokens − 1), once a request.
    pub time_per_output_token: Histogram,
    /// Between two events with content.
    pub event_gap: Histogram,
    /// From the request's first byte to its outcome.
    pub duration: Histogram,
    /// Events with content.
    pub output_events: Counter,
    /// By [`Reason`], in the order of its discriminants.
    routed: [Counter; Reason::ALL.len()],
    /// By [`Course`], in the order of its discriminants.
    paired: [Counter; Course::ALL.len()],
    /// GPU time that requests were expected to take, microseconds.
    pub gpu_micros: Counter,
    /// How far the predicted time to the first token was off, from the attempt on, either way.
    pub first_token_error: Histogram,
    /// By class: requests that wait for a place.
    pub queue: [QueueSeries; 3],
    /// Tenants that wait, in thousandths: each counts as the part of it that is in this shard.
    pub tenants_milli: Gauge,
    /// How long a place is taken here for a token of a prompt, on average; 0 is unknown.
    pub place_nanos: Gauge,
}

impl Default for ModelSeries {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            in_flight: Gauge::default(),
            input_tokens: Histogram::new(&TOKENS),
            output_tokens: Histogram::new(&TOKENS),
            cached_tokens: Counter::default(),
            cache_write_tokens: Counter::default(),
            reasoning_tokens: Counter::default(),
            usage_unknown: Counter::default(),
            time_to_first_token: Histogram::new(&WAIT),
            time_per_output_token: Histogram::new(&GAP),
            event_gap: Histogram::new(&GAP),
            duration: Histogram::new(&WAIT),
            output_events: Counter::default(),
            routed: Default::default(),
            paired: Default::default(),
            gpu_micros: Counter::default(),
            first_token_error: Histogram::new(&WAIT),
            queue: Default::default(),
            tenants_milli: Gauge::default(),
            place_nanos: Gauge::default(),
        }
    }
}

impl ModelSeries {
    /// Counts a request's one outcome.
    #[inline]
    pub fn ended(&self, outcome: Outcome, duration: Duration) {
        self.requests[outcome as usize].inc();
        self.duration.record(duration);
    }

    /// Counts why a request went where it went.
    #[inline]
    pub fn routed(&self, reason: Reason) {
        self.routed[reason as usize].inc();
    }

    /// How many requests went where they went for this reason.
    pub fn routed_for(&self, reason: Reason) -> u64 {
        self.routed[reason as usize].get()
    }

    /// Counts how a request was served whose model has pairs.
    #[inline]
    pub fn paired(&self, course: Course) {
        self.paired[course as usize].inc();
    }

    /// How many requests were served so.
    pub fn paired_as(&self, course: Course) -> u64 {
        self.paired[course as usize].get()
    }

    /// How many requests ended so.
    pub fn requests(&self, outcome: Outcome) -> u64 {
        self.requests[outcome as usize].get()
    }

    /// Books what an answer cost. Call once for each request that reached an upstream.
    pub fn spent(&self, tokens: &Tokens) {
        if tokens.input.is_none() && tokens.output.is_none() {
            self.usage_unknown.inc();
        }
        if let Some(n) = tokens.input {
            self.input_tokens.record_ticks(n);
        }
        if let Some(n) = tokens.output {
            self.output_tokens.record_ticks(n);
        }
        self.cached_tokens.add(tokens.cached.unwrap_or(0));
        self.cache_write_tokens.add(tokens.cache_write.unwrap_or(0));
        self.reasoning_tokens.add(tokens.reasoning.unwrap_or(0));
    }

    /// Books the pace of a streamed answer: `span` from its first to its last token.
    pub fn paced(&self, span: Duration, output_tokens: u64) {
        if let Some(nanos) = (span.as_nanos() as u64).checked_div(output_tokens.saturating_sub(1)) {
            self.time_per_output_token.record(Duration::from_nanos(nanos));
        }
    }
}
