//! llama.cpp's dialect against recordings of its server: events, answers, heads, errors, metrics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::shape::{outline, shape};
use common::{After, Answer, Client, ask, chat, get, llama, post, start};
use sluice_sim::engine::EngineConfig;
use sluice_sim::server::ServerConfig;
use std::collections::BTreeSet;
use std::time::Duration;

macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../tests/corpus/streams/llamacpp-", $name, ".sse"))
    };
}

const CHAT: &str = "/v1/chat/completions";

fn answer(path: &str, body: &str) -> Answer {
    ask(start(llama()).addr, &post(path, "", body))
}

#[test]
fn a_streamed_chat_looks_like_llamas() {
    let options = r#","stream":true,"stream_options":{"include_usage":true},"return_progress":true,"timings_per_token":true"#;
    let ours = answer(CHAT, &chat(64, options));
    assert_eq!(outline(&ours.body), outline(corpus!("chat")));
    let plain = answer(CHAT, &chat(64, r#","stream":true"#)).events();
    assert!(plain[1].get("timings").is_none() && plain.last().unwrap()["timings"].is_object());
}

#[test]
fn each_choice_has_a_usage() {
    let options = r#","n":2,"stream":true,"stream_options":{"include_usage":true}"#;
    let ours = answer(CHAT, &chat(4, options));
    let shapes = |body: &str| -> BTreeSet<String> {
        outline(body).iter().map(|event| format!("{event:?}")).collect()
    };
    assert_eq!(shapes(&ours.body), shapes(corpus!("chat-n2")));
    let events = ours.events();
    let usages = events.iter().filter_map(|event| event["usage"]["completion_tokens"].as_u64());
    assert_eq!(usages.collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn other_streams_look_like_llamas() {
    let body = r#"{"model":"mock-model","prompt":"hello there","max_tokens":8,"stream":true}"#;
    let completions = answer("/v1/completions", body);
    assert_eq!(outline(&completions.body), outline(corpus!("completions")));
    let messages = answer("/v1/messages", &chat(16, r#","stream":true"#));
    assert_eq!(outline(&messages.body), outline(corpus!("messages")));
    let body = r#"{"model":"mock-model","input":"hello","max_output_tokens":16,"stream":true}"#;
    let responses = answer("/v1/responses", body);
    assert_eq!(outline(&responses.body), outline(corpus!("responses")));
}

/// Where a whole answer differs from the recorded one, and why. Every row must be needed.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("too long", "error.n_prompt_tokens integer", "said in words"),
    ("too long", "error.n_ctx integer", "said in words"),
];

#[test]
fn whole_answers_look_like_llamas() {
    let config = ServerConfig { context_tokens_max: 1_000, ..llama() };
    let server = start(config);
    let post = |path: &str, body: &str| ask(server.addr, &post(path, "", body));
    let long = format!(
        r#"{{"model":"mock-model","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "long ".repeat(2_000)
    );
    let answers = [
        ("chat", post(CHAT, &chat(8, ""))),
        (
            "completions",
            post("/v1/completions", r#"{"model":"mock-model","prompt":"hello","max_tokens":8}"#),
        ),
        ("messages", post("/v1/messages", &chat(8, ""))),
        (
            "responses",
            post("/v1/responses", r#"{"model":"mock-model","input":"hi","max_output_tokens":8}"#),
        ),
        ("count tokens", post("/v1/messages/count_tokens", &chat(8, ""))),
        ("tokenize", post("/tokenize", r#"{"content":"hello"}"#)),
        ("health", get(server.addr, "/health")),
        ("nothing there", get(server.addr, "/nothing")),
        ("no JSON", post(CHAT, "{nope")),
        ("too long", post(CHAT, &long)),
    ];
    let recorded = include_str!("data/llamacpp-answers.txt");
    for ((name, ours), recorded) in answers.iter().zip(recorded.trim().split("## ").skip(1)) {
        let (title, recorded) = recorded.trim().split_once('\n').unwrap();
        assert_eq!(&title, name);
        let mut theirs = shape(recorded).unwrap();
        let before = theirs.0.len();
        let differs = |path: &str| DIFFERENCES.iter().any(|row| row.0 == *name && row.1 == path);
        theirs.0.retain(|path| !differs(path));
        let rows = DIFFERENCES.iter().filter(|row| row.0 == *name).count();
        assert_eq!(before - theirs.0.len(), rows, "{name}: every row is needed");
        assert_eq!(shape(&ours.body).unwrap(), theirs, "{name}");
    }
}

/// Names and values of a head's lines, without what changes from one answer to the next.
fn lines(head: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once(": ") {
        Some((name @ ("Content-Length" | "Process-Start-Time-Unix"), _)) => name.to_string(),
        _ => line.trim_end().to_string(),
    };
    head.trim_end().lines().map(line).collect()
}

#[test]
fn heads_look_like_llamas() {
    let server = start(llama());
    let requests = [
        ("stream", common::stream(1, "")),
        ("stream, closing", common::stream(1, "connection: close\r\n")),
        ("whole", post(CHAT, "", &chat(1, ""))),
        ("whole, closing", post(CHAT, "connection: close\r\n", &chat(1, ""))),
        ("health", "GET /health HTTP/1.1\r\nhost: sim\r\n\r\n".into()),
        ("metrics", "GET /metrics HTTP/1.1\r\nhost: sim\r\n\r\n".into()),
        ("nothing there", "GET /nothing HTTP/1.1\r\nhost: sim\r\n\r\n".into()),
        ("wrong method", format!("GET {CHAT} HTTP/1.1\r\nhost: sim\r\n\r\n")),
        ("no JSON", post(CHAT, "", "{nope")),
    ];
    let recorded = include_str!("data/llamacpp-heads.txt");
    for ((name, request), recorded) in requests.iter().zip(recorded.trim().split("\n\n")) {
        let (title, recorded) = recorded.split_once('\n').unwrap();
        assert_eq!(title, format!("## {name}"));
        assert_eq!(lines(&ask(server.addr, request).head), lines(recorded), "{name}");
    }
}

#[test]
fn a_stream_ends_the_connection_and_so_does_the_hundredth_answer() {
    let server = start(llama());
    let mut client = Client::connect(server.addr);
    client.send(&common::stream(2, ""));
    assert_eq!(client.answer(Duration::from_secs(3)).after, After::Open);
    client.send(&common::stream(2, ""));
    assert!(client.answer(Duration::from_secs(3)).raw.is_empty(), "it had closed");
    let mut client = Client::connect(server.addr);
    for number in 1..=100 {
        client.send("GET /health HTTP/1.1\r\nhost: sim\r\n\r\n");
        let answer = client.answer(Duration::from_secs(3));
        assert_eq!(answer.header("Connection") == Some("close"), number == 100, "{number}");
    }
}

#[test]
fn the_metrics_are_llamas() {
    let server = start(llama());
    for _ in 0..3 {
        ask(server.addr, &post(CHAT, "", &chat(5, "")));
    }
    let page = get(server.addr, "/metrics").body;
    let types = |page: &str| -> Vec<String> {
        page.lines().filter(|line| line.starts_with("# TYPE")).map(String::from).collect()
    };
    assert_eq!(types(&page), types(include_str!("data/llamacpp.metrics.txt")));
    assert!(page.contains("llamacpp:tokens_predicted_total 15\n"), "{page}");
    assert!(page.contains("llamacpp:requests_processing 0\n"), "{page}");
}

#[test]
fn progress_comes_before_the_prompt_is_computed() {
    // Half a second a token: whatever comes early has come before the prompt is computed.
    let engine = EngineConfig { step_per_prefill_token: 500_000_000, ..EngineConfig::default() };
    let server = start(ServerConfig { engine, instant: false, ..llama() });
    let mut client = Client::connect(server.addr);
    let options = r#","stream":true,"return_progress":true"#;
    client.send(&post(CHAT, "", &chat(1, options)));
    let early = client.answer(Duration::from_secs(1));
    assert_eq!(early.after, After::Silent);
    assert!(early.body.contains(r#""prompt_progress":{"total":"#), "{}", early.body);
    assert!(early.body.contains(r#""processed":0,"#) && !early.body.contains(r#""content":""#));
}
