//! What a `Host` or an `Origin` names (RFC 9110 section 7.2, RFC 6454 section 7).

use std::net::IpAddr;

/// Whether an authority (`host[:port]`) is a literal address or `localhost`: names that nobody else can
/// make resolve to this machine.
pub fn is_local(authority: &[u8]) -> bool {
    let name = match memchr::memrchr(b':', authority) {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) => &authority[..at],
        _ => authority,
    };
    // What nearly all of them say, before anything is parsed.
    name == b"127.0.0.1" || name.eq_ignore_ascii_case(b"localhost") || is_address(name)
}

fn is_address(name: &[u8]) -> bool {
    let bracketed = name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let name = std::str::from_utf8(bracketed.unwrap_or(name)).unwrap_or_default();
    name.parse::<IpAddr>().is_ok()
}

/// As [`is_local`], of a serialised origin (`scheme://host[:port]`); `null` is nobody's.
pub fn is_local_origin(origin: &[u8]) -> bool {
    let scheme = memchr::memmem::find(origin, b"://");
    scheme.is_some_and(|at| is_local(&origin[at + 3..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_anybody_can_own_are_not_local() {
        for (host, local) in [
            ("127.0.0.1:9090", true),
            ("localhost", true),
            ("LOCALHOST:9090", true),
            ("[::1]:9090", true),
            ("[::1]", true),
            ("evil.example:9090", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(host.as_bytes()), local, "{host}");
            let origin = format!("http://{host}");
            assert_eq!(is_local_origin(origin.as_bytes()), local, "{origin}");
        }
        assert!(!is_local_origin(b"null"));
        assert!(!is_local(b"\xff"));
    }
}
