//! However a stream is cut, its bytes come out whole and in order, and as the same events.
//!
//! The first byte chooses the size of the chunks, the second the cap.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::sse::{Piece, Splitter, data_of, event_name};

#[derive(Debug, Default, PartialEq)]
struct Cut {
    seen: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    oversized: Vec<Vec<u8>>,
    rest: Vec<u8>,
}

fuzz_target!(|input: &[u8]| {
    let [step, cap, stream @ ..] = input else { return };
    let (step, cap) = (usize::from(*step) + 1, usize::from(*cap) + 1);
    let whole = cut(stream, usize::MAX, usize::MAX);
    assert_eq!(cut(stream, step, usize::MAX), whole);
    assert_eq!(cut(stream, 1, usize::MAX), whole);

    // A CRLF cut in two goes out in two, which may bring an event from just over the cap to just under.
    let whole = cut(stream, usize::MAX, cap);
    let cut = cut(stream, step, cap);
    assert!(cut == whole || stream.contains(&b'\r'));
});

fn cut(stream: &[u8], step: usize, cap: usize) -> Cut {
    let mut splitter = Splitter::new(cap);
    let (mut out, mut open, mut all) = (Cut::default(), Vec::new(), Vec::new());
    for chunk in stream.chunks(step) {
        splitter.feed(chunk, &mut |piece| match piece {
            Piece::Event(event) => {
                assert!(open.is_empty() && event.len() <= cap);
                all.extend_from_slice(event);
                if let Some(data) = data_of(event).bytes() {
                    out.seen.push((event_name(event).map(<[u8]>::to_vec), data.to_vec()));
                }
            }
            Piece::Part { bytes, last } => {
                all.extend_from_slice(bytes);
                open.extend_from_slice(bytes);
                if last {
                    out.oversized.push(std::mem::take(&mut open));
                }
            }
        });
        assert!(splitter.rest().len() <= cap);
        assert_eq!(splitter.inside_oversized(), !open.is_empty());
    }
    out.rest = open;
    let held = splitter.take_rest();
    all.extend_from_slice(&held);
    out.rest.extend_from_slice(&held);
    assert_eq!(all, stream);
    out
}
