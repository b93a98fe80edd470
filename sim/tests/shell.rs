//! The server over real sockets: HTTP, limits, errors, and clients that leave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{
    After, Client, ask, chat, counts, get, instant, paced, post, slow_prefill, start, stream,
    wait_for,
};
use serde_json::Value;
use sluice_sim::server::ServerConfig;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_connection_carries_many_requests() {
    let server = start(instant());
    let mut client = Client::connect(server.addr);
    for round in 0..50 {
        client.send(&stream(3, ""));
        let answer = client.answer(SECOND);
        assert_eq!((answer.status, answer.after), (200, After::Open), "round {round}");
        client.send(&post("/v1/chat/completions", "x-request-id: abc\r\n", &chat(3, "")));
        let answer = client.answer(SECOND);
        assert_eq!(answer.json()["id"], "chatcmpl-abc");
        assert_eq!(answer.header("x-request-id"), Some("abc"));
    }
    let counts = counts(server.addr);
    assert_eq!(counts["connections_total"], 2);
    assert_eq!(counts["requests"]["chat"], 100);
    assert_eq!(counts["completed"], 100);
    assert_eq!(counts["completion_tokens"], 300);
    assert_eq!(counts["prompt_tokens"], 500);
    server.stop().unwrap();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(instant());
    let mut client = Client::connect(server.addr);
    let requests: String = (0..20)
        .map(|at| post("/v1/chat/completions", &format!("x-request-id: r{at}\r\n"), &chat(2, "")))
        .collect();
    client.send(&requests);
    for at in 0..20 {
        assert_eq!(client.answer(SECOND).json()["id"], format!("chatcmpl-r{at}"));
    }
}

#[test]
fn bodies_come_in_chunks_and_byte_by_byte() {
    let server = start(instant());
    let body = chat(2, "");
    let (a, b) = body.split_at(20);
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{a}\r\n{:x};ext=1\r\n{b}\r\n0\r\ntrailer: x\r\n\r\n",
        a.len(),
        b.len()
    );
    let mut client = Client::connect(server.addr);
    for byte in chunked.chars() {
        client.send(byte.encode_utf8(&mut [0; 4]));
    }
    assert_eq!(client.answer(SECOND).status, 200);
    client.send(&post("/v1/chat/completions", "", &body));
    assert_eq!(client.answer(SECOND).status, 200);
}

#[test]
fn a_client_that_expects_continue_gets_it() {
    let server = start(instant());
    let mut client = Client::connect(server.addr);
    let request = post("/v1/chat/completions", "expect: 100-continue\r\n", &chat(2, ""));
    let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
    client.send(head);
    assert_eq!(client.answer(SECOND).status, 100);
    client.send(body);
    assert_eq!(client.answer(SECOND).status, 200);
}

#[test]
fn an_idle_connection_is_closed() {
    let keep_alive = Duration::from_millis(60);
    let server = start(ServerConfig { keep_alive, ..instant() });
    let mut client = Client::connect(server.addr);
    client.send(&stream(1, ""));
    assert_eq!(client.answer(SECOND).after, After::Open);
    let begun = Instant::now();
    assert_eq!(client.answer(SECOND).after, After::Closed);
    assert!(begun.elapsed() >= keep_alive - Duration::from_millis(5));
}

#[test]
fn the_head_comes_before_prefill_ends() {
    let server = start(slow_prefill());
    let mut client = Client::connect(server.addr);
    let text = "word ".repeat(50_000);
    let body = format!(
        r#"{{"model":"mock-model","messages":[{{"role":"user","content":"{text}"}}],"max_tokens":1,"stream":true}}"#
    );
    client.send(&post("/v1/chat/completions", "", &body));
    let early = client.answer(Duration::from_millis(250));
    assert_eq!((early.status, early.after), (200, After::Silent));
    assert_eq!(early.body, "");
}

