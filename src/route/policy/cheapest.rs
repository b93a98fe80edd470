//! `cheapest`: the least price, as long as the wait is bearable.

use crate::route::candidate::{Ranking, Reason};
use crate::route::policy::wait::wait;
use crate::route::policy::{Field, least, rendezvous};

/// Seconds of extra wait at which a price counts double.
const PATIENCE: f32 = 2.0;
/// More than any known price: endpoints whose price is unknown come last, the fastest first.
const UNKNOWN: f32 = 1e12;

/// Scores in the price's unit, made dearer by the wait beyond the shortest one.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let question = field.question;
    let shortest = least(field.counted().map(|candidate| wait(question, candidate).seconds()));
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let extra = (wait(question, candidate).seconds() - shortest).max(0.0);
        let price = if candidate.price > 0.0 { candidate.price } else { UNKNOWN };
        score.score = price * (1.0 + extra / PATIENCE);
        score.tie = rendezvous(question.anchor, candidate);
    }
    Reason::Cheapest
}
