//! Recorded and arbitrary streams, cut everywhere.

use std::io::Read;

use proptest::prelude::*;

use super::*;

/// What a client sees of an event: its name and its data.
type Seen = (Option<Vec<u8>>, Vec<u8>);

/// What came out of a stream fed in chunks.
#[derive(Debug, Default, PartialEq)]
struct Cut {
    /// What clients see, of events within the cap.
    seen: Vec<Seen>,
    /// The events larger than the cap.
    oversized: Vec<Vec<u8>>,
    rest: Vec<u8>,
}

/// Feeds the chunks, and asserts what holds for every stream.
fn cut<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, cap: usize) -> Cut {
    let mut splitter = Splitter::new(cap);
    let (mut out, mut open, mut all, mut fed) = (Cut::default(), Vec::new(), Vec::new(), 0);
    for chunk in chunks {
        fed += chunk.len();
        splitter.feed(chunk, &mut |piece| match piece {
            Piece::Event(event) => {
                assert!(open.is_empty() && !event.is_empty() && event.len() <= cap);
                all.extend_from_slice(event);
                out.seen.extend(seen(event));
            }
            Piece::Part { bytes, last } => {
                assert!(!bytes.is_empty());
                all.extend_from_slice(bytes);
                open.extend_from_slice(bytes);
                if last {
                    assert!(open.len() > cap);
                    out.oversized.push(std::mem::take(&mut open));
                }
            }
        });
        assert_eq!(splitter.inside_oversized(), !open.is_empty());
        assert!(splitter.rest().len() <= cap && all.len() + splitter.rest().len() == fed);
    }
    let held = splitter.rest().len();
    out.rest = splitter.take_rest();
    assert_eq!(
        (out.rest.len(), splitter.rest().len(), splitter.inside_oversized()),
        (held, 0, false)
    );
    out.rest.splice(0..0, open);
    out
}

fn seen(event: &[u8]) -> Option<Seen> {
    let data = data_of(event).bytes()?.to_vec();
    Some((event_name(event).map(<[u8]>::to_vec), data))
}

/// The same by the letter of the specification: all of the stream at once, byte by byte.
fn reference(stream: &[u8]) -> Vec<Seen> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let text: Vec<u8> = stream.to_vec();
    let (mut out, mut line, mut data, mut name) = (Vec::new(), Vec::new(), None, Vec::new());
    let mut i = 0;
    while i < text.len() {
        let byte = text[i];
        i += 1;
        if byte != b'\r' && byte != b'\n' {
            line.push(byte);
            continue;
        }
        if byte == b'\r' && text.get(i) == Some(&b'\n') {
            i += 1;
        }
        if line.is_empty() {
            if let Some(data) = data.take() {
                let name = std::mem::take(&mut name);
                out.push((Some(name).filter(|name: &Vec<u8>| !name.is_empty()), data));
            }
            name.clear();
        } else {
            let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let (field, value) = line.split_at(colon);
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => data = Some(joined(data, value)),
                b"event" => name = value.to_vec(),
                _ => {}
            }
            line.clear();
        }
    }
    out
}

fn joined(before: Option<Vec<u8>>, value: &[u8]) -> Vec<u8> {
    match before {
        None => value.to_vec(),
        Some(before) => [before.as_slice(), value].join(&b'\n'),
    }
}

/// The recorded streams of `tests/corpus/streams`.
fn recorded() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/streams");
    let mut streams = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".sse") {
            streams.push((name, std::fs::read(&path).unwrap()));
        }
    }
    let archive = std::fs::File::open(format!("{folder}/anthropic-sse-fixtures.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && !name.ends_with("LICENSE") {
            let mut stream = Vec::new();
            entry.read_to_end(&mut stream).unwrap();
            streams.push((name, stream));
        }
    }
    assert!(streams.len() >= 20, "{}", streams.len());
    streams
}

fn with_line_ends(stream: &[u8], end: &[u8]) -> Vec<u8> {
    stream.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(end)
}

