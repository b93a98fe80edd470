//! What answers and metrics say. How they look is held against real servers in `recorded.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{Answer, ask, chat, get, instant, post, start};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn answer(path: &str, body: &str) -> Answer {
    let server = start(instant());
    ask(server.addr, &post(path, "", body))
}

#[test]
fn the_metrics_count() {
    let server = start(instant());
    for _ in 0..3 {
        ask(server.addr, &post("/v1/chat/completions", "", &chat(5, "")));
    }
    let page = get(server.addr, "/metrics").body;
    let value = |series: &str| {
        let line = page.lines().find(|line| line.starts_with(series)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("vllm:prompt_tokens_total"), 15.0);
    assert_eq!(value("vllm:generation_tokens_total"), 15.0);
    assert_eq!(value("vllm:time_to_first_token_seconds_count"), 3.0);
    assert_eq!(value("vllm:inter_token_latency_seconds_count"), 12.0);
    let length = "vllm:request_success_total{engine=\"0\",finished_reason=\"length\"";
    assert_eq!(value(length), 3.0);
}

#[test]
fn streams_and_whole_answers_say_the_same() {
    let server = start(instant());
    let whole = ask(server.addr, &post("/v1/chat/completions", "", &chat(300, ""))).json();
    let streamed = chat(300, r#","stream":true,"stream_options":{"include_usage":true}"#);
    let streamed = ask(server.addr, &post("/v1/chat/completions", "", &streamed));
    let text: String = streamed
        .events()
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(String::from))
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(whole["usage"]["completion_tokens"], 300);
    assert_eq!(streamed.events().last().unwrap()["usage"]["completion_tokens"], 300);
    assert_eq!(streamed.data().last(), Some(&"[DONE]"));
}

#[test]
fn usage_is_given_only_where_it_was_asked_for() {
    let streamed = answer("/v1/chat/completions", &chat(3, r#","stream":true"#));
    assert!(!streamed.body.contains("usage"));
    assert_eq!(streamed.data().len(), 5, "role, three tokens, [DONE]");
}

#[test]
fn several_choices_differ_and_share_their_prompt() {
    let whole = answer("/v1/chat/completions", &chat(20, r#","n":3"#)).json();
    let texts: BTreeSet<&str> =
        (0..3).map(|at| whole["choices"][at]["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 3);
    assert_eq!(whole["usage"]["completion_tokens"], 60);
    assert_eq!(whole["usage"]["prompt_tokens"], 5);
    let streamed = answer("/v1/chat/completions", &chat(4, r#","n":2,"stream":true"#));
    let indices: Vec<u64> = streamed
        .events()
        .iter()
        .map(|event| event["choices"][0]["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_continued_answer_goes_on_where_it_stopped() {
    let server = start(instant());
    let whole = ask(server.addr, &post("/v1/chat/completions", "", &chat(30, ""))).json();
    let whole = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let short = ask(server.addr, &post("/v1/chat/completions", "", &chat(12, ""))).json();
    let begun = short["choices"][0]["message"]["content"].as_str().unwrap();
    let messages = json!([
        {"role": "user", "content": "hello there"},
        {"role": "assistant", "content": begun}
    ]);
    // Another server with the same seed carries on.
    let other = start(instant());
    let body = json!({
        "model": "mock-model", "messages": messages, "max_tokens": 18,
        "continue_final_message": true, "add_generation_prompt": false
    });
    let rest = ask(other.addr, &post("/v1/chat/completions", "", &body.to_string())).json();
    let rest = rest["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(format!("{begun}{rest}"), whole);
}

#[test]
fn a_demanded_tool_is_called_in_every_api() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    let arguments = json!({"city": "river bank", "days": 7});
    let tool = json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]);
    let rest = format!(r#","tools":{tool},"tool_choice":"required""#);
    let whole = answer("/v1/chat/completions", &chat(100, &rest)).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    assert_eq!(
        serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap(),
        arguments
    );

    let streamed = answer("/v1/chat/completions", &chat(100, &format!(r#"{rest},"stream":true"#)));
    let deltas = streamed.events();
    let calls = deltas.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]);
    let text: String =
        calls.clone().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), arguments);
    assert_eq!(calls.filter(|call| call["function"]["name"] == "weather").count(), 1);

    let tool = json!([{"name": "weather", "input_schema": schema}]);
    let rest = format!(r#","tools":{tool},"tool_choice":{{"type":"tool","name":"weather"}}"#);
    let message = answer("/v1/messages", &chat(100, &rest)).json();
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(message["content"][0]["input"], arguments);

    let body = json!({
        "model": "mock-model", "input": "hi", "tool_choice": "required",
        "tools": [{"type": "function", "name": "weather", "parameters": schema}]
    });
    let response = answer("/v1/responses", &body.to_string()).json();
    assert_eq!(response["output"][0]["type"], "function_call");
    assert_eq!(response["status"], "completed");
}

#[test]
fn cached_tokens_are_reported() {
    let server = start(instant());
    let text = "word ".repeat(200);
    let body = json!({"model": "mock-model", "max_tokens": 1, "messages": [{"role": "user", "content": text}]});
    let ask = |path| ask(server.addr, &post(path, "", &body.to_string())).json();
    let cold = ask("/v1/chat/completions");
    assert_eq!(cold["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let warm = ask("/v1/chat/completions");
    // 200 words, the space after the last, and three of the template.
    assert_eq!(warm["usage"]["prompt_tokens"], 204);
    assert_eq!(warm["usage"]["prompt_tokens_details"]["cached_tokens"], 192);
    let message = ask("/v1/messages");
    assert_eq!(message["usage"]["cache_read_input_tokens"], 192);
    assert_eq!(message["usage"]["input_tokens"], 12);
}

#[test]
fn pooling_answers_have_their_shapes() {
    let body = r#"{"model":"mock-model","input":["a b","c"],"dimensions":4}"#;
    let embeddings = answer("/v1/embeddings", body).json();
    assert_eq!(embeddings["data"][1]["embedding"].as_array().unwrap().len(), 4);
    assert_eq!(embeddings["usage"]["prompt_tokens"], 3);
    let body = r#"{"model":"mock-model","query":"q","documents":["a","b",{"text":"c"}],"top_n":2}"#;
    let ranking = answer("/v1/rerank", body).json();
    let results = ranking["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert!(results[0]["relevance_score"].as_f64() >= results[1]["relevance_score"].as_f64());
}

#[test]
fn tokens_are_counted_alike_everywhere() {
    let server = start(instant());
    let body = chat(1, "");
    let json = |path| ask(server.addr, &post(path, "", &body)).json();
    let count = json("/tokenize")["count"].clone();
    assert_eq!(json("/v1/chat/completions")["usage"]["prompt_tokens"], count);
    assert_eq!(json("/v1/messages/count_tokens")["input_tokens"], count);
}
