use proptest::prelude::*;

use super::{Piece, Splitter, watch, watch_in};
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

/// What a stream that comes in these pieces leads to: events, content, and what is handed on.
fn passed(op: Operation, chunks: &[&[u8]], cap: usize, quickly: bool) -> (Vec<u8>, [u64; 3]) {
    let (mut observer, mut splitter) = (Observer::new(op), Splitter::new(cap));
    let (mut out, mut pieces) = (Vec::new(), 0);
    for chunk in chunks {
        let mut chunk = *chunk;
        while quickly
            && let Some(most) = splitter.between_events()
            && let Some(length) = observer.again(chunk, most)
        {
            out.extend_from_slice(&chunk[..length]);
            chunk = &chunk[length..];
            pieces += 1;
        }
        splitter.feed(chunk, &mut |piece| {
            pieces += 1;
            let (Piece::Event(bytes) | Piece::Part { bytes, .. }) = piece;
            out.extend_from_slice(bytes);
            match piece {
                Piece::Event(event) => observer.event(event),
                Piece::Part { bytes, last } => observer.part(bytes, last),
            };
        });
    }
    out.extend(splitter.take_rest());
    (out, [pieces, observer.events(), observer.output_events()])
}

/// Content events of one kind, with other things between them, in the line ends of one kind.
fn chatter() -> impl Strategy<Value = (Operation, Vec<u8>)> {
    let one = prop_oneof![
        6 => any_text().prop_map(Some),
        1 => Just(None),
    ];
    let ends = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    (prop::sample::select(STREAMS.to_vec()), prop::collection::vec(one, 0..12), ends, debris())
        .prop_map(|(op, texts, end, debris)| {
            let event = |text: Option<String>| match text {
                Some(text) => String::from_utf8(content_event(op, &text)).unwrap(),
                None => ": ping\n\n".to_owned(),
            };
            let stream: String = texts.into_iter().map(event).collect();
            let mut stream = stream.replace('\n', end).into_bytes();
            stream.extend(debris);
            (op, stream)
        })
}

proptest! {
    #[test]
    fn repeated_events_pass_unsplit_to_the_same_end(
        (op, stream) in chatter(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        cap in prop_oneof![Just(1usize << 16), 1usize..300],
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
        let (out, counts) = passed(op, &chunks, cap, true);
        prop_assert_eq!(&out, &stream);
        prop_assert_eq!((out, counts), passed(op, &chunks, cap, false));
    }

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
