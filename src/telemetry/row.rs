//! One request's line in the access log and in the usage log.
//!
//! A shard fills a [`Row`] without allocating: texts that belong to the request are kept inline,
//! names are positions in the [`Names`] of the plan the request began with.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::registry::Names;
use crate::config::plan::{EndpointId, KeyId, ModelId, OtherNameId};
use crate::lifecycle::outcome::Outcome;

/// Longest request id that a row keeps, bytes; longer ones are cut.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Short text kept in place.
#[derive(Clone, Copy)]
pub struct Inline<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    /// Keeps `text`, cut at the last whole character that fits (at most 255 bytes).
    pub fn new(text: &str) -> Self {
        let cut = text.floor_char_boundary(N.min(255));
        let mut bytes = [0; N];
        bytes[..cut].copy_from_slice(&text.as_bytes()[..cut]);
        Self { len: u8::try_from(cut).unwrap_or(u8::MAX), bytes }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl<const N: usize> Default for Inline<N> {
    fn default() -> Self {
        Self { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> fmt::Debug for Inline<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What an answer cost, as its engine said. `None` is unknown, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Cached tokens included.
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    pub reasoning: Option<u64>,
}

/// What the router expected of a request at the endpoint of its last attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub cached_tokens: u32,
    /// From the request's dispatch.
    pub first_token_micros: u64,
    /// Time of the endpoint's GPU.
    pub gpu_micros: u64,
}

/// Everything the logs say about one request.
#[derive(Clone, Debug)]
pub struct Row {
    /// Names behind the ids below.
    pub names: Arc<Names>,
    pub shard: u16,
    /// When the request's first byte came, microseconds since 1970.
    pub began_unix_micros: u64,
    pub request_id: Inline<REQUEST_ID_BYTES_MAX>,
    /// W3C trace id, all zero if there is none.
    pub trace_id: [u8; 16],
    pub client: Option<IpAddr>,
    /// The HTTP method.
    pub method: &'static str,
    /// The API operation, empty if the path named none.
    pub operation: &'static str,
    pub key: Option<KeyId>,
    /// Whose endpoints it went to.
    pub model: Option<ModelId>,
    /// The name it was asked for by, where that is a split's or an alias's.
    pub asked: Option<OtherNameId>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<EndpointId>,
    /// The endpoint that computed its prompt, where that was another one.
    pub prefill_endpoint: Option<EndpointId>,
    pub attempts: u16,
    pub streamed: bool,
    /// The status the client got; 0 if none left.
    pub status: u16,
    pub outcome: Outcome,
    /// Why the router's first choice was its first, empty if it was not asked.
    pub route: &'static str,
    /// `None` where the model's policy does not look at requests.
    pub foreseen: Option<Foreseen>,
    /// The code of the error the client got, empty without one.
    pub error: &'static str,
    /// The finish reason, empty if none was seen.
    pub finish: &'static str,
    pub tokens: Tokens,
    pub output_events: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration_micros: u64,
    /// Time spent waiting for what engines hold of its prompt; `None` if they were not asked.
    pub consulted_micros: Option<u64>,
    /// Time spent waiting for a place; `None` if there was one at once.
    pub queued_micros: Option<u64>,
    pub first_token_micros: Option<u64>,
    /// Time spent in Sluice rather than waiting for a peer.
    pub overhead_micros: u64,
}

impl Row {
    /// A row with nothing known yet; an unfinished request is [`Outcome::Abandoned`].
    pub fn new(names: Arc<Names>, shard: u16) -> Self {
        Self {
            names,
            shard,
            began_unix_micros: 0,
            request_id: Inline::default(),
            trace_id: [0; 16],
            client: None,
            method: "",
            operation: "",
            key: None,
            model: None,
            asked: None,
            endpoint: None,
            prefill_endpoint: None,
            attempts: 0,
            streamed: false,
            status: 0,
            outcome: Outcome::Abandoned,
            route: "",
            foreseen: None,
            error: "",
            finish: "",
            tokens: Tokens::default(),
            output_events: 0,
            request_bytes: 0,
            response_bytes: 0,
            duration_micros: 0,
            consulted_micros: None,
            queued_micros: None,
            first_token_micros: None,
            overhead_micros: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_text_is_cut_between_characters() {
        assert_eq!(Inline::<8>::new("abc").as_str(), "abc");
        assert_eq!(Inline::<4>::new("abcé").as_str(), "abc");
        assert_eq!(Inline::<300>::new(&"x".repeat(400)).as_str().len(), 255);
    }
}
