//! `consistent-hash`: equal keys go to the same endpoint, by weighted rendezvous with bounded load.

use crate::route::candidate::{Candidate, Ranking, Reason};
use crate::route::policy::{Field, rendezvous};

/// An endpoint may hold this many times its share of the requests in flight.
const SHARE: f32 = 1.25;
/// Requests that every endpoint may hold, whatever its share.
const REQUESTS_MIN: f32 = 2.0;
/// More than any score within the bound.
pub(super) const OVER: f32 = 1e12;

/// How many requests an endpoint may hold by its weight.
pub(super) struct Bound {
    per_weight: f32,
    least: f32,
}

impl Bound {
    pub(super) fn new(field: &Field<'_>, share: f32, least: f32) -> Self {
        let sum = |total: (f32, f32), candidate: &Candidate| {
            (total.0 + candidate.requests as f32, total.1 + weight(candidate))
        };
        let (requests, weights) = field.counted().fold((1.0, 0.0), sum);
        Self { per_weight: share * requests / weights.max(1.0), least }
    }

    /// By how many times the bound the endpoint would exceed it with one more; 0 within.
    pub(super) fn over(&self, candidate: &Candidate) -> f32 {
        let bound = (self.per_weight * weight(candidate)).max(self.least);
        ((candidate.requests as f32 + 1.0) / bound - 1.0).max(0.0)
    }
}

/// As configured; 0 counts as 1.
pub(super) fn weight(candidate: &Candidate) -> f32 {
    candidate.weight.max(1) as f32
}

/// Scores by rendezvous; whoever is over the bound comes after all who are not, the least loaded first.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let key = field.question.session.unwrap_or(field.question.anchor);
    let bound = Bound::new(field, SHARE, REQUESTS_MIN);
    let mut own = (f32::INFINITY, false);
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let drawn = rendezvous(key, candidate);
        let place = -((drawn as f32 + 1.0) / 4_294_967_808.0).ln() / weight(candidate);
        let over = bound.over(candidate);
        score.score = if over > 0.0 { OVER * (1.0 + over) } else { place };
        score.tie = drawn;
        if field.counts(candidate) && place < own.0 {
            own = (place, over > 0.0);
        }
    }
    if own.1 { Reason::HashedOverflow } else { Reason::Hashed }
}
