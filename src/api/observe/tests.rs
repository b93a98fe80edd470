use std::path::PathBuf;

use proptest::prelude::*;

use super::{EventError, Observer, Seen, observe_unary};
use crate::api::Fault;
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};
use crate::sse::{EVENT_WHOLE_BYTES_MAX, Piece, Splitter};

fn recorded(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/streams").join(name);
    let mut stream = std::fs::read(&path).unwrap();
    if !stream.ends_with(b"\n\n") {
        stream.extend_from_slice(b"\n\n");
    }
    stream
}

/// Everything an observer said about a stream.
struct Watched {
    observer: Observer,
    seen: Vec<Seen>,
}

fn watch_in(op: Operation, stream: &[u8], cap: usize) -> Watched {
    let mut observer = Observer::new(op);
    let mut seen = Vec::new();
    let mut splitter = Splitter::new(cap);
    splitter.feed(stream, &mut |piece| {
        seen.push(match piece {
            Piece::Event(event) => observer.event(event),
            Piece::Part { bytes, last } => observer.part(bytes, last),
        });
    });
    Watched { observer, seen }
}

fn watch(op: Operation, stream: &[u8]) -> Watched {
    watch_in(op, stream, EVENT_WHOLE_BYTES_MAX)
}

/// One event with this data, as seen by a new observer.
fn one(op: Operation, data: &str) -> (Seen, Observer) {
    let mut watched = watch(op, format!("data: {data}\n\n").as_bytes());
    assert_eq!(watched.seen.len(), 1);
    (watched.seen.remove(0), watched.observer)
}

impl Watched {
    fn count(&self, is: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().filter(|seen| is(seen)).count()
    }
}

fn usage(input: u64, output: u64, cached: Option<u64>) -> Usage {
    Usage { input: Some(input), output: Some(output), cached, ..Usage::default() }
}

struct Expected {
    name: &'static str,
    op: Operation,
    output_events: u64,
    usage: Usage,
    finish: Option<Finish>,
    terminal: bool,
}

fn expectations() -> Vec<Expected> {
    use Operation::{Chat, Messages, Responses};
    let case = |name, op, output_events, usage, finish| Expected {
        name,
        op,
        output_events,
        usage,
        finish: Some(finish),
        terminal: true,
    };
    let wrote = |usage: Usage| Usage { cache_write: Some(0), ..usage };
    let thought = |usage: Usage, reasoning| Usage { reasoning: Some(reasoning), ..usage };
    let unfinished = |case: Expected| Expected { finish: None, ..case };
    let nothing = Usage::default();
    let (length, stop) = (Finish::Length, Finish::Stop);
    let (refused, tools) = (Finish::ContentFilter, Finish::ToolCalls);
    vec![
        case("dynamo-chat.sse", Chat, 32, usage(9, 32, Some(0)), length),
        case("llamacpp-chat.sse", Chat, 64, usage(9, 64, Some(0)), length),
        case("vllm-chat.sse", Chat, 64, wrote(usage(9, 64, Some(0))), length),
        case("vllm-chat-n2-logprobs.sse", Chat, 3, wrote(usage(9, 16, Some(0))), length),
        case("llamacpp-messages.sse", Messages, 16, usage(9, 16, Some(8)), length),
        case("vllm-messages.sse", Messages, 16, wrote(usage(9, 16, Some(0))), length),
        case("llamacpp-responses.sse", Responses, 16, usage(9, 16, Some(8)), stop),
        case("vllm-responses.sse", Responses, 16, thought(wrote(usage(9, 16, Some(0))), 0), length),
        unfinished(case(
            "vllm-0.32-enginecore-killed-midstream.sse",
            Chat,
            439,
            nothing,
            Finish::Other,
        )),
        Expected {
            terminal: false,
            ..unfinished(case(
                "llamacpp-kill9-midstream.truncated.sse",
                Chat,
                409,
                nothing,
                Finish::Other,
            ))
        },
        case(
            "anthropic/stream-a-refusal.sse",
            Messages,
            4,
            thought(wrote(usage(28, 106, Some(0))), 67),
            refused,
        ),
        case(
            "anthropic/stream-a-toolrefusal.sse",
            Messages,
            9,
            thought(wrote(usage(28, 106, Some(0))), 67),
            refused,
        ),
        case(
            "anthropic/stream-b-fallback.sse",
            Messages,
            15,
            thought(wrote(usage(31, 547, Some(0))), 0),
            stop,
        ),
        case("anthropic/basic_response.sse", Messages, 3, usage(11, 6, None), stop),
        case("anthropic/compaction_response.sse", Messages, 2, usage(30, 8, None), stop),
        case("anthropic/fallback_credit_response.sse", Messages, 1, usage(25, 8, None), stop),
        case("anthropic/fallback_response.sse", Messages, 1, usage(25, 8, None), stop),
        case("anthropic/refusal_response.sse", Messages, 0, usage(20, 0, None), refused),
        case(
            "anthropic/incomplete_partial_json_response.sse",
            Messages,
            9,
            wrote(usage(450, 124, Some(0))),
            length,
        ),
        case("anthropic/tool_use_response.sse", Messages, 7, wrote(usage(377, 65, Some(0))), tools),
    ]
}

