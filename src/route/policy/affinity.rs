//! `prefix-affinity`: the endpoint whose cache holds most of the prompt, as long as it has not far more
//! requests than the others.

use crate::route::candidate::{Ranking, Reason};
use crate::route::policy::hash::{Bound, OVER};
use crate::route::policy::{Field, rendezvous};

/// An endpoint may hold this many times the mean of requests…
const SHARE: f32 = 2.0;
/// …or this many, if that is more: below it, no queue is worth a lost cache.
const REQUESTS_MIN: f32 = 8.0;

/// Scores in tokens that are not cached; whoever is over the bound comes after all who are not.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let question = field.question;
    let bound = Bound::new(field, SHARE, REQUESTS_MIN);
    let mut most = 0;
    let mut most_within = 0;
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let cached = candidate.cached_tokens.min(question.input_tokens);
        let over = bound.over(candidate);
        score.score = (question.input_tokens - cached) as f32;
        if over > 0.0 {
            score.score += OVER * (1.0 + over);
        }
        score.tie = rendezvous(question.anchor, candidate);
        if field.counts(candidate) {
            most = most.max(cached);
            most_within = most_within.max(if over > 0.0 { 0 } else { cached });
        }
    }
    match (most, most_within) {
        (0, _) => Reason::Cold,
        (most, within) if within == most => Reason::Warm,
        _ => Reason::Released,
    }
}
