//! `/v1/chat/completions`: chunks, and the whole answer.

use super::timings::{after_prompt, before, progress, timings};
use super::{FINGERPRINT, chat_id, finish, tool_id, usage};
use crate::api::Quoted;
use crate::api::encode::{Encoder, Meta, Sink, Step, Usage};
use crate::api::whole::Choice;

/// What opens every choice, and stands in events that have nothing to say yet.
const ROLE: &str = r#"{"role":"assistant","content":null}"#;

/// The streamed form.
pub struct ChatStream {
    meta: Meta,
    /// What stands behind the choices of every event.
    identity: String,
}

impl ChatStream {
    pub fn new(meta: Meta) -> Self {
        let identity = format!(
            r#""created":{},"id":{},"model":{},"system_fingerprint":"{FINGERPRINT}","object":"chat.completion.chunk""#,
            meta.created,
            chat_id(&meta),
            Quoted(&meta.model)
        );
        Self { meta, identity }
    }

    fn send(&self, choices: &str, more: &str, sink: &mut dyn Sink) {
        let identity = &self.identity;
        let event = format!("data: {{\"choices\":[{choices}],{identity}{more}}}\n\n");
        sink.event(event.as_bytes());
    }

    fn delta(&self, index: usize, delta: &str, more: &str, sink: &mut dyn Sink) {
        let choice = format!(r#"{{"finish_reason":null,"index":{index},"delta":{delta}}}"#);
        self.send(&choice, more, sink);
    }

    /// A member for each event of those who asked for it.
    fn timed(&self, timings: impl FnOnce() -> String) -> String {
        if self.meta.timings { format!(r#","timings":{}"#, timings()) } else { String::new() }
    }

    fn start(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        if self.meta.progress {
            let timed = self.timed(|| after_prompt(step));
            let progress = progress(step.usage, step.usage.prompt, step.prompt_time);
            let more = format!(r#"{timed},"prompt_progress":{progress}"#);
            self.delta(step.choice, ROLE, &more, sink);
        }
        self.delta(step.choice, ROLE, "", sink);
        if let Some(tool) = &self.meta.tool {
            let id = tool_id(&self.meta.id, step.choice);
            let delta = format!(
                r#"{{"tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":{}}}}}]}}"#,
                Quoted(&tool.name)
            );
            self.delta(step.choice, &delta, "", sink);
        }
    }

    fn say(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        let text = Quoted(step.text);
        let delta = match self.meta.tool {
            None => format!(r#"{{"content":{text}}}"#),
            Some(_) => {
                format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{text}}}}}]}}"#)
            }
        };
        self.delta(step.choice, &delta, &self.timed(|| timings(step)), sink);
    }

    fn stop(&self, step: &Step<'_>, sink: &mut dyn Sink) {
        let (index, reason) = (step.choice, finish(step.finish));
        let timings = format!(r#","timings":{}"#, timings(step));
        let choice = format!(r#"{{"finish_reason":{reason},"index":{index},"delta":{{}}}}"#);
        if !self.meta.include_usage {
            return self.send(&choice, &timings, sink);
        }
        self.send(&choice, "", sink);
        let usage = usage(step.usage, step.tokens);
        self.send("", &format!(r#","usage":{usage}{timings}"#), sink);
    }
}

impl Encoder for ChatStream {
    fn begin(&mut self, usage: Usage, sink: &mut dyn Sink) {
        if self.meta.progress {
            let timed = self.timed(|| before(usage));
            let more = format!(r#"{timed},"prompt_progress":{}"#, progress(usage, 0, 0));
            self.delta(0, ROLE, &more, sink);
        }
    }

    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.first {
            self.start(step, sink);
        }
        if !step.text.is_empty() {
            self.say(step, sink);
        }
        if step.last {
            self.stop(step, sink);
        }
        if step.end {
            sink.event(b"data: [DONE]\n\n");
            sink.end();
        }
    }
}

/// The answer that is not streamed: its usage is the last choice's.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let choices: Vec<String> =
        choices.iter().enumerate().map(|(at, choice)| render_choice(meta, at, choice)).collect();
    format!(
        r#"{{"choices":[{}],"created":{},"model":{},"system_fingerprint":"{FINGERPRINT}","object":"chat.completion","usage":{},"id":{},"timings":{}}}"#,
        choices.join(","),
        meta.created,
        Quoted(&meta.model),
        usage(last.usage, last.tokens),
        chat_id(meta),
        timings(last)
    )
}

fn render_choice(meta: &Meta, at: usize, choice: &Choice) -> String {
    let text = Quoted(&choice.text);
    let said = match &meta.tool {
        None => format!(r#""content":{text}"#),
        Some(tool) => format!(
            r#""content":"","tool_calls":[{{"type":"function","function":{{"name":{},"arguments":{text}}},"id":"{}"}}]"#,
            Quoted(&tool.name),
            tool_id(&meta.id, at)
        ),
    };
    let reason = finish(choice.finish);
    format!(r#"{{"finish_reason":{reason},"index":{at},"message":{{"role":"assistant",{said}}}}}"#)
}
