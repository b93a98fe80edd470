//! Errors that endpoints report behind a 200, in the several shapes that are about.

use serde_json::Value;

use super::EventError;

impl EventError {
    /// Longest part of an endpoint's own words that is kept.
    pub const MESSAGE_BYTES_MAX: usize = 1024;

    /// From the raw `error` member of an event: an object, or the message alone. None for what
    /// clients' libraries take for no error: null, false, zero, and what is empty.
    pub fn read(raw: &str) -> Option<EventError> {
        let report: Value = serde_json::from_str(raw).ok()?;
        let said = match &report {
            Value::String(text) => !text.is_empty(),
            Value::Object(members) => !members.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Bool(said) => *said,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Null => false,
        };
        said.then(|| EventError { status: status_of(&report), message: message_of(&report) })
    }

    /// An error of which only the words are known.
    pub fn said(message: &str) -> EventError {
        EventError { status: None, message: cut(message).into() }
    }

    /// An error that is not told in any known way: its text, as far as it is one.
    pub fn quote(text: &[u8]) -> EventError {
        let text = &text[..text.len().min(EventError::MESSAGE_BYTES_MAX)];
        EventError::said(&String::from_utf8_lossy(text))
    }
}

/// An error in an event that has no data: Dynamo writes its words into a comment under the name
/// `error`, older llama.cpp into a field called `error`.
pub fn without_data(event: &[u8], name: Option<&str>) -> Option<EventError> {
    if let Some(report) = event.strip_prefix(b"error:") {
        return EventError::read(std::str::from_utf8(report).ok()?);
    }
    (name == Some("error")).then(|| {
        let mut lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
        let comment = lines.find_map(|line| line.strip_prefix(b":"));
        EventError::quote(comment.unwrap_or_default().trim_ascii())
    })
}

fn message_of(report: &Value) -> Box<str> {
    match (report, report.get("message")) {
        (_, Some(Value::String(message))) | (Value::String(message), _) => cut(message).into(),
        _ => cut(&report.to_string()).into(),
    }
}

/// The status an error object names (`code` or `status`, as a number or in digits), or the one that
/// its type stands for.
fn status_of(report: &Value) -> Option<u16> {
    ["code", "status", "status_code"]
        .into_iter()
        .find_map(|key| number(report.get(key)?))
        .or_else(|| ["type", "code"].into_iter().find_map(|key| named(report.get(key)?.as_str()?)))
}

fn number(value: &Value) -> Option<u16> {
    let status = match value {
        Value::String(digits) => digits.parse().ok()?,
        other => u16::try_from(other.as_u64()?).ok()?,
    };
    (400..=599).contains(&status).then_some(status)
}

/// Anthropic's error types, and OpenAI's codes that stand in streams.
fn named(name: &str) -> Option<u16> {
    Some(match name {
        "invalid_request_error" | "context_length_exceeded" | "invalid_prompt" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => 429,
        "api_error" | "server_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// The longest beginning of at most `MESSAGE_BYTES_MAX` bytes that ends between characters.
fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(EventError::MESSAGE_BYTES_MAX)]
}
