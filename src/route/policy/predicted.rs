//! `predicted-ttft`: the least predicted time to first token, sticky until saturated.
//!
//! What the cache spares is worth more than this request's own time: whoever is sent elsewhere computes
//! again what is there already, delays everybody behind it, and evicts what others would have found. So
//! own work weighs [`AVERSION`] times its time, and a warm endpoint keeps its conversation until its lead
//! exceeds that. Between endpoints that are nearly equal the anchor's rendezvous decides, so that shards
//! and nodes put a cold conversation in the same place without talking.

use crate::route::candidate::{Ranking, Reason};
use crate::route::policy::wait::{uncached_tokens, wait};
use crate::route::policy::{Field, least, rendezvous};

/// How much heavier one's own uncached work weighs than waiting for another's.
const AVERSION: f32 = 2.0;
/// Cold endpoints count as equal within this share of the request's own work…
const SLACK_SHARE: f32 = 0.25;
/// …and these seconds.
const SLACK_SECONDS: f32 = 0.02;
/// What an endpoint has got of late weighs this much of its time for a new conversation.
const PLACED_SHARE: f32 = 0.02;
/// A prompt is warm where its cache spares at least this share of it.
const WARM_SHARE: f32 = 0.5;

/// Scores in seconds: what the request waits, and what it costs the others.
pub fn score(field: &Field<'_>, out: &mut Ranking) -> Reason {
    let question = field.question;
    let most = field.counted().map(|c| c.cached_tokens).max().unwrap_or(0);
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let wait = wait(question, candidate);
        let placed = candidate.placed_tokens / candidate.prefill_rate.max(1.0);
        score.score = wait.ahead() + AVERSION * wait.own + PLACED_SHARE * placed.max(0.0);
        score.tie = rendezvous(question.anchor, candidate);
    }
    let counted = out.scores.iter().zip(field.candidates).filter(|(_, c)| field.counts(c));
    let best = least(counted.map(|(score, _)| score.score));
    let own = least(field.counted().map(|c| wait(question, c).own));
    let slack = best + SLACK_SECONDS + SLACK_SHARE * own;
    for score in out.scores.iter_mut().filter(|score| score.score <= slack) {
        score.score = best;
    }
    reason(field, out, most)
}

fn reason(field: &Field<'_>, out: &Ranking, most: u32) -> Reason {
    let warm = most as f32 >= WARM_SHARE * field.question.input_tokens as f32;
    let first = out.scores.iter().zip(field.candidates).filter(|(_, c)| field.counts(c));
    let first = first.min_by(|(a, _), (b, _)| {
        a.score.total_cmp(&b.score).then(a.tie.cmp(&b.tie)).then(a.endpoint.cmp(&b.endpoint))
    });
    let Some((_, first)) = first else { return Reason::OnlyOne };
    let spare = uncached_tokens(field.question, first);
    let own = field.counted().min_by_key(|c| (rendezvous(field.question.anchor, c), c.endpoint));
    match warm {
        true if spare <= field.question.input_tokens as f32 * (1.0 - WARM_SHARE) => Reason::Warm,
        true => Reason::Released,
        false if own.is_some_and(|own| own.endpoint == first.endpoint) => Reason::Cold,
        false => Reason::ColdOverflow,
    }
}
