//! The legs' bodies against a reader that builds trees, and against the client's own bytes.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;

const BOUNDS: Bounds = Bounds { depth_max: 64 };
const PLACE: &str = r#"{ "remote_block_ids":[1, 2] ,"é":"\u00e9","do_remote_prefill":true}"#;
const MEETING: Meeting<'_> = Meeting { host: "gpu-0", port: 8_998, room: u64::MAX >> 1 };

fn asked(body: &str) -> Result<Asked, Fault> {
    read(Operation::Chat, body.as_bytes(), &BOUNDS)
}

fn edited(body: &str, edit: impl Fn(&Asked, &mut Edits)) -> String {
    let (asked, mut edits) = (asked(body).unwrap(), Edits::new());
    edit(&asked, &mut edits);
    let bytes: Vec<u8> = edits.pieces(body.as_bytes()).flatten().copied().collect();
    assert_eq!(bytes.len(), edits.len_after(body.len()));
    String::from_utf8(bytes).unwrap()
}

fn prefill(body: &str) -> String {
    edited(body, |asked, edits| asked.prefill(edits).unwrap())
}

fn decode(body: &str) -> String {
    edited(body, |asked, edits| asked.decode(edits, PLACE.as_bytes()).unwrap())
}

fn meet(body: &str) -> String {
    edited(body, |asked, edits| asked.meet(edits, &MEETING).unwrap())
}

#[test]
fn the_first_leg_is_one_token_whose_blocks_are_kept() {
    let kept = format!(r#""kv_transfer_params":{KEEP},"#);
    assert_eq!(prefill(r#"{"model":"m"}"#), format!(r#"{{{kept}"max_tokens":1,"model":"m"}}"#));
    assert_eq!(
        prefill(
            r#"{ "model":"m", "stream":true,"stream_options":{"include_usage":true},
                "max_tokens":900, "max_completion_tokens" : 7,"min_tokens":5 }"#
        ),
        format!(
            r#"{{{kept} "model":"m", "stream":false,"stream_options":null,
                "max_tokens":1, "max_completion_tokens" : 1,"min_tokens":0 }}"#
        )
    );
}

