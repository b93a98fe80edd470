//! Watching answers go by: usage, finish, content, errors, ends. Nothing here changes a byte.
//!
//! Three looks at an event, each only if the one before was not enough: is it the last content
//! event with another text ([`repeat`], some ten nanoseconds), is it surely plain content
//! ([`prefilter`], a few byte searches), and else one parse.
//!
//! Invariants: an event is parsed at most once; what is unknown stays unknown (never zero); no
//! input panics; memory per stream is bounded by the sample of [`repeat`] and the windows of
//! [`oversized`].

mod fragment;
mod loose;
mod messages;
mod openai;
mod oversized;
mod prefilter;
mod repeat;
mod report;
mod responses;
mod tail;
mod whole;

#[cfg(test)]
mod tests;

use oversized::Oversized;
use prefilter::Prefilter;
use repeat::Repeat;

use super::operation::Operation;
use super::usage::{Finish, Usage};
use crate::sse::{data_of, event_name};

pub use whole::{Flaw, judge_unary, observe_unary};

/// An error that an endpoint reported inside a stream, or as a stream's first event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError {
    /// The status that the report names or implies, when it does (400..=599).
    pub status: Option<u16>,
    /// The report's own words, cut to [`EventError::MESSAGE_BYTES_MAX`].
    pub message: Box<str>,
}

/// What one event was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It carries generated text, reasoning or a piece of a tool call.
    pub content: bool,
    /// It is the event with `choices: []` and a usage: withheld if Sluice asked for it.
    pub usage_only: bool,
    /// It ends the stream by the API's rules.
    pub terminal: bool,
    /// Boxed, because nearly every event has none.
    pub error: Option<Box<EventError>>,
    /// Its data should be a JSON object and is not.
    pub malformed: bool,
}

/// What a parse of one event, or of a whole answer, found.
#[derive(Debug, Default)]
struct Reading {
    content: bool,
    usage_only: bool,
    /// In the API's own meaning: [`Observer::usage`] makes them comparable.
    counts: Usage,
    finish: Option<Finish>,
    terminal: bool,
    error: Option<EventError>,
}

/// Follows one streamed answer.
#[derive(Debug)]
pub struct Observer {
    op: Operation,
    prefilter: &'static Prefilter,
    repeat: Repeat,
    counts: Usage,
    /// A usage came by itself, and no choice has ended since.
    counted: bool,
    /// Choices that had ended when it came, and one has ended since: the next one counts that.
    earlier: Option<Usage>,
    finish: Option<Finish>,
    terminal: bool,
    output_events: u64,
    events: u64,
    /// The event of which some parts have come and the last has not.
    oversized: Option<Box<Oversized>>,
    /// An event went by of which only the ends were read.
    unread: bool,
}

impl Observer {
    /// At the start of a stream.
    pub fn new(op: Operation) -> Observer {
        Observer {
            op,
            prefilter: prefilter::prefilter(op),
            repeat: Repeat::new(),
            counts: Usage::default(),
            counted: false,
            earlier: None,
            finish: None,
            terminal: false,
            output_events: 0,
            events: 0,
            oversized: None,
            unread: false,
        }
    }

    /// Takes one complete event, its blank line included.
    #[inline]
    pub fn event(&mut self, event: &[u8]) -> Seen {
        if self.repeat.matches(event) {
            return self.content();
        }
        if let Some(text_at) = self.prefilter.plain(event) {
            self.repeat.learn(event, text_at);
            return self.content();
        }
        self.look(event)
    }

    /// Takes the event that `stream` begins with, if it is surely content and nothing else, ends in an LF,
    /// and has no more than `bytes_max` bytes: its length. `stream` must stand between two events.
    #[inline]
    pub fn again(&mut self, stream: &[u8], bytes_max: usize) -> Option<usize> {
        let length = self.repeat.begins(stream, bytes_max)?;
        self.events += 1;
        self.output_events += 1;
        Some(length)
    }

