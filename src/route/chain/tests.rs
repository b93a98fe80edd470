//! Prompts that begin alike share blocks, and no others do.

mod conversations;
mod lookalikes;
mod properties;

use serde_json::Value;

use super::blocks::count_max;
use super::*;
use crate::api::{Operation, read_ask};
use crate::json::Bounds;

const BOUNDS: Bounds = Bounds { depth_max: 128 };
const ROOT: Root<'_> = Root { model: "m", adapter: "", salt: b"" };

fn chain_under(root: &Root<'_>, op: Operation, body: &str) -> Chain {
    let ask = read_ask(op, body.as_bytes(), &BOUNDS).unwrap();
    let mut chain = Chain::default();
    read(&mut chain, root, body.as_bytes(), &ask);
    let prompt = &ask.prompt;
    let spans = [&prompt.tools, &prompt.system, &prompt.messages, &prompt.input, &prompt.prompt];
    let bytes: usize = spans.into_iter().flatten().map(|span| span.len()).sum();
    assert!(chain.hashes().len() <= count_max(bytes));
    let media = size::media(body.as_bytes(), &ask).len() as u64;
    assert!(chain.bytes() <= bytes as u64 + media * size::MEDIUM_TEXT_BYTES);
    assert!(chain.bytes_at(chain.hashes().len()) <= chain.bytes());
    chain
}

fn chain_of(op: Operation, body: &str) -> Chain {
    chain_under(&ROOT, op, body)
}

/// How many leading blocks two prompts share.
fn shared(one: &Chain, other: &Chain) -> usize {
    let pairs = one.hashes().iter().zip(other.hashes());
    let count = pairs.clone().take_while(|(one, other)| one == other).count();
    assert!(pairs.skip(count).all(|(one, other)| one != other), "a chain that meets again");
    count
}

/// Asserts that a prompt goes on from another one: it has all its blocks, and the same anchor.
fn assert_grown(from: &Chain, to: &Chain) {
    assert_eq!(shared(from, to), from.hashes().len());
    assert_eq!(from.anchor(), to.anchor());
    for blocks in 0..=from.hashes().len() {
        assert_eq!(from.bytes_at(blocks), to.bytes_at(blocks));
    }
}

/// Text that does not repeat itself, with quotes and line ends.
fn prose(seed: usize, len: usize) -> String {
    let words = (0..).map(|i| format!("word \"{}\"\n", (seed * 7919 + i) * 31 % 9973));
    let mut text = String::new();
    words
        .take_while(|word| {
            text.push_str(word);
            text.len() < len
        })
        .for_each(drop);
    text
}

#[test]
fn digests_are_the_same_on_every_machine() {
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "0123456789".repeat(110));
    let chain = chain_of(Operation::Completions, &body);
    assert_eq!(chain.hashes(), [18_277_984_636_496_225_510, 15_979_684_839_866_656_093]);
    assert_eq!(chain.anchor(), 10_793_817_778_357_266_935);
}

#[test]
fn blocks_grow_with_the_offset_and_have_a_bound() {
    let blocks = |bytes: usize| {
        let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "a".repeat(bytes));
        let chain = chain_of(Operation::Completions, &body);
        assert!(chain.bytes() - chain.bytes_at(CHAIN_BLOCKS_MAX) <= (bytes as u64 / 64).max(512));
        chain.hashes().len()
    };
    let counts = [510, 511, 32 << 10, 64 << 10, 128 << 10, 1 << 20, 3 << 20].map(blocks);
    assert_eq!(counts, [0, 1, 64, 128, 192, 384, 480]);
    assert_eq!(count_max(usize::MAX), CHAIN_BLOCKS_MAX);
}

#[test]
fn nothing_is_allocated_once_the_memory_is_there() {
    let mark = r#""cache_control":{"type":"ephemeral"}"#;
    let bodies = [1, 32_000, 150_000].map(|len| {
        let text = json(&prose(1, len).into());
        format!(r#"{{"model":"m","messages":[{{"content":{text},{mark},"role":"user"}}]}}"#)
    });
    let asks = bodies.each_ref().map(|body| read_ask(Operation::Chat, body.as_bytes(), &BOUNDS));
    let mut chain = Chain::default();
    read(&mut chain, &ROOT, bodies[2].as_bytes(), asks[2].as_ref().unwrap());
    let counted = allocation_counter::measure(|| {
        for (body, ask) in bodies.iter().zip(&asks) {
            read(&mut chain, &ROOT, body.as_bytes(), ask.as_ref().unwrap());
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// The text of a value with its members in order.
fn json(value: &Value) -> String {
    serde_json::to_string(value).unwrap()
}
