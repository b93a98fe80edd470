//! Anthropic's messages.
//!
//! `message_start` tells the input, `message_delta` the output so far and sometimes the input
//! again; counts are cumulative. `input_tokens` leaves out what a cache read or wrote: the counts
//! here are in that meaning, and [`super::Observer::usage`] adds them up.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::loose::{Any, NotJson, read};
use super::{EventError, Reading};
use crate::api::usage::{Finish, Usage};

/// An event of a stream, or a whole answer (whose members are those of `message`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Any<'a>,
    message: Option<Message<'a>>,
    usage: Option<MessagesUsage<'a>>,
    stop_reason: Any<'a>,
    delta: Option<Delta<'a>>,
    content_block: Option<Block<'a>>,
    error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    usage: Option<MessagesUsage<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Any<'a>,
    thinking: Any<'a>,
    partial_json: Any<'a>,
    content: Any<'a>,
    stop_reason: Any<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Block<'a> {
    #[serde(borrow)]
    r#type: Any<'a>,
    text: Any<'a>,
    thinking: Any<'a>,
    /// Of a `redacted_thinking` block, which comes whole.
    data: Any<'a>,
}

/// The usage object, in `message_start`, in `message_delta` and in a whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MessagesUsage<'a> {
    #[serde(borrow)]
    input_tokens: Any<'a>,
    output_tokens: Any<'a>,
    cache_read_input_tokens: Any<'a>,
    cache_creation_input_tokens: Any<'a>,
    output_tokens_details: Option<OutputDetails<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails<'a> {
    #[serde(borrow)]
    thinking_tokens: Any<'a>,
}

impl MessagesUsage<'_> {
    /// The counts with `input` as the API means it, without cached tokens.
    pub fn counts(&self) -> Usage {
        let details = self.output_tokens_details.as_ref();
        Usage {
            input: self.input_tokens.count(),
            output: self.output_tokens.count(),
            cached: self.cache_read_input_tokens.count(),
            cache_write: self.cache_creation_input_tokens.count(),
            reasoning: details.and_then(|d| d.thinking_tokens.count()),
        }
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        let parts = [&self.text, &self.thinking, &self.partial_json, &self.content];
        parts.into_iter().any(|part| part.filled())
    }
}

impl Block<'_> {
    /// A call of a tool begins (`tool_use`, `server_tool_use`, `mcp_tool_use`), or the block brings
    /// its first text along.
    fn has_content(&self) -> bool {
        let call = self.r#type.text().is_some_and(|name| name.ends_with("tool_use"));
        call || [&self.text, &self.thinking, &self.data].into_iter().any(|part| part.filled())
    }
}

/// Adds up the input, which the API tells in up to three parts.
pub fn with_whole_input(counts: Usage) -> Usage {
    let aside = counts.cached.unwrap_or(0).saturating_add(counts.cache_write.unwrap_or(0));
    Usage { input: counts.input.map(|fresh| fresh.saturating_add(aside)), ..counts }
}

/// Reads the data of one event, or a whole answer; `name` is the event's name, for servers that
/// leave `type` out.
pub fn read_event(data: &[u8], name: Option<&str>) -> Result<Reading, NotJson> {
    let event: Event<'_> = read(data)?;
    let kind = event.r#type.text().or(name).unwrap_or_default();
    let usage = event.usage.as_ref().or(event.message.as_ref().and_then(|m| m.usage.as_ref()));
    let delta = event.delta.as_ref();
    let stop = delta.and_then(|d| d.stop_reason.text()).or(event.stop_reason.text());
    Ok(Reading {
        content: delta.is_some_and(Delta::has_content)
            || event.content_block.as_ref().is_some_and(Block::has_content),
        usage_only: false,
        counts: usage.map(MessagesUsage::counts).unwrap_or_default(),
        finish: stop.map(Finish::from_anthropic),
        terminal: kind == "message_stop",
        error: event.error.and_then(|raw| EventError::read(raw.get())),
    })
}
