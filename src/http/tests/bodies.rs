//! Bodies of every framing.

use super::body::Truncated;
use super::*;

pub const CHUNKS: ChunkLimits = ChunkLimits { extension_bytes_max: 64, trailer_bytes_max: 64 };

/// Decodes a body that comes in pieces of these sizes (the last again and again): its data, and
/// how many bytes it took, if it ended.
pub fn decode(
    decoder: &mut BodyDecoder,
    text: &[u8],
    sizes: &[usize],
) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
    let mut data = Vec::new();
    let (mut at, mut end, mut turn) = (0, 0, 0);
    loop {
        match decoder.step(&text[at..end])? {
            BodyStep::Data { consumed, data: range } => {
                assert!(!range.is_empty() && range.end <= consumed && consumed <= end - at);
                data.extend_from_slice(&text[at..end][range]);
                at += consumed;
            }
            BodyStep::Done { consumed } => {
                assert!(decoder.is_done());
                return Ok((data, Some(at + consumed)));
            }
            BodyStep::More if end == text.len() => return Ok((data, None)),
            BodyStep::More => {
                at = end;
                let size = sizes[turn.min(sizes.len() - 1)].max(1);
                end = text.len().min(end + size);
                turn += 1;
            }
        }
    }
}

/// Decodes a chunked body whole and byte by byte, which must come to the same.
pub fn chunked(text: &[u8]) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
    let fresh = || BodyDecoder::new(Framing::Chunked, CHUNKS);
    let whole = decode(&mut fresh(), text, &[text.len()]);
    assert_eq!(whole, decode(&mut fresh(), text, &[1]));
    whole
}

fn decodes(text: &str, data: &str) {
    let want = Ok((data.as_bytes().to_vec(), Some(text.len())));
    assert_eq!(chunked(text.as_bytes()), want, "{text:?}");
    let pipelined = format!("{text}GET / HTTP/1.1");
    assert_eq!(chunked(pipelined.as_bytes()), want, "{pipelined:?}");
    for cut in 0..text.len() {
        assert!(chunked(&text.as_bytes()[..cut]).is_ok_and(|(_, end)| end.is_none()), "{text:?}");
    }
}

#[test]
fn sound_chunks() {
    decodes("0\r\n\r\n", "");
    decodes("5\r\nhello\r\n0\r\n\r\n", "hello");
    decodes("00000005\r\nhello\r\n000\r\n\r\n", "hello");
    decodes("5\r\nhello\r\nA\r\n, chunked!\r\n1\r\n\n\r\n0\r\n\r\n", "hello, chunked!\n");
    decodes("5;a;b=c;d=\"e;\\\" f\"\r\nhello\r\n0;last\r\n\r\n", "hello");
    decodes("0\r\nA: b\r\nC:\r\n\r\n", "");
    decodes("2\r\n\r\n\r\n0\r\n\r\n", "\r\n");
}

#[test]
fn broken_chunks() {
    use ChunkError::*;
    let cases: [(&str, ChunkError); 34] = [
        ("-1\r\n", Size),
        ("+1\r\n", Size),
        ("0x1\r\n", Size),
        ("\r\n", Size),
        (" 1\r\n", Size),
        ("1 \r\n", Size),
        ("1\t;a\r\n", Size),
        (";a\r\n", Size),
        ("g\r\n", Size),
        ("000000001\r\n", Size),
        ("fffffffffffffffd\r\n", Size),
        ("11111111111111111\r\n", Size),
        ("1\n", LineEnd),
        ("1\rx", LineEnd),
        ("1;a\n", LineEnd),
        ("0\n\n", LineEnd),
        ("0\r\n\n", LineEnd),
        ("0\r\n\rx", LineEnd),
        ("0\r\nA: b\n", LineEnd),
        ("0\r\nA: b\rx", LineEnd),
        ("1;\r\n", Extension),
        ("1;;a\r\n", Extension),
        ("1;a=\r\n", Extension),
        ("1;a b\r\n", Extension),
        ("1;a=\"b\"c\r\n", Extension),
        ("1;a=\"b\r\n", Extension),
        ("1;a=\"\0\"\r\n", Extension),
        ("1\r\nabc", DataEnd),
        ("1\r\na\rb", DataEnd),
        ("1\r\na\n", DataEnd),
        ("5\r\nhello0\r\n\r\n", DataEnd),
        ("0\r\n: b\r\n", Trailer),
        ("0\r\nA : b\r\n", Trailer),
        ("0\r\nA: b\r\n c\r\n", Trailer),
    ];
    for (text, error) in cases {
        assert_eq!(chunked(text.as_bytes()), Err(error), "{text:?}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn chunk_overhead_is_bounded() {
    let extension = |len| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(len - 1));
    decodes(&extension(CHUNKS.extension_bytes_max), "a");
    let over = extension(CHUNKS.extension_bytes_max + 1);
    assert_eq!(chunked(over.as_bytes()), Err(ChunkError::ExtensionBytes));
    // The bound is for the body, not for the chunk.
    assert_eq!(chunked("1;e\r\na\r\n".repeat(33).as_bytes()), Err(ChunkError::ExtensionBytes));

    let trailers = |len| format!("0\r\nA:{}\r\n\r\n", "b".repeat(len - 3));
    decodes(&trailers(CHUNKS.trailer_bytes_max), "");
    let over = trailers(CHUNKS.trailer_bytes_max + 1);
    assert_eq!(chunked(over.as_bytes()), Err(ChunkError::TrailerBytes));
    assert_eq!(ChunkError::TrailerBytes.status(), 431);
}

#[test]
fn the_largest_chunk() {
    let mut decoder = ChunkedDecoder::new(CHUNKS);
    assert_eq!(decoder.step(b"ffffffff\r\n"), Ok(ChunkStep::More));
    assert_eq!(decoder.step(b"x"), Ok(ChunkStep::Data { consumed: 1, data: 0..1 }));
}

#[test]
fn counted_bodies() {
    let mut body = BodyDecoder::new(Framing::Length(5), CHUNKS);
    assert_eq!(body.end_of_input(), Err(Truncated));
    assert_eq!(body.step(b""), Ok(BodyStep::More));
    assert_eq!(body.step(b"hel"), Ok(BodyStep::Data { consumed: 3, data: 0..3 }));
    assert!(!body.is_done());
    assert_eq!(body.step(b"loGET"), Ok(BodyStep::Data { consumed: 2, data: 0..2 }));
    assert!(body.is_done());
    assert_eq!(body.end_of_input(), Ok(()));
    assert_eq!(body.step(b"GET"), Ok(BodyStep::Done { consumed: 0 }));
    for empty in [Framing::None, Framing::Length(0)] {
        let mut body = BodyDecoder::new(empty, CHUNKS);
        assert!(body.is_done());
        assert_eq!(body.step(b"GET"), Ok(BodyStep::Done { consumed: 0 }));
    }
}

#[test]
fn bodies_that_end_with_the_connection() {
    let mut body = BodyDecoder::new(Framing::UntilClose, CHUNKS);
    assert_eq!(body.step(b"abc"), Ok(BodyStep::Data { consumed: 3, data: 0..3 }));
    assert_eq!(body.step(b""), Ok(BodyStep::More));
    assert!(!body.is_done());
    assert_eq!(body.end_of_input(), Ok(()));
}

#[test]
fn a_chunked_body_cut_short_is_truncated() {
    let mut body = BodyDecoder::new(Framing::Chunked, CHUNKS);
    assert!(body.step(b"1\r\na\r\n0\r\n").is_ok());
    assert_eq!(body.end_of_input(), Err(Truncated));
}
