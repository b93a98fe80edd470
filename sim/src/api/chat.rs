//! `/v1/chat/completions`: chunks as vLLM 0.32 streams them, and the whole answer.

use super::encode::{Encoder, Finish, Meta, Sink, Step, Usage};
use super::json::Quoted;
use super::whole::Choice;
use std::fmt::Write;

/// The server's fingerprint in usage events.
pub const FINGERPRINT: &str = "vllm-0.32.0-sim";

/// The streamed form.
pub struct ChatStream {
    meta: Meta,
    /// Everything before `"choices"`'s value.
    opening: String,
    event: String,
    started: bool,
}

impl ChatStream {
    pub fn new(meta: Meta) -> Self {
        let opening = format!(
            r#"data: {{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"choices":"#,
            Quoted(&format!("chatcmpl-{}", meta.id)),
            meta.created,
            Quoted(&meta.model)
        );
        Self { meta, opening, event: String::new(), started: false }
    }

    fn roles(&mut self, usage: Usage, sink: &mut dyn Sink) {
        for index in 0..self.meta.choices {
            self.begin();
            let delta = r#"{"role":"assistant","content":""}"#;
            self.put(format_args!(
                r#"[{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":null}}]"#
            ));
            self.continuous(Usage { completion: 0, ..usage });
            self.put(format_args!(r#","prompt_token_ids":null,"prompt_text":null}}"#));
            self.send(sink);
        }
    }

    fn delta(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        self.begin();
        self.put(format_args!(r#"[{{"index":{},"delta":"#, step.choice));
        match self.meta.tool {
            None => self.put(format_args!(r#"{{"content":{}}}"#, Quoted(step.text))),
            Some(_) => self.put(format_args!(
                r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{}}}}}]}}"#,
                Quoted(step.text)
            )),
        }
        match step.finish.filter(|_| step.last) {
            None => self
                .put(format_args!(r#","logprobs":null,"finish_reason":null,"token_ids":null}}]"#)),
            Some(finish) => self.put(format_args!(
                r#","logprobs":null,"finish_reason":"{}","stop_reason":null,"token_ids":null}}]"#,
                finish.open_ai()
            )),
        }
        self.continuous(step.usage);
        self.event.push('}');
        self.send(sink);
    }

    fn tool_start(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        let Some(name) = self.meta.tool.as_ref().map(|tool| tool.name.clone()) else { return };
        let id = tool_id(&self.meta.id, step.choice);
        self.begin();
        self.put(format_args!(
            r#"[{{"index":{},"delta":{{"tool_calls":[{{"id":"{id}","type":"function","index":0,"function":{{"name":{},"arguments":""}}}}]}},"logprobs":null,"finish_reason":null,"token_ids":null}}]"#,
            step.choice,
            Quoted(&name)
        ));
        self.continuous(step.usage);
        self.event.push('}');
        self.send(sink);
    }

    fn usage(&mut self, usage: Usage, sink: &mut dyn Sink) {
        self.begin();
        self.put(format_args!(
            r#"[],"usage":{},"system_fingerprint":"{FINGERPRINT}"}}"#,
            final_usage(usage)
        ));
        self.send(sink);
    }

    fn continuous(&mut self, usage: Usage) {
        if self.meta.continuous_usage {
            self.put(format_args!(
                r#","usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},"completion_tokens_details":null}}"#,
                usage.prompt,
                usage.total(),
                usage.completion
            ));
        }
    }

    fn begin(&mut self) {
        self.event.clear();
        self.event.push_str(&self.opening);
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.event.write_fmt(text);
    }

    fn send(&mut self, sink: &mut dyn Sink) {
        self.event.push_str("\n\n");
        sink.event(self.event.as_bytes());
    }
}

impl Encoder for ChatStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if !self.started {
            self.started = true;
            self.roles(step.usage, sink);
        }
        if step.first {
            self.tool_start(step, sink);
        }
        if self.meta.tool.is_none() || !step.text.is_empty() || step.last {
            self.delta(step, sink);
        }
        if step.end {
            if self.meta.include_usage {
                self.usage(step.usage, sink);
            }
            sink.event(b"data: [DONE]\n\n");
            sink.end();
        }
    }
}

/// The usage object at the end of an answer.
pub fn final_usage(usage: Usage) -> String {
    format!(
        r#"{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},"prompt_tokens_details":{{"cached_tokens":{},"created_cache_tokens":0}}}}"#,
        usage.prompt,
        usage.total(),
        usage.completion,
        usage.cached
    )
}

/// The id of a choice's tool call.
pub fn tool_id(id: &str, choice: usize) -> String {
    let plain: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("chatcmpl-tool-{plain}{choice}")
}

/// A finish reason as JSON, null where there is none.
pub fn finish_json(finish: Option<Finish>) -> String {
    finish.map_or("null".to_string(), |finish| format!("\"{}\"", finish.open_ai()))
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let choices: Vec<String> =
        choices.iter().enumerate().map(|(at, choice)| render_choice(meta, at, choice)).collect();
    format!(
        r#"{{"id":{},"object":"chat.completion","created":{},"model":{},"choices":[{}],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{},"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null}}"#,
        Quoted(&format!("chatcmpl-{}", meta.id)),
        meta.created,
        Quoted(&meta.model),
        choices.join(","),
        final_usage(last.usage)
    )
}

fn render_choice(meta: &Meta, at: usize, choice: &Choice) -> String {
    let (content, calls) = match &meta.tool {
        None => (Quoted(&choice.text).to_string(), String::new()),
        Some(tool) => (
            "null".to_string(),
            format!(
                r#"{{"id":"{}","type":"function","function":{{"name":{},"arguments":{}}}}}"#,
                tool_id(&meta.id, at),
                Quoted(&tool.name),
                Quoted(&choice.text)
            ),
        ),
    };
    format!(
        r#"{{"index":{at},"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[{calls}],"reasoning":null}},"logprobs":null,"finish_reason":{},"stop_reason":null,"token_ids":null}}"#,
        finish_json(choice.finish)
    )
}
