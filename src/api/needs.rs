//! What a request asks of its server's abilities: tools, images, output bound to a JSON schema.
//!
//! Read only where some server of the model lacks one of them.

use std::ops::Range;

use super::ask::Ask;
use super::media::{Medium, Piece, pieces};
use crate::json::{
    Bounds, DEPTH_CEILING, Keys, Kind, Members, Value, elements, scan_nested, scan_object,
    string_value,
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
    let is_image = |piece: &Piece| piece.medium == Medium::Image;
    let members = scan_object(body, &KEYS, &BOUNDS).ok();
    let functions = members.as_ref().and_then(|members| members.get(FUNCTIONS));
    Asked {
        tools: ask.prompt.tools.as_ref().is_some_and(some)
            || functions.is_some_and(|functions| some(&functions.span)),
        images: messages.is_some_and(|span| pieces(body, span.clone()).iter().any(is_image)),
        json_schema: members.is_some_and(|members| bound_to_schema(body, &members)),
    }
}

const KEYS: Keys<7> = Keys::new([
    "response_format",
    "output_format",
    "text",
    "output_config",
    "guided_json",
    "structured_outputs",
    "functions",
]);
const GUIDED_JSON: usize = 4;
const STRUCTURED_OUTPUTS: usize = 5;
/// What tools were called before.
const FUNCTIONS: usize = 6;

/// `response_format` of chat and completions, `text.format` of responses, `output_format` and
/// `output_config.format` of messages; `guided_json` and `structured_outputs.json` of vLLM.
fn bound_to_schema(body: &[u8], members: &Members<7>) -> bool {
    const FORMAT: Keys<1> = Keys::new(["format"]);
    const JSON: Keys<1> = Keys::new(["json"]);
    let inside = |at: usize| {
        let members = object(body, members, at, &FORMAT)?;
        members.get(0).map(|format| format.span.clone())
    };
    let direct = |at: usize| members.get(at).map(|format| format.span.clone());
    let formats = [direct(0), direct(1), inside(2), inside(3)];
    let present = |value: &Value| value.kind != Kind::Null;
    formats.into_iter().flatten().any(|span| type_is(body, span, |t| t == "json_schema"))
        || members.get(GUIDED_JSON).is_some_and(present)
        || object(body, members, STRUCTURED_OUTPUTS, &JSON)
            .is_some_and(|inside| inside.get(0).is_some_and(present))
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

    #[test]
    fn what_engines_and_older_clients_say_is_found() {
        let images = Asked { images: true, ..Asked::default() };
        for items in [
            r#"{"type":"function_call_output","output":[{"type":"input_image","image_url":"data:"}]}"#,
            r#"{"type":"computer_call_output","output":{"type":"computer_screenshot"}}"#,
        ] {
            assert_eq!(asked(Operation::Responses, &format!("\"input\":[{items}]")), images);
        }
        let video =
            r#""messages":[{"role":"user","content":[{"type":"video_url","video_url":{}}]}]"#;
        assert_eq!(asked(Operation::Chat, video), images);
        let tools = Asked { tools: true, ..Asked::default() };
        assert_eq!(asked(Operation::Chat, r#""functions":[{"name":"f"}]"#), tools);
        let schema = Asked { json_schema: true, ..Asked::default() };
        for rest in
            [r#""guided_json":{"type":"object"}"#, r#""structured_outputs":{"json":{"x":1}}"#]
        {
            assert_eq!(asked(Operation::Chat, rest), schema);
        }
        let not =
            r#""functions":[],"guided_json":null,"structured_outputs":{"regex":"a","json":null}"#;
        assert_eq!(asked(Operation::Chat, not), Asked::default());
    }
}
