//! `predicted-ttft`: the least predicted time to first token, sticky until saturated.
//!
//! What the cache spares is worth more than this request's own time: whoever is sent elsewhere computes
//! again what is there already, delays everybody behind it, and evicts what others would have found. So
//! own work weighs [`AVERSION`] times its time, and a warm endpoint keeps its conversation until its lead
//! exceeds that. What an endpoint got over the last minutes counts a little, too: else a shared prefix
//! would keep all conversations where it was computed first, and their caches would fight there while
//! others stand empty; so it is computed elsewhere as soon as that pays. Between endpoints that are nearly
//! equal the anchor's rendezvous decides, so that shards and nodes put a cold conversation in the same
//! place without talking.

use crate::route::candidate::{Candidate, Ranking, Reason};
use crate::route::policy::wait::{prefill_rate, wait};
use crate::route::policy::{Field, least, rendezvous};

/// How much heavier one's own uncached work weighs than waiting for another's.
const AVERSION: f32 = 2.0;
/// Endpoints count as equal within this share of the request's own work…
const SLACK_SHARE: f32 = 0.25;
/// …and these seconds.
const SLACK_SECONDS: f32 = 0.02;
/// What an endpoint has got of late weighs this much of its time.
const PLACED_SHARE: f32 = 0.1;
/// A prompt is warm where its cache spares at least this share of it.
const WARM_SHARE: f32 = 0.5;

/// Scores in seconds: what the request waits, and what it costs the others.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let question = field.question;
    let (mut best, mut own) = (f32::INFINITY, f32::INFINITY);
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let wait = wait(question, candidate);
        let placed = candidate.placed_tokens.max(0.0) / prefill_rate(candidate);
        score.score = wait.ahead() + AVERSION * wait.own + PLACED_SHARE * placed;
        score.tie = rendezvous(question.anchor, candidate);
        if field.counts(candidate) {
            best = best.min(score.score);
            own = own.min(wait.own);
        }
    }
    let slack = best + SLACK_SECONDS + SLACK_SHARE * own;
    out.scores.iter_mut().filter(|s| s.score <= slack).for_each(|s| s.score = best);
    reason(field, out, best)
}

/// Why the one with the `best` score and the lowest tie is the first.
fn reason(field: &Field<'_>, out: &Ranking, best: f32) -> Reason {
    let cached = |candidate: &Candidate| candidate.cached_tokens;
    let warm = WARM_SHARE * field.question.input_tokens as f32;
    let most = field.counted().map(cached).max().unwrap_or(0);
    let scored = out.scores.iter().zip(field.candidates).filter(|(_, c)| field.counts(c));
    let equal = scored.filter(|(score, _)| score.score <= best);
    let first = equal.min_by_key(|(score, _)| (score.tie, score.endpoint));
    let own = least(field.counted().map(|c| rendezvous(field.question.anchor, c) as f32));
    match first {
        Some((_, first)) if cached(first) as f32 >= warm => Reason::Warm,
        _ if most as f32 >= warm => Reason::Released,
        Some((score, _)) if score.tie as f32 <= own => Reason::Cold,
        _ => Reason::ColdOverflow,
    }
}
