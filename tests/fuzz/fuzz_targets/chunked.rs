//! Chunked bodies: no panic, no stall, and the same data however the body is cut into reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::http::write::{LAST_CHUNK, chunk};
use sluice::http::{BodyDecoder, BodyStep, ChunkError, ChunkLimits, Framing};

const LIMITS: ChunkLimits = ChunkLimits { extension_bytes_max: 32, trailer_bytes_max: 32 };

fuzz_target!(|input: (u8, &[u8])| {
    let (size, text) = input;
    let whole = decode(text, text.len());
    assert_eq!(whole, decode(text, usize::from(size).max(1)));
    assert_eq!(whole, decode(text, 1));
    if let Ok((data, Some(end))) = whole {
        assert!(end <= text.len());
        let mut written = Vec::new();
        data.chunks(usize::from(size).max(1)).for_each(|data| chunk(&mut written, data));
        written.extend_from_slice(LAST_CHUNK);
        assert_eq!(decode(&written, 7), Ok((data, Some(written.len()))));
    }
});

/// The data of a body that comes in reads of `size` bytes, and where it ended, if it did.
fn decode(text: &[u8], size: usize) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
    let mut decoder = BodyDecoder::new(Framing::Chunked, LIMITS);
    let mut data = Vec::new();
    let (mut at, mut end) = (0, 0);
    loop {
        match decoder.step(&text[at..end])? {
            BodyStep::Data { consumed, data: range } => {
                assert!(!range.is_empty() && range.end <= consumed);
                data.extend_from_slice(&text[at..end][range]);
                at += consumed;
            }
            BodyStep::Done { consumed } => return Ok((data, Some(at + consumed))),
            BodyStep::More if end == text.len() => return Ok((data, None)),
            BodyStep::More => (at, end) = (end, text.len().min(end + size)),
        }
    }
}
