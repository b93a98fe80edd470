//! The pass over plain heads against httparse with the rules on top.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{plain as pass, request, response};
use super::*;

const REQUEST: &[u8] = b"POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: gateway.test:8080\r\n\
    Accept: application/json\r\nuser-agent: OpenAI/Python 1.99.9\r\nX-Forwarded-For: ::1\r\n\
    authorization: Bearer sk-0\r\nContent-Type: application/json\r\nx: y\r\n\
    connection: x\r\ncontent-length: 3\r\n\r\n{ }";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 00:00:00 GMT\r\n\
    server: uvicorn\r\ncontent-length: 12\r\ncontent-type: application/json\r\n\r\n{\"a\":";

/// Parts of heads, sound and unsound.
const PARTS: [&[u8]; 34] = [
    b"POST /v1/x HTTP/1.1\r\n",
    b"GET /a?b#c HTTP/1.1\r\n",
    b"GET /?a HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 999 \r\n",
    b"HTTP/1.1 204\r\n",
    b"Host: h\r\n",
    b"host: a b\r\n",
    b"content-length: 3\r\n",
    b"content-length: +3\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"connection: keep-alive\r\n",
    b"keep-alive: timeout=5\r\n",
    b"expect: 100-continue\r\n",
    b"expect: x\r\n",
    b"Content-Type: a\r\n",
    b"content\rtype: a\r\n",
    b"x-forwarded-\0: a\r\n",
    b"x-forwarded-for: a\r\n",
    b"x:\r\n",
    b"x:  y  \r\n",
    b"x:\ty\t\r\n",
    b"x : y\r\n",
    b" folded\r\n",
    b"x: \xc3\xa9\r\n",
    b"a-long-name-of-a-field: 0123456789abcdef\x7f\r\n",
    b"authorization: a\r\n",
    b"x: y\n",
    b"\r\n",
    b"\r\n",
    b"\n",
    b": z\r\n",
];

fn parts() -> impl Strategy<Value = Vec<u8>> {
    vec(proptest::sample::select(&PARTS[..]), 0..9).prop_map(|parts| parts.concat())
}

/// One of the two samples with some bytes replaced, and perhaps cut.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(&b"\r\n\t :-#\0\x7f"[..])];
    let sample = proptest::sample::select(&[REQUEST, RESPONSE][..]);
    (sample, vec((any::<usize>(), byte), 0..4), any::<usize>()).prop_map(|(text, edits, cut)| {
        let mut text = text.to_vec();
        for (at, byte) in edits {
            let at = at % text.len();
            text[at] = byte;
        }
        text.truncate(text.len().min(cut % (2 * text.len())));
        text
    })
}

/// Both readers say the same of `text`, under limits that it may pass, whatever came before it.
fn agree(before: &[u8], text: &[u8], limits: &HeadLimits) -> Result<(), TestCaseError> {
    let (mut ours, mut theirs) = (RequestHead::default(), RequestHead::default());
    let _ = parse_request(before, &LIMITS, &mut ours);
    let verdict = parse_request(text, limits, &mut ours);
    prop_assert_eq!(verdict, request::by_httparse(text, limits, &mut theirs));
    ours.forget();
    if verdict == Ok(Parsed::Complete) {
        prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
    for to_head in [false, true] {
        let (mut ours, mut theirs) = (ResponseHead::default(), ResponseHead::default());
        let _ = parse_response(before, &LIMITS, to_head, &mut ours);
        let verdict = parse_response(text, limits, to_head, &mut ours);
        prop_assert_eq!(verdict, response::by_httparse(text, limits, to_head, &mut theirs));
        ours.forget();
        if verdict == Ok(Parsed::Complete) {
            prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 8192 }))]

    #[test]
    fn both_readers_agree(
        before in prop_oneof![parts(), damaged()],
        text in prop_oneof![parts(), damaged()],
        bounds in (1usize..400, 0usize..12, 1usize..40),
        limited in any::<bool>(),
    ) {
        let (head_bytes_max, header_count_max, target_bytes_max) = bounds;
        let tight = HeadLimits { head_bytes_max, header_count_max, target_bytes_max };
        agree(&before, &text, if limited { &tight } else { &LIMITS })?;
    }
}

#[test]
fn every_single_byte_is_judged_alike() {
    for sample in [REQUEST, RESPONSE] {
        for at in 0..sample.len() {
            for byte in 0..=u8::MAX {
                let mut text = sample.to_vec();
                text[at] = byte;
                agree(sample, &text, &LIMITS).unwrap();
            }
        }
    }
}

#[test]
fn usual_heads_are_plain() {
    let bounds = pass::Bounds { count_max: 64, once: 0 };
    let (_, _, at) = pass::request_line(REQUEST).unwrap();
    let (_, end) = pass::fields(REQUEST, at, bounds, b"", &mut Vec::new()).unwrap();
    assert_eq!(&REQUEST[end..], b"{ }");
    let (status, at) = pass::status_line(RESPONSE).unwrap();
    let (_, end) = pass::fields(RESPONSE, at, bounds, b"", &mut Vec::new()).unwrap();
    assert_eq!((status, &RESPONSE[end..]), (200, &b"{\"a\":"[..]));
}

#[test]
fn a_long_head_is_not_kept() {
    let mut head = request("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(!head.before.is_empty());
    let long = format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(1024));
    assert_eq!(parse_request(long.as_bytes(), &LIMITS, &mut head), Ok(Parsed::Complete));
    assert_eq!((head.fields.len(), head.before.capacity()), (2, 0));
}
