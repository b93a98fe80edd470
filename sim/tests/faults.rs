//! Every fault does what its row in the table says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{After, Answer, Client, ask, chat, counts, get, instant, paced, post, start, stream};
use sluice_sim::server::{Running, ServerConfig};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const TOKENS: u32 = 8;
const SECOND: Duration = Duration::from_secs(1);
/// Long enough to call a connection silent.
const SILENCE: Duration = Duration::from_millis(200);

/// How long to wait for an answer: where silence is due, not for long.
fn patience(fault: &str) -> Duration {
    if fault.contains("hang") || fault.contains("stall") { SILENCE } else { 3 * SECOND }
}

fn header(fault: &str) -> String {
    format!("x-sim-fault: {fault}\r\n")
}

fn streamed(addr: SocketAddr, fault: &str) -> Answer {
    let mut client = Client::connect(addr);
    client.send(&stream(TOKENS, &header(fault)));
    client.answer(patience(fault))
}

fn whole(addr: SocketAddr, fault: &str) -> Answer {
    let mut client = Client::connect(addr);
    client.send(&post("/v1/chat/completions", &header(fault), &chat(TOKENS, "")));
    client.answer(patience(fault))
}

fn server() -> Running {
    start(instant())
}

#[test]
fn refuse_closes_or_resets_without_a_byte() {
    let server = server();
    let closed = streamed(server.addr, "refuse");
    assert_eq!((closed.raw.len(), closed.after), (0, After::Closed));
    let reset = streamed(server.addr, "refuse:rst");
    assert_eq!((reset.raw.len(), reset.after), (0, After::Reset));
    assert_eq!(counts(server.addr)["faulted"], 2);
}

#[test]
fn statuses() {
    let server = server();
    let limited = streamed(server.addr, "429:7");
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    assert_eq!(limited.after, After::Open);
    assert_eq!(streamed(server.addr, "status:503").json()["error"]["code"], 503);
    let memory = streamed(server.addr, "oom");
    assert_eq!(memory.status, 500);
    assert!(memory.json()["error"]["message"].as_str().unwrap().starts_with("CUDA out of memory"));
    let page = streamed(server.addr, "html");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let request = post("/v1/messages", &header("429"), &chat(1, ""));
    assert_eq!(ask(server.addr, &request).json()["error"]["type"], "rate_limit_error");
}

#[test]
fn hangs() {
    let server = server();
    let nothing = streamed(server.addr, "hang");
    assert_eq!((nothing.raw.len(), nothing.after), (0, After::Silent));
    let head = streamed(server.addr, "hang-head");
    assert_eq!((head.status, &*head.body, head.after), (200, "", After::Silent));
    assert_eq!(whole(server.addr, "hang-head").after, After::Silent);
}

#[test]
fn cuts_come_at_the_byte() {
    let server = server();
    for bytes in [0, 1, 150, 700] {
        let reset = streamed(server.addr, &format!("rst:{bytes}"));
        assert_eq!((reset.raw.len(), reset.after), (bytes, After::Reset));
        let closed = whole(server.addr, &format!("fin:{bytes}"));
        assert_eq!((closed.raw.len(), closed.after), (bytes.min(closed.raw.len()), After::Closed));
    }
    assert_eq!(counts(server.addr)["faulted"], 8);
    assert_eq!(counts(server.addr)["completed"], 0);
}

#[test]
fn a_cut_beyond_the_end_never_comes() {
    let server = server();
    assert_eq!(streamed(server.addr, "rst:1000000").after, After::Open);
    assert_eq!(counts(server.addr)["completed"], 1);
}

#[test]
fn stall_is_silence_after_events() {
    let server = server();
    let stalled = streamed(server.addr, "stall:3");
    assert_eq!(stalled.after, After::Silent);
    assert_eq!(stalled.body.matches("data: ").count(), 3);
    let half = whole(server.addr, "stall");
    assert_eq!((half.status, half.after), (200, After::Silent));
    assert!(half.body.len() < half.header("content-length").unwrap().parse().unwrap());
}

#[test]
fn truncate_is_a_clean_end_too_early() {
    let server = server();
    let cut = streamed(server.addr, "truncate:4");
    assert_eq!((cut.after, cut.data().len()), (After::Open, 4));
    assert!(!cut.body.contains("[DONE]"));
    assert_eq!(whole(server.addr, "truncate").after, After::Closed);
    assert_eq!(counts(server.addr)["faulted"], 2);
}

#[test]
fn malformed_breaks_one_event() {
    let server = server();
    let broken = streamed(server.addr, "malformed:2");
    let readable = broken.events().len();
    assert_eq!(broken.data().len(), TOKENS as usize + 3);
    assert_eq!(readable, TOKENS as usize + 1, "all but the broken one and [DONE]");
    let body = whole(server.addr, "malformed");
    assert!(serde_json::from_str::<serde_json::Value>(&body.body).is_err());
}

