//! The HTTP/1.1 codec for both sides of the gateway: bytes in, values out.
//!
//! Owns the grammar of heads and bodies, the limits on them, the table that says which header
//! fields pass through, and the writing of heads and chunk framing. It does no I/O, never awaits
//! and allocates nothing in steady state: heads are reused, and everything it finds is a [`Span`]
//! of the caller's buffer.
//!
//! Invariants:
//! - A prefix of an acceptable head is `Partial`, never an error; a head that is rejected stays
//!   rejected whatever follows it.
//! - An incomplete head that can no longer fit its limits is rejected at once.
//! - The codec never guesses a message's length: two answers to "how long is the body" are an
//!   error, in requests and in responses alike (RFC 9112 section 6.3).
//! - No input makes it panic.

pub mod authority;
pub mod body;
mod chars;
pub mod chunked;
mod fields;
pub mod head;
pub mod known;
mod plain;
pub mod reject;
pub mod request;
pub mod response;
pub mod span;
pub mod table;
pub mod tls;
pub mod wire;
pub mod write;

#[cfg(test)]
mod tests;

pub use body::BodyDecoder;
pub use chunked::{BodyStep, ChunkError, ChunkLimits, ChunkStep, ChunkedDecoder};
pub use head::{
    Field, Framing, HEAD_BYTES_CAP, HEADER_COUNT_CAP, HeadLimits, Method, Parsed, RequestHead,
    ResponseHead, Version,
};
pub use known::Known;
pub use reject::{BadResponse, Malformed, Reject};
pub use request::parse_request;
pub use response::parse_response;
pub use span::Span;
pub use table::{Fate, request_fate, response_fate};
