//! Routing's share of a request: hashing its prompt, and asking the prefix table who holds it.
//!
//! The table has 64 MiB, is 70 % full, and knows 64 endpoints. Bodies are as warm as their scan leaves
//! them; the 10,000 prompts differ from their first message on, so their entries lie all over the table.
//! Each request is timed by itself, and the median of a run stands for the run: what else the machine
//! does in between is not counted.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use serde_json::json;
use sluice::api::{Ask, Operation, read_ask};
use sluice::json::Bounds;
use sluice::route::chain::{Chain, Root, read};
use sluice::route::endpoints::{Depths, EndpointSet};
use sluice::route::table::{News, PrefixTable};

const BOUNDS: Bounds = Bounds { depth_max: 128 };
const ROOT: Root<'_> = Root { model: "mock-model", adapter: "", salt: b"" };
const ENDPOINTS: u16 = 64;
const PROMPTS: u64 = 10_000;
const PLAIN: &str =
    "The quick brown fox jumps over the lazy dog, and then goes on to do so again. ";
const ESCAPED: &str = "let x = \"a quick fox\";\n\tprintln!(\"{x} jumps over it\");\n";
/// Replaced by a number of the same length.
const NUMBER: &str = "prompt 0000000000000000";

/// A body that can be made into many prompts by writing another number into its first user message.
struct Prompts {
    body: Vec<u8>,
    ask: Box<Ask>,
    number_at: usize,
}

impl Prompts {
    fn new(op: Operation, body: &serde_json::Value) -> Self {
        let body = body.to_string().into_bytes();
        let ask = read_ask(op, &body, &BOUNDS).expect("a valid body");
        let found = body.windows(NUMBER.len()).position(|text| text == NUMBER.as_bytes());
        let number_at = found.expect("a number") + NUMBER.len() - 16;
        Self { body, ask, number_at }
    }

    fn number(&mut self, number: u64) {
        let digits = format!("{number:016}");
        self.body[self.number_at..][..16].copy_from_slice(digits.as_bytes());
    }

    fn read(&self, chain: &mut Chain) {
        read(chain, &ROOT, black_box(&self.body), &self.ask);
    }
}

/// Text of `len` bytes in JSON.
fn text(len: usize, unit: &str) -> String {
    let in_json = json!(unit).to_string().len() - 2;
    unit.repeat(len.div_ceil(in_json))
}

/// A chat of about `len` bytes: a system prompt and eight messages.
fn chat(len: usize, unit: &str) -> Prompts {
    let content = text(len / 9 - 40, unit);
    let mut messages = vec![json!({"role": "system", "content": content})];
    for i in 0..8 {
        let role = if i % 2 == 0 { "user" } else { "assistant" };
        let head = if i == 0 { NUMBER } else { "" };
        messages.push(json!({"role": role, "content": format!("{head}{content}")}));
    }
    let body = json!({"model": "mock-model", "messages": messages, "stream": true});
    Prompts::new(Operation::Chat, &body)
}

/// An agent's turn of about `len` bytes: 60 KB of tools and system prompt, then calls of tools and what
/// they gave.
fn agent(len: usize) -> Prompts {
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    let tools: Vec<_> = (0..20)
        .map(|i| {
            let description = text(2000, PLAIN);
            json!({"name": format!("tool{i}"), "description": description, "input_schema": schema})
        })
        .collect();
    let mark = json!({"type": "ephemeral"});
    let system = json!([{"type": "text", "text": "x-anthropic-billing-header: cch=97bd6;"},
        {"type": "text", "text": text(20_000, PLAIN), "cache_control": mark}]);
    let mut messages = vec![json!({"role": "user", "content": [{"type": "text", "text": NUMBER}]})];
    for i in 0..(len - 60_000) / 4_200 {
        let id = format!("call{i}");
        messages.push(json!({"role": "assistant", "content": [{"type": "tool_use", "id": id,
            "name": "tool1", "input": {"path": "src/main.rs"}}]}));
        messages.push(json!({"role": "user", "content": [{"type": "tool_result",
            "tool_use_id": id, "content": text(4_000, ESCAPED)}]}));
    }
    let body =
        json!({"model": "mock-model", "tools": tools, "system": system, "messages": messages});
    Prompts::new(Operation::Messages, &body)
}

