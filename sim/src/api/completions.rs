//! `/v1/completions`: text chunks, and the whole answer.

use super::chat::{FINGERPRINT, final_usage, finish_json};
use super::encode::{Encoder, Meta, Sink, Step};
use super::json::Quoted;
use super::whole::Choice;

/// The streamed form.
pub struct CompletionStream {
    meta: Meta,
    opening: String,
}

impl CompletionStream {
    pub fn new(meta: Meta) -> Self {
        let opening = format!("data: {}", opening(&meta));
        Self { meta, opening }
    }

    fn delta(&self, step: &Step<'_>) -> String {
        let usage = step.usage;
        let continuous = match self.meta.continuous_usage {
            false => String::new(),
            true => format!(
                r#","usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{}}}"#,
                usage.prompt,
                usage.total(),
                usage.completion
            ),
        };
        format!(
            "{}[{}]{continuous}}}\n\n",
            self.opening,
            choice_json(step.choice, step.text, step.finish.filter(|_| step.last))
        )
    }
}

impl Encoder for CompletionStream {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        sink.event(self.delta(step).as_bytes());
        if step.end {
            if self.meta.include_usage {
                let usage = final_usage(step.usage);
                sink.event(format!("{}[],\"usage\":{usage}}}\n\n", self.opening).as_bytes());
            }
            sink.event(b"data: [DONE]\n\n");
            sink.end();
        }
    }
}

fn opening(meta: &Meta) -> String {
    format!(
        r#"{{"id":{},"object":"text_completion","created":{},"model":{},"choices":"#,
        Quoted(&format!("cmpl-{}", meta.id)),
        meta.created,
        Quoted(&meta.model)
    )
}

fn choice_json(index: usize, text: &str, finish: Option<super::Finish>) -> String {
    format!(
        r#"{{"index":{index},"text":{},"logprobs":null,"finish_reason":{},"stop_reason":null,"prompt_token_ids":null,"token_ids":null}}"#,
        Quoted(text),
        finish_json(finish)
    )
}

/// The answer that is not streamed.
pub fn render(meta: &Meta, choices: &[Choice], last: &Step<'_>) -> String {
    let choices: Vec<String> = choices
        .iter()
        .enumerate()
        .map(|(at, choice)| choice_json(at, &choice.text, choice.finish))
        .collect();
    format!(
        r#"{}[{}],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{},"kv_transfer_params":null}}"#,
        opening(meta),
        choices.join(","),
        final_usage(last.usage)
    )
}
