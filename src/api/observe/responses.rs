//! OpenAI's responses: the last event carries the whole response, its usage and its status.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::loose::{Any, NotJson, read};
use super::{EventError, Reading};
use crate::api::usage::{Finish, Usage};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Any<'a>,
    delta: Any<'a>,
    response: Option<Response<'a>>,
    item: Option<Item<'a>>,
    error: Option<&'a RawValue>,
    message: Any<'a>,
}

/// A response object: a whole answer, or the `response` member of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response<'a> {
    #[serde(borrow)]
    status: Any<'a>,
    incomplete_details: Option<Incomplete<'a>>,
    usage: Option<ResponsesUsage<'a>>,
    output: Option<Vec<Item<'a>>>,
    error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Incomplete<'a> {
    #[serde(borrow)]
    reason: Any<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow)]
    r#type: Any<'a>,
}

/// The usage object of a response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponsesUsage<'a> {
    #[serde(borrow)]
    input_tokens: Any<'a>,
    output_tokens: Any<'a>,
    input_tokens_details: Option<InputDetails<'a>>,
    output_tokens_details: Option<OutputDetails<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InputDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Any<'a>,
    cache_write_tokens: Any<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails<'a> {
    #[serde(borrow)]
    reasoning_tokens: Any<'a>,
}

impl ResponsesUsage<'_> {
    pub fn counts(&self) -> Usage {
        let input = self.input_tokens_details.as_ref();
        let output = self.output_tokens_details.as_ref();
        Usage {
            input: self.input_tokens.count(),
            output: self.output_tokens.count(),
            cached: input.and_then(|d| d.cached_tokens.count()),
            cache_write: input.and_then(|d| d.cache_write_tokens.count()),
            reasoning: output.and_then(|d| d.reasoning_tokens.count()),
        }
    }
}

impl Incomplete<'_> {
    pub fn finish(&self) -> Option<Finish> {
        self.reason.text().map(Finish::from_incomplete)
    }
}

impl Item<'_> {
    /// `function_call`, `web_search_call`, `custom_tool_call`, …
    fn is_call(&self) -> bool {
        self.r#type.text().is_some_and(|name| name.ends_with("_call"))
    }

    /// A call that the client has to carry out.
    fn is_clients_call(&self) -> bool {
        matches!(self.r#type.text(), Some("function_call" | "custom_tool_call"))
    }
}

impl Response<'_> {
    /// How it ended. vLLM says `response.completed` with `incomplete_details` when it ran into the
    /// limit, so the details come first.
    fn finish(&self) -> Option<Finish> {
        if let Some(finish) = self.incomplete_details.as_ref().and_then(Incomplete::finish) {
            return Some(finish);
        }
        let calls = self.output.iter().flatten().any(Item::is_clients_call);
        match self.status.text()? {
            "completed" if calls => Some(Finish::ToolCalls),
            "completed" => Some(Finish::Stop),
            "incomplete" | "failed" | "cancelled" => Some(Finish::Other),
            _ => None,
        }
    }

    fn counts(&self) -> Usage {
        self.usage.as_ref().map(ResponsesUsage::counts).unwrap_or_default()
    }
}

impl Event<'_> {
    fn error(&self, kind: &str) -> Option<EventError> {
        let failed = self.response.as_ref().and_then(|response| response.error);
        let nested = self.error.or(failed).and_then(|raw| EventError::read(raw.get()));
        let flat = || EventError::said(self.message.text().unwrap_or_default());
        nested.or_else(|| matches!(kind, "error" | "response.failed").then(flat))
    }
}

/// Whether an event of this name ends the stream.
pub fn is_terminal(name: &str) -> bool {
    let state = name.strip_prefix("response.");
    matches!(state, Some("completed" | "failed" | "incomplete" | "cancelled"))
}

/// Reads the data of one event; `name` is the event's name, for servers that leave `type` out.
pub fn read_event(data: &[u8], name: Option<&str>) -> Result<Reading, NotJson> {
    let event: Event<'_> = read(data)?;
    let kind = event.r#type.text().or(name).unwrap_or_default();
    let response = event.response.as_ref();
    let call_begins =
        kind == "response.output_item.added" && event.item.as_ref().is_some_and(Item::is_call);
    Ok(Reading {
        content: call_begins || (kind.ends_with(".delta") && event.delta.filled()),
        usage_only: false,
        counts: response.map(Response::counts).unwrap_or_default(),
        finish: response.filter(|_| is_terminal(kind)).and_then(Response::finish),
        terminal: is_terminal(kind),
        error: event.error(kind),
    })
}

/// Reads a whole answer. One that has failed says why, and is an answer; an error without one is not.
pub fn read_whole(body: &[u8]) -> Result<Reading, NotJson> {
    let response: Response<'_> = read(body)?;
    let (counts, finish) = (response.counts(), response.finish());
    let alone = response.error.filter(|_| finish.is_none());
    let error = alone.and_then(|raw| EventError::read(raw.get()));
    Ok(Reading { counts, finish, error, ..Reading::default() })
}
