//! Answers that are not streamed.

use super::{fragment, messages, openai, responses, tail};
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};

/// Larger answers are not parsed: their usage is searched for.
const PARSED_BYTES_MAX: usize = 64 * 1024;

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
