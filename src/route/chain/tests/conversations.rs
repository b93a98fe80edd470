//! Conversations as clients of each API hold them, turn by turn.

use serde_json::json;

use super::*;

/// A growing list in a body: what stands before and after it, and its elements.
struct Turns {
    op: Operation,
    before: String,
    after: &'static str,
    elements: Vec<String>,
}

impl Turns {
    /// The body of the turn that has `count` elements, written with `separator` between them.
    fn body(&self, count: usize, separator: &str, close: &str) -> String {
        let Self { before, after, elements, .. } = self;
        format!("{{{before}{}{close}{after}}}", elements[..count].join(separator))
    }

    /// Every turn goes on from the one before it.
    fn check(&self, user_at: usize) {
        for (separator, close) in [(",", "]"), (",\n    ", "\n  ]"), (" , ", " ]")] {
            let turns: Vec<_> = (user_at + 1..=self.elements.len())
                .map(|count| chain_of(self.op, &self.body(count, separator, close)))
                .collect();
            for pair in turns.windows(2) {
                assert_grown(&pair[0], &pair[1]);
            }
            let (first, last) = (&turns[0], &turns[turns.len() - 1]);
            assert!(last.bytes() - last.bytes_at(last.hashes().len()) < 1024);
            assert!(first.hashes().len() < last.hashes().len());
        }
    }
}

fn messages(system: Option<usize>, count: usize) -> Vec<String> {
    let system = system.map(|len| json!({"role": "system", "content": prose(9, len)}));
    let others = (0..count).map(|i| {
        let role = if i % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "content": prose(i, 100 + 700 * (i % 5))})
    });
    system.into_iter().chain(others).map(|message| json(&message)).collect()
}

fn tools(count: usize) -> String {
    let tool = |i| json!({"name": format!("t{i}"), "description": prose(i, 900), "a": {"b": []}});
    json(&(0..count).map(tool).collect::<Value>())
}

