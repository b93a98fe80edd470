//! How long an endpoint's cache keeps a prompt, counted in what it computes meanwhile.
//!
//! An engine gives up what was used longest ago, when what it computes needs the room. It does not say so;
//! but the cached tokens that it reports show whether a prompt of some age was still there. From these a
//! horizon is learned, in tokens computed since; the prefix table counts it in generations, and believes
//! nothing older than [`GENERATIONS`] of them. Shards tell each other what they send to be computed; what
//! nobody tells, other gateways' load, makes the horizon come out shorter. Where the size of the cache is
//! known, it is the horizon until prompts are found to be lost earlier.

/// Generations of the prefix table that make up the horizon.
pub const GENERATIONS: u8 = 8;
/// Before anything was learned, and at most, where the size of the cache is unknown.
const TOKENS_MAX: f64 = 1_048_576.0;
const TOKENS_MIN: f64 = 8_192.0;
/// A prompt that was lost pulls the horizon this much towards its age.
const LOST_GAIN: f64 = 0.1;
/// One that was old and still there pushes it this much further; one that was not expected, this much.
const KEPT_GAIN: f64 = 0.01;
const UNEXPECTED_GAIN: f64 = 0.02;
/// Expected and got count as equal within this share and these tokens: a block of the table and one of
/// the engine.
const SLACK_SHARE: f64 = 0.05;
const SLACK_TOKENS: f64 = 256.0;

/// One endpoint's horizon.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    tokens: f64,
    /// What the cache holds: it keeps nothing for longer.
    most: f64,
    /// Tokens computed in the present generation.
    computed: f64,
    /// Generations so far.
    passed: u32,
}

impl Default for Horizon {
    fn default() -> Self {
        Self { tokens: TOKENS_MAX, most: TOKENS_MAX, computed: 0.0, passed: 0 }
    }
}

impl Horizon {
    /// The cache holds so many tokens. Until more is learned, that is the horizon.
    pub fn bound(&mut self, kv_tokens: u32) {
        let most = f64::from(kv_tokens).max(TOKENS_MIN);
        if self.most != most {
            (self.most, self.tokens) = (most, most);
        }
    }

    /// So many tokens were sent to be computed, or came out. How many generations are over by that.
    pub fn computes(&mut self, tokens: u32) -> u8 {
        self.computed += f64::from(tokens);
        let generation = self.tokens / f64::from(GENERATIONS);
        let over = (self.computed / generation).floor();
        self.computed -= over * generation;
        let over = over.min(f64::from(GENERATIONS)) as u8;
        self.passed = self.passed.wrapping_add(u32::from(over));
        over
    }

    /// The present generation, counted from the beginning.
    pub fn generation(&self) -> u32 {
        self.passed
    }

    /// Whether what was there in that generation is still believed.
    pub fn reaches(&self, generation: u32) -> bool {
        self.passed.wrapping_sub(generation) < u32::from(GENERATIONS)
    }

    /// An engine reported `got` cached tokens of a prompt of which `expected` were, and which was `age`
    /// generations old; `None` if its age is not known. `block_tokens`: of one of its blocks, where known.
    pub fn learn(&mut self, age: Option<u8>, expected: u64, got: u64, block_tokens: Option<u32>) {
        let (expected, got) = (expected as f64, got as f64);
        let blocks = block_tokens.map_or(SLACK_TOKENS, |tokens| SLACK_TOKENS.max(tokens.into()));
        let slack = blocks + SLACK_SHARE * expected;
        let share = age.map(|age| (f64::from(age) + 0.5) / f64::from(GENERATIONS));
        if expected > got + slack {
            let share = share.unwrap_or(0.5).min(1.0);
            self.tokens -= LOST_GAIN * (1.0 - share) * self.tokens;
        } else if got > expected + slack {
            self.tokens *= 1.0 + UNEXPECTED_GAIN;
        } else if share.is_some_and(|share| share > 0.5) {
            self.tokens *= 1.0 + KEPT_GAIN;
        }
        self.tokens = self.tokens.clamp(TOKENS_MIN, self.most);
    }

    /// Whether a generation is known to be a part of the cache.
    pub fn is_of_the_cache(&self) -> bool {
        self.most < TOKENS_MAX
    }

    /// Tokens.
    pub fn tokens(&self) -> f64 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache that keeps a prompt until `keeps` tokens were computed after it.
    fn learned(mut horizon: Horizon, keeps: f64) -> f64 {
        for turn in 0..4_000_u32 {
            let age = f64::from(turn.wrapping_mul(2_654_435_761) >> 22) / 1_024.0;
            let tokens = age * 1.5 * keeps.max(horizon.tokens());
            let generations = tokens / horizon.tokens() * f64::from(GENERATIONS);
            let believed = generations < f64::from(GENERATIONS);
            let there = tokens < keeps;
            let expected = if believed { 20_000 } else { 0 };
            let age = believed.then_some(generations as u8);
            horizon.learn(age, expected, if there { 20_000 } else { 0 }, None);
        }
        horizon.tokens()
    }

    #[test]
    fn the_horizon_comes_to_where_prompts_are_lost() {
        for keeps in [30_000.0, 200_000.0, 800_000.0] {
            let found = learned(Horizon::default(), keeps);
            assert!((0.7..1.4).contains(&(found / keeps)), "{found} for {keeps}");
            let short = Horizon { tokens: TOKENS_MIN, ..Horizon::default() };
            let again = learned(short, keeps);
            assert!((0.7..1.4).contains(&(again / keeps)), "{again} for {keeps}");
        }
    }

    #[test]
    fn what_is_missing_of_an_engines_last_block_is_not_lost() {
        let mut horizon = Horizon::default();
        horizon.learn(Some(0), 3_000, 3_000 - 540, Some(544));
        assert_eq!(horizon.tokens(), TOKENS_MAX);
        horizon.learn(Some(0), 3_000, 3_000 - 540, Some(16));
        assert!(horizon.tokens() < TOKENS_MAX);
    }

    #[test]
    fn generations_pass_as_tokens_are_computed() {
        let mut horizon = Horizon::default();
        let all: u32 = (0..1_024).map(|_| u32::from(horizon.computes(1_024))).sum();
        assert_eq!(all, u32::from(GENERATIONS));
        assert_eq!(horizon.computes(u32::MAX), GENERATIONS);
    }
}
