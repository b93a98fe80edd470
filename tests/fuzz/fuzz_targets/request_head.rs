//! Request heads: no panic, the verdict does not depend on how the head is cut into reads, and it is
//! httparse's, also where a head repeats the one before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::http::{HeadLimits, Parsed, Reject, RequestHead, parse_request, request_fate};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 2048, header_count_max: 16, target_bytes_max: 256 };

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, text) = input;
    let mut head = RequestHead::default();
    let whole = parse_request(text, &LIMITS, &mut head);
    let cut = usize::from(cut).min(text.len());
    let early = parse_request(&text[..cut], &LIMITS, &mut RequestHead::default());
    match whole {
        Ok(Parsed::Complete) if cut >= head.bytes => assert_eq!(early, whole),
        Ok(_) => assert_eq!(early, Ok(Parsed::Partial)),
        Err(_) => assert_ne!(early, Ok(Parsed::Complete)),
    }
    compare(text, whole, &head);
    if whole == Ok(Parsed::Complete) {
        check(text, &head);
        assert_eq!(parse_request(text, &LIMITS, &mut head), whole);
        compare(text, whole, &head);
    }
});

/// Behind an empty line, a head is always left to httparse.
fn compare(text: &[u8], verdict: Result<Parsed, Reject>, head: &RequestHead) {
    if matches!(text, [] | [b'\r' | b'\n', ..]) {
        return;
    }
    let limits = HeadLimits { head_bytes_max: LIMITS.head_bytes_max + 2, ..LIMITS };
    let mut other = RequestHead::default();
    assert_eq!(parse_request(&[b"\r\n", text].concat(), &limits, &mut other), verdict);
    if verdict == Ok(Parsed::Complete) {
        let spans = |head: &RequestHead, by: usize| -> Vec<_> {
            let all = head.fields.iter().flat_map(|field| [field.name, field.value]);
            let all = all.chain([head.target, head.path, head.query, head.method_name]);
            all.map(|span| span.range().start + by..span.range().end + by).collect()
        };
        assert_eq!(spans(head, 2), spans(&other, 0));
        assert_eq!((head.bytes + 2, head.framing), (other.bytes, other.framing));
    }
}

/// An accepted head is within its limits and has no line end but CRLF.
fn check(text: &[u8], head: &RequestHead) {
    let bytes = &text[..head.bytes];
    assert!(head.bytes <= LIMITS.head_bytes_max && bytes.ends_with(b"\r\n\r\n"));
    assert!(head.fields.len() <= LIMITS.header_count_max);
    assert!(head.target.len() <= LIMITS.target_bytes_max);
    assert!(!head.path(text).is_empty());
    let feeds = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let returns = bytes.iter().filter(|&&byte| byte == b'\r').count();
    let ends = bytes.windows(2).filter(|two| two == b"\r\n").count();
    assert!(feeds == ends && returns == ends && !bytes.contains(&0));
    for field in &head.fields {
        assert!(!field.name.is_empty() && field.value.range().end < head.bytes);
        let _ = request_fate(field);
    }
}
