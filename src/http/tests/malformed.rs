//! Heads that must be refused, each with its reason and status.

use super::*;
use Malformed::*;

/// A request with these field lines behind a sound Host field.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn refused(text: impl AsRef<[u8]>, reason: impl Into<Reject>, status: u16) {
    let text = text.as_ref();
    let reason = reason.into();
    assert_eq!(verdict(text), Err(reason), "{:?}", String::from_utf8_lossy(text));
    assert_eq!(reason.status(), status);
}

#[test]
fn contradictory_or_unreadable_lengths() {
    refused(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding, 400);
    refused(with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), LengthAndCoding, 400);
    refused(with("Content-Length: 5\r\nTransfer-Encoding: identity\r\n"), LengthAndCoding, 400);
    refused(with("Content-Length: 5\r\ncontent-length: 5\r\n"), DoubledContentLength, 400);
    refused(with("Content-Length: 5\r\nContent-Length: 6\r\n"), DoubledContentLength, 400);
    for value in ["5, 5", "+5", "-1", "18446744073709551616", "", "5 5", "0x5", "5.", "\u{661}"] {
        refused(with(&format!("Content-Length: {value}\r\n")), ContentLength, 400);
    }
    let most = request(&with("Content-Length: 9999999999999999999\r\n"));
    assert_eq!(most.framing, Framing::Length(9_999_999_999_999_999_999));
}

#[test]
fn transfer_encodings() {
    let both = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    refused(with(both), TransferEncoding, 400);
    refused(
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        TransferEncoding,
        400,
    );
    refused(with("Transfer-Encoding : chunked\r\n"), SpaceBeforeColon, 400);
    for value in ["gzip, chunked", "gzip", "identity", "chunkedchunked", "chunked;q=1", "\u{b}x"] {
        let reason = if value == "\u{b}x" { FieldValue } else { UnknownCoding };
        let status = if value == "\u{b}x" { 400 } else { 501 };
        refused(with(&format!("Transfer-Encoding: {value}\r\n")), reason, status);
    }
    for value in ["chunked, gzip", "chunked, chunked", "", ",", "chunked,", ", chunked, gzip"] {
        refused(with(&format!("Transfer-Encoding: {value}\r\n")), TransferEncoding, 400);
    }
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInHttp10, 400);
}

#[test]
fn line_ends_and_control_characters() {
    refused("GET / HTTP/1.1\nHost: h\n\n", BareLf, 400);
    refused("GET / HTTP/1.1\nHost: h\r\n\r\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA:\nB: c\r\n\r\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\n\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHost: h\n\r\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", BareCr, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA\rb: c\r\n\r\n", BareCr, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\n\rGET", BareCr, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", Nul, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA: b\x7fc\r\n\r\n", FieldValue, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA: b\x1bc\r\n\r\n", FieldValue, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", ObsFold, 400);
    refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n", ObsFold, 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n", ObsFold, 400);
}

#[test]
fn an_incomplete_head_is_refused_as_soon_as_it_is_wrong() {
    refused("GET / HTTP/1.1\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHost: h\n", BareLf, 400);
    refused("GET / HTTP/1.1\r\nHo st", FieldName, 400);
    refused("GET / HTTP/2", Reject::Version, 505);
    refused("\n", BareLf, 400);
    refused("\rG", BareCr, 400);
}

#[test]
fn names() {
    for line in ["A b: c", ": c", "A@: c", "no colon", "A\u{e4}: c", "A(b): c"] {
        refused(with(&format!("{line}\r\n")), FieldName, 400);
    }
    refused(with("A : c\r\n"), SpaceBeforeColon, 400);
    refused(with("A\t: c\r\n"), SpaceBeforeColon, 400);
    // The first wrong line is the one that is named.
    refused(with("A@: c\r\nB : d\r\nC: e\n"), FieldName, 400);
}

