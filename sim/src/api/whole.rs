//! Answers that are not streamed: the text is gathered, and written once at the end.

use super::encode::{Encoder, Finish, Meta, Sink, Step};

/// One choice's text and end.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub text: String,
    pub finish: Option<Finish>,
}

/// How an API writes a whole answer, of which this was the last step.
pub type Render = fn(&Meta, &[Choice], &Step<'_>) -> String;

/// Gathers, then renders.
pub struct Whole {
    meta: Meta,
    choices: Vec<Choice>,
    render: Render,
}

impl Whole {
    pub fn new(meta: Meta, render: Render) -> Self {
        let choices = vec![Choice::default(); meta.choices];
        Self { meta, choices, render }
    }
}

impl Encoder for Whole {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        let choice = &mut self.choices[step.choice];
        choice.text.push_str(step.text);
        choice.finish = step.finish;
        if step.end {
            sink.whole((self.render)(&self.meta, &self.choices, step).as_bytes());
            sink.end();
        }
    }
}
