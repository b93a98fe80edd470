//! Answers that are not streamed.

use serde::de::IgnoredAny;

use super::loose::NotJson;
use super::{EventError, Reading, fragment, messages, openai, responses, tail};
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};

/// Larger answers are not parsed: their usage is searched for.
const PARSED_BYTES_MAX: usize = 64 * 1024;

/// Why a body behind a good status is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing, a part of one, or another text.
    NotJson,
    /// The endpoint says so itself.
    Error(EventError),
}

/// Usage and finish of an answer that is all there, if it is one. Those that end in their usage are believed,
/// and those too large to be parsed.
///
/// # Errors
/// It is none.
pub fn judge_unary(op: Operation, body: &[u8]) -> Result<(Usage, Option<Finish>), Flaw> {
    if let Some(found) = tail::read(op, body) {
        return Ok(found);
    }
    if body.len() > PARSED_BYTES_MAX {
        return Ok(search(op, body));
    }
    match parse(op, body).map_err(|NotJson| Flaw::NotJson)? {
        Reading { error: Some(error), .. } => Err(Flaw::Error(error)),
        reading => Ok(found(op, reading)),
    }
}

/// Usage and finish of a whole JSON answer, or of its last bytes where no more were kept. Nothing
/// is known of an error or of something that is no answer.
pub fn observe_unary(op: Operation, body: &[u8]) -> (Usage, Option<Finish>) {
    if let Some(found) = tail::read(op, body) {
        return found;
    }
    let exact = (body.len() <= PARSED_BYTES_MAX).then(|| parse(op, body).ok()).flatten();
    exact.map_or_else(|| search(op, body), |reading| found(op, reading))
}

fn search(op: Operation, body: &[u8]) -> (Usage, Option<Finish>) {
    let (counts, finish) = fragment::read(op, body);
    found(op, Reading { counts, finish, ..Reading::default() })
}

/// What a reading comes to.
fn found(op: Operation, reading: Reading) -> (Usage, Option<Finish>) {
    match op {
        Operation::Messages => (messages::with_whole_input(reading.counts), reading.finish),
        _ => (reading.counts, reading.finish),
    }
}

fn parse(op: Operation, body: &[u8]) -> Result<Reading, NotJson> {
    match op {
        Operation::Chat | Operation::Completions => openai::read_event(body),
        Operation::Messages => messages::read_event(body, None),
        Operation::Responses => responses::read_whole(body),
        _ => openai::read_without_output(body).or_else(|NotJson| list(body)),
    }
}

/// Some servers answer ranks and embeddings with a list.
fn list(body: &[u8]) -> Result<Reading, NotJson> {
    let any = serde_json::from_slice::<IgnoredAny>(body);
    any.map(|_| Reading::default()).map_err(|_| NotJson)
}
