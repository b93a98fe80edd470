//! Heads that must be read, and what is read from them.

use super::*;

#[test]
fn reads_a_request() {
    let text = "POST /v1/chat/completions?x=1&y=2 HTTP/1.1\r\nhost: a.example:8080\r\n\
                Content-Length: 12\r\nX-Odd:  spaced out \t\r\nempty:\r\n\r\nbody";
    let head = request(text);
    let buf = text.as_bytes();
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.path(buf), b"/v1/chat/completions");
    assert_eq!(head.query.of(buf), b"?x=1&y=2");
    assert_eq!((head.version, head.framing), (Version::Http11, Framing::Length(12)));
    assert!(head.keep_alive && !head.expect_continue);
    assert_eq!(head.bytes, text.len() - 4);
    assert_eq!(head.fields.len(), 4);
    assert_eq!(head.value(buf, Known::Host), Some(&b"a.example:8080"[..]));
    assert_eq!(head.fields[2].value.of(buf), b"spaced out");
    assert_eq!(head.fields[3].value.of(buf), b"");
}

#[test]
fn reads_a_response() {
    let text =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nKeep-Alive: timeout=5, max=9\r\n\r\n";
    let head = response(text);
    assert_eq!((head.status, head.framing, head.keep_alive), (200, Framing::Chunked, true));
    assert_eq!(head.keep_alive_timeout_s, Some(5));
}
