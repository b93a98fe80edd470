//! What an engine is: its speed, its batch limits and its cache geometry.

/// Nanoseconds since a moment the caller chose. The model never reads a clock.
pub type Time = u64;

/// One millisecond in [`Time`] units.
pub const MILLISECOND: Time = 1_000_000;

/// One second in [`Time`] units.
pub const SECOND: Time = 1_000_000_000;

/// The shape of one simulated engine. `Default` resembles an 8B model on one large GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Tokens per KV block; only whole blocks are cached.
    pub block_size: u32,
    /// KV blocks in the pool: the cache and all running sequences share them.
    pub kv_blocks: u32,
    /// Sequences that may run in one batch.
    pub max_num_seqs: u32,
    /// Tokens of one step: every decoding sequence takes one, prefill chunks share the rest.
    pub max_num_batched_tokens: u32,
    /// What a step costs before any work.
    pub step_base: Time,
    /// What each decoding sequence adds to a step.
    pub step_per_sequence: Time,
    /// What each prefilled token adds to a step.
    pub step_per_prefill_token: Time,
    /// Whether blocks are found again by content.
    pub prefix_caching: bool,
    /// Draft tokens tried per decode step (0 = plain decoding).
    pub draft_tokens: u32,
    /// Chance in a thousand that each next draft token is accepted.
    pub draft_acceptance_permille: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            block_size: 16,
            kv_blocks: 65_536,
            max_num_seqs: 256,
            max_num_batched_tokens: 8_192,
            step_base: 20 * MILLISECOND,
            step_per_sequence: 50_000,
            step_per_prefill_token: prefill_cost(20_000.0),
            prefix_caching: true,
            draft_tokens: 0,
            draft_acceptance_permille: 0,
        }
    }
}

impl EngineConfig {
    /// The same engine with steps that take no time at all.
    pub fn instant(mut self) -> Self {
        self.step_base = 0;
        self.step_per_sequence = 0;
        self.step_per_prefill_token = 0;
        self
    }

    /// Tokens that the whole pool holds: no sequence may need more.
    pub fn capacity_tokens(&self) -> u64 {
        u64::from(self.block_size) * u64::from(self.kv_blocks)
    }
}

/// The cost of one prefilled token at `tokens_per_second`; not a positive number means free.
pub fn prefill_cost(tokens_per_second: f64) -> Time {
    if tokens_per_second > 0.0 { (SECOND as f64 / tokens_per_second).round() as Time } else { 0 }
}
