//! `round-robin`, `random` and `weighted`: without a look at what is in flight.

use crate::route::candidate::{Ranking, Reason};
use crate::route::policy::hash::weight;
use crate::route::policy::{Field, rendezvous};

/// 2^64 divided by the golden ratio: multiples of it fall into any share of the circle in proportion, and
/// evenly at any time.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Each endpoint in turn.
pub fn round_robin(field: &Field<'_>, out: &mut Ranking) -> Reason {
    out.take_turns(field.question.turn);
    Reason::RoundRobin
}

/// Any order.
pub fn random(field: &Field<'_>, out: &mut Ranking) -> Reason {
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        score.tie = rendezvous(field.question.random, candidate);
    }
    Reason::Random
}

/// Each endpoint in proportion to its weight, the heavy ones spread out over the turns.
pub fn weighted(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let total: u64 = field.counted().map(|candidate| weight(candidate) as u64).sum();
    let turn = field.question.turn.wrapping_mul(GOLDEN);
    let at = ((u128::from(turn) * u128::from(total)) >> 64) as f32;
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        score.score = if field.counts(candidate) { weight(candidate) } else { 0.0 };
        score.tie = rendezvous(turn, candidate);
    }
    // The weights, in the endpoints' order, are laid end to end; `at` lies in the first one's.
    out.scores.sort_unstable_by_key(|score| score.endpoint);
    let mut end = 0.0;
    for score in &mut out.scores {
        let begin = end;
        end += score.score;
        score.score = if begin <= at && at < end { 0.0 } else { 1.0 };
    }
    Reason::Weighted
}

impl Ranking {
    /// Ties go to the endpoint whose turn it is, then to those after it. The dead have no turn: else the
    /// one after a dead endpoint would get double.
    pub(super) fn take_turns(&mut self, turn: u64) {
        self.scores.sort_unstable_by_key(|score| score.endpoint);
        for healthy in [true, false] {
            let count = self.scores.iter().filter(|score| score.healthy == healthy).count() as u64;
            let class = self.scores.iter_mut().filter(|score| score.healthy == healthy);
            for (at, score) in (0..).zip(class) {
                // Doubled: the lowest bit of a tie is not looked at.
                score.tie = 2 * ((at + count - turn % count.max(1)) % count.max(1)) as u32;
            }
        }
    }
}