#[test]
fn chat() {
    let elements = messages(Some(3_000), 20);
    let before = format!(r#""model":"m", "tools" : {},"messages": ["#, tools(5));
    Turns { op: Operation::Chat, before, after: r#","temperature":0"#, elements }.check(1);
}

#[test]
fn chat_whose_tools_come_last() {
    let after: &str = r#","tools":[{"type":"function"}],"model":"m""#;
    let elements = messages(None, 20);
    Turns { op: Operation::Chat, before: r#""messages":["#.into(), after, elements }.check(0);
}

#[test]
fn messages_api() {
    let system = json(&json!([{"type": "text", "text": prose(3, 5_000)}]));
    let before = format!(r#""model":"m","system":{system},"tools":{},"messages":["#, tools(9));
    let elements = messages(None, 20);
    Turns { op: Operation::Messages, before, after: "", elements }.check(0);
}

#[test]
fn responses() {
    let instructions = json(&prose(4, 2_000).into());
    let before = format!(r#""model":"m","instructions":{instructions},"input":["#);
    let elements = messages(None, 16);
    Turns { op: Operation::Responses, before, after: r#","stream":true"#, elements }.check(0);
}

#[test]
fn token_ids() {
    let elements: Vec<_> = (0..9_000u32).map(|i| (i * 7919 % 128_000).to_string()).collect();
    let turns = Turns {
        op: Operation::Completions,
        before: r#""model":"m","prompt":["#.into(),
        after: "",
        elements,
    };
    let chain = |count| chain_of(Operation::Completions, &turns.body(count, ",", "]"));
    for count in (500..9_000).step_by(600) {
        assert_grown(&chain(count), &chain(count + 50));
    }
    // Numbers of as many tokens are not one prompt.
    let other = turns.body(9_000, ",", "]").replacen(",7919,", ",7918,", 1);
    assert_eq!(shared(&chain(9_000), &chain_of(Operation::Completions, &other)), 0);
}

#[test]
fn texts_and_lists_of_them() {
    let text = prose(5, 40_000);
    let body = |len: usize, open: &str, close: &str| {
        let text = json(&text[..len].into());
        format!(r#"{{"model":"m","prompt":{open}{text}{close}}}"#)
    };
    for (open, close) in [("", ""), ("[", "]"), ("[ \"first\", ", " ]")] {
        let chain = |len| chain_of(Operation::Completions, &body(len, open, close));
        for len in (2_100..39_000).step_by(1_500) {
            assert_grown(&chain(len), &chain(len + 700));
        }
    }
    let lists = r#"{"model":"m","prompt":[[1,2],[3,4]]}"#;
    assert_eq!(chain_of(Operation::Completions, lists).bytes(), "[[1,2],[3,4".len() as u64);
}

/// An agent's turns: a billing text that changes each time, and marks that move on.
#[test]
fn an_agent() {
    let turn = |count: usize| {
        let billing = format!("x-anthropic-billing-header: cc_version=2.1; cch={count:05x};");
        let mark = json!({"type": "ephemeral", "ttl": "1h"});
        let system = json!([{"type": "text", "text": billing},
            {"type": "text", "text": prose(1, 15_000), "cache_control": mark}]);
        let block = |i: usize| {
            let mut block = json!({"type": "text", "text": prose(i, 300 * i)});
            if i + 2 >= count {
                block["cache_control"] = mark.clone();
            }
            block
        };
        let messages: Vec<_> = (0..count)
            .map(|i| {
                let role = if i % 2 == 0 { "user" } else { "assistant" };
                json!({"role": role, "content": [block(i), {"type": "image"}]})
            })
            .collect();
        let body = json!({"model": "m", "system": system, "messages": messages});
        chain_of(Operation::Messages, &json(&body))
    };
    let turns: Vec<_> = (1..30).map(turn).collect();
    for pair in turns.windows(2) {
        assert_grown(&pair[0], &pair[1]);
    }
    assert!(turns[28].hashes().len() > 180);
}

#[test]
fn the_anchor_is_at_the_end_of_the_first_user_message() {
    let anchor = |messages: &str| {
        let body = format!(r#"{{"model":"m","messages":{messages}}}"#);
        chain_of(Operation::Chat, &body).anchor()
    };
    let user = r#"{"role":"user","content":"a"}"#;
    let alone = anchor(&format!("[{user}]"));
    let assistant = r#"{"role":"assistant","content":"{\"role\":\"user\"}"}"#;
    assert_eq!(anchor(&format!("[{user},{assistant},{user}]")), alone);
    assert_ne!(anchor(r#"[{"role":"user","content":"b"}]"#), alone);
    // Wherever the role stands and however it is written, and whatever the text says.
    for first in [
        r#"{"content":"go","role":"user"}"#,
        r#"{ "role" : "user", "content":"go"}"#,
        r#"{"content":[{"role":"system"}],"ro\u006ce":"us\u0065r"}"#,
    ] {
        let system = r#"{"content":"\"role\":\"user\"","role":"system"}"#;
        let one = anchor(&format!("[{system},{first}]"));
        assert_eq!(anchor(&format!("[{system},{first},{assistant}]")), one, "{first}");
        assert_eq!(anchor(&format!("[{system},{first},{user}]")), one, "{first}");
        assert_ne!(anchor(&format!("[{system},{user},{first}]")), one, "{first}");
    }
}

#[test]
fn an_anchor_that_is_far_away_is_not_looked_for() {
    let anchor = |system: usize, user: &str| {
        let system = json(&json!({"role": "system", "content": "x".repeat(system)}));
        let body = format!(
            r#"{{"model":"m","messages":[{system},{{"role":"user","content":"{user}"}}]}}"#
        );
        chain_of(Operation::Chat, &body).anchor()
    };
    assert_ne!(anchor(250_000, "a"), anchor(250_000, "b"));
    assert_eq!(anchor(300_000, "a"), anchor(300_000, "b"));
}