#[test]
fn errors_have_vllms_shape() {
    let server = start(ServerConfig { context_tokens_max: 100, ..instant() });
    let ask = |body: &str| ask(server.addr, &post("/v1/chat/completions", "", body));
    let long = chat(1, "").replace("hello there", &"word ".repeat(200));
    for (body, status, param) in [
        ("{", 400, Value::Null),
        (r#"{"messages":[]}"#, 400, "model".into()),
        (&chat(1, "").replace("mock-model", "other"), 404, "model".into()),
        (&chat(0, ""), 400, "max_tokens".into()),
        (&chat(1, r#","n":0"#), 400, "n".into()),
        (&chat(1, r#","n":"2""#), 400, Value::Null),
        (&chat(1_000, ""), 400, "input_tokens".into()),
        (&long, 400, "input_tokens".into()),
    ] {
        let answer = ask(body);
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(error["code"], status);
        assert_eq!(error["param"], param, "{body}");
    }
    let error = common::ask(server.addr, &post("/v1/messages", "", "{}"));
    assert_eq!(
        (error.status, &error.json()["error"]["type"]),
        (400, &"invalid_request_error".into())
    );
    assert_eq!(get(server.addr, "/nowhere").status, 404);
    let wrong = get(server.addr, "/v1/chat/completions");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(counts(server.addr)["errors"], 9);
}

#[test]
fn what_is_no_request_is_refused() {
    let server = start(instant());
    let answer = ask(server.addr, "hello\r\n\r\n");
    assert_eq!(answer.status, 400);
    let answer = ask(server.addr, "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n");
    assert_eq!(answer.status, 400);
    let huge = "POST / HTTP/1.1\r\nhost: sim\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(ask(server.addr, huge).status, 413);
}

#[test]
fn http_1_0_gets_a_body_that_ends_with_the_connection() {
    let server = start(instant());
    let answer = ask(server.addr, &stream(2, "").replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(answer.after, After::Closed);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
}

#[test]
fn token_limits_and_the_models_own_end() {
    let server = start(ServerConfig { eos_tokens: Some(10), ..instant() });
    let end = |rest: &str| {
        let body = format!(r#"{{"model":"mock-model","prompt":"a"{rest}}}"#);
        let whole = ask(server.addr, &post("/v1/completions", "", &body)).json();
        let finish = whole["choices"][0]["finish_reason"].as_str().unwrap().to_string();
        (whole["usage"]["completion_tokens"].as_u64().unwrap(), finish)
    };
    assert_eq!(end(""), (10, "stop".into()));
    assert_eq!(end(r#","max_tokens":5"#), (5, "length".into()));
    assert_eq!(end(r#","max_tokens":20"#), (10, "stop".into()));
    assert_eq!(end(r#","max_tokens":20,"min_tokens":15"#), (15, "stop".into()));
    assert_eq!(end(r#","max_tokens":20,"ignore_eos":true"#), (20, "length".into()));
}

#[test]
fn a_client_that_leaves_is_noticed_at_once_in_every_phase() {
    let server = start(slow_prefill());
    let long = chat(5_000, r#","stream":true"#).replace("hello", &"word ".repeat(40_000));
    let prefill = post("/v1/chat/completions", "x-request-id: p\r\n", &long);
    let unary = post("/v1/chat/completions", "x-request-id: u\r\n", &chat(5_000, ""));
    let silent = stream(5_000, "x-request-id: s\r\nx-sim-fault: hang-head\r\n");
    let flowing = stream(5_000, "x-request-id: d\r\n");
    for (request, phase) in
        [(flowing, "decode"), (unary, "decode"), (silent, "fault"), (prefill, "prefill")]
    {
        let mut client = Client::connect(server.addr);
        client.send(&request);
        // A large body takes a moment to be read.
        client.answer(Duration::from_millis(250));
        let before = counts(server.addr)["aborted"].as_u64().unwrap();
        let left = std::time::SystemTime::now();
        drop(client);
        let after = wait_for(server.addr, |counts| counts["aborted"] != before);
        assert_eq!(after["aborted"], before + 1, "{phase}");
        let aborts = get(server.addr, "/sim/aborts").json();
        let last = aborts.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["phase"], phase);
        let left = left.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i128;
        let late = i128::from(last["unix_ns"].as_u64().unwrap()) - left;
        assert!((0..250_000_000).contains(&late), "{phase}: {late} ns");
    }
    let counts = counts(server.addr);
    assert_eq!(counts["completed"], 0);
    let page = get(server.addr, "/metrics").body;
    assert!(page.contains("num_requests_running{engine=\"0\",model_name=\"mock-model\"} 0.0"));
    assert!(page.contains("kv_cache_usage_perc{engine=\"0\",model_name=\"mock-model\"} 0.0"));
}

#[test]
fn a_half_closed_client_is_gone() {
    let server = start(paced());
    let mut client = Client::connect(server.addr);
    client.send(&stream(5_000, ""));
    client.answer(Duration::from_millis(200));
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    let counts = wait_for(server.addr, |counts| counts["aborted"] == 1);
    assert_eq!(counts["aborted_decode"], 1);
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let server = start(instant());
    let mut client = Client::connect(server.addr);
    client.send(&stream(40_000, ""));
    std::thread::sleep(Duration::from_millis(300));
    let answer = client.answer(3 * SECOND);
    assert_eq!(answer.after, After::Open);
    assert_eq!(answer.events().last().unwrap()["usage"]["completion_tokens"], 40_000);
    assert_eq!(wait_for(server.addr, |counts| counts["completed"] == 1)["completed"], 1);
}

#[test]
fn many_streams_at_once_are_all_whole() {
    let server = start(paced());
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.addr)).collect();
    clients.iter_mut().for_each(|client| client.send(&stream(50, "")));
    for client in &mut clients {
        let answer = client.answer(3 * SECOND);
        assert_eq!(answer.events().last().unwrap()["usage"]["completion_tokens"], 50);
    }
    let counts = counts(server.addr);
    assert_eq!((&counts["completed"], &counts["aborted"]), (&100.into(), &0.into()));
}

#[test]
fn counts_reset_and_the_cache_too() {
    let server = start(instant());
    ask(server.addr, &stream(2, ""));
    ask(server.addr, &post("/sim/reset", "", ""));
    let counts = counts(server.addr);
    assert_eq!((&counts["completed"], &counts["connections_open"]), (&0.into(), &1.into()));
    assert_eq!(ask(server.addr, &post("/reset_prefix_cache", "", "")).status, 200);
}
