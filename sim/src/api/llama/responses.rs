//! `/v1/responses`: the events of one message or function call, without numbers, and the whole object.

use super::timings::timings;
use crate::api::Quoted;
use crate::api::encode::{Encoder, Meta, Sink, Step};
use crate::api::whole::Choice;

/// The streamed form.
pub struct ResponseStream {
    meta: Meta,
    text: String,
}

impl ResponseStream {
    pub fn new(meta: Meta) -> Self {
        Self { meta, text: String::new() }
    }

    fn start(&self, sink: &mut dyn Sink) {
        let id = response_id(&self.meta);
        let response = format!(r#"{{"id":{id},"object":"response","status":"in_progress"}}"#);
        for name in ["response.created", "response.in_progress"] {
            send(sink, name, &format!(r#""response":{response}"#));
        }
        let item = match &self.meta.tool {
            None => format!(
                r#"{{"content":[],"id":"{}","role":"assistant","status":"in_progress","type":"message"}}"#,
                item_id(&self.meta)
            ),
            Some(_) => call(&self.meta, "", "in_progress"),
        };
        send(sink, "response.output_item.added", &format!(r#""item":{item}"#));
        if self.meta.tool.is_none() {
            let part = r#"{"type":"output_text","text":""}"#;
            self.send_of_item(sink, "response.content_part.added", &format!(r#""part":{part}"#));
        }
    }

    fn send_of_item(&self, sink: &mut dyn Sink, name: &str, members: &str) {
        let id = item_id(&self.meta);
        send(sink, name, &format!(r#""item_id":"{id}",{members}"#));
    }

    fn stop(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        let text = Quoted(&self.text);
        if self.meta.tool.is_none() {
            let part = part(&self.text);
            self.send_of_item(sink, "response.output_text.done", &format!(r#""text":{text}"#));
            self.send_of_item(sink, "response.content_part.done", &format!(r#""part":{part}"#));
        }
        let item = match &self.meta.tool {
            None => format!(
                r#"{{"type":"message","status":"completed","id":"{}","content":[{}],"role":"assistant"}}"#,
                item_id(&self.meta),
                part(&self.text)
            ),
            Some(_) => call(&self.meta, &self.text, "completed"),
        };
        send(sink, "response.output_item.done", &format!(r#""item":{item}"#));
        if step.finish.is_some() {
            let response = format!(
                r#"{{"id":{},"object":"response","created_at":{},"status":"completed","model":{},"output":[{item}],"usage":{}}}"#,
                response_id(&self.meta),
                self.meta.created,
                Quoted(&self.meta.model),
                usage(step)
            );
            let members = format!(r#""response":{response},"timings":{}"#, timings(step));
            send(sink, "response.completed", &members);
        }
    }
}

impl Encoder for ResponseStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.first {
            self.start(sink);
        }
        if !step.text.is_empty() {
            self.text.push_str(step.text);
            let name = match self.meta.tool {
                None => "response.output_text.delta",
                Some(_) => "response.function_call_arguments.delta",
            };
            self.send_of_item(sink, name, &format!(r#""delta":{}"#, Quoted(step.text)));
        }
        if step.end {
            self.stop(step, sink);
            sink.end();
        }
    }
}

fn send(sink: &mut dyn Sink, name: &str, members: &str) {
    let event = format!("event: {name}\ndata: {{\"type\":\"{name}\",{members}}}\n\n");
    sink.event(event.as_bytes());
}

fn response_id(meta: &Meta) -> String {
    Quoted(&format!("resp_{}", meta.id)).to_string()
}

fn item_id(meta: &Meta) -> String {
    let plain: String = meta.id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}_{plain}", if meta.tool.is_some() { "fc" } else { "msg" })
}

fn part(text: &str) -> String {
    format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{}}}"#, Quoted(text))
}

fn call(meta: &Meta, arguments: &str, status: &str) -> String {
    let (id, name) = (item_id(meta), meta.tool.as_ref().map_or("", |tool| &tool.name));
    format!(
        r#"{{"id":"{id}","arguments":{},"call_id":"call_{id}","name":{},"type":"function_call","status":"{status}"}}"#,
        Quoted(arguments),
        Quoted(name)
    )
}

fn usage(step: &Step<'_>) -> String {
    let usage = step.usage;
    format!(
        r#"{{"input_tokens":{},"output_tokens":{},"total_tokens":{},"input_tokens_details":{{"cached_tokens":{}}}}}"#,
        usage.prompt,
        step.tokens,
        usage.prompt + step.tokens,
        usage.cached
    )
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let text = choices.first().map_or("", |choice| choice.text.as_str());
    let item = match &meta.tool {
        None => format!(
            r#"{{"content":[{}],"id":"{}","role":"assistant","status":"completed","type":"message"}}"#,
            part(text),
            item_id(meta)
        ),
        Some(_) => call(meta, text, "completed"),
    };
    format!(
        r#"{{"completed_at":{created},"created_at":{created},"id":{},"model":{},"object":"response","output":[{item}],"status":"completed","usage":{}}}"#,
        response_id(meta),
        Quoted(&meta.model),
        usage(last),
        created = meta.created,
    )
}