/// A table with the prompts from 0 on, each but for its last block on one of the endpoints, filled up to
/// 70 % with others.
fn filled(prompts: &mut Prompts, count: u64) -> PrefixTable {
    let (mut table, mut chain, mut news) = (PrefixTable::new(64), Chain::default(), News::new(0));
    let mut hash = 1u64;
    let stats = table.stats();
    while table.stats().entries < stats.entries_max * 7 / 10 - count as usize * 64 {
        hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(5);
        table.insert(&[hash], (hash % u64::from(ENDPOINTS)) as u16, &mut news);
    }
    for number in 0..count {
        prompts.number(number);
        prompts.read(&mut chain);
        let held = chain.hashes().len() - 1;
        table.insert(&chain.hashes()[..held], (number % u64::from(ENDPOINTS)) as u16, &mut news);
    }
    println!("table: {:?}, {:.2} full", table.stats(), table.stats().fill());
    table
}

/// Times `timed` after each `prepare`.
fn medians(b: &mut Bencher<'_>, mut prepare: impl FnMut(), mut timed: impl FnMut()) {
    b.iter_custom(|runs| {
        let mut times: Vec<Duration> = (0..runs.min(100_000))
            .map(|_| {
                prepare();
                let start = Instant::now();
                timed();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2] * u32::try_from(runs).unwrap_or(u32::MAX)
    });
}

/// Goes through numbers in an order without a pattern.
fn next(number: &mut u64) -> u64 {
    *number = (*number + 7_919) % PROMPTS;
    *number
}

fn route(c: &mut Criterion, name: &str, mut prompts: Prompts, count: u64) {
    let table = RefCell::new(filled(&mut prompts, count));
    let wanted: EndpointSet = (0..ENDPOINTS).collect();
    let (mut chain, mut depths) = (Chain::default(), Depths::default());
    let mut group = c.benchmark_group(format!("route {name}"));
    prompts.read(&mut chain);
    println!("{name}: {} bytes, {} blocks", chain.bytes(), chain.hashes().len());
    group.bench_function("chain", |b| medians(b, || {}, || prompts.read(&mut chain)));
    let prompts = RefCell::new(prompts);
    for (kind, first) in [("growing", 0), ("cold", PROMPTS)] {
        let mut number = 0;
        group.bench_function(format!("chain and look-up, {kind}"), |b| {
            let prepare = || prompts.borrow_mut().number(first + next(&mut number) % count);
            medians(b, prepare, || {
                prompts.borrow().read(&mut chain);
                table.borrow_mut().depths(chain.hashes(), &wanted, &mut depths);
            });
        });
    }
    let (mut number, mut news) = (0, News::new(0));
    let chain = RefCell::new(chain);
    group.bench_function("insertion, growing", |b| {
        let prepare = || {
            prompts.borrow_mut().number(next(&mut number) % count);
            prompts.borrow().read(&mut chain.borrow_mut());
        };
        medians(b, prepare, || {
            let chain = chain.borrow();
            table.borrow_mut().insert(chain.hashes(), 1, &mut news);
        });
    });
}

/// Every second endpoint holds the tools and the system prompt; one of them holds the rest.
fn shared(c: &mut Criterion) {
    let mut prompts = agent(100_000);
    let mut table = filled(&mut prompts, 1_000);
    let (mut chain, mut depths, mut news) = (Chain::default(), Depths::default(), News::new(0));
    prompts.number(0);
    prompts.read(&mut chain);
    let common = (0..).take_while(|i| chain.bytes_at(*i) < 60_000).count();
    for endpoint in 0..ENDPOINTS / 2 {
        table.insert(&chain.hashes()[..common], endpoint, &mut news);
    }
    let wanted: EndpointSet = (0..ENDPOINTS).collect();
    let mut number = 0;
    let prompts = RefCell::new(prompts);
    c.bench_function("route 100 KB, shared prefix on half of the endpoints", |b| {
        let prepare = || prompts.borrow_mut().number(next(&mut number) % 1_000);
        medians(b, prepare, || {
            prompts.borrow().read(&mut chain);
            table.depths(chain.hashes(), &wanted, &mut depths);
        });
    });
}

fn bench(c: &mut Criterion) {
    route(c, "32 KB plain", chat(32 << 10, PLAIN), PROMPTS);
    route(c, "32 KB escaped", chat(32 << 10, ESCAPED), PROMPTS);
    route(c, "1 MB agent", agent(1 << 20), 4_000);
    shared(c);
}

criterion_group!(benches, bench);
criterion_main!(benches);
