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
/// is as old as its last scrape, and a burst must not all follow it.
pub fn least_kv(field: &Field<'_>, out: &mut Ranking) -> Reason {
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let capacity = candidate.kv_tokens.map_or(KV_TOKENS, |tokens| tokens.max(1) as f32);
        let ours = candidate.context_tokens as f32 / capacity;
        score.score = candidate.kv_use.unwrap_or(0.0).max(ours);
    }
    out.take_turns(field.question.turn);
    Reason::LeastKv
}

/// Tokens in flight by weight.
fn load(candidate: &Candidate) -> f32 {
    candidate.context_tokens as f32 / weight(candidate)
}
