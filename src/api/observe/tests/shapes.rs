use super::{one, usage, watch};
use crate::api::observe::{EventError, Flaw, Observer, Seen, judge_unary, observe_unary};
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};

#[test]
fn the_usage_only_event_has_no_choices_and_a_usage() {
    let usage_only = |data| one(Operation::Chat, data).0.usage_only;
    assert!(usage_only(r#"{"choices":[],"usage":{}}"#));
    assert!(usage_only(r#"{ "usage" : {"prompt_tokens":1} , "choices" : [ ] }"#));
    assert!(!usage_only(r#"{"choices":[],"usage":null}"#));
    assert!(!usage_only(r#"{"choices":[],"prompt_filter_results":[]}"#));
    assert!(!usage_only(r#"{"usage":{"prompt_tokens":1}}"#));
    assert!(!usage_only(r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#));
    assert!(!usage_only(r#"{"choices":[],"usage":{"prompt_tokens":1},"error":{"code":500}}"#));
}

#[test]
fn errors_are_found_in_all_their_shapes() {
    for (op, event, status, message) in [
        (
            Operation::Chat,
            r#"data: {"error":{"message":"slow down","type":"rate_limit_error"}}"#,
            Some(429),
            "slow down",
        ),
        (Operation::Chat, r#"data: {"error":"just text"}"#, None, "just text"),
        (
            Operation::Chat,
            concat!(
                r#"data: {"id":"x","choices":[{"delta":{"content":"a"},"#,
                r#""finish_reason":"error"}],"error":{"code":"502","message":"m"}}"#,
            ),
            Some(502),
            "m",
        ),
        (
            Operation::Completions,
            r#"data: {"object":"error","message":"old vLLM","code":400}"#,
            None,
            "old vLLM",
        ),
        (Operation::Chat, "event: error\n: engine lost", None, "engine lost"),
        (Operation::Chat, "event: error\ndata: engine lost", None, "engine lost"),
        (
            Operation::Chat,
            r#"error: {"code":400,"message":"too long","type":"invalid_request_error"}"#,
            Some(400),
            "too long",
        ),
        (
            Operation::Messages,
            concat!(
                "event: error\ndata: ",
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#
            ),
            Some(529),
            "Overloaded",
        ),
        (
            Operation::Responses,
            concat!(
                "event: error\ndata: ",
                r#"{"type":"error","code":"x","message":"flat","sequence_number":3}"#
            ),
            None,
            "flat",
        ),
        (
            Operation::Responses,
            concat!(
                "event: response.failed\ndata: ",
                r#"{"type":"response.failed","response":{"status":"failed","#,
                r#""error":{"code":"server_error","message":"boom"}}}"#
            ),
            Some(500),
            "boom",
        ),
    ] {
        let watched = watch(op, format!("{event}\n\n").as_bytes());
        let error = watched.seen[0].error.clone().unwrap_or_else(|| panic!("{event}"));
        assert_eq!((error.status, &*error.message), (status, message), "{event}");
        assert!(!watched.seen[0].malformed, "{event}");
    }
    for none in ["null", "false", "0", "\"\"", "{}", "[]"] {
        let (seen, _) = one(Operation::Chat, &format!(r#"{{"error":{none},"choices":[]}}"#));
        assert_eq!(seen, Seen::default(), "{none}");
    }
}

#[test]
fn content_is_told_from_what_only_looks_like_it() {
    for (content, delta) in [
        (true, r#"{"content":"x"}"#),
        (true, r#"{"content":" "}"#),
        (true, r#"{ "content" : "\"" }"#),
        (true, r#"{"content":"\"finish_reason\":\"stop\",\"usage\":{},\"error\":{}"}"#),
        (true, r#"{"content":"error"}"#),
        (true, r#"{"content":"usage"}"#),
        (true, r#"{"content":null,"reasoning_content":"x"}"#),
        (true, r#"{"content":"","reasoning":"x"}"#),
        (true, r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}"#),
        (true, r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#),
        (true, r#"{"refusal":"no"}"#),
        (true, r#"{"content":[{"type":"text","text":"x"}]}"#),
        (false, r#"{"role":"assistant","content":""}"#),
        (false, r#"{"role":"assistant","content":null}"#),
        (false, r#"{"role":"content","tool_calls":[],"reasoning":null}"#),
        (false, r#"{}"#),
        (false, "null"),
    ] {
        let event =
            format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
        let (seen, observer) = one(Operation::Chat, &event);
        assert_eq!(seen, Seen { content, ..Seen::default() }, "{delta}");
        assert_eq!(observer.output_events(), u64::from(content));
        assert_eq!((observer.finish(), observer.usage()), (None, Usage::default()), "{delta}");
    }
}

#[test]
fn odd_values_are_unknown_and_cost_nothing_else() {
    let (_, observer) = one(
        Operation::Chat,
        concat!(
            r#"{"choices":[{"finish_reason":7}],"usage":{"prompt_tokens":"9","#,
            r#""completion_tokens":5.0,"prompt_tokens_details":{"cached_tokens":null}}}"#,
        ),
    );
    assert_eq!(observer.usage(), Usage { output: Some(5), ..Usage::default() });
    assert_eq!(observer.finish(), None);
    let (_, observer) = one(
        Operation::Chat,
        r#"{"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1e300}}"#,
    );
    assert!(observer.usage().is_unknown());
    let (seen, _) = one(Operation::Chat, r#"{"choices":[],"choices":[]}"#);
    assert!(!seen.malformed, "a doubled key is JSON");
}

#[test]
fn later_counts_stand_and_unknown_ones_do_not_erase() {
    let stream = concat!(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"completion_tokens\":4}}\n\n",
        "data: {\"choices\":[],\"usage\":null}\n\n",
    );
    let watched = watch(Operation::Chat, stream.as_bytes());
    assert_eq!(watched.observer.usage(), usage(9, 4, None));
}

#[test]
fn anthropics_input_is_the_sum_of_its_parts() {
    let body = br#"{"type":"message","stop_reason":"tool_use","usage":{"input_tokens":5,
        "cache_read_input_tokens":70,"cache_creation_input_tokens":20,"output_tokens":3}}"#;
    let (usage, finish) = observe_unary(Operation::Messages, body);
    let expected = Usage {
        input: Some(95),
        output: Some(3),
        cached: Some(70),
        cache_write: Some(20),
        reasoning: None,
    };
    assert_eq!((usage, finish), (expected, Some(Finish::ToolCalls)));
}

#[test]
fn malformed_events_are_told() {
    for data in ["{\"choices\":[", "hello", "[1]", "", "{\"choices\":[]}x", "{'a':1}"] {
        for op in [Operation::Chat, Operation::Messages, Operation::Responses] {
            let (seen, _) = one(op, data);
            assert_eq!(seen, Seen { malformed: true, ..Seen::default() }, "{data}");
        }
    }
}

#[test]
fn events_without_data_are_nothing() {
    for event in ["\n", ": ping\n\n", "event: ping\n\n", "id: 7\n\n", "retry: 10\n\n", "\r\n\r\n"] {
        let mut observer = Observer::new(Operation::Chat);
        assert_eq!(observer.event(event.as_bytes()), Seen::default(), "{event:?}");
        assert_eq!(observer.events(), 0);
    }
}

#[test]
fn data_in_several_lines_is_one_text() {
    let stream = b"data: {\"choices\":[],\"usage\"\ndata: :{\"prompt_tokens\":3}\ndata: }\n\n";
    let watched = watch(Operation::Chat, stream);
    assert!(watched.seen[0].usage_only);
    assert_eq!(watched.observer.usage().input, Some(3));
}

#[test]
fn an_event_of_a_mebibyte_is_seen() {
    let text = "x".repeat(1 << 20);
    let end = r#""usage":{"prompt_tokens":4,"completion_tokens":2}"#;
    let event = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},{}}}],{end}}}\n\n",
        r#""finish_reason":"stop""#
    );
    let watched = watch(Operation::Chat, event.as_bytes());
    assert!(watched.seen[0].content);
    assert_eq!(watched.observer.output_events(), 1);
    assert_eq!(watched.observer.usage(), usage(4, 2, None));
    assert_eq!(watched.observer.finish(), Some(Finish::Stop));
}

#[test]
fn a_response_of_a_mebibyte_ends_its_stream_with_its_events_name_or_without() {
    let text = "x".repeat(1 << 20);
    let data = format!(
        "data: {{ \"type\" : \"response.completed\",\"response\":{{\"output\":\"{text}\",\
         \"usage\":{{\"input_tokens\":4,\"output_tokens\":2}}}}}}\n\n"
    );
    for event in [format!("event: response.completed\n{data}"), data] {
        let observer = watch(Operation::Responses, event.as_bytes()).observer;
        assert!(observer.terminal());
        assert_eq!(observer.finish(), Some(Finish::Stop));
        assert_eq!(observer.usage(), usage(4, 2, None));
    }
    let other = format!("data: {{\"type\":\"response.created\",\"x\":\"{text}\"}}\n\n");
    assert!(!watch(Operation::Responses, other.as_bytes()).observer.terminal());
}

#[test]
fn whole_answers_tell_usage_and_finish() {
    let cases: [(Operation, &str, Usage, Option<Finish>); 9] = [
        (
            Operation::Chat,
            concat!(
                r#"{"choices":[{"message":{"content":"\"usage\":{"},"finish_reason":"stop"}],"#,
                r#""usage":{"prompt_tokens":9,"completion_tokens":2,"#,
                r#""prompt_tokens_details":{"cached_tokens":8},"#,
                r#""completion_tokens_details":{"reasoning_tokens":1}}}"#,
            ),
            Usage { reasoning: Some(1), ..usage(9, 2, Some(8)) },
            Some(Finish::Stop),
        ),
        (
            Operation::Completions,
            concat!(
                r#"{"choices":[{"text":"a","finish_reason":"length"},{"text":"b","#,
                r#""finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
            ),
            usage(9, 2, None),
            Some(Finish::Stop),
        ),
        (
            Operation::Embeddings,
            r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":9,"total_tokens":9}}"#,
            Usage { input: Some(9), ..Usage::default() },
            None,
        ),
        (
            Operation::Rerank,
            r#"{"usage":{"total_tokens":12},"results":[]}"#,
            Usage { input: Some(12), ..Usage::default() },
            None,
        ),
        (
            Operation::Responses,
            concat!(
                r#"{"status":"completed","#,
                r#""output":[{"type":"reasoning"},{"type":"function_call"}],"#,
                r#""usage":{"input_tokens":9,"output_tokens":2,"#,
                r#""input_tokens_details":{"cached_tokens":4}}}"#,
            ),
            usage(9, 2, Some(4)),
            Some(Finish::ToolCalls),
        ),
        (
            Operation::Responses,
            r#"{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}"#,
            Usage::default(),
            Some(Finish::ContentFilter),
        ),
        (Operation::CountTokens, r#"{"input_tokens":9}"#, Usage::default(), None),
        (Operation::Chat, r#"{"error":{"message":"x"}}"#, Usage::default(), None),
        (Operation::Chat, "<html>", Usage::default(), None),
    ];
    for (op, body, usage, finish) in cases {
        assert_eq!(observe_unary(op, body.as_bytes()), (usage, finish), "{body}");
    }
}

#[test]
fn what_stands_in_the_place_of_an_answer_is_none() {
    use Operation::{Chat, Completions, CountTokens, Embeddings, Messages, Rerank, Responses};
    let flaw = |op, body: &str| judge_unary(op, body.as_bytes()).err();
    for op in [Chat, Completions, Embeddings, Rerank, Responses, Messages, CountTokens] {
        for body in ["", " ", "hello", r#"{"choices":[{"index":0"#] {
            assert_eq!(flaw(op, body), Some(Flaw::NotJson), "{op:?} {body:?}");
        }
    }
    let said = |status| Some(Flaw::Error(EventError { status, message: "no".into() }));
    for op in [Chat, Completions, Embeddings, Rerank, Responses, CountTokens] {
        assert_eq!(flaw(op, r#"{"error":{"message":"no","code":503}}"#), said(Some(503)), "{op:?}");
        assert_eq!(flaw(op, r#"{"error":null,"status":"completed"}"#), None, "{op:?}");
    }
    let messages = r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#;
    assert_eq!(flaw(Messages, messages), said(Some(529)));
    // These are answers.
    assert_eq!(flaw(Responses, r#"{"status":"failed","error":{"message":"no"}}"#), None);
    assert_eq!(flaw(Rerank, r#"[{"index":0,"score":1}]"#), None);
    assert_eq!(flaw(Chat, r#"{"choices":[]}"#), None);
}

#[test]
fn the_end_of_an_answer_is_enough() {
    let body =
        br#"tent":"it said \"usage\": {\"prompt_tokens\": 1}"},"finish_reason":"tool_calls"}],
        "usage" : {"prompt_tokens":9,"completion_tokens":2},"x":[1,2]}"#;
    let expected = (usage(9, 2, None), Some(Finish::ToolCalls));
    assert_eq!(observe_unary(Operation::Chat, body), expected);
    let long =
        format!("{{\"data\":[{}1],\"usage\":{{\"prompt_tokens\":5}}}}", "0.5,".repeat(50_000));
    let (usage, _) = observe_unary(Operation::Embeddings, long.as_bytes());
    assert_eq!(usage.input, Some(5));
}