#[test]
fn error_comes_behind_a_200() {
    let server = server();
    let dead = streamed(server.addr, "error:3");
    let data = dead.data();
    assert_eq!((dead.status, dead.after, data.len()), (200, After::Open, 5));
    assert!(data[3].starts_with(r#"{"error": {"message": "EngineCore encountered an issue."#));
    assert_eq!(data[4], "[DONE]");
    assert_eq!(whole(server.addr, "error").json()["error"]["code"], 500);
    let request = post("/v1/messages", &header("error:3"), &chat(9, r#","stream":true"#));
    assert!(ask(server.addr, &request).body.contains("event: error\ndata: {\"type\":\"error\""));
}

#[test]
fn slow_takes_its_time() {
    let server = start(paced());
    let begun = Instant::now();
    let mut client = Client::connect(server.addr);
    client.send(&stream(20, &header("slow:5")));
    assert_eq!(client.answer(3 * SECOND).after, After::Open);
    // The first token, then 19 that wait for five steps of 2 ms each.
    assert!(begun.elapsed() >= Duration::from_millis(2 + 19 * 5 * 2));
}

#[test]
fn nofinish_leaves_the_reason_out() {
    let server = server();
    let answer = streamed(server.addr, "nofinish");
    assert!(!answer.body.contains("\"length\"") && !answer.body.contains("\"stop\""));
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
    assert!(whole(server.addr, "nofinish").json()["choices"][0]["finish_reason"].is_null());
}

#[test]
fn loop_repeats_a_phrase() {
    let server = server();
    let request = post(
        "/v1/completions",
        &header("loop:2"),
        r#"{"model":"mock-model","prompt":"a","max_tokens":8}"#,
    );
    let text =
        ask(server.addr, &request).json()["choices"][0]["text"].as_str().unwrap().to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, [&words[..2]; 4].concat());
}

#[test]
fn bodies_without_an_end_of_their_own() {
    let server = server();
    let until_close = streamed(server.addr, "eof");
    assert_eq!(until_close.after, After::Closed);
    assert_eq!(until_close.header("transfer-encoding"), None);
    assert_eq!(until_close.data().last(), Some(&"[DONE]"));
    let body = whole(server.addr, "eof");
    assert_eq!((body.after, body.header("content-length")), (After::Closed, None));
    assert_eq!(body.json()["usage"]["completion_tokens"], TOKENS);
    assert_eq!(counts(server.addr)["completed"], 2);
}

#[test]
fn close_says_so_and_closes() {
    let server = server();
    let mut client = Client::connect(server.addr);
    client.send(&stream(TOKENS, &header("close")));
    let answer = client.answer(SECOND);
    assert_eq!((answer.after, answer.header("connection")), (After::Open, Some("close")));
    assert_eq!(client.answer(SECOND).after, After::Closed);
}

#[test]
fn interim_responses_come_first() {
    let server = server();
    let mut client = Client::connect(server.addr);
    client.send(&stream(TOKENS, &header("interim:3")));
    let statuses: Vec<u16> = (0..4).map(|_| client.answer(SECOND).status).collect();
    assert_eq!(statuses, [102, 103, 102, 200]);
}

#[test]
fn split_changes_no_byte() {
    let server = server();
    let split = streamed(server.addr, "split;nofinish");
    let normal = streamed(server.addr, "nofinish");
    let texts = |answer: &Answer| -> Vec<String> {
        answer.events().iter().map(|event| event["choices"].to_string()).collect()
    };
    assert_eq!(texts(&split), texts(&normal));
    assert_eq!(split.after, After::Open);
}

#[test]
fn delay_comes_before_everything() {
    let server = server();
    let begun = Instant::now();
    let mut client = Client::connect(server.addr);
    client.send(&stream(TOKENS, &header("delay:50;429")));
    assert_eq!(client.answer(SECOND).status, 429);
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[test]
fn an_unknown_fault_is_an_error() {
    let server = server();
    assert_eq!(streamed(server.addr, "explode").status, 400);
}

#[test]
fn a_default_fault_strikes_as_often_as_it_is_told() {
    let server = start(ServerConfig { seed: 3, ..instant() });
    let set = |body: &str| ask(server.addr, &post("/sim/fault", "", body)).status;
    let status = || ask(server.addr, &stream(1, "")).status;
    assert_eq!(set(r#"{"fault":"status:500","times":2}"#), 200);
    assert_eq!([status(), status(), status()], [500, 500, 200]);
    assert_eq!(set(r#"{"fault":"status:502","probability":0.3}"#), 200);
    let struck = (0..100).filter(|_| status() == 502).count();
    assert!((15..45).contains(&struck), "{struck}");
    assert_eq!(get(server.addr, "/health").status, 200);
    assert_eq!(set(r#"{"fault":"status:503","all":true}"#), 200);
    assert_eq!(get(server.addr, "/health").status, 503);
    assert_eq!(set(r#"{"fault":"bang"}"#), 400);
    assert_eq!(set(r#"{"fault":""}"#), 200);
    assert_eq!((status(), get(server.addr, "/health").status), (200, 200));
}
