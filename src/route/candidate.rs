//! What a policy is asked and what it answers: plain values, no I/O, time as a parameter.
//!
//! Invariants: a [`Ranking`] holds each candidate once, every healthy one before every unhealthy one; its
//! memory is reused, so ranking does not allocate once it has seen the largest model.

use crate::config::plan::EndpointId;
pub use crate::telemetry::route::Reason;

/// Nanoseconds since a moment that the caller chose.
pub type Nanos = u64;

/// Endpoints tried for one request, at most.
pub const ATTEMPTS_MAX: usize = 4;

/// What a policy may know of one endpoint for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub endpoint: EndpointId,
    /// What rendezvous hashes: the router fills in what stays the same over reloads.
    pub identity: u64,
    /// False once health probes failed.
    pub healthy: bool,
    /// As configured; 1 by default, 0 counts as 1.
    pub weight: u32,
    /// Attempts that hold it now, all shards together.
    pub requests: u64,
    /// Uncached prompt tokens in flight there that have no first token yet, all shards together.
    pub prefill_tokens: u64,
    /// Prompt and expected output tokens of all live requests there: the estimate of its KV use.
    pub context_tokens: u64,
    /// Tokens of this prompt that its cache is expected to hold.
    pub cached_tokens: u32,
    /// Tokens per second, learned, or the prior.
    pub prefill_rate: f32,
    /// Seconds per output token at the present batch, learned, or the prior.
    pub decode_seconds: f32,
    /// Seconds by which first tokens took longer there of late than was predicted.
    pub lag_seconds: f32,
    /// The engine's own word, while fresh: share of its KV cache in use, 0 to 1.
    pub kv_use: Option<f32>,
    /// The engine's own word, while fresh: sequences in its batch.
    pub running: Option<u32>,
    /// The engine's own word, while fresh: sequences in its queue.
    pub waiting: Option<u32>,
    /// Tokens that its KV cache holds, where the geometry is known.
    pub kv_tokens: Option<u32>,
    /// Tokens of one block of that cache, where it is known.
    pub block_tokens: Option<u32>,
    /// Relative cost of its work; 0 is unknown.
    pub price: f32,
}

impl Candidate {
    /// An endpoint that is healthy and has nothing to do, of which nothing else is known.
    pub const fn idle(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            identity: endpoint.0 as u64,
            healthy: true,
            weight: 1,
            requests: 0,
            prefill_tokens: 0,
            context_tokens: 0,
            cached_tokens: 0,
            prefill_rate: 0.0,
            decode_seconds: 0.0,
            lag_seconds: 0.0,
            kv_use: None,
            running: None,
            waiting: None,
            kv_tokens: None,
            block_tokens: None,
            price: 0.0,
        }
    }
}

/// What a policy may know of the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Prompt tokens, estimated or known.
    pub input_tokens: u32,
    /// Output tokens expected.
    pub output_tokens: u32,
    /// Where a cold prompt belongs: equal for prompts that begin alike.
    pub anchor: u64,
    /// The client's session, or what the model's policy hashes instead.
    pub session: Option<u64>,
    /// Where the known part of the prompt ends, another one went on differently a moment ago.
    pub forked: bool,
    /// Share of the endpoints' requests that others sent there, 0 to 1.
    pub others: f32,
    /// Counts this model's requests on this shard.
    pub turn: u64,
    /// Fresh random bits.
    pub random: u64,
}

/// One candidate's place in a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    pub endpoint: EndpointId,
    /// Lower is better, in the policy's own unit (seconds for `predicted-ttft`).
    pub score: f32,
    pub healthy: bool,
    /// Decides between equal scores: lower is better.
    pub(super) tie: u32,
}

/// Candidates in the order in which to try them; the memory of one ranking after another.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    pub(super) scores: Vec<Score>,
}

impl Ranking {
    /// The endpoints to try, best first: at most [`ATTEMPTS_MAX`].
    pub fn attempts(&self) -> &[Score] {
        &self.scores[..self.scores.len().min(ATTEMPTS_MAX)]
    }

    /// Every candidate, best first as far as [`Ranking::attempts`] goes, the rest in any order.
    pub fn scores(&self) -> &[Score] {
        &self.scores
    }

    /// The endpoint to try first; `None` without candidates.
    pub fn first(&self) -> Option<EndpointId> {
        self.scores.first().map(|score| score.endpoint)
    }
}
