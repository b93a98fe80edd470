//! llama.cpp's server: its events and answers, key for key as build 11434 writes them.
//!
//! Each choice is counted by itself, in a usage of its own; whatever ends an answer carries its timings.

mod chat;
mod completions;
mod messages;
mod responses;
mod timings;

use super::Op;
use super::chat::tool_id;
use super::encode::{Encoder, Finish, Meta, Usage};
use super::json::Quoted;
use super::prompt::Rendered;
use super::whole::Whole;

/// The build, as its answers name it.
const FINGERPRINT: &str = "b11434-sim";

/// Who writes the answer.
pub fn encoder(op: Op, streams: bool, meta: Meta) -> Box<dyn Encoder> {
    match (op, streams) {
        (Op::Messages, true) => Box::new(messages::MessageStream::new(meta)),
        (Op::Messages, false) => Box::new(Whole::new(meta, messages::render)),
        (Op::Responses, true) => Box::new(responses::ResponseStream::new(meta)),
        (Op::Responses, false) => Box::new(Whole::new(meta, responses::render)),
        (Op::Completions, true) => Box::new(completions::CompletionStream::new(meta)),
        (Op::Completions, false) => Box::new(Whole::new(meta, completions::render)),
        (_, true) => Box::new(chat::ChatStream::new(meta)),
        (_, false) => Box::new(Whole::new(meta, chat::render)),
    }
}

/// `/tokenize`: of the last text.
pub fn tokens(texts: &[Rendered]) -> String {
    let ids = texts.last().map(|text| text.ids.as_slice()).unwrap_or_default();
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    format!(r#"{{"tokens":[{}]}}"#, ids.join(","))
}

/// An answer's id in every API but responses.
fn chat_id(meta: &Meta) -> String {
    Quoted(&format!("chatcmpl-{}", meta.id)).to_string()
}

/// The usage of chat and text completions; `completion` tokens are one choice's.
fn usage(usage: Usage, completion: u32) -> String {
    format!(
        r#"{{"completion_tokens":{completion},"prompt_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}}"#,
        usage.prompt,
        usage.prompt + completion,
        usage.cached
    )
}

/// A finish reason of chat and text completions; null where it was left out on command.
fn finish(finish: Option<Finish>) -> String {
    super::chat::finish_json(finish)
}
