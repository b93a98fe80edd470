//! Reading from a piece of JSON whose beginning or end is missing: the last value of a key.
//!
//! A key is found as in [`super::prefilter`]. Where in the tree it stood cannot be known; that the
//! last one counts fits where the APIs put usage and finish, which is after the text.

use memchr::memmem;
use serde::Deserialize;

use super::loose::Any;
use super::messages::MessagesUsage;
use super::openai::OpenAiUsage;
use super::prefilter::value_at;
use super::responses::{Incomplete, ResponsesUsage};
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};

/// The counts in the API's own meaning, and the finish, as far as `bytes` tell.
pub fn read(op: Operation, bytes: &[u8]) -> (Usage, Option<Finish>) {
    match op {
        Operation::Chat | Operation::Completions => {
            let finish = |reason: &str| Finish::from_openai(reason.as_bytes());
            (openai_usage(bytes).counts(), text(bytes, "\"finish_reason\"", finish))
        }
        Operation::Embeddings | Operation::Rerank => {
            (openai_usage(bytes).counts_without_output(), None)
        }
        Operation::Messages => {
            let usage: MessagesUsage<'_> = object(bytes, "\"usage\"").unwrap_or_default();
            (usage.counts(), text(bytes, "\"stop_reason\"", Finish::from_anthropic))
        }
        Operation::Responses => {
            let usage: ResponsesUsage<'_> = object(bytes, "\"usage\"").unwrap_or_default();
            let incomplete: Option<Incomplete<'_>> = object(bytes, "\"incomplete_details\"");
            (usage.counts(), incomplete.and_then(|details| details.finish()))
        }
        Operation::CountTokens | Operation::ListModels | Operation::GetModel => {
            (Usage::default(), None)
        }
    }
}

fn openai_usage(bytes: &[u8]) -> OpenAiUsage<'_> {
    object(bytes, "\"usage\"").unwrap_or_default()
}

/// The last object that stands under `key` (given with its quotes) and reads as a `T`.
fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8], key: &str) -> Option<T> {
    values(bytes, key).filter(|value| value.starts_with(b"{")).find_map(first)
}

/// The last text that stands under `key` (given with its quotes).
fn text(bytes: &[u8], key: &str, read: fn(&str) -> Finish) -> Option<Finish> {
    let mut texts = values(bytes, key).filter(|value| value.starts_with(b"\""));
    texts.find_map(|value| first::<Any<'_>>(value)?.text().map(read))
}

/// The rest of `bytes` from each value of `key` on, the last one first.
fn values<'a>(bytes: &'a [u8], key: &str) -> impl Iterator<Item = &'a [u8]> {
    memmem::rfind_iter(bytes, key)
        .filter_map(move |at| bytes.get(value_at(bytes, at + key.len())?..))
}

/// The value that `bytes` begin with.
fn first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(bytes).into_iter().next()?.ok()
}
