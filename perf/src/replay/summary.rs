//! What a run comes to, in figures.

use serde::Serialize;
use sluice_sim::engine::Time;

use super::fleet::{Course, Effort, Fate, Load, Played};
use super::ideal::Reuse;

/// What a user would call fast enough.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slo {
    /// Time to the first token, milliseconds.
    pub ttft_ms: f64,
    /// Mean time between the tokens of a request, milliseconds.
    pub itl_ms: f64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub mean: f64,
}

/// One GPU's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    pub requests: u64,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    /// Tokens that it computed, of prompts and of answers.
    pub computed_tokens: u64,
    /// Share of the run in which it was computing.
    pub busy: f64,
}

/// A run in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub requests: usize,
    pub served: usize,
    pub refused: usize,
    pub failed: usize,
    /// Requests that another GPU had to take.
    pub retried: usize,
    /// From the first arrival to the last token, virtual.
    pub seconds: f64,
    pub ttft_ms: Spread,
    pub itl_ms: Spread,
    /// Cached share of the served requests' input tokens.
    pub hit_rate: f64,
    /// That, over the share that one pooled cache of the fleet's size would have given.
    pub of_pooled: f64,
    /// That, over the share that a cache without end would have given.
    pub of_endless: f64,
    /// Share of all requests that met both objectives.
    pub good: f64,
    pub good_per_second: f64,
    /// Greatest over mean, over the GPUs: tokens computed; time in steps, however small the batch; prompt
    /// tokens without a first token.
    pub imbalance_work: f64,
    pub imbalance_busy: f64,
    pub imbalance_queued: f64,
    pub gpus: Vec<Part>,
}

/// What the load would have given to caches that are beyond a router.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ideals {
    pub endless: Reuse,
    pub pooled: Reuse,
}

/// Sums up a run.
pub fn summarise(load: &Load, played: &Played, ideals: &Ideals, slo: Slo) -> Summary {
    let count = |fate| played.courses.iter().filter(|course| course.fate == fate).count();
    let served: Vec<&Course> = served(played).collect();
    let begun = played.courses.iter().map(|course| course.arrived).min().unwrap_or(0);
    let seconds = (played.ended - begun) as f64 / 1e9;
    let good = served.iter().filter(|course| meets(course, slo)).count() as f64;
    let gpus = parts(load, played, seconds);
    let input: u64 = gpus.iter().map(|part| part.input_tokens).sum();
    let cached: u64 = gpus.iter().map(|part| part.cached_tokens).sum();
    let hit_rate = cached as f64 / input.max(1) as f64;
    Summary {
        requests: played.courses.len(),
        served: served.len(),
        refused: count(Fate::Refused),
        failed: count(Fate::Failed),
        retried: served.iter().filter(|course| !course.tried.is_empty()).count(),
        seconds,
        ttft_ms: spread(served.iter().map(|c| ms(c.first_token - c.arrived)).collect()),
        itl_ms: spread(played.gaps_us.iter().map(|gap| f64::from(*gap) / 1e3).collect()),
        hit_rate,
        of_pooled: hit_rate / ideals.pooled.share().max(1e-12),
        of_endless: hit_rate / ideals.endless.share().max(1e-12),
        good: good / played.courses.len().max(1) as f64,
        good_per_second: good / seconds.max(1e-9),
        imbalance_work: imbalance(&gpus, |part| part.computed_tokens as f64),
        imbalance_busy: imbalance(&gpus, |part| part.busy),
        imbalance_queued: played.queued.0 / played.queued.1.max(1e-12),
        gpus,
    }
}

impl Summary {
    /// With what the GPUs say themselves of their parts.
    pub fn with_parts(mut self, gpus: Vec<Part>) -> Self {
        self.imbalance_work = imbalance(&gpus, |part| part.computed_tokens as f64);
        self.gpus = gpus;
        self
    }
}

/// Greatest over mean.
fn imbalance(gpus: &[Part], of: impl Fn(&Part) -> f64) -> f64 {
    let most = gpus.iter().map(&of).fold(0.0, f64::max);
    let mean = gpus.iter().map(of).sum::<f64>() / gpus.len().max(1) as f64;
    most / mean.max(1e-12)
}

fn served(played: &Played) -> impl Iterator<Item = &Course> {
    played.courses.iter().filter(|course| course.fate == Fate::Served)
}

fn ms(time: Time) -> f64 {
    time as f64 / 1e6
}

fn meets(course: &Course, slo: Slo) -> bool {
    let between = ms(course.last_token - course.first_token);
    let mean = between / f64::from(course.output_tokens.saturating_sub(1).max(1));
    ms(course.first_token - course.arrived) <= slo.ttft_ms && mean <= slo.itl_ms
}

fn parts(load: &Load, played: &Played, seconds: f64) -> Vec<Part> {
    let part = |effort: &Effort| Part {
        busy: effort.busy as f64 / 1e9 / seconds.max(1e-9),
        computed_tokens: effort.tokens,
        ..Part::default()
    };
    let mut parts: Vec<Part> = played.efforts.iter().map(part).collect();
    for (course, prepared) in played.courses.iter().zip(&load.prepared) {
        if course.fate == Fate::Served {
            let part = &mut parts[course.gpu];
            part.requests += 1;
            part.input_tokens += u64::from(prepared.prompt.tokens);
            part.cached_tokens += u64::from(course.cached_tokens);
        }
    }
    parts
}

fn spread(mut values: Vec<f64>) -> Spread {
    if values.is_empty() {
        return Spread::default();
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).max(1) - 1];
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Spread { p50: at(0.5), p90: at(0.9), p99: at(0.99), mean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_themselves() {
        let spread = spread((1..=200).rev().map(f64::from).collect());
        assert_eq!((spread.p50, spread.p90, spread.p99), (100.0, 180.0, 198.0));
        assert_eq!(spread.mean, 100.5);
        assert_eq!(super::spread(Vec::new()), Spread::default());
        assert_eq!(super::spread(vec![7.0]).p99, 7.0);
    }
}
