mod properties;
mod recorded;
mod shapes;

use std::fs::File;
use std::io::Read;

use super::{Observer, Seen};
use crate::api::operation::Operation;
use crate::api::usage::Usage;
use crate::sse::{EVENT_WHOLE_BYTES_MAX, Piece, Splitter};

const STREAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/streams");

/// A recorded stream; those of Anthropic are in an archive. Some lack the last blank line.
fn stream_of(name: &str) -> Vec<u8> {
    let mut stream = match name.strip_prefix("anthropic/") {
        Some(name) => archived(name),
        None => std::fs::read(format!("{STREAMS}/{name}")).unwrap(),
    };
    if !stream.ends_with(b"\n\n") {
        stream.extend_from_slice(b"\n\n");
    }
    stream
}

fn archived(name: &str) -> Vec<u8> {
    let archive = File::open(format!("{STREAMS}/anthropic-sse-fixtures.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap().ends_with(name)).unwrap();
    let mut stream = Vec::new();
    entry.read_to_end(&mut stream).unwrap();
    stream
}

/// Everything an observer said about a stream.
struct Watched {
    observer: Observer,
    seen: Vec<Seen>,
}

fn watch_in(op: Operation, stream: &[u8], cap: usize) -> Watched {
    let mut observer = Observer::new(op);
    let mut seen = Vec::new();
    let mut splitter = Splitter::new(cap);
    splitter.feed(stream, &mut |piece| {
        seen.push(match piece {
            Piece::Event(event) => observer.event(event),
            Piece::Part { bytes, last } => observer.part(bytes, last),
        });
    });
    Watched { observer, seen }
}

fn watch(op: Operation, stream: &[u8]) -> Watched {
    watch_in(op, stream, EVENT_WHOLE_BYTES_MAX)
}

/// One event with this data, as seen by a new observer.
fn one(op: Operation, data: &str) -> (Seen, Observer) {
    let mut watched = watch(op, format!("data: {data}\n\n").as_bytes());
    assert_eq!(watched.seen.len(), 1);
    (watched.seen.remove(0), watched.observer)
}

impl Watched {
    fn count(&self, is: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().filter(|seen| is(seen)).count()
    }
}

fn usage(input: u64, output: u64, cached: Option<u64>) -> Usage {
    Usage { input: Some(input), output: Some(output), cached, ..Usage::default() }
}
