//! Server-sent events as bytes: framing, the fields of one event, writing
//! (WHATWG HTML, section 9.2 "Server-sent events").
//!
//! Owns: [`Splitter`], which cuts a stream into events whatever the reads were, [`data_of`] and
//! [`event_name`], and [`write_event`]. Knows nothing of what the events mean.
//!
//! Invariants: the bytes handed to the sink, followed by what [`Splitter::take_rest`] gives, are exactly
//! the bytes fed; no more than the cap is ever held; no input panics.

mod event;
mod splitter;

#[cfg(test)]
mod tests;

pub use event::{Data, data_of, event_name, write_event};
pub use splitter::{EVENT_WHOLE_BYTES_MAX, Piece, Splitter};
