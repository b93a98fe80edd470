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
    let value = configured.and_then(|name| value(inbound, name)).or_else(|| known(inbound))?;
    Some(hash(value, client))
}

/// The session of a client that names it so.
pub fn hash(value: &[u8], client: u64) -> u64 {
    xxh3_64_with_seed(value, client) | 1
}

/// The value of the most telling of the known headers.
fn known(inbound: &Inbound) -> Option<&[u8]> {
    let bytes = inbound.bytes();
    let mut best = (NAMES.len(), None);
    for field in inbound.head.fields.iter().filter(|field| field.known == Known::Other) {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        // Nearly every other header has another length than all of these.
        if !matches!(name.len(), 9 | 10 | 12 | 18 | 24) || value.is_empty() {
            continue;
        }
        let rank = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if let Some(rank) = rank.filter(|rank| *rank < best.0) {
            best = (rank, Some(value));
        }
    }
    best.1
}

/// The value of the first header of that name, in lower case, unless it is empty.
pub fn value<'a>(inbound: &'a Inbound, name: &str) -> Option<&'a [u8]> {
    let bytes = inbound.bytes();
    // A configured name may be one of those that Sluice has to do with, too.
    let known = Known::recognise(name.as_bytes());
    let alike = inbound.head.fields.iter().filter(|field| field.known == known);
    let mut found =
        alike.filter(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
    found.next().map(|field| field.value.of(bytes)).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, parse_request};
    use crate::runtime::clock::now;
    use crate::runtime::kit::Kit;

    fn session(headers: &str, configured: Option<&str>) -> Option<u64> {
        let head = format!("POST / HTTP/1.1\r\nhost: g\r\n{headers}\r\n");
        let kit = Kit::new(std::time::Duration::from_millis(10), 1);
        let mut buf = kit.pool.take(head.len());
        buf.append(head.as_bytes());
        let mut inbound = Inbound::new("127.0.0.1:1".parse().expect("an address"));
        let limits =
            HeadLimits { head_bytes_max: 4096, header_count_max: 64, target_bytes_max: 64 };
        parse_request(head.as_bytes(), &limits, &mut inbound.head).expect("a lawful head");
        inbound.begin(buf, now());
        find(&inbound, configured, 7)
    }

    #[test]
    fn every_known_header_names_a_session_and_the_most_telling_counts() {
        let sessions: Vec<_> = NAMES.map(|name| session(&format!("{name}: one\r\n"), None)).into();
        assert!(sessions.iter().all(|found| found.is_some() && *found == sessions[0]));
        let both = session("X-Session-Id: two\r\nX-Claude-Code-Session-Id: one\r\n", None);
        assert_eq!(both, sessions[0]);
        assert_eq!(session("x-chat: one\r\nsession-id: two\r\n", Some("x-chat")), sessions[0]);
        assert_eq!(session("x-chat: one\r\nsession-id:\r\n", None), None);
        let user =
            session("X-Forwarded-For: 1\r\nX-Forwarded-User: one\r\n", Some("x-forwarded-user"));
        assert_eq!(user, sessions[0]);
        assert_eq!(session("X-Request-Id: one\r\n", Some("x-request-id")), sessions[0]);
    }
}
