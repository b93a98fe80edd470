//! The server against recordings of real ones: the same events with the same keys and types in the same
//! order, the same heads, the same metrics. What differs stands in a table, with the reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::shape::{Event, outline};
use common::{Answer, ask, chat, instant, post, start};
use std::collections::BTreeSet;

macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../tests/corpus/streams/", $name))
    };
}

fn answer(path: &str, headers: &str, body: &str) -> Answer {
    let server = start(instant());
    ask(server.addr, &post(path, headers, body))
}

#[test]
fn a_streamed_chat_looks_like_vllms() {
    let options =
        r#","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}"#;
    let ours = answer("/v1/chat/completions", "", &chat(64, options));
    assert_eq!(outline(&ours.body), outline(corpus!("vllm-chat.sse")));
}

#[test]
fn a_streamed_message_looks_like_vllms() {
    let ours = answer("/v1/messages", "", &chat(16, r#","stream":true"#));
    assert_eq!(outline(&ours.body), outline(corpus!("vllm-messages.sse")));
}

#[test]
fn a_streamed_response_looks_like_vllms() {
    let body = r#"{"model":"mock-model","input":"hello","max_output_tokens":16,"stream":true}"#;
    let ours = answer("/v1/responses", "", body);
    assert_eq!(outline(&ours.body), outline(corpus!("vllm-responses.sse")));
    for (at, event) in ours.events().iter().enumerate() {
        assert_eq!(event["sequence_number"], at);
    }
}

#[test]
fn an_engine_that_dies_looks_like_vllms() {
    let ours = answer(
        "/v1/chat/completions",
        "x-sim-fault: error:700\r\n",
        &chat(800, r#","stream":true"#),
    );
    let recorded = corpus!("vllm-0.32-enginecore-killed-midstream.sse");
    assert_eq!(outline(&ours.body), outline(recorded));
    let last = |stream: &str| {
        stream.trim_end().rsplit("\n\n").take(2).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(last(&ours.body), last(recorded), "to the letter");
}

/// Where the server's stream of several choices differs from vLLM's: `+` what we have or `-` what they have,
/// and why. A trailing `*` stands for whatever begins so. Every row must be needed.
const DIFFERENCES: &[(&str, &str)] =
    &[("- choices[].logprobs.content[]*", "no logprobs are made up")];

/// What one outline has by way of names, paths and types.
fn leaves(events: &[Event]) -> BTreeSet<String> {
    let leaf = |event: &Event, path: &String| match event.name.as_str() {
        "" => path.clone(),
        name => format!("{name} {path}"),
    };
    events.iter().flat_map(|event| event.data.0.iter().map(|path| leaf(event, path))).collect()
}

#[test]
fn what_differs_from_recordings_is_known() {
    let options = r#","n":2,"stream":true,"stream_options":{"include_usage":true}"#;
    let ours = answer("/v1/chat/completions", "", &chat(8, options));
    let (ours, theirs) = (outline(&ours.body), outline(corpus!("vllm-chat-n2-logprobs.sse")));
    let (ours, theirs) = (leaves(&ours), leaves(&theirs));
    let more = ours.difference(&theirs).map(|leaf| format!("+ {leaf}"));
    let found: BTreeSet<_> =
        more.chain(theirs.difference(&ours).map(|leaf| format!("- {leaf}"))).collect();
    let fits = |row: &(&str, &str), difference: &str| match row.0.strip_suffix('*') {
        Some(beginning) => difference.starts_with(beginning),
        None => difference == row.0,
    };
    let unknown: Vec<_> =
        found.iter().filter(|diff| !DIFFERENCES.iter().any(|row| fits(row, diff))).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let stale: Vec<_> =
        DIFFERENCES.iter().filter(|row| !found.iter().any(|diff| fits(row, diff))).collect();
    assert!(stale.is_empty(), "{stale:#?}");
}

/// Names and values of a head's lines, without what changes from one answer to the next.
fn lines(head: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once(": ") {
        Some((name @ ("date" | "content-length"), _)) => name.to_string(),
        _ => line.to_string(),
    };
    head.trim_end().lines().map(line).collect()
}

#[test]
fn heads_look_like_uvicorns() {
    let server = start(instant());
    let stream = |headers: &str| common::stream(1, headers);
    let whole = |headers: &str| post("/v1/chat/completions", headers, &chat(1, ""));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: sim\r\n\r\n");
    let requests = [
        ("stream", stream("")),
        ("stream, closing", stream("connection: close\r\n")),
        ("whole", whole("")),
        ("whole, closing", whole("connection: close\r\n")),
        ("health", get("/health")),
        ("metrics", get("/metrics")),
        ("nothing there", get("/nothing")),
        ("wrong method", get("/v1/chat/completions")),
        ("no HTTP", "garbage\r\n\r\n".to_string()),
    ];
    let recorded = include_str!("data/uvicorn-heads.txt");
    for ((name, request), recorded) in requests.iter().zip(recorded.trim().split("\n\n")) {
        let (title, recorded) = recorded.split_once('\n').unwrap();
        assert_eq!(title, format!("## {name}"));
        let (mut ours, mut theirs) = (lines(&ask(server.addr, request).head), lines(recorded));
        if *name == "no HTTP" {
            // The parser refuses it before there is an application, and puts the type first.
            ours.sort();
            theirs.sort();
        }
        assert_eq!(ours, theirs, "{name}");
    }
}
