//! Answers that are not streamed.

use serde::de::IgnoredAny;

use super::loose::NotJson;
use super::{EventError, fragment, messages, openai, responses, tail};
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
    if body.len() <= PARSED_BYTES_MAX
        && let Some(error) = error_in(op, body).map_err(|NotJson| Flaw::NotJson)?
    {
        return Err(Flaw::Error(error));
    }
    Ok(observe_unary(op, body))
}

/// The error that stands in the place of an answer.
fn error_in(op: Operation, body: &[u8]) -> Result<Option<EventError>, NotJson> {
    match op {
        Operation::Chat | Operation::Completions => Ok(openai::read_event(body)?.error),
        Operation::Messages => Ok(messages::read_event(body, None)?.error),
        // One that failed says why, and is an answer.
        Operation::Responses => match responses::read_whole(body)? {
            (_, None) => Ok(openai::read_event(body)?.error),
            _ => Ok(None),
        },
        // Some servers answer these with a list.
        _ => match openai::read_event(body) {
            Ok(reading) => Ok(reading.error),
            Err(_) => serde_json::from_slice::<IgnoredAny>(body).map_err(|_| NotJson).map(|_| None),
        },
    }
}

/// Usage and finish of a whole JSON answer, or of its last bytes where no more were kept. Nothing
/// is known of an error or of something that is no answer.
pub fn observe_unary(op: Operation, body: &[u8]) -> (Usage, Option<Finish>) {
    if let Some(found) = tail::read(op, body) {
        return found;
    }
    let exact = (body.len() <= PARSED_BYTES_MAX).then(|| parse(op, body)).flatten();
    let (counts, finish) = exact.unwrap_or_else(|| fragment::read(op, body));
    match op {
        Operation::Messages => (messages::with_whole_input(counts), finish),
        _ => (counts, finish),
    }
}

/// None: not a whole JSON text.
fn parse(op: Operation, body: &[u8]) -> Option<(Usage, Option<Finish>)> {
    match op {
        Operation::Chat | Operation::Completions => {
            openai::read_event(body).map(|reading| (reading.counts, reading.finish)).ok()
        }
        Operation::Embeddings | Operation::Rerank => {
            openai::read_usage_only(body).map(|counts| (counts, None)).ok()
        }
        Operation::Messages => {
            messages::read_event(body, None).map(|reading| (reading.counts, reading.finish)).ok()
        }
        Operation::Responses => responses::read_whole(body).ok(),
        Operation::CountTokens | Operation::ListModels | Operation::GetModel => {
            Some((Usage::default(), None))
        }
    }
}
