//! Reading request bodies: the span scan against parsers that build what they read.
//!
//! `serde_json` is asked for a `Value` and for a struct of the wanted fields alone; `simd-json` for its
//! tape, on a private copy, since it works in place.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use sluice::json::{Bounds, Keys, scan_object};

const KEYS: Keys<6> =
    Keys::new(["model", "stream", "max_tokens", "max_completion_tokens", "n", "stream_options"]);
const BOUNDS: Bounds = Bounds { depth_max: 128 };

const PLAIN: &str =
    "The quick brown fox jumps over the lazy dog, and then goes on to do so again. ";
const ESCAPED: &str = "let x = \"a quick fox\";\n\tprintln!(\"{x} jumps over it\");\n";
const CHINESE: &str = "敏捷的棕色狐狸跳过了懒狗";

/// A chat request of about `len` bytes: eight messages of `text` over and over.
fn chat(len: usize, text: &str) -> String {
    let each = len / 8 - 40;
    let unit = serde_json::to_string(text).map_or(text.len(), |text| text.len() - 2);
    let content = text.repeat(each.div_ceil(unit));
    let messages: Vec<_> = (0..8)
        .map(|i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": content}))
        .collect();
    json!({"model": "mock-model", "messages": messages, "stream": true, "max_tokens": 256})
        .to_string()
}

/// The same with everything beyond ASCII written as `\uXXXX`, as Python does by default.
fn ascii_only(text: &str) -> String {
    let mut out = String::new();
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte < 0x80 => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out
}

/// Mostly structure: the schemas of `count` tools.
fn tools(count: usize) -> String {
    let tool = json!({"type": "function", "function": {"name": "get_weather", "strict": true,
        "description": "Current weather in a place", "parameters": {"type": "object", "properties": {
            "place": {"type": "string", "description": "City and country"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14}}, "required": ["place"]}}});
    json!({"model": "mock-model", "tools": vec![tool; count], "stream": true}).to_string()
}

fn tokens(count: u32) -> String {
    let prompt: Vec<u32> = (0..count).map(|i| i * 7919 % 128_000).collect();
    json!({"model": "mock-model", "prompt": prompt}).to_string()
}

fn bodies() -> Vec<(&'static str, String)> {
    vec![
        ("1 KB", chat(1024, "Why is the sky blue? ")),
        ("32 KB plain", chat(32 << 10, PLAIN)),
        ("32 KB escaped", chat(32 << 10, ESCAPED)),
        ("32 KB UTF-8", chat(32 << 10, CHINESE)),
        ("32 KB \\u", ascii_only(&chat(16 << 10, CHINESE))),
        ("32 KB tools", tools(80)),
        ("32 KB token ids", tokens(5_000)),
        ("1 MB plain", chat(1 << 20, PLAIN)),
        ("1 MB escaped", chat(1 << 20, ESCAPED)),
    ]
}

fn bench(c: &mut Criterion) {
    for (name, body) in bodies() {
        let body = body.as_bytes();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter("scan"), body, |b, body| {
            b.iter(|| scan_object(black_box(body), &KEYS, &BOUNDS));
        });
        group.bench_with_input(BenchmarkId::from_parameter("serde_json"), body, |b, body| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(body)));
        });
        group.bench_with_input(BenchmarkId::from_parameter("simd-json tape"), body, |b, body| {
            let (mut buffers, mut copy) = (simd_json::Buffers::default(), Vec::new());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(body));
                simd_json::to_tape_with_buffers(&mut copy, &mut buffers).is_ok()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
