use proptest::prelude::*;

use super::{watch, watch_in};
use crate::api::observe::{Observer, Seen, observe_unary};
use crate::api::operation::Operation;
use crate::api::usage::Usage;

const STREAMS: [Operation; 4] =
    [Operation::Chat, Operation::Completions, Operation::Messages, Operation::Responses];

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

fn content_event(op: Operation, text: &str) -> Vec<u8> {
    let text = serde_json::to_string(text).unwrap();
    let (name, [before, after]) = match op {
        Operation::Chat => (
            "",
            [r#"{"choices":[{"delta":{"content":"#, r#"},"finish_reason":null}],"usage":null}"#],
        ),
        Operation::Completions => ("", [r#"{"choices":[{"text":"#, r#","finish_reason":null}]}"#]),
        Operation::Messages => (
            "event: content_block_delta\n",
            [r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"#, "}}"],
        ),
        _ => ("event: response.output_text.delta\n", [r#"{"delta":"#, r#","output_index":0}"#]),
    };
    format!("{name}data: {before}{text}{after}\n\n").into_bytes()
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
        for op in STREAMS {
            let mut observer = Observer::new(op);
            for text in &texts {
                let seen = observer.event(&content_event(op, text));
                let expected = Seen { content: !text.is_empty(), ..Seen::default() };
                prop_assert_eq!(seen, expected, "{}", text);
            }
            prop_assert_eq!(observer.usage(), Usage::default());
            prop_assert_eq!((observer.finish(), observer.terminal()), (None, false));
        }
    }
}
