//! An event that is too large to be held: its beginning and its end are kept, and read as pieces.

use super::prefilter::prefilter;
use super::responses::is_terminal;
use super::{Reading, fragment};
use crate::api::operation::Operation;
use crate::api::usage::Finish;
use crate::sse::event_name;

/// Enough for the event's name, its first members and the beginning of its text.
const HEAD_BYTES_MAX: usize = 2048;
/// Enough for usage and finish, which stand after the text.
const TAIL_BYTES_MAX: usize = 4096;

/// The two ends of an event.
#[derive(Debug, Default)]
pub struct Oversized {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Oversized {
    /// Takes the next piece.
    pub fn take(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        let excess = (self.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..excess);
        self.tail.extend_from_slice(bytes);
    }

    /// Whether its beginning shows generated text.
    pub fn has_content(&self, op: Operation) -> bool {
        let named = match op {
            Operation::Messages => self.name() == "content_block_delta",
            Operation::Responses => self.name().ends_with(".delta"),
            _ => true,
        };
        named && prefilter(op).has_text(&self.head)
    }

    /// What its two ends tell.
    pub fn read(&self, op: Operation) -> Reading {
        let terminal = op == Operation::Responses && is_terminal(self.name());
        let (counts, at_end) = fragment::read(op, &self.tail);
        let (_, at_start) = fragment::read(op, &self.head);
        let completed = terminal && self.name() == "response.completed";
        let finish = at_end.or(at_start).or(completed.then_some(Finish::Stop));
        Reading { counts, finish, terminal, ..Reading::default() }
    }

    fn name(&self) -> &str {
        let name = event_name(&self.head).or_else(|| first_type(&self.head)).unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }
}

/// The `type` that the data begins with, for servers that leave the event's name out.
fn first_type(event: &[u8]) -> Option<&[u8]> {
    let data = event.strip_prefix(b"data:")?.trim_ascii_start().strip_prefix(b"{")?;
    let rest = data.trim_ascii_start().strip_prefix(b"\"type\"")?.trim_ascii_start();
    let text = rest.strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    text.split(|byte| *byte == b'"').next()
}
