//! One answer under way: the engine's outputs go in, bytes go out to the client's socket.
//!
//! The engine's loop calls [`Live::output`] for each step and the bytes are written there and
//! then; the connection's task is woken only for what needs it: the end, a full socket, a cut.

use super::head::{Framing, Head};
use super::out::Out;
use crate::api::{ApiError, Encoder, Family, Finish, Generation, Script, Sink, Step, Usage};
use crate::engine::{Output, SeqId, Time};
use crate::fault::EventFaults;
use std::borrow::Cow;
use std::io::Write;
use std::rc::Rc;
use tokio::sync::Notify;

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More is to come.
    Going,
    /// A fault has silenced it for ever.
    Silent,
    /// All is written.
    Ended,
    /// A fault has ended it.
    Broken,
}

/// One choice.
struct Choice {
    script: Script,
    finish: Option<Finish>,
    counted: bool,
    seq: Option<SeqId>,
    first_at: Time,
    last_at: Time,
}

/// An answer under way.
pub struct Live {
    encoder: Box<dyn Encoder>,
    choices: Vec<Choice>,
    /// Choices that are not over.
    open: usize,
    usage: Usage,
    text: String,
    writer: Writer,
    wake: Rc<Notify>,
}

/// What an output meant, for the metrics.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// When the choice's previous tokens came; 0 before the first.
    pub last_at: Time,
    pub finish: Option<Finish>,
}

impl Live {
    pub fn new(run: Generation, writer: Writer, wake: Rc<Notify>) -> Self {
        let counted = run.sequences.iter().filter(|sequence| sequence.counted);
        let prompt = counted.map(|sequence| sequence.prompt.tokens).sum();
        let choices: Vec<Choice> = run
            .sequences
            .into_iter()
            .map(|plan| Choice {
                script: plan.script,
                finish: plan.finish,
                counted: plan.counted,
                seq: None,
                first_at: 0,
                last_at: 0,
            })
            .collect();
        Self {
            encoder: run.encoder,
            open: choices.len(),
            choices,
            usage: Usage { prompt, ..Usage::default() },
            text: String::new(),
            writer,
            wake,
        }
    }

    /// The engine has all of its sequences.
    pub fn begin(&mut self) {
        self.encoder.begin(self.usage, &mut self.writer);
    }

    /// Which sequence of the engine a choice is.
    pub fn seat(&mut self, choice: usize, seq: SeqId) {
        self.choices[choice].seq = Some(seq);
    }

    /// The sequences that are not over.
    pub fn sequences(&self) -> Vec<SeqId> {
        self.choices.iter().filter_map(|choice| choice.seq).collect()
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub fn state(&self) -> State {
        self.writer.state
    }

    /// Whether the connection cannot be used again.
    pub fn closes(&self) -> bool {
        self.writer.closes || self.writer.framing == Framing::UntilClose
    }

    pub fn out(&mut self) -> &mut Out {
        &mut self.writer.out
    }

    /// Takes what a step gave to one choice.
    pub fn output(&mut self, index: usize, output: &Output) -> Progress {
        let choice = &mut self.choices[index];
        if output.first == 0 {
            choice.first_at = output.at;
            self.usage.cached += if choice.counted { output.cached } else { 0 };
        }
        self.usage.completion += output.count;
        self.open -= usize::from(output.last);
        if output.last {
            choice.seq = None;
        }
        self.text.clear();
        choice.script.say(output.first, output.count, &mut self.text);
        let step = Step {
            choice: index,
            text: &self.text,
            first: output.first == 0,
            last: output.last,
            finish: choice.finish.filter(|_| output.last),
            usage: self.usage,
            tokens: output.first + output.count,
            prompt_time: choice.first_at.saturating_sub(output.scheduled),
            decode_time: output.at.saturating_sub(choice.first_at),
            end: self.open == 0,
        };
        let progress = Progress { last_at: choice.last_at, finish: choice.finish };
        choice.last_at = output.at;
        self.encoder.step(&step, &mut self.writer);
        if self.writer.needs_care() {
            self.wake.notify_one();
        }
        progress
    }
}

/// The end of an answer to which nothing is kept.
const NOTHING_KEPT: &[u8] = b"\"kv_transfer_params\":null}";

/// Frames events and whole bodies, and applies the faults that strike at an event.
pub struct Writer {
    pub out: Out,
    head: Head,
    framing: Framing,
    faults: EventFaults,
    family: Family,
    events: u32,
    state: State,
    /// The connection must close, for the body falls short of its length.
    closes: bool,
    frame: Vec<u8>,
    /// Where the prompt's blocks are kept.
    pub place: Option<String>,
}

impl Writer {
    /// For a stream `framing` is chunked or until close; a whole answer gets its length later.
    pub fn new(
        out: Out,
        head: Head,
        framing: Framing,
        faults: EventFaults,
        family: Family,
    ) -> Self {
        let (events, state, closes, frame) = (0, State::Going, false, Vec::new());
        let place = None;
        Self { out, head, framing, faults, family, events, state, closes, frame, place }
    }