#[test]
fn recorded_streams_tell_usage_and_finish() {
    for case in expectations() {
        let watched = watch(case.op, &recorded(case.name));
        let observer = &watched.observer;
        assert_eq!(observer.usage(), case.usage, "{}", case.name);
        assert_eq!(observer.finish(), case.finish, "{}", case.name);
        assert_eq!(observer.output_events(), case.output_events, "{}", case.name);
        assert_eq!(observer.terminal(), case.terminal, "{}", case.name);
        assert_eq!(watched.count(|seen| seen.malformed), 0, "{}", case.name);
        assert_eq!(watched.count(|seen| seen.terminal), usize::from(case.terminal));
    }
}

/// The quick looks say what the parse says: every event alone and parsed, against the stream.
#[test]
fn the_quick_looks_agree_with_the_parse() {
    for case in expectations() {
        let stream = recorded(case.name);
        let watched = watch(case.op, &stream);
        let mut parsed = Vec::new();
        let mut splitter = Splitter::new(EVENT_WHOLE_BYTES_MAX);
        splitter.feed(&stream, &mut |piece| {
            let Piece::Event(event) = piece else { panic!("small events") };
            parsed.push(Observer::new(case.op).look(event));
        });
        assert_eq!(watched.seen, parsed, "{}", case.name);
    }
}

/// Line ends do not change what is seen.
#[test]
fn crlf_streams_are_seen_alike() {
    for case in expectations() {
        let stream = recorded(case.name);
        let text = String::from_utf8(stream.clone()).unwrap().replace('\n', "\r\n");
        let (plain, crlf) = (watch(case.op, &stream), watch(case.op, text.as_bytes()));
        assert_eq!(plain.seen, crlf.seen, "{}", case.name);
    }
}

/// Events over the cap arrive in pieces; usage, finish and the end are found all the same.
#[test]
fn events_in_pieces_tell_the_same() {
    for case in expectations().into_iter().filter(|case| case.finish.is_some()) {
        let stream = recorded(case.name);
        let watched = watch_in(case.op, &stream, 120);
        assert_eq!(watched.observer.usage(), case.usage, "{}", case.name);
        assert_eq!(watched.observer.finish(), case.finish, "{}", case.name);
        assert_eq!(watched.observer.terminal(), case.terminal, "{}", case.name);
    }
}

#[test]
fn only_the_usage_only_event_is_one() {
    for name in ["vllm-chat.sse", "llamacpp-chat.sse", "dynamo-chat.sse"] {
        let watched = watch(Operation::Chat, &recorded(name));
        assert_eq!(watched.count(|seen| seen.usage_only), 1, "{name}");
        assert!(watched.seen[watched.seen.len() - 2].usage_only, "{name}");
    }
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
fn an_engine_that_died_behind_a_200_is_an_error() {
    let watched = watch(Operation::Chat, &recorded("vllm-0.32-enginecore-killed-midstream.sse"));
    let errors: Vec<&EventError> =
        watched.seen.iter().filter_map(|seen| seen.error.as_ref()).collect();
    let [error] = errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.status, Some(500));
    assert!(error.message.starts_with("EngineCore encountered an issue."));
    assert_eq!(error.clone().into_fault().status(), 500);
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
            r#"data: {"id":"x","choices":[{"delta":{"content":"a"},"finish_reason":"error"}],"error":{"code":"502","message":"m"}}"#,
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
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
            Some(529),
            "Overloaded",
        ),
        (
            Operation::Responses,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"x\",\"message\":\"flat\",\"sequence_number\":3}",
            None,
            "flat",
        ),
        (
            Operation::Responses,
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"boom\"}}}",
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
fn a_refused_credential_of_ours_is_not_the_clients() {
    let error = EventError { status: Some(401), message: "bad key".into() };
    let expected = Fault::UpstreamReported { status: 502, message: "bad key".into() };
    assert_eq!(error.into_fault(), expected);
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
        r#"{"choices":[{"finish_reason":7}],"usage":{"prompt_tokens":"9","completion_tokens":5.0,"prompt_tokens_details":{"cached_tokens":null}}}"#,
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
    let event = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":4,\"completion_tokens\":2}}}}\n\n"
    );
    let watched = watch(Operation::Chat, event.as_bytes());
    assert!(watched.seen[0].content);
    assert_eq!(watched.observer.output_events(), 1);
    assert_eq!(watched.observer.usage(), usage(4, 2, None));
    assert_eq!(watched.observer.finish(), Some(Finish::Stop));
}

