//! How fast an endpoint is: prefill rate and decode time, learned from what its answers show.
//!
//! An engine takes prompts in the order they come, so one that waited for another began when the other's
//! first token came out. What was computed between two first tokens, over the time between them, is the
//! rate, without a share of the queue to guess. A straight line through such pieces (time = base +
//! tokens / rate) keeps the fixed cost of a step apart from the cost of tokens. The line's shape is
//! learned slowly and its scale quickly, so that a machine that throttles is known within some ten
//! requests.
//!
//! Invariants: no allocation; one outlier moves nothing far, because each piece counts at most
//! [`OUTLIER`] times what was expected of it; without samples there is no rate, and [`Prior`] helps out.

use crate::route::candidate::Nanos;

/// A piece counts at most this many times (and at least this part of) the time expected of it.
const OUTLIER: f64 = 4.0;
/// Each new piece of the line weighs this much against all earlier ones together.
const SHAPE_GAIN: f64 = 1.0 / 48.0;
/// The same for the scale.
const SCALE_GAIN: f64 = 1.0 / 12.0;
/// Pieces before the rate is trusted.
const PIECES_MIN: u32 = 4;
/// Pieces that ended this close together belong to one step of the engine, nanoseconds.
const STEP_NANOS: Nanos = 2_000_000;
/// What was placed on an endpoint counts half after this time, seconds.
const PLACED_HALF_SECONDS: f64 = 30.0;

/// The first content of one answer.
#[derive(Clone, Copy, Debug)]
pub struct FirstContent {
    /// When the request was sent.
    pub dispatched: Nanos,
    /// When its first content came.
    pub now: Nanos,
    /// Uncached prompt tokens in flight there, without a first token, when it was sent; all shards.
    pub ahead_tokens: u64,
    /// Its own uncached prompt tokens, as the engine reported, or as expected.
    pub own_tokens: u32,
}

/// What is known of one endpoint's speed with one model.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    line: Line,
    /// When the last first content came.
    last: Nanos,
    /// The piece under construction: first contents of one step.
    piece: Option<Piece>,
    decode: Average,
    placed: f64,
    placed_at: Nanos,
}

/// Prompts computed together.
#[derive(Clone, Copy, Debug)]
struct Piece {
    begin: Nanos,
    end: Nanos,
    tokens: f64,
}

impl Learned {
    /// A request with so many uncached prompt tokens was sent.
    pub fn dispatched(&mut self, now: Nanos, own_tokens: u32) {
        self.placed = f64::from(self.placed_tokens(now)) + f64::from(own_tokens);
        self.placed_at = now;
    }

    /// Uncached prompt tokens sent lately; what is [`PLACED_HALF_SECONDS`] old counts half.
    pub fn placed_tokens(&self, now: Nanos) -> f32 {
        let age = now.saturating_sub(self.placed_at) as f64 / 1e9;
        (self.placed * (-age / PLACED_HALF_SECONDS).exp2()) as f32
    }

    /// The first content of an answer came.
    pub fn first_content(&mut self, seen: &FirstContent) {
        let queued = seen.dispatched <= self.last;
        let together = seen.now.saturating_sub(self.last) < STEP_NANOS;
        match &mut self.piece {
            Some(piece) if queued && together => {
                piece.tokens += f64::from(seen.own_tokens);
            }
            _ => {
                self.close();
                let ahead = if queued { 0 } else { seen.ahead_tokens };
                self.piece = Some(Piece {
                    begin: seen.dispatched.max(if queued { self.last } else { 0 }),
                    end: seen.now,
                    tokens: f64::from(seen.own_tokens) + ahead as f64,
                });
            }
        }
        self.last = self.last.max(seen.now);
    }

    /// Books the piece under construction.
    fn close(&mut self) {
        if let Some(piece) = self.piece.take() {
            let seconds = piece.end.saturating_sub(piece.begin) as f64 / 1e9;
            self.line.learn(piece.tokens, seconds);
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

/// `seconds = base + tokens / rate`, by least squares over fading samples, times a scale.
#[derive(Clone, Debug, Default)]
struct Line {
    pieces: u32,
    /// Fading means of 1, tokens, seconds, tokens², tokens × seconds.
    sums: [f64; 5],
    /// ln(seen / expected), fading.
    scale: f64,
}

impl Line {
    fn learn(&mut self, tokens: f64, seconds: f64) {
        if !(tokens > 0.0 && seconds > 0.0) {
            return;
        }
        let mut seconds = seconds;
        if self.pieces >= PIECES_MIN {
            let expected = self.expected(tokens);
            seconds = seconds.clamp(expected / OUTLIER, expected * OUTLIER);
        }
        let gain = SHAPE_GAIN.max(1.0 / f64::from(self.pieces + 1));
        let sample = [1.0, tokens, seconds, tokens * tokens, tokens * seconds];
        for (sum, value) in self.sums.iter_mut().zip(sample) {
            *sum += gain * (value - *sum);
        }
        self.pieces = self.pieces.saturating_add(1);
        let expected = self.shape(tokens);
        self.scale += SCALE_GAIN * ((seconds / expected).ln() - self.scale);
    }

    /// (base, seconds per token), before the scale.
    fn fit(&self) -> (f64, f64) {
        let [_, x, y, xx, xy] = self.sums;
        let ratio = y / x.max(1.0);
        let variance = xx - x * x;
        if variance <= 0.01 * x * x {
            return (0.0, ratio);
        }
        let slope = ((xy - x * y) / variance).clamp(0.1 * ratio, ratio);
        (y - slope * x, slope)
    }

    fn shape(&self, tokens: f64) -> f64 {
        let (base, slope) = self.fit();
        (base + slope * tokens).max(1e-9)
    }

    fn expected(&self, tokens: f64) -> f64 {
        self.shape(tokens) * self.scale.exp()
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
            true => value.clamp(self.mean / OUTLIER, self.mean * OUTLIER),
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