    /// Sends a stream's head.
    pub fn open(&mut self) {
        self.out.push(&self.head.write(self.framing));
    }

    fn needs_care(&self) -> bool {
        self.state != State::Going
            || self.out.is_waiting()
            || self.out.is_broken()
            || self.out.due_cut().is_some()
    }

    fn chunk(&mut self, bytes: &[u8]) {
        if self.framing != Framing::Chunked {
            return self.out.push(bytes);
        }
        self.frame.clear();
        // Writing to a Vec cannot fail.
        let _ = write!(self.frame, "{:x}\r\n", bytes.len());
        self.frame.extend_from_slice(bytes);
        self.frame.extend_from_slice(b"\r\n");
        self.out.push(&self.frame);
    }

    fn close_body(&mut self) {
        if self.framing == Framing::Chunked {
            self.out.push(b"0\r\n\r\n");
        }
    }

    fn break_off(&mut self) {
        self.close_body();
        self.state = State::Broken;
    }

    fn engine_error(&mut self) {
        let event = ApiError::engine_dead().event(self.family);
        self.chunk(event.as_bytes());
        if self.family == Family::OpenAi {
            self.chunk(b"data: [DONE]\n\n");
        }
        self.break_off();
    }

    fn broken_whole(&mut self, body: &[u8]) {
        let half = &body[..body.len() / 2];
        let (shown, length, state) = match self.faults {
            EventFaults { stall: Some(_), .. } => (half, body.len(), State::Silent),
            EventFaults { truncate: Some(_), .. } => {
                self.closes = true;
                (half, body.len(), State::Broken)
            }
            _ => (half, half.len(), State::Broken),
        };
        self.send_whole(shown, length);
        self.state = state;
    }

    fn send_whole(&mut self, body: &[u8], length: usize) {
        let framing = match self.framing {
            Framing::UntilClose => Framing::UntilClose,
            _ => Framing::Length(length),
        };
        let mut bytes = self.head.write(framing);
        bytes.extend_from_slice(body);
        self.out.push(&bytes);
    }
}

impl Sink for Writer {
    fn event(&mut self, event: &[u8]) {
        if self.state != State::Going {
            return;
        }
        let number = Some(self.events);
        self.events += 1;
        if number == self.faults.stall {
            self.state = State::Silent;
        } else if number == self.faults.truncate {
            self.break_off();
        } else if number == self.faults.error {
            self.engine_error();
        } else if number == self.faults.malformed {
            let mut half = event[..event.len() / 2].to_vec();
            half.extend_from_slice(b"\n\n");
            self.chunk(&half);
        } else {
            self.chunk(event);
        }
    }

    fn whole(&mut self, body: &[u8]) {
        let body = &*match (&self.place, body.strip_suffix(NOTHING_KEPT)) {
            (Some(place), Some(rest)) => {
                let place = format!("\"kv_transfer_params\": {place} }}");
                Cow::Owned([rest, place.as_bytes()].concat())
            }
            _ => Cow::Borrowed(body),
        };
        if self.faults.error.is_some() {
            let body = ApiError::engine_dead().body(self.family);
            self.send_whole(body.as_bytes(), body.len());
            self.state = State::Broken;
        } else if self.faults == EventFaults::default() {
            self.send_whole(body, body.len());
        } else {
            self.broken_whole(body);
        }
    }

    fn end(&mut self) {
        if self.state == State::Going {
            self.close_body();
            self.state = State::Ended;
        }
    }
}
