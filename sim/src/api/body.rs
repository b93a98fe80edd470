//! The fields of request bodies that the server reads; everything else is ignored.

use super::error::ApiError;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One struct for all APIs: a field means the same wherever it stands.
#[derive(Deserialize, Default)]
pub struct Body<'a> {
    pub model: Option<String>,
    #[serde(borrow)]
    pub messages: Option<Vec<Message<'a>>>,
    #[serde(borrow)]
    pub prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    pub system: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tools: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_choice: Option<&'a RawValue>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    pub n: Option<u32>,
    pub max_tokens: Option<u32>,
    pub max_completion_tokens: Option<u32>,
    pub max_output_tokens: Option<u32>,
    pub min_tokens: Option<u32>,
    pub ignore_eos: Option<bool>,
    pub seed: Option<i64>,
    pub continue_final_message: Option<bool>,
    pub cache_salt: Option<String>,
    #[serde(borrow)]
    pub query: Option<&'a RawValue>,
    #[serde(borrow)]
    pub documents: Option<Vec<&'a RawValue>>,
    pub top_n: Option<usize>,
    pub dimensions: Option<usize>,
    pub encoding_format: Option<String>,
    pub return_token_strs: Option<bool>,
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    pub return_progress: Option<bool>,
    pub timings_per_token: Option<bool>,
}

/// A chat message, or an item of a responses input.
#[derive(Deserialize)]
pub struct Message<'a> {
    pub role: Option<String>,
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    pub output: Option<&'a RawValue>,
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

/// `stream_options`.
#[derive(Deserialize, Default, Clone, Copy)]
pub struct StreamOptions {
    pub include_usage: Option<bool>,
    pub continuous_usage_stats: Option<bool>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// Reads a body; the errors are FastAPI's, in words.
    pub fn read(bytes: &'a [u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(bytes).map_err(|error| match error.classify() {
            Category::Data => ApiError::bad_request(format!("Validation error: {error}"), None),
            _ => ApiError {
                kind: "Bad Request",
                ..ApiError::bad_request(format!("JSON decode error: {error}"), None)
            },
        })
    }
}

/// Calls `found` with each text of a content: a string, a list of parts, or any other JSON as it
/// stands.
pub fn each_text(raw: &RawValue, found: &mut dyn FnMut(&str)) {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => found(&string_of(raw)),
        Some(b'[') => each_part(raw, found),
        Some(b'n') => (),
        _ => found(text),
    }
}

fn each_part(raw: &RawValue, found: &mut dyn FnMut(&str)) {
    let parts: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    for part in parts {
        match serde_json::from_str::<Part<'_>>(part.get()) {
            Ok(Part { text: Some(text) }) => found(&string_of(text)),
            _ => found(&string_of(part)),
        }
    }
}

/// A JSON string's value; any other JSON as it stands.
pub fn string_of(raw: &RawValue) -> Cow<'_, str> {
    let text = raw.get();
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) => Cow::Owned(serde_json::from_str(text).unwrap_or_default()),
        None => Cow::Borrowed(text),
    }
}
