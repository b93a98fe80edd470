//! Known names and what becomes of them.

use super::table::TABLE;
use super::*;

#[test]
fn every_known_name_is_recognised_in_any_case() {
    for &known in Known::ALL {
        if matches!(known, Known::XForwarded | Known::Other) {
            continue;
        }
        let name = known.name();
        assert_eq!(Known::recognise(name.as_bytes()), known, "{name}");
        assert_eq!(Known::recognise(name.to_uppercase().as_bytes()), known, "{name}");
        assert_eq!(name, name.to_lowercase());
        // One letter off is another name.
        for at in 0..name.len() {
            let mut other = name.as_bytes().to_vec();
            other[at] = b'_';
            assert_eq!(Known::recognise(&other), Known::Other, "{name} at {at}");
        }
    }
}

#[test]
fn unknown_names() {
    for name in ["", "x", "hosts", "hos", "x-forwarde-for", "x-forwarded", "content-lengthx"] {
        assert_eq!(Known::recognise(name.as_bytes()), Known::Other, "{name}");
    }
    for name in ["x-forwarded-for", "X-Forwarded-Proto", "x-forwarded-", "X-FORWARDED-anything"] {
        assert_eq!(Known::recognise(name.as_bytes()), Known::XForwarded, "{name}");
    }
}

/// What becomes of a field of this name, towards the endpoint and towards the client.
fn fates(name: &str) -> [Fate; 2] {
    let known = Known::recognise(name.as_bytes());
    let field = Field { name: Span::default(), value: Span::default(), known, hop: false };
    let named = Field { hop: true, ..field };
    assert_ne!(request_fate(&named), Fate::Forward);
    assert_ne!(response_fate(&named), Fate::Forward);
    [request_fate(&field), response_fate(&field)]
}

#[test]
fn credentials_and_cookies_never_pass() {
    for name in [
        "Authorization",
        "X-Api-Key",
        "api-key",
        "x-goog-api-key",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "WWW-Authenticate",
    ] {
        assert_ne!(fates(name)[1], Fate::Forward, "{name}");
        if name != "WWW-Authenticate" {
            assert_ne!(fates(name)[0], Fate::Forward, "{name}");
        }
    }
}

#[test]
fn framing_and_hop_by_hop_fields_never_pass() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Content-Length",
        "Expect",
        "Host",
        "Accept-Encoding",
        "X-Forwarded-For",
        "Forwarded",
        "X-Request-Id",
        "Request-Id",
        "Traceparent",
        "Tracestate",
    ] {
        assert!(!fates(name).contains(&Fate::Forward), "{name}");
    }
}

#[test]
fn what_belongs_to_the_api_passes() {
    for name in [
        "anthropic-version",
        "anthropic-beta",
        "anthropic-ratelimit-tokens-remaining",
        "openai-organization",
        "openai-processing-ms",
        "x-ratelimit-limit-requests",
        "Retry-After",
        "retry-after-ms",
        "Content-Type",
        "x-stainless-lang",
        "x-unknown",
        "User-Agent",
    ] {
        assert_eq!(fates(name), [Fate::Forward; 2], "{name}");
    }
}

#[test]
fn every_row_says_why() {
    assert!(TABLE.iter().all(|row| row.why.len() > 5));
}
