//! `/v1/responses`: the event sequence of a single message or function call, and the whole object.

use super::encode::{Encoder, Finish, Meta, Sink, Step, Usage};
use super::json::Quoted;
use super::whole::Choice;
use std::fmt::Arguments;

/// The streamed form.
pub struct ResponseStream {
    meta: Meta,
    item: String,
    text: String,
    sequence: u64,
}

impl ResponseStream {
    pub fn new(meta: Meta) -> Self {
        let item = item_id(&meta);
        Self { meta, item, text: String::new(), sequence: 0 }
    }

    fn send(&mut self, sink: &mut dyn Sink, name: &str, members: Arguments<'_>) {
        self.send_around(sink, name, members, "");
    }

    /// With members behind the number: vLLM is not of one mind where it stands.
    fn send_around(&mut self, sink: &mut dyn Sink, name: &str, before: Arguments<'_>, after: &str) {
        let number = self.sequence;
        let event = format!(
            "event: {name}\ndata: {{{before},\"sequence_number\":{number},{after}\"type\":\"{name}\"}}\n\n",
        );
        self.sequence += 1;
        sink.event(event.as_bytes());
    }

    fn start(&mut self, sink: &mut dyn Sink) {
        let response = response_json(&self.meta, "in_progress", "", None, None);
        for name in ["response.created", "response.in_progress"] {
            self.send(sink, name, format_args!(r#""response":{response}"#));
        }
        let item = item_json(&self.meta, &self.item, None, "in_progress");
        self.send(
            sink,
            "response.output_item.added",
            format_args!(r#""item":{item},"output_index":0"#),
        );
        if self.meta.tool.is_none() {
            let item = self.item.clone();
            let part = r#"{"annotations":[],"text":"","type":"output_text","logprobs":[]}"#;
            self.send(
                sink,
                "response.content_part.added",
                format_args!(
                    r#""content_index":0,"item_id":"{item}","output_index":0,"part":{part}"#
                ),
            );
        }
    }

    fn delta(&mut self, text: &str, sink: &mut dyn Sink) {
        let item = self.item.clone();
        match self.meta.tool {
            None => self.send(sink, "response.output_text.delta", format_args!(
                r#""content_index":0,"delta":{},"item_id":"{item}","logprobs":[],"output_index":0"#,
                Quoted(text)
            )),
            Some(_) => self.send(sink, "response.function_call_arguments.delta", format_args!(
                r#""delta":{},"item_id":"{item}","output_index":0"#,
                Quoted(text)
            )),
        }
    }

    fn stop(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        let (item, text) = (self.item.clone(), std::mem::take(&mut self.text));
        match &self.meta.tool {
            None => self.close_text(&item, &text, sink),
            Some(tool) => {
                let name = tool.name.clone();
                self.send(
                    sink,
                    "response.function_call_arguments.done",
                    format_args!(
                        r#""arguments":{},"item_id":"{item}","name":{},"output_index":0"#,
                        Quoted(&text),
                        Quoted(&name)
                    ),
                );
            }
        }
        let whole = item_json(&self.meta, &item, Some(&text), "completed");
        self.send(
            sink,
            "response.output_item.done",
            format_args!(r#""item":{whole},"output_index":0"#),
        );
        if let Some(finish) = step.finish {
            let response =
                response_json(&self.meta, status(finish), &whole, Some(finish), Some(step.usage));
            self.send(sink, "response.completed", format_args!(r#""response":{response}"#));
        }
    }

    fn close_text(&mut self, item: &str, text: &str, sink: &mut dyn Sink) {
        self.send_around(
            sink,
            "response.output_text.done",
            format_args!(r#""content_index":0,"item_id":"{item}","logprobs":[],"output_index":0"#),
            &format!(r#""text":{},"#, Quoted(text)),
        );
        let part = part_json(text);
        self.send(
            sink,
            "response.content_part.done",
            format_args!(r#""content_index":0,"item_id":"{item}","output_index":0,"part":{part}"#),
        );
    }
}

impl Encoder for ResponseStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.first {
            self.start(sink);
        }
        if !step.text.is_empty() {
            self.text.push_str(step.text);
            self.delta(step.text, sink);
        }
        if step.end {
            self.stop(step, sink);
            sink.end();
        }
    }
}

fn status(finish: Finish) -> &'static str {
    if finish == Finish::Length { "incomplete" } else { "completed" }
}

fn item_id(meta: &Meta) -> String {
    let plain: String = meta.id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}_{plain}", if meta.tool.is_some() { "fc" } else { "msg" })
}

fn part_json(text: &str) -> String {
    format!(r#"{{"annotations":[],"text":{},"type":"output_text","logprobs":null}}"#, Quoted(text))
}

/// The output item: empty while `text` is `None`.
fn item_json(meta: &Meta, id: &str, text: Option<&str>, status: &str) -> String {
    match &meta.tool {
        None => format!(
            r#"{{"id":"{id}","content":[{}],"role":"assistant","status":"{status}","type":"message","phase":null}}"#,
            text.map(part_json).unwrap_or_default()
        ),
        Some(tool) => format!(
            r#"{{"arguments":{},"call_id":"call_{id}","name":{},"type":"function_call","id":"{id}","status":"{status}"}}"#,
            Quoted(text.unwrap_or_default()),
            Quoted(&tool.name)
        ),
    }
}

fn response_json(
    meta: &Meta,
    status: &str,
    output: &str,
    finish: Option<Finish>,
    usage: Option<Usage>,
) -> String {
    let incomplete = match finish {
        Some(Finish::Length) => r#"{"reason":"max_output_tokens"}"#,
        _ => "null",
    };
    format!(
        r#"{{"id":{},"created_at":{},"incomplete_details":{incomplete},"instructions":null,"metadata":null,"model":{},"object":"response","output":[{output}],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"{}","tools":[],"top_p":1.0,"background":false,"max_output_tokens":{},"max_tool_calls":null,"previous_response_id":null,"prompt":null,"reasoning":null,"service_tier":"auto","status":"{status}","text":null,"top_logprobs":null,"truncation":"disabled","usage":{},"user":null,"presence_penalty":0.0,"frequency_penalty":0.0,"kv_transfer_params":null,"ec_transfer_params":null,"input_messages":null,"output_messages":null}}"#,
        Quoted(&format!("resp_{}", meta.id)),
        meta.created,
        Quoted(&meta.model),
        if meta.tool.is_some() { "required" } else { "none" },
        meta.max_tokens.map_or("null".to_string(), |tokens| tokens.to_string()),
        usage.map_or("null".to_string(), usage_json)
    )
}

fn usage_json(usage: Usage) -> String {
    format!(
        r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":0,"input_tokens_per_turn":[],"cached_tokens_per_turn":[]}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":0,"tool_output_tokens":0,"output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]}},"total_tokens":{}}}"#,
        usage.prompt,
        usage.cached,
        usage.completion,
        usage.total()
    )
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let empty = Choice::default();
    let choice = choices.first().unwrap_or(&empty);
    let item = item_json(meta, &item_id(meta), Some(&choice.text), "completed");
    let status = choice.finish.map_or("in_progress", status);
    response_json(meta, status, &item, choice.finish, Some(last.usage))
}
