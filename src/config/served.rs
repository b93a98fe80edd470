//! How names are served: pairs of servers, splits, aliases, shadows.

use std::time::Duration;

use super::plan::{ArmId, EndpointId, ModelId, Target};

/// Models, at most: each costs a set of time series in every shard.
pub const MODELS_MAX: usize = 4_096;

/// How the two servers of a pair hand a prompt's KV blocks over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairProtocol {
    /// vLLM: prefill first; its answer tells where the blocks are, and decode fetches them.
    Nixl,
    /// SGLang: both at once; they meet at the prefill server's bootstrap port.
    Sglang,
}

/// One `[[pairs]]` table.
#[derive(Clone, Debug)]
pub struct Pair {
    pub protocol: PairProtocol,
    pub prefill: Vec<EndpointId>,
    /// Those that can do all of a request by themselves.
    pub whole: Vec<EndpointId>,
    /// Prompts with fewer tokens to compute are not split.
    pub uncached_tokens_min: u32,
    /// How long either half may take before it is given up for a server that does all.
    pub prefill_timeout: Duration,
    /// How long an engine keeps blocks that nobody fetches.
    pub lease: Duration,
}

/// One `[[shadows]]` table.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Whose requests are copied.
    pub of: ModelId,
    /// Who gets the copies; no endpoint is both's.
    pub to: ModelId,
    /// Of its requests, 1 to 100.
    pub percent: u32,
}

/// One `[[splits]]` table.
#[derive(Clone, Debug)]
pub struct Split {
    pub name: Box<str>,
    pub stick: Stick,
    /// At least one has a weight.
    pub arms: Vec<Arm>,
}

/// One model of a split.
#[derive(Clone, Debug)]
pub struct Arm {
    pub model: ModelId,
    /// Its share, against the other arms'; 0: none.
    pub weight: u32,
    /// Of the split's name and the model's, so that nothing else decides who is drawn to it.
    pub seed: u64,
    pub id: ArmId,
}

/// What stays with an arm once it came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stick {
    /// The client's session.
    Session,
    /// The client's key.
    Key,
    /// Nothing: each request is drawn by itself.
    Request,
}

/// One `[[aliases]]` table.
#[derive(Clone, Debug)]
pub struct Alias {
    pub name: Box<str>,
    pub target: Target,
}
