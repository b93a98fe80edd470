//! How fast an endpoint is: prefill rate and decode time, learned from what its answers show.
//!
//! An engine takes prompts in the order they come, so one that waited for another began when the other's
//! first token came out. What was computed between two first tokens, over the time between them, is the
//! rate, without a share of the queue to guess. A straight line through such pieces (time = base +
//! tokens / rate) keeps the fixed cost of a step apart from the cost of tokens. The line's shape is
//! learned slowly and its scale quickly, so that a machine that throttles is known within some ten
//! requests.
//!
//! Invariants: no allocation; one outlier moves nothing far; without samples there is no rate, and [`Prior`]
//! helps out.

use std::collections::VecDeque;

use crate::route::candidate::Nanos;

/// A piece that lies this far from the line (as a logarithm: about twice, or half) was something else: a
/// cache that had lost what was expected there, a client that read slowly. It moves the scale alone…
const OUTLIER: f64 = 0.7;
/// …and like every other no further than if it lay this far off.
const STEP_MAX: f64 = 0.5;
/// A decode time counts at most this many times the mean, and at least this part of it.
const DECODE_OUTLIER: f64 = 4.0;
/// Each new piece of the line weighs this much against all earlier ones together.
const SHAPE_GAIN: f64 = 1.0 / 48.0;
/// The same for the scale.
const SCALE_GAIN: f64 = 1.0 / 12.0;
/// Steps that wait for the ends of their answers, where engines tell what they computed.
const STEPS_MAX: usize = 64;
/// Pieces before the rate is trusted.
const PIECES_MIN: u32 = 4;
/// Pieces that ended this close together belong to one step of the engine, nanoseconds.
const STEP_NANOS: Nanos = 2_000_000;
/// Each first token weighs this much in the lag, which is half forgotten after this many seconds.
const LAG_GAIN: f64 = 0.1;
const LAG_HALF_SECONDS: f64 = 5.0;
/// Without better knowledge, a step costs as much as this many tokens: what a GPU computes while it reads
/// its weights once.
const BASE_TOKENS: f64 = 350.0;
/// Prompts must differ by more than this for the line to follow them alone.
const SPREAD_TOKENS: f64 = 1_000.0;
/// A piece counts as much as its tokens, of these and its own together. Of a short prompt's time most is the
/// step that it had to wait for, which says nothing of the rate; and who seems slow gets short prompts
/// alone, so their word would keep it seeming slow, idle beside full ones.
const TELLING_TOKENS: f64 = 1_000.0;
/// A rate is taken for the fleet's own unless it is further off than this, as a logarithm: a factor of 1.6.
/// Among equal endpoints the differences that are learned come from what each happened to be sent, and
/// routing by them feeds on itself: who seems slow gets short prompts alone, and learns the less.
const DOUBT: f32 = 0.5;

/// The first content of one answer.
#[derive(Clone, Copy, Debug)]
pub struct FirstContent {
    /// When the request was sent.
    pub dispatched: Nanos,
    /// When its first content came.
    pub now: Nanos,
    /// Uncached prompt tokens in flight there, without a first token, when it was sent; all shards.
    pub ahead_tokens: u64,
    /// What was predicted, without the lag.
    pub predicted_seconds: f32,
}

/// What is known of one endpoint's speed with one model.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    line: Line,
    steps: VecDeque<Step>,
    decode: Average,
    lag: f64,
    lag_at: Nanos,
}

/// Prompts whose first content came together, out of one step of the engine: a piece of the line once
/// it is known how many tokens each of them had.
#[derive(Clone, Copy, Debug)]
struct Step {
    end: Nanos,
    seconds: f64,
    tokens: f64,
    /// Prompts whose tokens are not known yet.
    open: u32,
}

/// Names the step that a prompt was computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepEnd(Nanos);

impl Learned {
    /// Nothing yet, with memory for all that will be.
    pub fn with_memory() -> Self {
        Self { steps: VecDeque::with_capacity(STEPS_MAX), ..Self::default() }
    }

