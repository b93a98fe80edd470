//! What a streamed event costs to be watched: framing and observation as the relay does them, against
//! parsing every event.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sluice::api::observe::Observer;
use sluice::api::operation::Operation;
use sluice::sse::{EVENT_WHOLE_BYTES_MAX, Piece, Splitter};

/// Content events of a stream.
const EVENTS: usize = 64;

/// A chat as vLLM streams it: content in pieces of differing length, a finish reason, a usage, the end.
fn chat() -> Vec<String> {
    let event = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
             \"created\":1700000000,\"model\":\"mock-model\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
             \"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let words = [" a", " word", " another", "\\n\\n", " \\\"so\\\""];
    let content = words.iter().cycle().take(EVENTS);
    let mut events: Vec<String> =
        content.map(|word| event(&format!("{{\"content\":\"{word}\"}}"), "null")).collect();
    events.push(event("{}", "\"stop\""));
    events.push(
        "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"choices\":[],\
         \"usage\":{\"prompt_tokens\":240,\"total_tokens\":304,\"completion_tokens\":64}}\n\n"
            .into(),
    );
    events.push("data: [DONE]\n\n".into());
    events
}

/// Feeds reads to a splitter and an observer, as the relay does; the events with content.
fn watch(reads: &[Vec<u8>]) -> u64 {
    let mut splitter = Splitter::new(EVENT_WHOLE_BYTES_MAX);
    let mut observer = Observer::new(Operation::Chat);
    for read in reads {
        splitter.feed(read, &mut |piece| {
            if let Piece::Event(event) = piece {
                black_box(observer.event(event));
            }
        });
    }
    observer.output_events()
}

fn relayed(c: &mut Criterion) {
    let events = chat();
    let alone: Vec<Vec<u8>> = events.iter().map(|event| event.clone().into_bytes()).collect();
    let shared: Vec<Vec<u8>> = events.chunks(8).map(|some| some.concat().into_bytes()).collect();
    c.bench_function("a stream of 67 events, each read alone", |b| {
        b.iter(|| watch(black_box(&alone)));
    });
    c.bench_function("a stream of 67 events, 8 in a read", |b| {
        b.iter(|| watch(black_box(&shared)))
    });
}

fn one(c: &mut Criterion) {
    let events = chat();
    let (content, usage) = (events[1].as_bytes(), events[EVENTS + 1].as_bytes());
    let mut observer = Observer::new(Operation::Chat);
    c.bench_function("a content event, observed", |b| {
        b.iter(|| observer.event(black_box(content)).content);
    });
    c.bench_function("a usage event, observed", |b| {
        b.iter(|| observer.event(black_box(usage)).usage_only);
    });
    let json = &content[6..content.len() - 2];
    c.bench_function("a content event, serde_json's value", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(json)).is_ok());
    });
    c.bench_function("a content event, simd-json's tape", |b| {
        let tape = |mut copy: Vec<u8>| simd_json::to_tape(&mut copy).is_ok();
        b.iter_batched(|| json.to_vec(), tape, BatchSize::SmallInput);
    });
}

criterion_group!(benches, relayed, one);
criterion_main!(benches);
