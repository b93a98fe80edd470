//! `/v1/messages`: Anthropic's events, and the whole message. `input_tokens` leaves cached ones out.

use super::{chat_id, tool_id};
use crate::api::Quoted;
use crate::api::encode::{Encoder, Finish, Meta, Sink, Step};
use crate::api::messages::content;
use crate::api::whole::Choice;

/// The streamed form.
pub struct MessageStream {
    meta: Meta,
}

impl MessageStream {
    pub fn new(meta: Meta) -> Self {
        Self { meta }
    }

    fn start(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        let usage = usage(step, 0);
        let message = format!(
            r#"{{"id":{},"type":"message","role":"assistant","content":[],"model":{},"stop_reason":null,"stop_sequence":null,"usage":{usage}}}"#,
            chat_id(&self.meta),
            Quoted(&self.meta.model),
        );
        send(sink, "message_start", &format!(r#","message":{message}"#));
        let block = match &self.meta.tool {
            None => r#"{"type":"text","text":""}"#.to_string(),
            Some(tool) => {
                let id = tool_id(&self.meta.id, 0);
                format!(r#"{{"type":"tool_use","id":"{id}","name":{}}}"#, Quoted(&tool.name))
            }
        };
        send(sink, "content_block_start", &format!(r#","index":0,"content_block":{block}"#));
    }

    fn delta(&self, text: &str, sink: &mut dyn Sink) {
        let (kind, field) = match self.meta.tool {
            None => ("text_delta", "text"),
            Some(_) => ("input_json_delta", "partial_json"),
        };
        let delta = format!(r#"{{"type":"{kind}","{field}":{}}}"#, Quoted(text));
        send(sink, "content_block_delta", &format!(r#","index":0,"delta":{delta}"#));
    }
}

impl Encoder for MessageStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.first {
            self.start(step, sink);
        }
        if !step.text.is_empty() {
            self.delta(step.text, sink);
        }
        if step.end {
            let delta =
                format!(r#"{{"stop_reason":{},"stop_sequence":null}}"#, reason(step.finish));
            let usage = format!(r#"{{"output_tokens":{}}}"#, step.tokens);
            send(sink, "content_block_stop", r#","index":0"#);
            send(sink, "message_delta", &format!(r#","delta":{delta},"usage":{usage}"#));
            send(sink, "message_stop", "");
            sink.end();
        }
    }
}

fn send(sink: &mut dyn Sink, name: &str, members: &str) {
    let event = format!("event: {name}\ndata: {{\"type\":\"{name}\"{members}}}\n\n");
    sink.event(event.as_bytes());
}

fn reason(finish: Option<Finish>) -> String {
    finish.map_or("null".to_string(), |finish| format!("\"{}\"", finish.anthropic()))
}

fn usage(step: &Step<'_>, output: u32) -> String {
    let (prompt, cached) = (step.usage.prompt, step.usage.cached);
    format!(
        r#"{{"cache_read_input_tokens":{cached},"input_tokens":{},"output_tokens":{output}}}"#,
        prompt - cached
    )
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let empty = Choice::default();
    let choice = choices.first().unwrap_or(&empty);
    let content = content(meta, choice, &tool_id(&meta.id, 0));
    format!(
        r#"{{"id":{},"type":"message","role":"assistant","content":[{content}],"model":{},"stop_reason":{},"stop_sequence":null,"usage":{}}}"#,
        chat_id(meta),
        Quoted(&meta.model),
        reason(choice.finish),
        usage(last, last.tokens)
    )
}
