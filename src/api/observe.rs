//! Watching answers go by: usage, finish, content, errors, ends. Nothing here changes a byte.

use super::operation::Operation;
use super::usage::{Finish, Usage};

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
    pub error: Option<EventError>,
    /// Its data should be JSON and is not.
    pub malformed: bool,
}

/// Follows one streamed answer.
#[derive(Debug)]
pub struct Observer {
    op: Operation,
    usage: Usage,
    finish: Option<Finish>,
    terminal: bool,
    output_events: u64,
    events: u64,
}

impl EventError {
    pub const MESSAGE_BYTES_MAX: usize = 1024;
}

impl Observer {
    pub fn new(op: Operation) -> Observer {
        Observer {
            op,
            usage: Usage::default(),
            finish: None,
            terminal: false,
            output_events: 0,
            events: 0,
        }
    }

    /// Takes one complete event, its blank line included.
    pub fn event(&mut self, event: &[u8]) -> Seen {
        self.events += 1;
        let _ = (self.op, event);
        Seen::default()
    }

    /// Takes a piece of an event that is too large to be held; the answer comes with the `last`.
    pub fn part(&mut self, bytes: &[u8], last: bool) -> Seen {
        self.events += u64::from(last);
        let _ = bytes;
        Seen::default()
    }

    /// Tokens as far as the stream has told; final after the terminal event.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The last finish reason seen.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Whether the stream has ended by the API's rules.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Events with content so far.
    pub fn output_events(&self) -> u64 {
        self.output_events
    }

    /// All events so far: the next `sequence_number` of a responses stream.
    pub fn events(&self) -> u64 {
        self.events
    }
}

/// Usage and finish of a whole JSON answer, or of the last bytes of one.
pub fn observe_unary(op: Operation, body: &[u8]) -> (Usage, Option<Finish>) {
    let _ = (op, body);
    (Usage::default(), None)
}
