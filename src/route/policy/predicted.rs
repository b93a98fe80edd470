//! `predicted-ttft`: the least predicted time to first token, sticky until saturated.
//!
//! What the cache spares is worth more than this request's own time: whoever is sent elsewhere computes
//! again what is there already, delays everybody behind it, and evicts what others would have found. So a
//! prompt stays with those endpoints that hold most of it, until the least busy of them is behind the
//! least busy of the others by [`PATIENCE`] times what the cache spares. Then, or where nobody holds most of
//! it, the time alone decides; so a shared prefix comes to be in as many places as its load needs. Between
//! endpoints that are nearly equal the anchor's rendezvous decides, so that shards and nodes put a cold
//! conversation in the same place without talking.

use crate::route::candidate::{Candidate, Ranking, Reason};
use crate::route::policy::wait::{prefill_rate, wait};
use crate::route::policy::{Field, least, rendezvous};

/// A prompt is warm where its cache spares at least this share of it: a conversation that goes on does, one
/// that only begins as others do mostly does not, and may go where there is room.
const WARM_SHARE: f32 = 0.8;
/// A warm endpoint may be behind the others by this many times what its cache spares. Many: a queue is
/// worked off, while a conversation that has moved is cold once more, and pushes others out.
const PATIENCE: f32 = 30.0;
/// Endpoints count as equal within this share of the best one's work for this request…
const SLACK_SHARE: f32 = 0.25;
/// …and these seconds.
const SLACK_SECONDS: f32 = 0.02;
/// Puts those that do not hold the prompt behind those that do: more seconds than anybody waits.
const ASIDE: f32 = 1e6;

/// Scores in seconds until the first token.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let (question, warm) = (field.question, Warm::new(field));
    let (mut best, mut own) = (f32::INFINITY, 0.0);
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let wait = wait(question, candidate);
        let aside = if warm.stays && !warm.holds(candidate) { ASIDE } else { 0.0 };
        score.score = wait.seconds() + aside;
        score.tie = rendezvous(question.anchor, candidate);
        if field.counts(candidate) && score.score < best {
            (best, own) = (score.score, wait.own);
        }
    }
    let slack = best + SLACK_SECONDS + SLACK_SHARE * own;
    out.scores.iter_mut().filter(|s| s.score <= slack).for_each(|s| s.score = best);
    reason(field, out, best)
}

/// Who holds most of the prompt, and whether it stays there.
struct Warm {
    tokens: f32,
    stays: bool,
}

impl Warm {
    fn new(field: &Field<'_>) -> Self {
        let tokens = WARM_SHARE * field.question.input_tokens as f32;
        let mut warm = Self { tokens, stays: false };
        let (mut least_warm, mut least_cold) = (f32::INFINITY, f32::INFINITY);
        let mut spared = 0.0_f32;
        for candidate in field.counted() {
            let ahead = wait(field.question, candidate).ahead();
            if warm.holds(candidate) {
                least_warm = least_warm.min(ahead);
                spared = spared.max(candidate.cached_tokens as f32 / prefill_rate(candidate));
            } else {
                least_cold = least_cold.min(ahead);
            }
        }
        warm.stays = least_warm - least_cold <= PATIENCE * spared;
        warm
    }

    fn holds(&self, candidate: &Candidate) -> bool {
        candidate.cached_tokens as f32 >= self.tokens
    }
}

/// Why the one with the `best` score and the lowest tie is the first.
fn reason(field: &Field<'_>, out: &Ranking, best: f32) -> Reason {
    let scored = out.scores.iter().zip(field.candidates).filter(|(_, c)| field.counts(c));
    let equal = scored.filter(|(score, _)| score.score <= best);
    let first = equal.min_by_key(|(score, _)| (score.tie, score.endpoint));
    let half = field.question.input_tokens as f32 / 2.0;
    let known = |candidate: &Candidate| candidate.cached_tokens as f32 >= half;
    let own = least(field.counted().map(|c| rendezvous(field.question.anchor, c) as f32));
    match first {
        Some((_, first)) if known(first) => Reason::Warm,
        _ if field.counted().any(known) => Reason::Released,
        Some((score, _)) if score.tie as f32 <= own => Reason::Cold,
        _ => Reason::ColdOverflow,
    }
}
