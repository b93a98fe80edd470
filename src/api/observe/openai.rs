//! Chat and text completions; embeddings and rerank have their usage in the same place.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::loose::{Any, NotJson, read};
use super::{EventError, Reading};
use crate::api::usage::{Finish, Usage};

/// An event of a stream, or a whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow)]
    object: Any<'a>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<OpenAiUsage<'a>>,
    error: Option<&'a RawValue>,
    message: Any<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    text: Any<'a>,
    finish_reason: Any<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Any<'a>,
    reasoning_content: Any<'a>,
    reasoning: Any<'a>,
    refusal: Any<'a>,
    tool_calls: Any<'a>,
    function_call: Any<'a>,
    audio: Any<'a>,
}

/// The usage object of chat, text completions, embeddings and rerank.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OpenAiUsage<'a> {
    #[serde(borrow)]
    prompt_tokens: Any<'a>,
    completion_tokens: Any<'a>,
    total_tokens: Any<'a>,
    prompt_tokens_details: Option<PromptDetails<'a>>,
    completion_tokens_details: Option<CompletionDetails<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Any<'a>,
    cache_write_tokens: Any<'a>,
    /// vLLM's name for the same.
    created_cache_tokens: Any<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CompletionDetails<'a> {
    #[serde(borrow)]
    reasoning_tokens: Any<'a>,
}

impl OpenAiUsage<'_> {
    pub fn counts(&self) -> Usage {
        let prompt = self.prompt_tokens_details.as_ref();
        let completion = self.completion_tokens_details.as_ref();
        Usage {
            input: self.prompt_tokens.count(),
            output: self.completion_tokens.count(),
            cached: prompt.and_then(|p| p.cached_tokens.count()),
            cache_write: prompt
                .and_then(|p| p.cache_write_tokens.count().or(p.created_cache_tokens.count())),
            reasoning: completion.and_then(|c| c.reasoning_tokens.count()),
        }
    }

    /// For operations that generate nothing: there the total is the input.
    pub fn counts_without_output(&self) -> Usage {
        let counts = self.counts();
        Usage { input: counts.input.or(self.total_tokens.count()), ..counts }
    }
}

impl Choice<'_> {
    fn has_content(&self) -> bool {
        self.text.filled() || self.delta.as_ref().is_some_and(Delta::has_content)
    }

    fn finish(&self) -> Option<Finish> {
        self.finish_reason.text().map(|reason| Finish::from_openai(reason.as_bytes()))
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        [
            &self.content,
            &self.reasoning_content,
            &self.reasoning,
            &self.refusal,
            &self.tool_calls,
            &self.function_call,
            &self.audio,
        ]
        .into_iter()
        .any(|part| part.filled())
    }
}

impl Event<'_> {
    /// `{"error": …}`, or an error object that stands alone, as older vLLM sends it.
    fn error(&self) -> Option<EventError> {
        if let Some(raw) = self.error {
            return EventError::read(raw.get());
        }
        let alone = self.object.text() == Some("error");
        alone.then(|| EventError::said(self.message.text().unwrap_or_default()))
    }
}

/// Reads the data of one event, or a whole answer.
pub fn read_event(data: &[u8]) -> Result<Reading, NotJson> {
    let event: Event<'_> = read(data)?;
    let choices = event.choices.as_deref();
    let error = event.error();
    Ok(Reading {
        content: choices.is_some_and(|all| all.iter().any(Choice::has_content)),
        usage_only: choices.is_some_and(<[_]>::is_empty)
            && event.usage.is_some()
            && error.is_none(),
        counts: event.usage.as_ref().map(OpenAiUsage::counts).unwrap_or_default(),
        finish: choices.and_then(|all| all.iter().filter_map(Choice::finish).next_back()),
        terminal: false,
        error,
    })
}

/// Reads a whole answer of an operation that generates nothing.
pub fn read_without_output(body: &[u8]) -> Result<Reading, NotJson> {
    let answer: Event<'_> = read(body)?;
    let error = answer.error();
    let counts = answer.usage.map(|usage| usage.counts_without_output()).unwrap_or_default();
    Ok(Reading { counts, error, ..Reading::default() })
}