#[test]
fn recorded_streams_in_steps() {
    for (name, stream) in recorded() {
        let whole = cut([stream.as_slice()], EVENT_WHOLE_BYTES_MAX);
        assert_eq!(whole.seen, reference(&stream), "{name}");
        assert!(whole.seen.len() > 1 && whole.oversized.is_empty(), "{name}");
        for step in [1, 2, 3, 7, 64, 1000] {
            assert_eq!(cut(stream.chunks(step), EVENT_WHOLE_BYTES_MAX), whole, "{name} by {step}");
        }
    }
}

/// A splitter between events is as new, so each event and the one after it, cut once, stand for the
/// whole stream cut there.
#[test]
fn recorded_events_cut_at_every_byte() {
    for (name, stream) in recorded() {
        for pair in event_ends(&stream).windows(3) {
            let stream = &stream[pair[0]..pair[2]];
            let whole = cut([stream], EVENT_WHOLE_BYTES_MAX);
            for at in 0..=pair[1] - pair[0] {
                let (head, tail) = stream.split_at(at);
                assert_eq!(cut([head, tail], EVENT_WHOLE_BYTES_MAX), whole, "{name} at {at}");
            }
        }
    }
}

/// Where the events of a stream begin and end, which is also where the splitter holds nothing.
fn event_ends(stream: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut splitter = Splitter::new(EVENT_WHOLE_BYTES_MAX);
    splitter.feed(stream, &mut |piece| match piece {
        Piece::Event(bytes) | Piece::Part { bytes, .. } => {
            ends.push(ends[ends.len() - 1] + bytes.len())
        }
    });
    ends.push(stream.len());
    ends
}

#[test]
fn recorded_streams_with_other_line_ends() {
    for (name, stream) in recorded() {
        let expected = reference(&stream);
        for end in [b"\r".as_slice(), b"\r\n"] {
            let stream = with_line_ends(&stream, end);
            for step in [1, 2, 5, 100, stream.len()] {
                let cut = cut(stream.chunks(step), EVENT_WHOLE_BYTES_MAX);
                assert_eq!(cut.seen, expected, "{name} by {step}");
            }
        }
    }
}

#[test]
fn an_event_leaves_with_its_last_byte() {
    for stream in ["data: x\n\n", "data: x\r\n\r\n", "data: x\r\r", "data: x\r\n\n", "data: x\n\r"]
    {
        let mut splitter = Splitter::new(100);
        let mut events = Vec::new();
        for byte in stream.bytes() {
            splitter.feed(&[byte], &mut |piece| events.push(format!("{piece:?}")));
        }
        // With CRLF the blank line is complete at its CR; the LF then follows by itself.
        assert_eq!(events.len(), if stream.ends_with("\r\n\r\n") { 2 } else { 1 }, "{stream:?}");
        assert_eq!(splitter.rest().len(), 0);
    }
}

#[test]
fn a_split_crlf_is_one_line_end() {
    let cut =
        cut([b"data: a\r".as_slice(), b"\ndata: b\r", b"\n\r", b"\n", b"\n", b"data: c\n\n"], 99);
    assert_eq!(cut.seen, [(None, b"a\nb".to_vec()), (None, b"c".to_vec())]);
    assert!(cut.rest.is_empty());
}

#[test]
fn large_events_pass_in_parts() {
    let large = format!("event: big\ndata: {}\n\n", "x".repeat(1 << 20));
    let stream = format!("data: a\n\n{large}data: b\n\ndata: {}", "y".repeat(70_000));
    for step in [1 << 12, 1 << 16, 1 << 22, 999] {
        let cut = cut(stream.as_bytes().chunks(step), EVENT_WHOLE_BYTES_MAX);
        assert_eq!(cut.seen, [(None, b"a".to_vec()), (None, b"b".to_vec())]);
        assert_eq!(cut.oversized, [large.as_bytes()]);
        assert_eq!(cut.rest.len(), 70_006);
    }
}

