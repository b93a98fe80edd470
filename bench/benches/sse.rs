//! Cutting a stream into events and reading one event's fields.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sluice::sse::{EVENT_WHOLE_BYTES_MAX, Piece, Splitter, data_of, event_name};

const EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
    \"created\":1700000000,\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\
    \"finish_reason\":null}]}\n\n";

fn count(splitter: &mut Splitter, chunk: &[u8]) -> usize {
    let mut events = 0;
    splitter.feed(chunk, &mut |piece| events += usize::from(matches!(piece, Piece::Event(_))));
    events
}

fn bench(c: &mut Criterion) {
    let mut splitter = Splitter::new(EVENT_WHOLE_BYTES_MAX);
    let many = EVENT.repeat(80);
    c.bench_function("one event in one read", |b| {
        b.iter(|| count(&mut splitter, black_box(EVENT)));
    });
    c.bench_function("80 events in one read", |b| {
        b.iter(|| count(&mut splitter, black_box(&many)));
    });
    c.bench_function("one event in two reads", |b| {
        b.iter(|| {
            count(&mut splitter, black_box(&EVENT[..100]))
                + count(&mut splitter, black_box(&EVENT[100..]))
        });
    });
    c.bench_function("data of an event", |b| b.iter(|| data_of(black_box(EVENT))));
    c.bench_function("name of an event", |b| b.iter(|| event_name(black_box(EVENT))));
}

criterion_group!(benches, bench);
criterion_main!(benches);
