use super::{stream_of, usage, watch, watch_in};
use crate::api::observe::{EventError, Observer};
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};
use crate::sse::{EVENT_WHOLE_BYTES_MAX, Piece, Splitter};

struct Expected {
    name: &'static str,
    op: Operation,
    output_events: u64,
    usage: Usage,
    finish: Option<Finish>,
    terminal: bool,
}

fn expectations() -> Vec<Expected> {
    use Operation::{Chat, Completions, Messages, Responses};
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
        // A usage for each of two choices.
        case("llamacpp-chat-n2.sse", Chat, 8, usage(30, 8, Some(0)), length),
        case("vllm-chat.sse", Chat, 64, wrote(usage(9, 64, Some(0))), length),
        case("vllm-chat-n2-logprobs.sse", Chat, 3, wrote(usage(9, 16, Some(0))), length),
        case("llamacpp-completions.sse", Completions, 8, usage(12, 8, Some(0)), length),
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
        case("anthropic/basic_response.txt", Messages, 3, usage(11, 6, None), stop),
        case("anthropic/compaction_response.txt", Messages, 2, usage(30, 8, None), stop),
        case("anthropic/fallback_credit_response.txt", Messages, 1, usage(25, 8, None), stop),
        case("anthropic/fallback_response.txt", Messages, 1, usage(25, 8, None), stop),
        case("anthropic/refusal_response.txt", Messages, 0, usage(20, 0, None), refused),
        case(
            "anthropic/incomplete_partial_json_response.txt",
            Messages,
            9,
            wrote(usage(450, 124, Some(0))),
            length,
        ),
        case("anthropic/tool_use_response.txt", Messages, 7, wrote(usage(377, 65, Some(0))), tools),
    ]
}

#[test]
fn recorded_streams_tell_usage_and_finish() {
    for case in expectations() {
        let watched = watch(case.op, &stream_of(case.name));
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
        let stream = stream_of(case.name);
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
        let stream = stream_of(case.name);
        let text = String::from_utf8(stream.clone()).unwrap().replace('\n', "\r\n");
        let (plain, crlf) = (watch(case.op, &stream), watch(case.op, text.as_bytes()));
        assert_eq!(plain.seen, crlf.seen, "{}", case.name);
    }
}

/// Events over the cap arrive in pieces; usage, finish and the end are found all the same.
#[test]
fn events_in_pieces_tell_the_same() {
    // Of several usages only those that come by themselves add up, which no piece can tell: they are small.
    let whole = |case: &Expected| case.finish.is_some() && case.name != "llamacpp-chat-n2.sse";
    for case in expectations().into_iter().filter(whole) {
        let stream = stream_of(case.name);
        let watched = watch_in(case.op, &stream, 120);
        assert_eq!(watched.observer.usage(), case.usage, "{}", case.name);
        assert_eq!(watched.observer.finish(), case.finish, "{}", case.name);
        assert_eq!(watched.observer.terminal(), case.terminal, "{}", case.name);
    }
}

#[test]
fn an_engine_that_died_behind_a_200_is_an_error() {
    let watched = watch(Operation::Chat, &stream_of("vllm-0.32-enginecore-killed-midstream.sse"));
    let errors: Vec<&EventError> =
        watched.seen.iter().filter_map(|seen| seen.error.as_deref()).collect();
    let [error] = errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.status, Some(500));
    assert!(error.message.starts_with("EngineCore encountered an issue."));
}

#[test]
fn only_the_usage_only_event_is_one() {
    for name in ["vllm-chat.sse", "llamacpp-chat.sse", "dynamo-chat.sse"] {
        let watched = watch(Operation::Chat, &stream_of(name));
        assert_eq!(watched.count(|seen| seen.usage_only), 1, "{name}");
        assert!(watched.seen[watched.seen.len() - 2].usage_only, "{name}");
    }
}
