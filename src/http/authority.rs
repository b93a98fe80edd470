//! What a `Host` or an `Origin` names (RFC 9110 section 7.2, RFC 6454 section 7).

use std::net::IpAddr;

/// Whether an authority (`host[:port]`) is a literal address or `localhost`: names that nobody else can
/// make resolve to this machine.
pub fn is_local(authority: &[u8]) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else { return false };
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bracketed.unwrap_or(name).parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
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
