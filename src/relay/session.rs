//! Which session a request belongs to, by the headers that clients send.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::http::Known;
use crate::relay::inbound::Inbound;

/// Headers that name a session, the most telling first: Claude Code's, Codex's in both spellings,
/// OpenCode's, and what others agreed on.
const NAMES: [&str; 7] = [
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "thread-id",
    "x-opencode-session",
    "x-session-affinity",
    "x-session-id",
];

/// The session's hash, or `None` if no header names one. `configured` comes before all known names. Equal
/// names of two clients (`client` differs) are two sessions.
pub fn find(inbound: &Inbound, configured: Option<&str>, client: u64) -> Option<u64> {
    let value = configured
        .and_then(|name| value(inbound, name))
        .or_else(|| NAMES.iter().find_map(|name| value(inbound, name)))?;
    Some(xxh3_64_with_seed(value, client) | 1)
}

/// The value of the first header of that name, in lower case, unless it is empty.
pub fn value<'a>(inbound: &'a Inbound, name: &str) -> Option<&'a [u8]> {
    let bytes = inbound.bytes();
    let other = inbound.head.fields.iter().filter(|field| field.known == Known::Other);
    let mut found =
        other.filter(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
    found.next().map(|field| field.value.of(bytes)).filter(|value| !value.is_empty())
}