#[test]
fn hosts() {
    refused("GET / HTTP/1.1\r\n\r\n", Reject::MissingHost, 400);
    refused(with("Host: h\r\n"), Reject::DoubledHost, 400);
    refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Reject::DoubledHost, 400);
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n").version, Version::Http10);
    for host in
        ["h", "h:80", "h:", "a_b.c-d~", "1.2.3.4:1", "[::1]", "[::ffff:1.2.3.4]:65535", "%41"]
    {
        request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for host in [
        "", "a b", "a,b c", "u@h", "h/p", "h:x", "h:123456", "[::1", "[]", "[x]", "a:b:c", ":80",
        "h?", "h#", "[::1]x", "ä", "\"h\"", "h\\x",
    ] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Reject::Host, 400);
    }
    for (target, host) in [
        ("http://evil.example/v1/models", "localhost"),
        ("http://localhost/v1/models", "evil.example"),
        ("http://h:80/", "h"),
        ("http://h?q", "h:80"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        refused(text, Reject::OtherHost, 400);
        refused(format!("GET {target} HTTP/1.0\r\n\r\n"), Reject::OtherHost, 400);
    }
}

#[test]
fn targets() {
    for target in [
        "x",
        "*",
        "//#",
        "/a#b",
        "ftp://h/",
        "http://",
        "http:///p",
        "http://u@h/",
        "/\u{e4}",
        "h:80",
    ] {
        refused(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), Reject::Target, 400);
    }
    refused("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", Reject::Connect, 501);
    refused("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", Reject::Target, 400);
    refused("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Reject::Target, 400);
    refused(" GET / HTTP/1.1\r\nHost: h\r\n\r\n", Reject::Method, 400);
    refused("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", Reject::Method, 400);
}

#[test]
fn versions() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/5.6"] {
        refused(format!("GET / {version}\r\nHost: h\r\n\r\n"), Reject::Version, 505);
    }
    for version in ["HTTP/1.1 ", "HTTP/1.11", "http/1.1", "ICE/1.0", " HTTP/1.1", "HTTP/x", ""] {
        refused(format!("GET / {version}\r\nHost: h\r\n\r\n"), Reject::RequestLine, 400);
    }
    refused("GET /\r\n\r\n", Reject::RequestLine, 400);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reject::Version, 505);
}

#[test]
fn empty_lines_before_the_request_line() {
    let text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(request(&format!("\r\n{text}")).bytes, text.len() + 2);
    refused(format!("\r\n\r\n{text}"), Reject::EmptyLines, 400);
    refused(format!("\r\n\n{text}"), Reject::EmptyLines, 400);
    refused(format!("\n{text}"), BareLf, 400);
    for partial in ["", "\r", "\r\n"] {
        assert_eq!(verdict(partial.as_bytes()), Ok(Parsed::Partial));
    }
}

#[test]
fn expectations() {
    let head = request(&with("Expect: 100-Continue\r\nContent-Length: 5\r\n"));
    assert!(head.expect_continue);
    assert!(!request(&with("Expect: 100-continue\r\n")).expect_continue, "nothing to wait for");
    let old = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    assert!(!request(old).expect_continue);
    for value in ["200-ok", "100-continue, x", ""] {
        refused(with(&format!("Expect: {value}\r\n")), Reject::Expectation, 417);
    }
}

#[test]
fn credentials_stand_once() {
    for name in ["Authorization", "x-api-key", "api-key", "Content-Type"] {
        refused(with(&format!("{name}: a\r\n{name}: a\r\n")), DoubledField, 400);
    }
}

