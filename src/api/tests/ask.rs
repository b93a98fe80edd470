use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::{Ask, Fault, Operation, UsageAsk, read_ask};
use crate::json::{Bounds, Edits};

const BOUNDS: Bounds = Bounds { depth_max: 64 };

fn read(op: Operation, body: &str) -> Result<Box<Ask>, Fault> {
    read_ask(op, body.as_bytes(), &BOUNDS)
}

fn chat(body: &str) -> Result<Box<Ask>, Fault> {
    read(Operation::Chat, body)
}

/// The body as it goes upstream.
fn spliced(ask: &Ask, body: &str) -> String {
    let mut edits = Edits::new();
    ask.usage.splice(&mut edits).unwrap();
    let pieces: Vec<&[u8]> = edits.pieces(body.as_bytes()).collect();
    let out = String::from_utf8(pieces.concat()).unwrap();
    assert_eq!(out.len(), edits.len_after(body.len()));
    out
}

fn injected(body: &str) -> String {
    spliced(&chat(body).unwrap(), body)
}

#[test]
fn the_fields_are_read() {
    let body = r#" {"mo\u0064el":"a\/b","messages":[{"role":"user"}],"tools":null,"stream":true,
        "stream_options":{"include_usage":true,"continuous_usage_stats":true},
        "max_tokens":5,"max_completion_tokens":7,"n":3,"x":1,"x":2}  "#;
    let ask = chat(body).unwrap();
    assert_eq!(&*ask.model, "a/b");
    assert_eq!(&body[ask.model_span.clone()], r#""a\/b""#);
    assert!(ask.stream && ask.continuous_usage);
    assert_eq!((ask.output_tokens_max, ask.n), (Some(7), 3));
    assert_eq!(ask.usage, UsageAsk::AsSent);
    assert_eq!(&body[ask.prompt.messages.unwrap()], r#"[{"role":"user"}]"#);
    assert_eq!((ask.prompt.tools, ask.prompt.system), (None, None));
}

#[test]
fn a_salt_is_found_whatever_it_is() {
    for (body, salt) in [
        (r#"{"model":"m","c\u0061che_salt":"a\"b"}"#, Some(r#""a\"b""#)),
        (r#"{"cache_salt":null,"model":"m"}"#, Some("null")),
        (r#"{"model":"m","cache_salt":[1, 2]}"#, Some("[1, 2]")),
        (r#"{"model":"m","messages":[{"cache_salt":"x"}]}"#, None),
    ] {
        assert_eq!(chat(body).unwrap().salt.map(|span| &body[span]), salt);
    }
    let twice = chat(r#"{"model":"m","cache_salt":"a","cache_salt":"a"}"#);
    assert_eq!(twice, Err(Fault::DuplicateField("cache_salt")));
}

#[test]
fn each_operation_has_its_own_fields() {
    let body = r#"{"model":"m","max_tokens":1,"max_completion_tokens":2,"max_output_tokens":3,
        "stream":true,"system":"s","instructions":"i","input":[1],"prompt":"p","n":4}"#;
    for (op, most, n, stream) in [
        (Operation::Chat, Some(2), 4, true),
        (Operation::Completions, Some(1), 4, true),
        (Operation::Messages, Some(1), 1, true),
        (Operation::Responses, Some(3), 1, true),
        (Operation::Embeddings, Some(0), 1, false),
        (Operation::Rerank, Some(0), 1, false),
        (Operation::CountTokens, Some(0), 1, false),
    ] {
        let ask = read(op, body).unwrap();
        assert_eq!((ask.output_tokens_max, ask.n, ask.stream), (most, n, stream), "{op:?}");
        let injects = matches!(op, Operation::Chat | Operation::Completions);
        assert_eq!(ask.usage.withholds(), injects, "{op:?}");
        assert_eq!(&body[ask.prompt.system.unwrap()], r#""s""#);
        assert_eq!(&body[ask.prompt.prompt.unwrap()], r#""p""#);
    }
    // What an operation does not know is not looked at.
    let odd = r#"{"model":"m","n":"x","max_tokens":"x","stream_options":"x"}"#;
    assert!(read(Operation::Responses, odd).is_ok());
    assert!(read(Operation::Embeddings, odd).is_ok());
    let instructions = r#"{"model":"m","instructions":"i"}"#;
    let ask = read(Operation::Responses, instructions).unwrap();
    assert_eq!(&instructions[ask.prompt.system.unwrap()], r#""i""#);
}

#[test]
fn null_is_absent() {
    let body = r#"{"model":"m","stream":null,"stream_options":null,"max_tokens":null,"n":null}"#;
    let ask = chat(body).unwrap();
    assert_eq!((ask.stream, ask.output_tokens_max, ask.n), (false, None, 1));
    assert_eq!(ask.usage, UsageAsk::AsSent);
}

#[test]
fn integers_are_read_as_written() {
    let most = |text: &str| chat(&format!(r#"{{"model":"m","max_tokens":{text}}}"#));
    assert_eq!(most("0").unwrap().output_tokens_max, Some(0));
    assert_eq!(most("-1").unwrap().output_tokens_max, None);
    assert_eq!(most("99999999999999999999").unwrap().output_tokens_max, Some(u64::MAX));
    for text in ["1.0", "1e2", "\"5\"", "true", "[]", "{}"] {
        let expected = Fault::InvalidField { field: "max_tokens", expected: "an integer" };
        assert_eq!(most(text), Err(expected), "{text}");
    }
}

#[test]
fn faults_name_the_field() {
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(70), "]".repeat(70));
    for (body, param, status) in [
        (r#"{}"#, Some("model"), 400),
        (r#"{"model":null}"#, Some("model"), 400),
        (r#"{"model":""}"#, Some("model"), 400),
        (r#"{"model":5}"#, Some("model"), 400),
        (r#"{"model":"a","mo\u0064el":"b"}"#, Some("model"), 400),
        (r#"{"model":"m","stream":1}"#, Some("stream"), 400),
        (r#"{"model":"m","stream":"true"}"#, Some("stream"), 400),
        (r#"{"model":"m","stream":true,"stream":false}"#, Some("stream"), 400),
        (r#"{"model":"m","max_tokens":1,"max_tokens":1}"#, Some("max_tokens"), 400),
        (r#"{"model":"m","max_completion_tokens":"x"}"#, Some("max_completion_tokens"), 400),
        (r#"{"model":"m","n":0}"#, Some("n"), 400),
        (r#"{"model":"m","n":-1}"#, Some("n"), 400),
        (r#"{"model":"m","n":1.5}"#, Some("n"), 400),
        (r#"{"model":"m","stream_options":true}"#, Some("stream_options"), 400),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":1}}"#,
            Some("stream_options.include_usage"),
            400,
        ),
        (
            concat!(
                r#"{"model":"m","stream":true,"#,
                r#""stream_options":{"include_usage":true,"include_usage":true}}"#
            ),
            Some("stream_options.include_usage"),
            400,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"continuous_usage_stats":"x"}}"#,
            Some("stream_options.continuous_usage_stats"),
            400,
        ),
        (r#"{"model":"m""#, None, 400),
        (r#"["model"]"#, None, 400),
        ("", None, 400),
        (&deep, None, 400),
    ] {
        let fault = chat(body).unwrap_err();
        assert_eq!((fault.param(), fault.status()), (param, status), "{body}: {fault}");
    }
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(2000));
    assert_eq!(chat(&long).unwrap_err().param(), Some("model"));
    assert!(read_ask(Operation::Chat, b"{\"model\":\"\xff\"}", &BOUNDS).is_err());
}

#[test]
fn usage_is_asked_for_by_the_smallest_edit() {
    for (from, to) in [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{ "stream":true,"stream_options" : null,"model":"m"}"#,
            r#"{ "stream":true,"stream_options" : {"include_usage":true},"model":"m"}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{ },"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true },"model":"m"}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{ "a":1},"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true, "a":1},"model":"m"}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"a":1,"include_usage": false },"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"a":1,"include_usage": true },"model":"m"}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_\u0075sage":null},"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"include_\u0075sage":true},"model":"m"}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"continuous_usage_stats":true},"model":"m"}"#,
            concat!(
                r#"{"stream":true,"stream_options":{"#,
                r#""include_usage":true,"continuous_usage_stats":false},"model":"m"}"#
            ),
        ),
    ] {
        assert_eq!(injected(from), to);
        assert!(chat(from).unwrap().usage.withholds());
        let again = chat(to).unwrap();
        assert_eq!(again.usage, UsageAsk::AsSent, "asked for once it is there");
    }
    for same in [
        r#"{"model":"m","stream":false,"stream_options":{"include_usage":false}}"#,
        r#"{"model":"m","stream_options":{"include_usage":5}}"#,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
    ] {
        assert_eq!(injected(same), same);
    }
}

/// White space that JSON allows.
fn space() -> impl Strategy<Value = String> {
    "[ \n\r\t]{0,3}"
}

/// A key or text as a JSON string with some of its characters escaped.
fn quoted(text: &str, escapes: &[bool]) -> String {
    let mut out = String::from("\"");
    for (index, c) in text.chars().enumerate() {
        let escape = escapes.get(index % escapes.len().max(1)).copied().unwrap_or(false);
        if escape || c == '"' || c == '\\' || c < ' ' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            out.push(c);
        }
    }
    out.push('"');
    out
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\{}\u{e9}\u{1f600}:, ]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn stream_options() -> impl Strategy<Value = Option<Value>> {
    let flag = || {
        prop_oneof![Just(None), Just(Some(json!(null))), any::<bool>().prop_map(|b| Some(json!(b)))]
    };
    let object =
        (flag(), flag(), prop::option::of(any_json())).prop_map(|(usage, continuous, other)| {
            let members = [
                ("include_usage", usage),
                ("continuous_usage_stats", continuous),
                ("other", other),
            ];
            let members =
                members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Some(Value::Object(members.collect()))
        });
    prop_oneof![Just(None), Just(Some(Value::Null)), object]
}

/// The members of a streaming request in any order, and the text of the object.
fn request() -> impl Strategy<Value = (Value, String)> {
    let known = ("[a-zA-Z/\u{e9}\"]{1,12}", stream_options(), prop::option::of(0..u64::MAX));
    let others = prop::collection::btree_map("x[a-z\u{e9}\"]{1,8}", any_json(), 0..5);
    (known, others, prop::collection::vec(any::<bool>(), 0..7), prop::collection::vec(space(), 5))
        .prop_flat_map(|((model, options, most), others, escapes, spaces)| {
            let mut members =
                vec![("model".to_owned(), json!(model)), ("stream".to_owned(), json!(true))];
            members.extend(options.map(|options| ("stream_options".to_owned(), options)));
            members.extend(most.map(|most| ("max_tokens".to_owned(), json!(most))));
            members.extend(others);
            (Just(members).prop_shuffle(), Just(escapes), Just(spaces))
        })
        .prop_map(|(members, escapes, spaces)| {
            let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|at| spaces[at].as_str());
            let texts: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{a}{}{b}:{c}{value}{d}", quoted(key, &escapes)))
                .collect();
            let body = format!("{e}{{{}}}{a}", texts.join(","));
            (Value::Object(members.into_iter().collect()), body)
        })
}

/// What the upstream should get.
fn expected(mut request: Value) -> Value {
    let options = &mut request["stream_options"];
    if !options.is_object() {
        *options = json!({});
    }
    if options["include_usage"] != json!(true) {
        options["include_usage"] = json!(true);
        if options.get("continuous_usage_stats") == Some(&json!(true)) {
            options["continuous_usage_stats"] = json!(false);
        }
    }
    request
}

/// A body that may be anything, made of what bodies are made of.
fn debris() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u0064",
        "\"model\"",
        "\"stream\"",
        "true",
        "null",
        "\"stream_options\"",
        "\"include_usage\"",
        "\"max_tokens\"",
        "-1",
        "1e999",
        " ",
        "\u{e9}",
        "\"m\"",
    ]);
    let words = prop::collection::vec(word, 0..24).prop_map(|words| words.concat().into_bytes());
    prop_oneof![words, prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #[test]
    fn a_request_is_read_and_its_injection_changes_nothing_else((value, body) in request()) {
        let ask = chat(&body).unwrap();
        prop_assert_eq!(&json!(&*ask.model), &value["model"]);
        let model: Value = serde_json::from_str(&body[ask.model_span.clone()]).unwrap();
        prop_assert_eq!(&model, &value["model"]);
        prop_assert_eq!(ask.output_tokens_max, value.get("max_tokens").and_then(Value::as_u64));
        let sent = spliced(&ask, &body);
        prop_assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), expected(value));
        // All bytes outside the edits are as they were.
        if let UsageAsk::Inject(edits) = &ask.usage {
            let first = &edits.first.range;
            prop_assert!(first.len() <= 5, "null or false");
            let second = edits.second.as_ref().map_or(first, |edit| &edit.range);
            prop_assert!(second == first || second.len() == 4, "true");
            let cut = first.start.min(second.start);
            prop_assert_eq!(&sent[..cut], &body[..cut]);
            prop_assert!(sent.ends_with(&body[first.end.max(second.end)..]));
        } else {
            prop_assert_eq!(sent, body);
        }
    }

    #[test]
    fn no_body_makes_it_panic(body in debris()) {
        for op in Operation::ALL {
            if let Ok(ask) = read_ask(op, &body, &BOUNDS) {
                let value: Value = serde_json::from_slice(&body).unwrap();
                prop_assert_eq!(&json!(&*ask.model), &value["model"]);
            }
        }
    }
}
