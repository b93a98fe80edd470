//! `least-loaded`, `power-of-two` and `least-kv`: by what is in flight.

use crate::route::candidate::{Candidate, Ranking, Reason};
use crate::route::policy::hash::weight;
use crate::route::policy::{Field, rendezvous};

/// KV tokens of an endpoint whose geometry is unknown.
const KV_TOKENS: f32 = 262_144.0;

/// Tokens in flight by weight; ties go to whose turn it is.
pub fn least_loaded(field: &Field<'_>, out: &mut Ranking) -> Reason {
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        score.score = load(candidate);
    }
    out.take_turns(field.question.turn);
    Reason::LeastLoaded
}

/// Of two drawn endpoints the one with less in flight; then the others, as drawn.
pub fn power_of_two(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let mut drawn = [(u32::MAX, f32::INFINITY, u16::MAX); 2];
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        score.tie = rendezvous(field.question.random, candidate);
        score.score = 2.0;
        let mut this = (score.tie, load(candidate), score.endpoint.0);
        if field.counts(candidate) {
            for held in &mut drawn {
                if (this.0, this.2) < (held.0, held.2) {
                    std::mem::swap(held, &mut this);
                }
            }
        }
    }
    let [first, second] = drawn;
    let better = if second.1 < first.1 { second.2 } else { first.2 };
    for score in &mut out.scores {
        if score.endpoint.0 == first.2 || score.endpoint.0 == second.2 {
            score.score = if score.endpoint.0 == better { 0.0 } else { 1.0 };
        }
    }
    Reason::PowerOfTwo
}

/// The share of the KV cache in use, the engine's word or our own sum, whichever is more: an engine's word
/// is as old as its last scrape, and a burst must not all follow it. Who tells nothing is taken for one of
/// the others, with as much in use for what is in flight; where nobody tells, our own sums remain.
pub fn least_kv(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let told = Told::of(field);
    let sized = field.candidates.iter().all(|candidate| candidate.kv_tokens.is_some());
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        score.score = match (candidate.kv_use, &told) {
            (Some(kv_use), _) => kv_use.max(ours(candidate)),
            (None, Some(told)) => told.share_at(load(candidate)).max(ours(candidate)),
            (None, None) if sized => ours(candidate),
            (None, None) => load(candidate),
        };
    }
    out.take_turns(field.question.turn);
    Reason::LeastKv
}

/// Our own sum of what is in use of its KV cache.
fn ours(candidate: &Candidate) -> f32 {
    let capacity = candidate.kv_tokens.map_or(KV_TOKENS, |tokens| tokens.max(1) as f32);
    candidate.context_tokens as f32 / capacity
}

/// Of those that tell what they have in use, the mean of that, and of their tokens in flight.
struct Told {
    share: f32,
    load: f32,
}

impl Told {
    fn of(field: &Field<'_>) -> Option<Self> {
        let told = || field.counted().filter(|candidate| candidate.kv_use.is_some());
        let count = told().count() as f64;
        told().next()?;
        // In f64 it does not matter in which order they come.
        let mean = |sum: f64| (sum / count) as f32;
        let share = told().filter_map(|candidate| candidate.kv_use).map(f64::from).sum();
        let load = told().map(|candidate| f64::from(load(candidate))).sum();
        Some(Self { share: mean(share), load: mean(load) })
    }

    /// What is in use where so much is in flight, if it is there as it is here.
    fn share_at(&self, load: f32) -> f32 {
        (self.share * (load + 1.0) / (self.load + 1.0)).min(1.0)
    }
}

/// Tokens in flight by weight.
fn load(candidate: &Candidate) -> f32 {
    candidate.context_tokens as f32 / weight(candidate)
}
