//! How long a queue takes to empty: from the pace at which it was served.

use std::time::Duration;

use crate::route::candidate::Nanos;

/// What was served so long ago counts half.
const HALF_NANOS: f64 = 10e9;
/// Each place given back weighs so much in the mean time for which places are kept.
const KEPT_GAIN: f64 = 1.0 / 16.0;
/// What a client is told to wait, at most.
const RETRY_AFTER_S_MAX: u64 = 600;

/// The pace at which a queue is served while somebody waits in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drain {
    tokens: f64,
    nanos: f64,
    /// Until when time was counted; `None` while nobody waits.
    since: Option<Nanos>,
    /// How long places were kept, in the mean; 0 while none was given back.
    kept_seconds: f64,
}

impl Drain {
    /// Somebody waits from `now` on.
    pub fn begin(&mut self, now: Nanos) {
        self.since.get_or_insert(now);
    }

    /// Nobody waits from `now` on.
    pub fn end(&mut self, now: Nanos) {
        self.pass(now);
        self.since = None;
    }

    /// So many tokens left the queue to be served.
    pub fn served(&mut self, now: Nanos, tokens: u32) {
        self.pass(now);
        self.tokens += f64::from(tokens);
    }

    /// A place was kept for so long.
    pub fn kept(&mut self, time: Duration) {
        let gain = if self.kept_seconds > 0.0 { KEPT_GAIN } else { 1.0 };
        self.kept_seconds += gain * (time.as_secs_f64() - self.kept_seconds);
    }

    /// How long a place should be kept; `foreseen`: while none was given back.
    pub fn keeping(&self, foreseen: Duration) -> Duration {
        let known = Some(self.kept_seconds).filter(|seconds| *seconds > 0.0);
        known.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(foreseen)
    }

    fn pass(&mut self, now: Nanos) {
        let Some(since) = self.since else { return };
        let passed = now.saturating_sub(since) as f64;
        let keep = (-passed / HALF_NANOS).exp2();
        if self.tokens > 0.0 {
            // What was once served never becomes nothing.
            self.tokens = (self.tokens * keep).max(f64::MIN_POSITIVE);
        }
        self.nanos = self.nanos * keep + passed;
        self.since = Some(now.max(since));
    }

    /// How long `tokens` take to leave the queue, as seen at `now`; `None` while nothing was ever served.
    pub fn predicted(&self, now: Nanos, tokens: u64) -> Option<Duration> {
        let mut seen = *self;
        seen.pass(now);
        if seen.tokens <= 0.0 {
            return None;
        }
        let seconds = tokens as f64 * seen.nanos / seen.tokens / 1e9;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// The whole seconds after which a client should ask again, when `tokens` wait; at least one. `guess`:
    /// how long that should take, for a queue of which nobody was ever served.
    pub fn retry_after_s(&self, now: Nanos, tokens: u64, guess: Duration) -> u32 {
        let predicted = self.predicted(now, tokens).unwrap_or(guess);
        let seconds = predicted.as_secs().saturating_add(u64::from(predicted.subsec_nanos() > 0));
        seconds.clamp(1, RETRY_AFTER_S_MAX) as u32
    }
}
