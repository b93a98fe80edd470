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
    let question = field.question;
    let Sight { warm, home } = look(field, out);
    let (mut best, mut own) = (f32::INFINITY, 0.0);
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        if warm.stays && !warm.holds(candidate) {
            score.score += ASIDE;
        }
        if score.tie == home && question.others > 0.0 {
            score.score -= faith(question, candidate);
        }
        if field.counts(candidate) && score.score < best {
            (best, own) = (score.score, uncached_seconds(question, candidate));
        }
    }
    let slack = best + SLACK_SECONDS + SLACK_SHARE * own;
    out.scores.iter_mut().filter(|s| s.score <= slack).for_each(|s| s.score = best);
    reason(field, out, best, home)
}

/// What one look at all endpoints tells.
struct Sight {
    warm: Warm,
    /// The first place in the anchor's order.
    home: u32,
}

/// Gives every endpoint its seconds and its place in the anchor's order.
fn look(field: &Field<'_>, out: &mut Ranking) -> Sight {
    let question = field.question;
    let mut found = Found::default();
    let mut sight = Sight { warm: Warm::of(question), home: u32::MAX };
    for (score, candidate) in out.scores.iter_mut().zip(field.candidates) {
        let wait = wait(question, candidate);
        score.score = wait.seconds();
        score.tie = rendezvous(question.anchor, candidate);
        if field.counts(candidate) {
            sight.home = sight.home.min(score.tie);
            found.see(candidate, wait.ahead(), sight.warm.holds(candidate));
        }
    }
    sight.warm.stays = !question.forked && found.is_worth_the_wait();
    sight
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
    fn of(question: &Question) -> Self {
        Self { tokens: WARM_SHARE * question.input_tokens as f32, stays: false }
    }

    fn holds(&self, candidate: &Candidate) -> bool {
        candidate.cached_tokens as f32 >= self.tokens
    }
}

/// The least that is ahead where the prompt is warm, and where it is not, and what the warmest cache spares;
/// all in seconds.
struct Found {
    warm: f32,
    cold: f32,
    spared: f32,
}

impl Default for Found {
    fn default() -> Self {
        Self { warm: f32::INFINITY, cold: f32::INFINITY, spared: 0.0 }
    }
}

impl Found {
    fn see(&mut self, candidate: &Candidate, ahead: f32, warm: bool) {
        if warm {
            self.warm = self.warm.min(ahead);
            self.spared = self.spared.max(candidate.cached_tokens as f32 / prefill_rate(candidate));
        } else {
            self.cold = self.cold.min(ahead);
        }
    }

    fn is_worth_the_wait(&self) -> bool {
        self.warm - self.cold <= PATIENCE * self.spared
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
