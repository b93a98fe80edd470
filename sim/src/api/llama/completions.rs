//! `/v1/completions`: text chunks of which the last one has the usage, and the whole answer.

use super::timings::timings;
use super::{FINGERPRINT, chat_id, finish, usage};
use crate::api::Quoted;
use crate::api::encode::{Encoder, Finish, Meta, Sink, Step};
use crate::api::whole::Choice;

/// The streamed form.
pub struct CompletionStream {
    meta: Meta,
}

impl CompletionStream {
    pub fn new(meta: Meta) -> Self {
        Self { meta }
    }
}

impl Encoder for CompletionStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        let send = |said: &str, end: Option<&Step<'_>>, sink: &mut dyn Sink| {
            sink.event(format!("data: {}\n\n", object(&self.meta, said, end)).as_bytes());
        };
        if !step.text.is_empty() {
            send(&choice(step.choice, step.text, None), None, sink);
        }
        if step.last {
            send(&choice(step.choice, "", step.finish), Some(step), sink);
        }
        if step.end {
            sink.event(b"data: [DONE]\n\n");
            sink.end();
        }
    }
}

fn choice(index: usize, text: &str, reason: Option<Finish>) -> String {
    format!(
        r#"{{"text":{},"index":{index},"logprobs":null,"finish_reason":{}}}"#,
        Quoted(text),
        finish(reason)
    )
}

/// An event, or an answer: what ends a choice has its usage and its timings.
fn object(meta: &Meta, choices: &str, end: Option<&Step<'_>>) -> String {
    let usage = |step: &Step<'_>| format!(r#","usage":{}"#, usage(step.usage, step.tokens));
    let timings = |step: &Step<'_>| format!(r#","timings":{}"#, timings(step));
    format!(
        r#"{{"choices":[{choices}],"created":{},"model":{},"system_fingerprint":"{FINGERPRINT}","object":"text_completion"{},"id":{}{}}}"#,
        meta.created,
        Quoted(&meta.model),
        end.map(usage).unwrap_or_default(),
        chat_id(meta),
        end.map(timings).unwrap_or_default()
    )
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let each = choices.iter().enumerate();
    let choices: Vec<String> = each.map(|(at, one)| choice(at, &one.text, one.finish)).collect();
    object(meta, &choices.join(","), Some(last))
}