    /// The first content of an answer came. What is returned is for [`Learned::computed`].
    pub fn first_content(&mut self, seen: &FirstContent) -> StepEnd {
        self.learn_lag(seen);
        let last = self.steps.back().map_or(0, |step| step.end);
        // It began when the one before it was done, or at once.
        let queued = seen.dispatched <= last;
        match self.steps.back_mut() {
            Some(step) if queued && seen.now.saturating_sub(step.end) < STEP_NANOS => {
                step.open += 1
            }
            _ => {
                let begin = if queued { last } else { seen.dispatched };
                if self.steps.len() == STEPS_MAX {
                    self.steps.pop_front();
                }
                self.steps.push_back(Step {
                    end: seen.now,
                    seconds: seen.now.saturating_sub(begin) as f64 / 1e9,
                    tokens: if queued { 0.0 } else { seen.ahead_tokens as f64 },
                    open: 1,
                });
            }
        }
        StepEnd(self.steps.back().map_or(0, |step| step.end))
    }

    /// What waits are longer than predicted is the doing of something that is not seen from here: a KV
    /// cache that is full, another gateway's load, a prompt that was thought to be cached.
    fn learn_lag(&mut self, seen: &FirstContent) {
        let waited = seen.now.saturating_sub(seen.dispatched) as f64 / 1e9;
        let lag = f64::from(self.lag_seconds(seen.now));
        self.lag = lag + LAG_GAIN * (waited - f64::from(seen.predicted_seconds) - lag);
        self.lag_at = seen.now;
    }

    /// How much longer first tokens took lately than was predicted; fading, never below zero.
    pub fn lag_seconds(&self, now: Nanos) -> f32 {
        // Most endpoints never lag, and a power costs a hundred instructions.
        if self.lag <= 0.0 {
            return 0.0;
        }
        let age = now.saturating_sub(self.lag_at) as f64 / 1e9;
        (self.lag * (-age / LAG_HALF_SECONDS).exp2()).max(0.0) as f32
    }

    /// It is known, from the engine's own usage or else from what was expected, how many tokens of the
    /// prompt were computed.
    pub fn computed(&mut self, step: StepEnd, own_tokens: u32) {
        let Ok(at) = self.steps.binary_search_by_key(&step.0, |step| step.end) else { return };
        let step = &mut self.steps[at];
        step.tokens += f64::from(own_tokens);
        step.open = step.open.saturating_sub(1);
        if step.open == 0 {
            let Step { tokens, seconds, .. } = *step;
            self.line.learn(tokens, seconds);
        }
    }

    /// An answer brought `tokens` after its first ones within `took`.
    pub fn decoded(&mut self, tokens: u32, took: Nanos) {
        if tokens > 0 {
            self.decode.learn(took as f64 / 1e9 / f64::from(tokens), f64::from(tokens.min(256)));
        }
    }

    /// Prompt tokens per second; `None` until enough was seen.
    pub fn prefill_rate(&self) -> Option<f32> {
        self.line.rate()
    }

    /// Seconds per output token; `None` until something was seen.
    pub fn decode_seconds(&self) -> Option<f32> {
        self.decode.value().map(|seconds| seconds as f32)
    }
}

/// `seconds = (base + tokens / rate) × scale`: the shape by least squares over fading samples, the scale
/// by how far samples lie from it.
#[derive(Clone, Debug, Default)]
struct Line {
    pieces: u32,
    /// Fading means of 1, tokens, seconds, tokens², tokens × seconds.
    sums: [f64; 5],
    /// Its logarithm.
    scale: f64,
}

impl Line {
    fn learn(&mut self, tokens: f64, seconds: f64) {
        if !(tokens > 0.0 && seconds > 0.0) {
            return;
        }
        let telling = tokens / (tokens + TELLING_TOKENS);
        if self.pieces > 0 {
            let off = (seconds / self.shape(tokens)).ln() - self.scale;
            self.scale += telling * SCALE_GAIN * off.clamp(-STEP_MAX, STEP_MAX);
            if self.pieces >= PIECES_MIN && off.abs() > OUTLIER {
                return;
            }
        }
        let gain = (telling * SHAPE_GAIN).max(1.0 / f64::from(self.pieces + 1));
        let seconds = seconds * (-self.scale).exp();
        let sample = [1.0, tokens, seconds, tokens * tokens, tokens * seconds];
        for (sum, value) in self.sums.iter_mut().zip(sample) {
            *sum += gain * (value - *sum);
        }
        self.pieces = self.pieces.saturating_add(1);
    }

