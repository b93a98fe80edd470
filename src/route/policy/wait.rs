//! The predicted time to first token on one endpoint, in its parts.

use crate::route::candidate::{Candidate, Question};

/// Slower than any engine: keeps a rate that is not a number from making an endpoint look instant.
const RATE_MIN: f32 = 1.0;

/// Seconds until the first token, by what they are spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wait {
    /// Prompts that are ahead.
    pub queue: f32,
    /// What the cache does not hold of this prompt.
    pub own: f32,
    /// The step under way, slowed down by the batch.
    pub step: f32,
    /// Until enough KV blocks are free.
    pub memory: f32,
    /// What it took longer than predicted of late.
    pub lag: f32,
}

impl Wait {
    /// All of it.
    pub fn seconds(&self) -> f32 {
        self.ahead() + self.own
    }

    /// What this request finds there, whatever its own size.
    pub fn ahead(&self) -> f32 {
        self.queue + self.step + self.memory + self.lag
    }
}

/// Predicts the wait of `question` at `candidate`.
pub fn wait(question: &Question, candidate: &Candidate) -> Wait {
    let rate = prefill_rate(candidate);
    let uncached = uncached_tokens(question, candidate);
    Wait {
        queue: candidate.prefill_tokens as f32 / rate,
        own: uncached / rate,
        step: positive(candidate.decode_seconds),
        memory: memory_seconds(question, candidate, uncached),
        lag: positive(candidate.lag_seconds),
    }
}

/// Tokens per second.
pub fn prefill_rate(candidate: &Candidate) -> f32 {
    candidate.prefill_rate.max(RATE_MIN)
}

/// Seconds that it takes to compute what is not cached there.
pub fn uncached_seconds(question: &Question, candidate: &Candidate) -> f32 {
    uncached_tokens(question, candidate) / prefill_rate(candidate)
}

/// Tokens to compute: the last one always is.
fn uncached_tokens(question: &Question, candidate: &Candidate) -> f32 {
    question.input_tokens.saturating_sub(candidate.cached_tokens).max(1) as f32
}

/// Blocks are freed as requests end: on average one of them has half of its answer still to come.
fn memory_seconds(question: &Question, candidate: &Candidate, uncached: f32) -> f32 {
    let Some(capacity) = candidate.kv_tokens else { return 0.0 };
    let capacity = capacity as f32;
    // Our own sum is of this moment, but counts what prompts share more than once; the engine's word is
    // true, but a scrape old: neither alone says that the cache is full.
    let ours = candidate.context_tokens as f32;
    let used = candidate.kv_use.map_or(ours, |share| ours.min(positive(share) * capacity));
    let lacking = used + uncached - capacity;
    if lacking <= 0.0 {
        return 0.0;
    }
    let answer = question.output_tokens as f32 * positive(candidate.decode_seconds);
    answer * (lacking / capacity.max(1.0)).min(8.0)
}

/// Nothing below zero, and nothing that is not a number.
fn positive(value: f32) -> f32 {
    value.max(0.0)
}