#[test]
fn the_second_leg_gets_the_first_ones_words_as_they_are() {
    assert_eq!(
        decode(r#"{"model":"m","max_tokens":9}"#),
        format!(r#"{{"kv_transfer_params":{PLACE},"model":"m","max_tokens":9}}"#)
    );
    assert_eq!(
        decode(r#"{"model":"m", "kv_transfer_params" : null }"#),
        format!(r#"{{"model":"m", "kv_transfer_params" : {PLACE} }}"#)
    );
}

#[test]
fn both_of_sglangs_legs_meet_in_one_room() {
    assert_eq!(
        meet(r#"{"model":"m","bootstrap_room":null}"#),
        r#"{"bootstrap_host":"gpu-0","bootstrap_port":8998,"model":"m","bootstrap_room":9223372036854775807}"#
    );
    let odd = Meeting { host: "a\"b", port: 1, room: 0 };
    let body = edited(r#"{"model":"m"}"#, |asked, edits| asked.meet(edits, &odd).unwrap());
    assert_eq!(serde_json::from_str::<Json>(&body).unwrap()["bootstrap_host"], "a\"b");
}

#[test]
fn what_only_the_gateway_may_say_is_refused() {
    for name in ["kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room"] {
        for value in ["{}", "1", "\"h\"", "false", "[]"] {
            let body = format!(r#"{{"model":"m","{name}":{value}}}"#);
            let refused = Fault::InvalidField { field: name, expected: "absent" };
            assert_eq!(asked(&body).unwrap_err(), refused);
        }
        let twice = format!(r#"{{"model":"m","{name}":null,"{name}":null}}"#);
        assert_eq!(asked(&twice).unwrap_err(), Fault::DuplicateField(name));
    }
    let hidden = r#"{"model":"m","kv_transf\u0065r_params":{"remote_host":"h"}}"#;
    assert!(asked(hidden).is_err());
}

#[test]
fn one_answer_to_one_prompt_can_be_split() {
    let split = |op, body: &str| read(op, body.as_bytes(), &BOUNDS).unwrap().splittable;
    let chat = |more: &str| split(Operation::Chat, &format!(r#"{{"model":"m"{more}}}"#));
    for more in ["", r#","n":1"#, r#","n":null"#, r#","echo":false"#, r#","best_of":1"#] {
        assert!(chat(more), "{more}");
    }
    for more in [r#","n":2"#, r#","n":1.0"#, r#","echo":true"#, r#","prompt_logprobs":0"#] {
        assert!(!chat(more), "{more}");
    }
    let text = |prompt: &str| split(Operation::Completions, &format!(r#"{{"prompt":{prompt}}}"#));
    assert!(text("\"a\"") && text("[1,2]"));
    assert!(!text(r#"["a"]"#) && !text("[[1],[2]]") && !text("[]"));
    for op in [Operation::Messages, Operation::Responses, Operation::Embeddings] {
        assert!(!split(op, r#"{"model":"m"}"#));
    }
}

#[test]
fn the_place_of_blocks_is_found_as_it_stands() {
    let answer = format!(r#"{{"id":"x","kv_transfer_params": {PLACE} ,"choices":[]}}"#);
    let span = handoff(answer.as_bytes(), &BOUNDS).unwrap();
    assert_eq!(&answer[span], PLACE);
    let twice = format!(r#"{{"kv_transfer_params":{PLACE},"kv_transfer_params":{PLACE}}}"#);
    let large = format!(r#"{{"kv_transfer_params":{{"a":"{}"}}}}"#, "x".repeat(HANDOFF_BYTES_MAX));
    let broken = &answer[..answer.len() - 1];
    for none in ["{}", r#"{"kv_transfer_params":null}"#, "[]", "", &twice, &large, broken] {
        assert_eq!(handoff(none.as_bytes(), &BOUNDS), None);
    }
}

/// Members of a body: those that legs touch among others, with values that clients send.
fn members() -> impl Strategy<Value = Vec<(String, Json)>> {
    let touched = prop_oneof![
        Just(("stream", json!(true))),
        Just(("stream", json!(null))),
        Just(("stream_options", json!({"include_usage": false}))),
        Just(("max_tokens", json!(4_000))),
        Just(("max_tokens", json!(null))),
        Just(("max_completion_tokens", json!(3))),
        Just(("min_tokens", json!(2))),
        Just(("kv_transfer_params", json!(null))),
        Just(("bootstrap_room", json!(null))),
        Just(("messages", json!([{"role": "user", "content": "a \"kv_transfer_params\": {}"}]))),
    ];
    let touched = touched.prop_map(|(name, value)| (name.to_owned(), value));
    let other = ("[a-z]{8}", any::<String>()).prop_map(|(name, text)| (name, json!(text)));
    proptest::collection::vec(prop_oneof![touched, other], 0..10).prop_map(|mut members| {
        members.insert(members.len() / 2, ("model".to_owned(), json!("m")));
        let mut names = std::collections::HashSet::new();
        members.retain(|(name, _)| names.insert(name.clone()));
        members
    })
}

fn written(members: &[(String, Json)], space: &str) -> String {
    let member = |(name, value): &(String, Json)| {
        format!("{space}{}{space}:{space}{value}{space}", json!(name))
    };
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

fn tree(body: &str) -> Map<String, Json> {
    serde_json::from_str(body).unwrap()
}

proptest! {
    #[test]
    fn legs_are_the_clients_body_but_for_what_they_name(
        members in members(),
        space in "[ \n\t]{0,3}",
    ) {
        let body = written(&members, &space);
        let own = tree(&body);
        let place: Json = serde_json::from_str(PLACE).unwrap();

        let mut expected = own.clone();
        expected.insert("kv_transfer_params".into(), place);
        prop_assert_eq!(tree(&decode(&body)), expected);

        let mut expected = own.clone();
        expected.insert("kv_transfer_params".into(), serde_json::from_str(KEEP).unwrap());
        expected.insert("max_tokens".into(), json!(1));
        for (name, value) in [
            ("stream", json!(false)),
            ("stream_options", json!(null)),
            ("max_completion_tokens", json!(1)),
            ("min_tokens", json!(0)),
        ] {
            expected.entry(name).and_modify(|held| *held = value);
        }
        prop_assert_eq!(tree(&prefill(&body)), expected);

        let mut expected = own;
        expected.insert("bootstrap_host".into(), json!("gpu-0"));
        expected.insert("bootstrap_port".into(), json!(8_998));
        expected.insert("bootstrap_room".into(), json!(u64::MAX >> 1));
        prop_assert_eq!(tree(&meet(&body)), expected);
    }

    #[test]
    fn what_is_not_named_keeps_its_bytes(members in members(), space in "[ \n\t]{0,3}") {
        let others: Vec<_> = members
            .into_iter()
            .filter(|(name, _)| name == "model" || name == "messages" || name.len() == 8)
            .collect();
        let body = written(&others, &space);
        let rest = body.strip_prefix('{').unwrap();
        for leg in [prefill(&body), decode(&body), meet(&body)] {
            let kept = leg.strip_suffix(rest).is_some_and(|put| put.starts_with('{'));
            prop_assert!(kept, "{}", leg);
        }
    }
}
