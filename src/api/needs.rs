//! What a request asks of its server's abilities: tools, images, output bound to a JSON schema.
//!
//! Read only where some server of the model lacks one of them.

use std::ops::Range;

use memchr::memmem;

use super::ask::Ask;
use crate::json::{
    Bounds, DEPTH_CEILING, Keys, Kind, Members, elements, scan_nested, scan_object, string_value,
};

const BOUNDS: Bounds = Bounds { depth_max: DEPTH_CEILING };

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub tools: bool,
    pub images: bool,
    pub json_schema: bool,
}

/// Reads it out of a body that `ask` was read from.
pub fn read(body: &[u8], ask: &Ask) -> Asked {
    let some = |span: &Range<usize>| elements(body, span.clone()).next().is_some();
    let messages = ask.prompt.messages.as_ref().or(ask.prompt.input.as_ref());
    Asked {
        tools: ask.prompt.tools.as_ref().is_some_and(some),
        images: messages.is_some_and(|span| has_image(body, span.clone())),
        json_schema: bound_to_schema(body).unwrap_or(false),
    }
}

/// `response_format` of chat and completions, `text.format` of responses, `output_format` and
/// `output_config.format` of messages.
fn bound_to_schema(body: &[u8]) -> Option<bool> {
    const KEYS: Keys<4> = Keys::new(["response_format", "output_format", "text", "output_config"]);
    const FORMAT: Keys<1> = Keys::new(["format"]);
    let members = scan_object(body, &KEYS, &BOUNDS).ok()?;
    let inside = |at: usize| {
        let members = object(body, &members, at, &FORMAT)?;
        members.get(0).map(|format| format.span.clone())
    };
    let direct = |at: usize| members.get(at).map(|format| format.span.clone());
    let formats = [direct(0), direct(1), inside(2), inside(3)];
    Some(formats.into_iter().flatten().any(|span| type_is(body, span, |t| t == "json_schema")))
}

fn object<const N: usize, const M: usize>(
    body: &[u8],
    members: &Members<N>,
    at: usize,
    keys: &Keys<M>,
) -> Option<Members<M>> {
    let value = members.get(at).filter(|value| value.kind == Kind::Object)?;
    scan_nested(body, value.span.clone(), keys, &BOUNDS).ok()
}

/// Whether the object at `span` has a `type` of this kind.
fn type_is(body: &[u8], span: Range<usize>, wanted: impl Fn(&str) -> bool) -> bool {
    const KEYS: Keys<1> = Keys::new(["type"]);
    let Ok(members) = scan_nested(body, span, &KEYS, &BOUNDS) else { return false };
    let kind = members.get(0).filter(|value| matches!(value.kind, Kind::String { .. }));
    kind.is_some_and(|value| wanted(&string_value(body, value)))
}

/// Whether a content part of a message is an image. The word that all their types hold is looked for first:
/// it is nearly always absent.
fn has_image(body: &[u8], messages: Range<usize>) -> bool {
    let text = body.get(messages.clone()).unwrap_or_default();
    if memmem::find(text, b"image").is_none() {
        return false;
    }
    elements(body, messages).filter(|message| message.kind == Kind::Object).any(|message| {
        type_is(body, message.span.clone(), is_image) || content_has_image(body, message.span)
    })
}

fn content_has_image(body: &[u8], message: Range<usize>) -> bool {
    const KEYS: Keys<1> = Keys::new(["content"]);
    let Ok(members) = scan_nested(body, message, &KEYS, &BOUNDS) else { return false };
    let Some(content) = members.get(0).filter(|value| value.kind == Kind::Array) else {
        return false;
    };
    elements(body, content.span.clone()).filter(|part| part.kind == Kind::Object).any(|part| {
        // A tool's result holds parts of its own.
        type_is(body, part.span.clone(), is_image) || content_has_image(body, part.span)
    })
}

fn is_image(kind: &str) -> bool {
    matches!(kind, "image" | "image_url" | "input_image")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ask::read_ask;
    use crate::api::operation::Operation;

    fn asked(op: Operation, rest: &str) -> Asked {
        let body = format!("{{\"model\":\"m\",{rest}}}");
        let ask = read_ask(op, body.as_bytes(), &BOUNDS).expect("a lawful body");
        read(body.as_bytes(), &ask)
    }

    #[test]
    fn what_is_there_is_found() {
        let chat = asked(
            Operation::Chat,
            r#""messages":[{"role":"user","content":[{"type":"text","text":"x"},
               {"type":"image_url","image_url":{"url":"data:"}}]}],"tools":[{}],
               "response_format":{"type":"json_schema","json_schema":{}}"#,
        );
        assert_eq!(chat, Asked { tools: true, images: true, json_schema: true });
        let messages = asked(
            Operation::Messages,
            r#""messages":[{"role":"user","content":[{"type":"tool_result","content":[
               {"type":"image","source":{}}]}]}],"output_config":{"format":{"type":"json_schema"}}"#,
        );
        assert_eq!(messages, Asked { tools: false, images: true, json_schema: true });
        let responses = asked(
            Operation::Responses,
            r#""input":[{"role":"user","content":[{"type":"input_image"}]}],
               "text":{"format":{"type":"json_schema"}}"#,
        );
        assert_eq!(responses, Asked { tools: false, images: true, json_schema: true });
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        let plain = asked(
            Operation::Chat,
            r#""messages":[{"role":"user","content":"{\"type\":\"image_url\"}"},
               {"role":"user","content":[{"type":"text","text":"\"type\":\"image\"","x":{"type":"image"}}]}],
               "tools":[],"response_format":{"type":"json_object","x":{"type":"json_schema"}}"#,
        );
        assert_eq!(plain, Asked::default());
        assert_eq!(asked(Operation::Responses, r#""input":"an image""#), Asked::default());
    }
}