#[test]
fn the_cap_is_exact() {
    let event = |len: usize| format!("data:{}\n\n", "x".repeat(len - 7));
    for len in [99, 100, 101, 102] {
        let stream = event(len);
        for at in 0..len {
            let (head, tail) = stream.as_bytes().split_at(at);
            assert_eq!(
                cut([head, tail], 100).oversized.len(),
                usize::from(len > 100),
                "{len} {at}"
            );
        }
    }
}

#[test]
fn nothing_large_stays_allocated() {
    let mut splitter = Splitter::new(EVENT_WHOLE_BYTES_MAX);
    let event = format!("data:{}\n\n", "x".repeat(60_000));
    for chunk in event.as_bytes().chunks(1000) {
        splitter.feed(chunk, &mut |_| {});
    }
    assert_eq!((splitter.rest().len(), splitter.allocated()), (0, 0));
}

#[test]
fn fields() {
    let data =
        |event: &str| data_of(event.as_bytes()).bytes().map(|data| data.escape_ascii().to_string());
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(data("data: {}\n\n"), some("{}"));
    assert_eq!(data("data:  two\n\n"), some(" two"));
    assert_eq!(data("data:x\r\ndata\rdata:y\n\n"), some("x\\n\\ny"));
    assert_eq!(data("\u{feff}data: x\n\n"), some("x"));
    assert_eq!(data("datax: 1\n data: 2\nDATA: 3\nid: 4\n\n"), None);
    assert_eq!(data(": comment\n\n"), None);
    assert_eq!(data("\n"), None);
    assert_eq!(data(""), None);
    assert_eq!(data_of(b"data: x\n\n"), Data::One(b"x"));
    assert_eq!(event_name(b"event: a\nevent:b\ndata: x\n\n"), Some(b"b".as_slice()));
    assert_eq!(event_name(b"event\ndata: x\n\n"), None);
    assert_eq!(event_name(b"data: event: x\n\n"), None);
}

#[test]
fn writing() {
    let mut out = Vec::new();
    write_event(&mut out, None, b"{}");
    write_event(&mut out, Some("er\rror: x"), b"a\nb\r\n\rc");
    assert_eq!(out, b"data: {}\n\nevent: er\ndata: a\ndata: b\ndata: \ndata: c\n\n");
}

/// Streams made of what matters to framing.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"data: x",
        b"data:",
        b"data",
        b": c",
        b"event: e",
        b"event:",
        b" ",
        b":",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\0",
        b"id: 1",
        b"datadata: long enough to pass",
    ];
    proptest::collection::vec(prop::sample::select(pieces), 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_streams(
        stream in stream(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        cap in prop_oneof![Just(EVENT_WHOLE_BYTES_MAX), 1usize..60],
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let out = cut(at.windows(2).map(|ends| &stream[ends[0]..ends[1]]), cap);
        // A byte order mark counts at the start of a stream alone, but an event cannot know where it
        // stands, so streams with one in the middle are not compared.
        let marks = stream.windows(3).filter(|three| *three == b"\xef\xbb\xbf").count();
        if cap == EVENT_WHOLE_BYTES_MAX && marks == 0 {
            prop_assert_eq!(&out.seen, &reference(&stream));
        }
    }

    #[test]
    fn written_events_read_back(name in "[a-z.]{0,9}", data in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut out = Vec::new();
        write_event(&mut out, Some(&name), &data);
        let cut = cut([out.as_slice()], EVENT_WHOLE_BYTES_MAX);
        let lines = String::from_utf8_lossy(&data).replace("\r\n", "\n").replace('\r', "\n");
        let name = Some(name.into_bytes()).filter(|name| !name.is_empty());
        prop_assert_eq!(cut.seen.len(), 1);
        prop_assert_eq!(&cut.seen[0].0, &name);
        prop_assert_eq!(String::from_utf8_lossy(&cut.seen[0].1), lines);
    }
}
