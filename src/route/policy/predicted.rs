//! `predicted-ttft`: the least predicted time to first token, sticky until saturated.
//!
//! What the cache spares is worth more than this request's own time: whoever is sent elsewhere computes
//! again what is there already, delays everybody behind it, and evicts what others would have found. So a
//! prompt stays with those endpoints that hold most of it, until the least busy of them is behind the
//! least busy of the others by [`PATIENCE`] times what the cache spares. Then, or where nobody holds most of
//! it, the time alone decides; so a shared prefix comes to be in as many places as its load needs. Between
//! endpoints that are nearly equal the anchor's rendezvous decides, so that shards and nodes put a cold
//! conversation in the same place without talking.
//!
//! Two things are known beside the time. Where prompts part that come close together, they are no
//! conversation, and a burst of them is not held back. And where engines have more to do than this gateway
//! gives them, other gateways send there, too: what is not known here may be where rendezvous would have
//! put it.

use crate::route::candidate::{Candidate, Question, Ranking, Reason};
use crate::route::policy::wait::{prefill_rate, uncached_seconds, wait};
use crate::route::policy::{Field, rendezvous};

/// A prompt is warm where its cache spares at least this share of it: a conversation that goes on does, one
/// that only begins as others do mostly does not, and may go where there is room.
const WARM_SHARE: f32 = 0.8;
/// A warm endpoint may be behind the others by this many times what its cache spares. Many: a queue is
/// worked off, while a conversation that has moved is cold once more, and pushes others out.
const PATIENCE: f32 = 30.0;
/// If others sent all requests, the home of a prompt could be behind by this many times what is not known
/// of it here.
const FAITH: f32 = 12.0;
/// Endpoints count as equal within this share of the best one's work for this request…
const SLACK_SHARE: f32 = 0.25;
/// …and these seconds.
const SLACK_SECONDS: f32 = 0.02;
/// Puts those that do not hold the prompt behind those that do: more seconds than anybody waits.
const ASIDE: f32 = 1e6;

/// Scores in seconds until the first token.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let (question, warm) = (field.question, Warm::new(field));
    let home = home(field, out);
    let (mut best, mut own) = (f32::INFINITY, 0.0);
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let wait = wait(question, candidate);
        let aside = if warm.stays && !warm.holds(candidate) { ASIDE } else { 0.0 };
        let faith = if score.tie == home { faith(question, candidate) } else { 0.0 };
        score.score = wait.seconds() + aside - faith;
        if field.counts(candidate) && score.score < best {
            (best, own) = (score.score, wait.own);
        }
    }
    let slack = best + SLACK_SECONDS + SLACK_SHARE * own;
    out.scores.iter_mut().filter(|s| s.score <= slack).for_each(|s| s.score = best);
    reason(field, out, best, home)
}

/// Gives every endpoint its place in the anchor's order, and tells the first.
fn home(field: &Field<'_>, out: &mut Ranking) -> u32 {
    let mut home = u32::MAX;
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        score.tie = rendezvous(field.question.anchor, candidate);
        if field.counts(candidate) {
            home = home.min(score.tie);
        }
    }
    home
}

/// Seconds by which the prompt's home may be behind, because others may have sent it there before.
fn faith(question: &Question, home: &Candidate) -> f32 {
    FAITH * question.others * uncached_seconds(question, home)
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
        warm.stays = !field.question.forked && least_warm - least_cold <= PATIENCE * spared;
        warm
    }

    fn holds(&self, candidate: &Candidate) -> bool {
        candidate.cached_tokens as f32 >= self.tokens
    }
}

/// Why the one with the `best` score and the lowest tie is the first.
fn reason(field: &Field<'_>, out: &Ranking, best: f32, home: u32) -> Reason {
    let scored = out.scores.iter().zip(field.candidates).filter(|(_, c)| field.counts(c));
    let equal = scored.filter(|(score, _)| score.score <= best);
    let first = equal.min_by_key(|(score, _)| (score.tie, score.endpoint));
    let half = field.question.input_tokens as f32 / 2.0;
    let known = |candidate: &Candidate| candidate.cached_tokens as f32 >= half;
    match first {
        Some((_, first)) if known(first) => Reason::Warm,
        _ if field.counted().any(known) => Reason::Released,
        Some((score, _)) if score.tie == home => Reason::Cold,
        _ => Reason::ColdOverflow,
    }
}