    /// Takes a piece of an event that is too large to be held. Content shows with the first piece,
    /// the rest with the last one.
    pub fn part(&mut self, bytes: &[u8], last: bool) -> Seen {
        let first = self.oversized.is_none();
        let event = self.oversized.get_or_insert_default();
        event.take(bytes);
        let content = first && event.has_content(self.op);
        let reading = if last { event.read(self.op) } else { Reading::default() };
        if last {
            self.oversized = None;
            self.unread = true;
            self.events += 1;
        }
        self.note(Reading { content, ..reading })
    }

    /// Tokens as far as the stream has told; final after the terminal event.
    pub fn usage(&self) -> Usage {
        match self.op {
            Operation::Messages => messages::with_whole_input(self.counts),
            _ => self.counts,
        }
    }

    /// The last finish reason seen.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Whether the stream has ended by the API's rules.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Whether the answer may be all there: its terminal event came, or at least its finish, after which some
    /// servers say no more, or an event that was too large to be read whole.
    pub fn may_be_whole(&self) -> bool {
        self.terminal || self.finish.is_some() || self.unread
    }

    /// Events with content so far.
    pub fn output_events(&self) -> u64 {
        self.output_events
    }

    /// Events with data so far: the next `sequence_number` of a responses stream.
    pub fn events(&self) -> u64 {
        self.events
    }

    #[inline]
    fn content(&mut self) -> Seen {
        self.events += 1;
        self.output_events += 1;
        Seen { content: true, ..Seen::default() }
    }

    /// Parses an event.
    fn look(&mut self, event: &[u8]) -> Seen {
        let name = event_name(event).and_then(|name| std::str::from_utf8(name).ok());
        let data = data_of(event);
        let Some(data) = data.bytes() else {
            return Seen {
                error: report::without_data(event, name).map(Box::new),
                ..Seen::default()
            };
        };
        self.events += 1;
        let data = data.trim_ascii();
        if data.starts_with(b"[DONE]") {
            return self.done();
        }
        match self.read(data, name) {
            Some(mut reading) => {
                if name == Some("error") && reading.error.is_none() {
                    reading.error = Some(EventError::quote(data));
                }
                self.note(reading)
            }
            None if name == Some("error") => {
                Seen { error: Some(Box::new(EventError::quote(data))), ..Seen::default() }
            }
            None => Seen { malformed: true, ..Seen::default() },
        }
    }

    /// None: not a JSON object.
    fn read(&self, data: &[u8], name: Option<&str>) -> Option<Reading> {
        if !data.starts_with(b"{") {
            return None;
        }
        match self.op {
            Operation::Messages => messages::read_event(data, name),
            Operation::Responses => responses::read_event(data, name),
            _ => openai::read_event(data),
        }
        .ok()
    }

    /// `[DONE]` ends chat and text completions. Some servers send it in the other APIs too, where
    /// it means nothing.
    fn done(&mut self) -> Seen {
        let terminal = !matches!(self.op, Operation::Messages | Operation::Responses);
        self.note(Reading { terminal, ..Reading::default() })
    }

    /// llama.cpp counts each choice by itself, in a usage after that choice's end; others count all of them
    /// in one usage after the last one's.
    fn count(&mut self, mut counts: Usage, usage_only: bool, ended: bool) {
        if ended && std::mem::take(&mut self.counted) {
            self.earlier = Some(self.counts);
        }
        if usage_only {
            self.counted = true;
            counts.add_output(self.earlier.take().unwrap_or_default());
        }
        self.counts.absorb(counts);
    }

    fn note(&mut self, reading: Reading) -> Seen {
        let Reading { content, usage_only, counts, finish, terminal, error } = reading;
        self.count(counts, usage_only, finish.is_some());
        self.finish = finish.or(self.finish);
        self.terminal |= terminal;
        self.output_events += u64::from(content);
        Seen { content, usage_only, terminal, error: error.map(Box::new), malformed: false }
    }
}
