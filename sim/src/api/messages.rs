//! `/v1/messages`: Anthropic's events, and the whole message. `input_tokens` leaves cached ones out.

use super::encode::{Encoder, Meta, Sink, Step, Usage};
use super::json::Quoted;
use super::whole::Choice;

/// The streamed form.
pub struct MessageStream {
    meta: Meta,
}

impl MessageStream {
    pub fn new(meta: Meta) -> Self {
        Self { meta }
    }

    fn start(&self, usage: Usage, sink: &mut dyn Sink) {
        send(
            sink,
            "message_start",
            format_args!(
                r#"{{"type":"message_start","message":{{"id":{},"type":"message","role":"assistant","content":[],"model":{},"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{},"output_tokens":0}}}}}}"#,
                Quoted(&format!("chatcmpl-{}", self.meta.id)),
                Quoted(&self.meta.model),
                usage.prompt - usage.cached
            ),
        );
        let block = match &self.meta.tool {
            None => r#"{"type":"text","text":""}"#.to_string(),
            Some(tool) => format!(
                r#"{{"type":"tool_use","id":"toolu_{}","name":{},"input":{{}}}}"#,
                plain(&self.meta.id),
                Quoted(&tool.name)
            ),
        };
        send(
            sink,
            "content_block_start",
            format_args!(r#"{{"type":"content_block_start","content_block":{block},"index":0}}"#),
        );
    }

    fn delta(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        let (kind, field) = match self.meta.tool {
            None => ("text_delta", "text"),
            Some(_) => ("input_json_delta", "partial_json"),
        };
        send(
            sink,
            "content_block_delta",
            format_args!(
                r#"{{"type":"content_block_delta","delta":{{"type":"{kind}","{field}":{}}},"index":0}}"#,
                Quoted(step.text)
            ),
        );
    }

    fn stop(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        send(
            sink,
            "content_block_stop",
            format_args!(r#"{{"type":"content_block_stop","index":0}}"#),
        );
        send(
            sink,
            "message_delta",
            format_args!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":{},"stop_sequence":null}},"usage":{}}}"#,
                stop_reason(step.finish),
                usage_json(step.usage)
            ),
        );
        send(sink, "message_stop", format_args!(r#"{{"type":"message_stop"}}"#));
    }
}

impl Encoder for MessageStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.first {
            self.start(step.usage, sink);
        }
        if !step.text.is_empty() {
            self.delta(step, sink);
        }
        if step.end {
            self.stop(step, sink);
            sink.end();
        }
    }
}

fn send(sink: &mut dyn Sink, name: &str, data: std::fmt::Arguments<'_>) {
    sink.event(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn stop_reason(finish: Option<super::Finish>) -> String {
    finish.map_or("null".to_string(), |finish| format!("\"{}\"", finish.anthropic()))
}

fn usage_json(usage: Usage) -> String {
    format!(
        r#"{{"input_tokens":{},"output_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{}}}"#,
        usage.prompt - usage.cached,
        usage.completion,
        usage.cached
    )
}

/// The one block of an answer that is not streamed: text, or a call that has this id.
pub(super) fn content(meta: &Meta, choice: &Choice, call_id: &str) -> String {
    match &meta.tool {
        None => format!(r#"{{"type":"text","text":{}}}"#, Quoted(&choice.text)),
        Some(tool) => format!(
            r#"{{"type":"tool_use","id":"{call_id}","name":{},"input":{}}}"#,
            Quoted(&tool.name),
            // Cut short by the token limit it is no JSON: then the input is empty.
            if choice.text == tool.arguments { &choice.text } else { "{}" }
        ),
    }
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let empty = Choice::default();
    let choice = choices.first().unwrap_or(&empty);
    let content = content(meta, choice, &format!("toolu_{}", plain(&meta.id)));
    format!(
        r#"{{"id":{},"type":"message","role":"assistant","content":[{content}],"model":{},"stop_reason":{},"stop_sequence":null,"usage":{}}}"#,
        Quoted(&format!("chatcmpl-{}", meta.id)),
        Quoted(&meta.model),
        stop_reason(choice.finish),
        usage_json(last.usage)
    )
}
