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
    assert_eq!(head.value(buf, Known::Accept), None);
    assert_eq!(head.fields[2].value.of(buf), b"spaced out");
    assert_eq!(head.fields[3].value.of(buf), b"");
}

#[test]
fn a_head_is_reused_without_a_trace_of_the_last() {
    let mut head = RequestHead::default();
    let first = "POST /a?b HTTP/1.0\r\nHost: h\r\nContent-Length: 3\r\nAuthorization: x\r\n\r\n";
    let second = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(parse_request(first.as_bytes(), &LIMITS, &mut head), Ok(Parsed::Complete));
    let room = head.fields.capacity();
    assert_eq!(parse_request(second.as_bytes(), &LIMITS, &mut head), Ok(Parsed::Complete));
    assert_eq!(head.fields.capacity(), room);
    assert_eq!(format!("{head:?}"), format!("{:?}", request(second)));
}

#[test]
fn targets() {
    let cases = [
        ("/", "/", ""),
        ("/a?b?c", "/a", "?b?c"),
        ("/?", "/", "?"),
        ("/a/\"b\"|{}", "/a/\"b\"|{}", ""),
        ("http://h/p?q", "/p", "?q"),
        ("HTTPS://H:1/p", "/p", ""),
        ("http://h", "/", ""),
        ("http://h?q", "/", "?q"),
        ("http://[::1]:80/p", "/p", ""),
        ("//two", "//two", ""),
    ];
    for (target, path, query) in cases {
        let host = match target {
            "HTTPS://H:1/p" => "h:1",
            "http://[::1]:80/p" => "[::1]:80",
            _ => "h",
        };
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = request(&text);
        let buf = text.as_bytes();
        let read = [head.target.of(buf), head.path(buf), head.query.of(buf)];
        assert_eq!(read, [target, path, query].map(str::as_bytes));
    }
    let text = b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.path(text), head.query.of(text)), (&b"*"[..], &b""[..]));
}

#[test]
fn methods_are_case_sensitive() {
    let method = |name: &str| request(&format!("{name} / HTTP/1.1\r\nHost: h\r\n\r\n")).method;
    for known in [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Patch,
    ] {
        assert_eq!(method(known.name()), known);
        assert_eq!(method(&known.name().to_lowercase()), Method::Other);
    }
}

#[test]
fn connection_options() {
    let keeps = |version, fields| {
        request(&format!("GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n")).keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.1", "Connection: x , Close\r\n"));
    assert!(!keeps("1.1", "Connection: close, keep-alive\r\n"));
    assert!(!keeps("1.1", "Connection: keep-alive\r\nConnection:,, close\t,\r\n"));
    assert!(keeps("1.1", "Connection: closed\r\n"));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: {}\r\n\r\n", "a,".repeat(33));
    assert_eq!(verdict(many.as_bytes()), Err(Malformed::ConnectionOptions.into()));
}

#[test]
fn fields_named_by_connection_go_no_further() {
    let text = "GET / HTTP/1.1\r\nX-One: 1\r\nHost: h\r\nConnection: close, x-ONE, Te\r\n\
                Te: trailers\r\nX-Two: 2\r\nConnection: accept\r\nAccept: a\r\n\r\n";
    let head = request(text);
    let hop: Vec<bool> = head.fields.iter().map(|field| field.hop).collect();
    assert_eq!(hop, [true, false, false, true, false, false, true]);
    let passed: Vec<&[u8]> = head
        .fields
        .iter()
        .filter(|field| request_fate(field) == Fate::Forward)
        .map(|field| field.name.of(text.as_bytes()))
        .collect();
    assert_eq!(passed, [b"X-Two"]);
}

#[test]
fn reads_a_response() {
    let text =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nKeep-Alive: timeout=5, max=9\r\n\r\n";
    let head = response(text);
    assert_eq!((head.status, head.framing, head.keep_alive), (200, Framing::Chunked, true));
    assert_eq!(head.keep_alive_timeout_s, Some(5));
    assert_eq!(head.bytes, text.len());
}

#[test]
fn response_bodies() {
    let framing = |status, fields, to_head| {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        let mut head = ResponseHead::default();
        parse_response(text.as_bytes(), &LIMITS, to_head, &mut head).unwrap();
        (head.framing, head.keep_alive)
    };
    assert_eq!(framing(200, "Content-Length: 7\r\n", false), (Framing::Length(7), true));
    assert_eq!(framing(200, "", false), (Framing::UntilClose, false));
    assert_eq!(framing(200, "Connection: close\r\n", false), (Framing::UntilClose, false));
    for (status, to_head) in [(200, true), (204, false), (304, false), (100, false), (103, false)] {
        assert_eq!(framing(status, "Content-Length: 7\r\n", to_head), (Framing::None, true));
        assert_eq!(framing(status, "Transfer-Encoding: chunked\r\n", to_head).0, Framing::None);
        assert_eq!(framing(status, "", to_head), (Framing::None, true));
    }
    let head = response("HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n");
    assert_eq!((head.framing, head.content_length), (Framing::None, Some(7)));
    let old = response("HTTP/1.0 200 x\r\nContent-Length: 1\r\n\r\n");
    assert_eq!((old.version, old.keep_alive), (Version::Http10, false));
}

#[test]
fn interim_responses_are_stepped_over() {
    let text =
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx";
    let mut head = ResponseHead::default();
    assert_eq!(parse_response(text, &LIMITS, false, &mut head), Ok(Parsed::Complete));
    assert!(head.interim());
    let rest = &text[head.bytes..];
    assert_eq!(parse_response(rest, &LIMITS, false, &mut head), Ok(Parsed::Complete));
    assert_eq!((head.interim(), head.status, head.framing), (false, 200, Framing::Length(1)));
}

#[test]
fn keep_alive_timeouts() {
    let timeout = |value| {
        response(&format!("HTTP/1.1 204 x\r\nKeep-Alive: {value}\r\n\r\n")).keep_alive_timeout_s
    };
    assert_eq!(timeout("max=100 ,\tTimeout=75"), Some(75));
    for odd in ["300", "timeout=", "timeout=-1", "timeout=99999999999", "timeout", "timeout=5s"] {
        assert_eq!(timeout(odd), None, "{odd}");
    }
}