#[test]
fn whole_answers_tell_usage_and_finish() {
    let cases: [(Operation, &str, Usage, Option<Finish>); 9] = [
        (
            Operation::Chat,
            r#"{"choices":[{"message":{"content":"\"usage\":{"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
            Usage { reasoning: Some(1), ..usage(9, 2, Some(8)) },
            Some(Finish::Stop),
        ),
        (
            Operation::Completions,
            r#"{"choices":[{"text":"a","finish_reason":"length"},{"text":"b","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
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
            r#"{"status":"completed","output":[{"type":"reasoning"},{"type":"function_call"}],"usage":{"input_tokens":9,"output_tokens":2,"input_tokens_details":{"cached_tokens":4}}}"#,
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

/// Pieces that streams are made of, right and wrong.
fn debris() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "data: ",
        "data:",
        "event: error",
        "event: content_block_delta",
        "event: response.x.delta",
        "\n",
        "\n\n",
        "\r\n",
        "[DONE]",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\\"",
        "\"usage\"",
        "\"error\"",
        "\"choices\"",
        "\"finish_reason\"",
        "\"stop\"",
        "\"content\"",
        "\"delta\"",
        "\"text\"",
        "null",
        "\"x\"",
        "5",
        "-1",
        "\u{e9}",
        "error: ",
        ": c",
        "\"type\"",
        "\"message_stop\"",
        "\"response.completed\"",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"bc\\\\\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"\"},\"finish_reason\":\"stop\"}]}\n\n",
    ]);
    let words = prop::collection::vec(word, 0..40).prop_map(|words| words.concat().into_bytes());
    prop_oneof![4 => words, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// A content event around any text: what the quick looks must get right.
fn any_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "\"",
        "\\",
        "usage",
        "\"usage\":{",
        "\"finish_reason\":\"stop\"",
        "\"error\":1",
        "\n",
        "\r",
        "\u{2028}",
        " ",
        "a",
        "\u{1f600}",
        "}]}",
        "\"content\":\"",
        ":",
        "data: ",
    ]);
    prop::collection::vec(word, 0..6).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_stream_makes_it_panic(stream in debris(), cap in 1usize..200) {
        for op in Operation::ALL {
            let whole = watch(op, &stream);
            let pieces = watch_in(op, &stream, cap);
            prop_assert!(whole.seen.iter().all(|seen| !(seen.malformed && seen.content)));
            prop_assert!(pieces.seen.len() >= whole.seen.len());
            observe_unary(op, &stream);
        }
    }

    #[test]
    fn any_text_is_content_and_nothing_else(texts in prop::collection::vec(any_text(), 1..8)) {
        let mut observers = [Operation::Chat, Operation::Completions, Operation::Messages, Operation::Responses]
            .map(|op| (op, Observer::new(op)));
        for text in texts {
            let text_json = serde_json::to_string(&text).unwrap();
            for (op, observer) in &mut observers {
                let event = match op {
                    Operation::Chat => format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{text_json}}},\"finish_reason\":null}}],\"usage\":null}}\n\n"),
                    Operation::Completions => format!("data: {{\"choices\":[{{\"text\":{text_json},\"finish_reason\":null}}]}}\n\n"),
                    Operation::Messages => format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":{text_json}}}}}\n\n"),
                    _ => format!("event: response.output_text.delta\ndata: {{\"delta\":{text_json},\"type\":\"response.output_text.delta\"}}\n\n"),
                };
                let seen = observer.event(event.as_bytes());
                prop_assert_eq!(seen, Seen { content: !text.is_empty(), ..Seen::default() }, "{}", event);
            }
        }
        for (_, observer) in observers {
            prop_assert_eq!((observer.usage(), observer.finish(), observer.terminal()), (Usage::default(), None, false));
        }
    }
}
