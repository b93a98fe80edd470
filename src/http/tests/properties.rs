//! What holds of every input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::bodies::{CHUNKS, decode};
use super::write::{self, FieldName, FieldValue, TargetPart};
use super::*;

const WORDS: [&[u8]; 20] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\nX: y\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"Expect: 100-continue\r\n",
    b"X: ",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"3\r\nabc\r\n",
    b"0",
    b";a=\"b\"",
    b"\xff\x7f",
    b"POST http://h:1/a?b HTTP/1.0\r\n",
];

/// Bytes that look like the start of HTTP often enough to get past the first line.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    vec(proptest::sample::select(&WORDS[..]), 0..12).prop_map(|words| words.concat())
}

/// Field lines of sound names and values that steer nothing.
fn plain_fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8];
    let value = vec(byte, 0..30).prop_map(|value| value.trim_ascii().to_vec());
    vec(("[a-z!#$%&'*+.^_`|~0-9-]{1,24}", value), 0..12).prop_map(|mut fields| {
        fields.retain(|(name, _)| Known::recognise(name.as_bytes()) == Known::Other);
        fields
    })
}

/// A slow second opinion on an accepted head: no line end but CRLF, no other control character
/// than tab, and each field line a token, a colon and a value.
fn is_strict(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\r\n").unwrap_or(head);
    let Some(text) = text.strip_suffix(b"\r\n\r\n") else { return false };
    let text: String = text.iter().map(|&byte| byte as char).collect();
    let sound = |line: &str| line.chars().all(|c| c == '\t' || !c.is_control() || c as u32 >= 0x80);
    let named = |line: &str| {
        line.split_once(':').is_some_and(|(name, _)| FieldName::new(name.as_bytes()).is_some())
    };
    text.split("\r\n").all(sound) && text.split("\r\n").skip(1).all(named)
}

fn parse(text: &[u8]) -> (Result<Parsed, Reject>, RequestHead) {
    let mut head = RequestHead::default();
    let verdict = parse_request(text, &LIMITS, &mut head);
    // What is kept for the next head depends on how this one was read, and what follows it may decide that.
    head.before.clear();
    (verdict, head)
}