#[test]
fn limits() {
    let count = |count| "A: b\r\n".repeat(count);
    assert_eq!(request(&with(&count(LIMITS.header_count_max - 1))).fields.len(), 64);
    refused(with(&count(LIMITS.header_count_max)), HeaderCount, 431);
    refused(format!("GET / HTTP/1.1\r\n{}", count(100)), HeaderCount, 431);

    let fits = LIMITS.head_bytes_max - with("A: \r\n").len();
    let head = request(&with(&format!("A: {}\r\n", "x".repeat(fits))));
    assert_eq!(head.bytes, LIMITS.head_bytes_max);
    let over = with(&format!("A: {}\r\n", "x".repeat(fits + 1)));
    refused(&over, HeadBytes, 431);
    assert_eq!(verdict(&over.as_bytes()[..LIMITS.head_bytes_max - 1]), Ok(Parsed::Partial));
    refused(&over.as_bytes()[..LIMITS.head_bytes_max], HeadBytes, 431);
    refused(format!("GET / HTTP/1.1\r\n{}", "N".repeat(70_000)), HeadBytes, 431);
    refused("M".repeat(70_000), HeadBytes, 431);

    let target = |len| format!("/{}", "t".repeat(len - 1));
    let max = LIMITS.target_bytes_max;
    request(&format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", target(max)));
    refused(
        format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", target(max + 1)),
        Reject::TargetBytes,
        414,
    );
    refused(format!("GET {}", target(max + 1)), Reject::TargetBytes, 414);
    refused(format!("GET {}", target(70_000)), Reject::TargetBytes, 414);
}

#[test]
fn limits_are_clamped_to_their_caps() {
    let limits = HeadLimits {
        head_bytes_max: usize::MAX,
        header_count_max: usize::MAX,
        target_bytes_max: usize::MAX,
    };
    let parse = |text: &str| parse_request(text.as_bytes(), &limits, &mut RequestHead::default());
    assert_eq!(parse(&"M".repeat(HEAD_BYTES_CAP)), Err(HeadBytes.into()));
    let many = "A: b\r\n".repeat(HEADER_COUNT_CAP);
    assert_eq!(parse(&with(&many)), Err(HeaderCount.into()));
}

fn bad(text: impl AsRef<[u8]>, reason: impl Into<BadResponse>) {
    let text = text.as_ref();
    assert_eq!(response_verdict(text), Err(reason.into()), "{:?}", String::from_utf8_lossy(text));
}

#[test]
fn responses() {
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    bad(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding);
    bad(with("Content-Length: 5\r\nContent-Length: 5\r\n"), DoubledContentLength);
    bad(with("Content-Length: 5, 5\r\n"), ContentLength);
    bad(with("Transfer-Encoding: gzip, chunked\r\n"), UnknownCoding);
    bad(with("Transfer-Encoding: chunked, gzip\r\n"), TransferEncoding);
    bad("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInHttp10);
    bad(
        "HTTP/1.1 304 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        LengthAndCoding,
    );
    bad("HTTP/1.1 200 OK\nA: b\r\n\r\n", BareLf);
    bad("HTTP/1.1 200 OK\r\nA: b\n\r\n", BareLf);
    bad("HTTP/1.1 200 OK\n", BareLf);
    bad(with("A: b\r\n c\r\n"), ObsFold);
    bad(with("A : b\r\n"), SpaceBeforeColon);
    bad(with("A: b\0\r\n"), Nul);
    bad(with(&"A: b\r\n".repeat(65)), HeaderCount);
    bad(with(&format!("A: {}\r\n", "x".repeat(70_000))), HeadBytes);
    bad("\r\nHTTP/1.1 200 OK\r\n\r\n", BadResponse::StatusLine);
    bad("\n", BadResponse::StatusLine);
    for line in [
        "HTTP/1.1  200 OK",
        "HTTP/2 200 OK",
        "ICE/1.0 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 200\tOK",
    ] {
        bad(format!("{line}\r\n\r\n"), BadResponse::StatusLine);
    }
    bad("HTTP/1.1 101 Switching Protocols\r\n\r\n", BadResponse::SwitchingProtocols);
    bad("HTTP/1.1 099 x\r\n\r\n", BadResponse::Status);
    bad("HTTP/1.1 600 x\r\n\r\n", BadResponse::Status);
}