    /// (base, seconds per token), before the scale. Drawn towards the usual proportion of the two, the more
    /// so the less prompts differ and the fewer they were.
    fn fit(&self) -> (f64, f64) {
        let [_, x, y, xx, xy] = self.sums;
        let usual = y / (x + BASE_TOKENS);
        let pull = SPREAD_TOKENS * SPREAD_TOKENS * (8.0 / f64::from(self.pieces.max(1))).max(0.15);
        let slope = (xy - x * y + pull * usual) / (xx - x * x + pull);
        let slope = slope.clamp(0.25 * usual, y / x.max(1.0));
        (y - slope * x, slope)
    }

    fn shape(&self, tokens: f64) -> f64 {
        let (base, slope) = self.fit();
        (base + slope * tokens).max(1e-9)
    }

    fn rate(&self) -> Option<f32> {
        let (_, slope) = self.fit();
        let rate = 1.0 / (slope * self.scale.exp());
        (self.pieces >= PIECES_MIN && rate.is_finite()).then_some(rate as f32)
    }
}

/// A fading mean that one outlier does not move far.
#[derive(Clone, Debug, Default)]
struct Average {
    weight: f64,
    mean: f64,
}

impl Average {
    /// Weights add up to this much at most: older ones fade.
    const WEIGHT_MAX: f64 = 2_048.0;

    fn learn(&mut self, value: f64, weight: f64) {
        if !(value > 0.0 && value.is_finite()) {
            return;
        }
        let bounded = match self.weight > 0.0 {
            true => value.clamp(self.mean / DECODE_OUTLIER, self.mean * DECODE_OUTLIER),
            false => value,
        };
        self.weight = (self.weight + weight).min(Self::WEIGHT_MAX);
        self.mean += (weight / self.weight).min(1.0) * (bounded - self.mean);
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then_some(self.mean)
    }
}

/// What stands in for an endpoint that has not been learned: the middle of those that have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Tokens per second.
    pub prefill_rate: f32,
    pub decode_seconds: f32,
}

impl Default for Prior {
    /// An 8B model on one large GPU, roughly; between equals only the ratio to the queue matters.
    fn default() -> Self {
        Self { prefill_rate: 10_000.0, decode_seconds: 0.02 }
    }
}

impl Prior {
    /// Endpoints looked at, at most.
    const SAMPLES_MAX: usize = 64;

    /// The medians over `fleet`; the default where nothing was learned anywhere.
    pub fn of<'a>(fleet: impl Iterator<Item = &'a Learned> + Clone) -> Self {
        let standard = Self::default();
        let rate = median(fleet.clone().filter_map(Learned::prefill_rate));
        let decode = median(fleet.filter_map(Learned::decode_seconds));
        Self {
            prefill_rate: rate.unwrap_or(standard.prefill_rate),
            decode_seconds: decode.unwrap_or(standard.decode_seconds),
        }
    }

    /// The rate to predict with, where `learned` was learned: as far from the prior's as it is beyond
    /// doubt.
    pub fn rate(&self, learned: Option<f32>) -> f32 {
        let Some(learned) = learned else { return self.prefill_rate };
        let off = (learned / self.prefill_rate).ln();
        self.prefill_rate * (off - off.clamp(-DOUBT, DOUBT)).exp()
    }
}

fn median(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut held = [0.0; Prior::SAMPLES_MAX];
    let mut count = 0;
    for (slot, value) in held.iter_mut().zip(values) {
        *slot = value;
        count += 1;
    }
    let held = &mut held[..count];
    held.sort_unstable_by(f32::total_cmp);
    held.get(count / 2).copied()
}

#[cfg(test)]
#[path = "learn_tests.rs"]
mod tests;