fn parse_answer(text: &[u8]) -> (Result<Parsed, BadResponse>, ResponseHead) {
    let mut head = ResponseHead::default();
    let verdict = parse_response(text, &LIMITS, false, &mut head);
    head.before.clear();
    (verdict, head)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 2048 }))]

    /// However a head is cut into reads, it comes to the same.
    #[test]
    fn a_request_may_be_cut_anywhere(text in messages()) {
        let (verdict, head) = parse(&text);
        for end in 0..text.len() {
            let (early, early_head) = parse(&text[..end]);
            match verdict {
                Ok(Parsed::Complete) if end >= head.bytes => {
                    prop_assert_eq!(early, verdict);
                    prop_assert_eq!(format!("{early_head:?}"), format!("{head:?}"));
                }
                Ok(_) => prop_assert_eq!(early, Ok(Parsed::Partial)),
                Err(_) => prop_assert_ne!(early, Ok(Parsed::Complete)),
            }
        }
        if verdict == Ok(Parsed::Complete) {
            prop_assert!(is_strict(&text[..head.bytes]));
        }
    }

    #[test]
    fn a_response_may_be_cut_anywhere(text in messages()) {
        let (verdict, head) = parse_answer(&text);
        for end in 0..text.len() {
            let (early, early_head) = parse_answer(&text[..end]);
            match verdict {
                Ok(Parsed::Complete) if end >= head.bytes => {
                    prop_assert_eq!(early, verdict);
                    prop_assert_eq!(format!("{early_head:?}"), format!("{head:?}"));
                }
                Ok(_) => prop_assert_eq!(early, Ok(Parsed::Partial)),
                Err(_) => prop_assert_ne!(early, Ok(Parsed::Complete)),
            }
        }
        if verdict == Ok(Parsed::Complete) {
            prop_assert!(is_strict(&text[..head.bytes]));
        }
    }

    #[test]
    fn a_body_may_be_cut_anywhere(text in messages(), sizes in vec(1..9_usize, 1..9)) {
        let fresh = || BodyDecoder::new(Framing::Chunked, CHUNKS);
        let whole = decode(&mut fresh(), &text, &[text.len()]);
        prop_assert_eq!(&whole, &decode(&mut fresh(), &text, &sizes));
        prop_assert_eq!(&whole, &decode(&mut fresh(), &text, &[1]));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(text in vec(any::<u8>(), 0..300)) {
        let _ = parse(&text);
        let _ = parse_answer(&text);
        let _ = decode(&mut BodyDecoder::new(Framing::Chunked, CHUNKS), &text, &[1]);
    }

    /// One byte changed in a sound head is still read strictly or refused.
    #[test]
    fn a_flipped_byte_does_no_harm(at in 0..90_usize, byte in any::<u8>()) {
        let mut text = b"POST /v1/x?y=z HTTP/1.1\r\nHost: h:80\r\nContent-Length: 3\r\n\
                         Connection: close\r\nX: y\r\n\r\nabc".to_vec();
        if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
        let (verdict, head) = parse(&text);
        if verdict == Ok(Parsed::Complete) {
            prop_assert!(is_strict(&text[..head.bytes]));
            prop_assert!(head.fields.iter().all(|field| field.value.range().end <= head.bytes));
        }
    }

    #[test]
    fn a_written_request_is_read_back(
        path in "/[!-\"$-~]{0,40}",
        fields in plain_fields(),
        length in any::<u32>(),
    ) {
        let mut text = Vec::new();
        write::request_line(&mut text, Method::Post, &[TargetPart::new(path.as_bytes()).unwrap()]);
        let host = FieldValue::new(b"host").unwrap();
        write::field(&mut text, FieldName::new(b"Host").unwrap(), host);
        for (name, value) in &fields {
            let value = FieldValue::new(value).unwrap();
            write::field(&mut text, FieldName::new(name.as_bytes()).unwrap(), value);
        }
        let name = FieldName::new(b"Content-Length").unwrap();
        write::number_field(&mut text, name, u64::from(length));
        write::end_of_head(&mut text);

        let (verdict, head) = parse(&text);
        prop_assert_eq!(verdict, Ok(Parsed::Complete));
        prop_assert_eq!(head.bytes, text.len());
        prop_assert_eq!(head.method, Method::Post);
        prop_assert_eq!(head.target.of(&text), path.as_bytes());
        prop_assert_eq!(head.framing, Framing::Length(u64::from(length)));
        prop_assert_eq!(head.fields.len(), fields.len() + 2);
        for (read, (name, value)) in head.fields[1..].iter().zip(&fields) {
            prop_assert_eq!(read.name.of(&text), name.as_bytes());
            prop_assert_eq!(read.value.of(&text), &value[..]);
        }
    }

    #[test]
    fn a_written_response_is_read_back(status in 200..600_u16, fields in plain_fields()) {
        let mut text = Vec::new();
        write::status_line(&mut text, status);
        for (name, value) in &fields {
            let value = FieldValue::new(value).unwrap();
            write::field(&mut text, FieldName::new(name.as_bytes()).unwrap(), value);
        }
        write::end_of_head(&mut text);
        let (verdict, head) = parse_answer(&text);
        prop_assert_eq!(verdict, Ok(Parsed::Complete));
        prop_assert_eq!((head.status, head.bytes), (status, text.len()));
        for (read, (name, value)) in head.fields.iter().zip(&fields) {
            prop_assert_eq!(read.name.of(&text), name.as_bytes());
            prop_assert_eq!(read.value.of(&text), &value[..]);
        }
    }

    #[test]
    fn written_chunks_are_read_back(
        chunks in vec(vec(any::<u8>(), 0..40), 0..8),
        sizes in vec(1..30_usize, 1..9),
    ) {
        let mut text = Vec::new();
        chunks.iter().for_each(|data| write::chunk(&mut text, data));
        text.extend_from_slice(write::LAST_CHUNK);
        let end = text.len();
        text.extend_from_slice(b"GET");
        let mut decoder = BodyDecoder::new(Framing::Chunked, CHUNKS);
        let read = decode(&mut decoder, &text, &sizes);
        prop_assert_eq!(read, Ok((chunks.concat(), Some(end))));
    }
}
