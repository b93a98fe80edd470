//! Prompts: a chat template and text become token ids, the same way every time.
//!
//! Template: `TOOLS` + the tools' JSON as it stands + `END`, then for each message its role, its
//! texts, `END`, and at last `ASSISTANT`. A conversation grows at its end, so each turn's prompt
//! begins with the whole of the last one, answer included.

use super::body::{Body, Message, each_text, string_of};
use super::error::ApiError;
use crate::text::tokens::{Special, encode};
use serde_json::value::RawValue;

/// A prompt's token ids, and where in them a continued assistant message begins.
#[derive(Default, Debug)]
pub struct Rendered {
    pub ids: Vec<u32>,
    /// Tokens of an assistant message at the end that is to be continued.
    pub continued: u32,
}

impl Rendered {
    /// One text, no template.
    pub fn plain(text: &str) -> Self {
        let mut rendered = Self::default();
        encode(text, &mut rendered.ids);
        rendered
    }

    fn special(&mut self, special: Special) {
        self.ids.push(special as u32);
    }

    fn content(&mut self, raw: Option<&RawValue>) {
        if let Some(raw) = raw {
            each_text(raw, &mut |text| encode(text, &mut self.ids));
        }
    }

    fn block(&mut self, opener: Special, raw: Option<&RawValue>) {
        if let Some(raw) = raw.filter(|raw| raw.get() != "null") {
            self.special(opener);
            self.content(Some(raw));
            self.special(Special::End);
        }
    }

    fn tools(&mut self, raw: Option<&RawValue>) {
        if let Some(raw) = raw.filter(|raw| raw.get() != "null") {
            self.special(Special::Tools);
            encode(raw.get(), &mut self.ids);
            self.special(Special::End);
        }
    }

    fn messages(&mut self, messages: &[Message<'_>], continue_last: bool) {
        for (at, message) in messages.iter().enumerate() {
            let role = message.role.as_deref().unwrap_or("tool");
            self.special(role_token(role));
            let start = self.ids.len();
            for raw in [message.content, message.tool_calls, message.arguments, message.output] {
                self.content(raw);
            }
            if continue_last && at + 1 == messages.len() && role == "assistant" {
                self.continued = (self.ids.len() - start) as u32;
                return;
            }
            self.special(Special::End);
        }
        self.special(Special::Assistant);
    }
}

fn role_token(role: &str) -> Special {
    match role {
        "assistant" => Special::Assistant,
        "system" | "developer" => Special::System,
        "tool" => Special::Tool,
        _ => Special::User,
    }
}

/// The prompt of a chat body.
pub fn chat(body: &Body<'_>) -> Result<Rendered, ApiError> {
    let Some(messages) = &body.messages else {
        return Err(missing("messages"));
    };
    let mut rendered = Rendered::default();
    rendered.tools(body.tools);
    rendered.messages(messages, body.continue_final_message == Some(true));
    Ok(rendered)
}

/// The prompt of a messages body: an assistant message at the end is always continued.
pub fn messages(body: &Body<'_>) -> Result<Rendered, ApiError> {
    let Some(messages) = &body.messages else {
        return Err(missing("messages"));
    };
    let mut rendered = Rendered::default();
    rendered.tools(body.tools);
    rendered.block(Special::System, body.system);
    rendered.messages(messages, true);
    Ok(rendered)
}

/// The prompt of a responses body.
pub fn responses(body: &Body<'_>) -> Result<Rendered, ApiError> {
    let input = body.input.ok_or_else(|| missing("input"))?;
    let mut rendered = Rendered::default();
    rendered.tools(body.tools);
    rendered.block(Special::System, body.instructions);
    if input.get().starts_with('[') {
        let items: Vec<Message<'_>> = serde_json::from_str(input.get())
            .map_err(|error| ApiError::bad_request(error.to_string(), Some("input")))?;
        rendered.messages(&items, false);
    } else {
        rendered.block(Special::User, Some(input));
        rendered.special(Special::Assistant);
    }
    Ok(rendered)
}

/// The texts or token lists of `prompt` (completions) or `input` (embeddings): one or several.
pub fn texts(raw: Option<&RawValue>, name: &'static str) -> Result<Vec<Rendered>, ApiError> {
    let raw = raw.ok_or_else(|| missing(name))?;
    let wrong = || ApiError::bad_request(format!("{name} must be text or token ids"), Some(name));
    if raw.get().starts_with('"') {
        return Ok(vec![Rendered::plain(&string_of(raw))]);
    }
    if let Ok(ids) = serde_json::from_str::<Vec<u32>>(raw.get()) {
        return Ok(vec![Rendered { ids, continued: 0 }]);
    }
    if let Ok(lists) = serde_json::from_str::<Vec<Vec<u32>>>(raw.get()) {
        return Ok(lists.into_iter().map(|ids| Rendered { ids, continued: 0 }).collect());
    }
    let texts: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    Ok(texts.iter().map(|text| Rendered::plain(text)).collect())
}

/// The prompt of one query and document pair.
pub fn pair(query: &RawValue, document: &RawValue) -> Rendered {
    let mut rendered = Rendered::default();
    rendered.content(Some(query));
    rendered.special(Special::Separator);
    rendered.content(Some(document));
    rendered
}

/// 400: a field that must be there is not.
pub fn missing(field: &'static str) -> ApiError {
    ApiError::bad_request(
        format!("[{{'type': 'missing', 'loc': ('body', '{field}')}}] Field required"),
        Some(field),
    )
}
