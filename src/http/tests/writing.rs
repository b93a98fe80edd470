//! What is written.

use super::write::*;
use super::*;

#[test]
fn heads() {
    let mut out = Vec::new();
    let target = [&b"/v1"[..], b"/models", b"?a=b"].map(|part| TargetPart::new(part).unwrap());
    request_line(&mut out, Method::Get, &target);
    let name = FieldName::new(b"host").unwrap();
    field(&mut out, name, FieldValue::new(b"a b").unwrap());
    number_field(&mut out, FieldName::new(b"content-length").unwrap(), u64::MAX);
    end_of_head(&mut out);
    let want =
        "GET /v1/models?a=b HTTP/1.1\r\nhost: a b\r\ncontent-length: 18446744073709551615\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), want);
    out.clear();
    status_line(&mut out, 404);
    status_line(&mut out, 299);
    assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 404 Not Found\r\nHTTP/1.1 299 \r\n");
}

#[test]
fn dates() {
    for (seconds, text) in [
        (784_111_777, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        (u64::MAX, "date: Fri, 31 Dec 9999 23:59:59 GMT\r\n"),
    ] {
        let mut out = Vec::new();
        date(&mut out, seconds);
        assert_eq!(String::from_utf8_lossy(&out), text);
    }
}

#[test]
fn parsed_parts_are_written_as_they_came() {
    let text = b"GET /p?q HTTP/1.1\r\nHost: h\r\nX-Odd:   \xff y \r\n\r\n";
    let mut head = RequestHead::default();
    parse_request(text, &LIMITS, &mut head).unwrap();
    let mut out = Vec::new();
    request_line(
        &mut out,
        head.method,
        &[TargetPart::new(b"/").unwrap(), parsed_query(text, &head)],
    );
    parsed_field(&mut out, text, &head.fields[1]);
    assert_eq!(out, b"GET /?q HTTP/1.1\r\nX-Odd: \xff y\r\n");
}

#[test]
fn nothing_smuggles_a_line_end() {
    for text in ["a\r", "a\nb", "a\0", "\r\nx: y", "\x7f"] {
        assert_eq!(FieldName::new(text.as_bytes()), None);
        assert_eq!(FieldValue::new(text.as_bytes()), None);
        assert_eq!(TargetPart::new(text.as_bytes()), None);
    }
    assert_eq!(FieldName::new(b""), None);
    assert_eq!(FieldName::new(b"a b"), None);
    assert_eq!(FieldName::new(b"a:"), None);
    assert_eq!(FieldValue::new(b" a"), None);
    assert_eq!(FieldValue::new(b"a\t"), None);
    assert!(FieldValue::new(b"").is_some() && FieldValue::new("ä b".as_bytes()).is_some());
    for text in ["a b", "a#b", "\u{e4}"] {
        assert_eq!(TargetPart::new(text.as_bytes()), None);
    }
}

#[test]
fn chunks() {
    assert_eq!(&chunk_line(0x1f), b"0000001f\r\n");
    assert_eq!(&chunk_line(u32::MAX), b"ffffffff\r\n");
    let mut out = Vec::new();
    chunk(&mut out, b"hello");
    chunk(&mut out, b"");
    out.extend_from_slice(LAST_CHUNK);
    assert_eq!(out, b"00000005\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn every_refusal_has_a_reason_phrase() {
    for status in [400, 408, 413, 414, 417, 431, 501, 502, 503, 504, 505] {
        assert!(!reason(status).is_empty(), "{status}");
    }
}
