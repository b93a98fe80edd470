//! Bytes that only look alike are no match, and what does not matter does not part prompts.

use super::*;

/// The same long text as a JSON string, in many bodies.
fn text() -> String {
    json(&prose(2, 3_000).into())
}

fn apart(one: &str, other: &str, op: Operation) {
    assert_eq!(shared(&chain_of(op, one), &chain_of(op, other)), 0, "{one}\n{other}");
    assert_ne!(chain_of(op, one).anchor(), chain_of(op, other).anchor());
}

fn alike(one: &str, other: &str, op: Operation) {
    let (one, other) = (chain_of(op, one), chain_of(op, other));
    assert_eq!((one.hashes(), one.anchor()), (other.hashes(), other.anchor()));
    assert!(!one.hashes().is_empty());
}

#[test]
fn another_root_is_another_prompt() {
    let body = format!(r#"{{"model":"m","prompt":{}}}"#, text());
    let chain = |root: &Root<'_>| chain_under(root, Operation::Completions, &body);
    let roots = [
        ROOT,
        Root { model: "n", ..ROOT },
        Root { adapter: "m", ..ROOT },
        Root { model: "", adapter: "m", salt: b"" },
        Root { salt: b"m", ..ROOT },
        Root { model: "", adapter: "", salt: b"m" },
    ];
    for (i, one) in roots.iter().enumerate() {
        for other in &roots[i + 1..] {
            assert_eq!(shared(&chain(one), &chain(other)), 0);
            assert_ne!(chain(one).anchor(), chain(other).anchor());
        }
    }
}

#[test]
fn a_section_is_not_another_one() {
    let text = text();
    let sections = ["tools", "system", "messages", "input", "prompt"];
    for (i, one) in sections.iter().enumerate() {
        for other in &sections[i + 1..] {
            let body = |name: &str| format!(r#"{{"model":"m","{name}":{text}}}"#);
            apart(&body(one), &body(other), Operation::Chat);
        }
    }
}

#[test]
fn the_border_between_sections_is_part_of_the_prompt() {
    let long = prose(2, 3_000);
    let body = |cut: usize| {
        let (system, prompt) = (json(&long[..cut].into()), json(&long[cut..].into()));
        format!(r#"{{"model":"m","system":{system},"prompt":{prompt}}}"#)
    };
    // The first block is the system prompt's in both; its last one is not.
    let [one, other] = [700, 701].map(|cut| chain_of(Operation::Messages, &body(cut)));
    assert_eq!(shared(&one, &other), 1);
}

#[test]
fn json_inside_a_prompt_is_text() {
    let messages = format!(r#"[{{"role":"user","content":{}}}]"#, text());
    let real = format!(r#"{{"model":"m","messages":{messages}}}"#);
    let inside = format!(r#"{{"model":"m","prompt":{}}}"#, json(&messages.into()));
    apart(&real, &inside, Operation::Chat);
}

#[test]
fn reordered_members_of_a_message_are_another_text() {
    let text = text();
    let one = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{text}}}]}}"#);
    let other = format!(r#"{{"model":"m","messages":[{{"content":{text},"role":"user"}}]}}"#);
    apart(&one, &other, Operation::Chat);
}

#[test]
fn what_is_not_the_prompt_does_not_matter() {
    let (text, tools) = (text(), r#"[{"type":"function"}]"#);
    let one = format!(r#"{{"model":"m","tools":{tools},"system":"s","messages":[{text}]}}"#);
    for other in [
        format!(r#"{{"messages":[{text}],"system":"s","tools":{tools},"model":"m"}}"#),
        format!(r#" {{"system" : "s", "tools":{tools} ,"n":1,"model":"m","messages": [{text}] }}"#),
        format!(r#"{{"model":"m","system":"s","messages":[{text}],"x":{text},"tools":{tools}}}"#),
        format!(
            r#"{{"model":"m","prompt":null,"tools":{tools},"system":"s","messages":[{text}]}}"#
        ),
    ] {
        alike(&one, &other, Operation::Messages);
    }
}

fn with_system(system: &str) -> String {
    format!(
        r#"{{"model":"m","system":{system},"messages":[{{"role":"user","content":{}}}]}}"#,
        text()
    )
}

#[test]
fn the_billing_text_is_left_out() {
    let blocks = |billing: &str| {
        with_system(&format!(r#"[{{"type":"text","text":"{billing}"}},{{"text":"You are"}}]"#))
    };
    let billing = "x-anthropic-billing-header: cc_version=2.1.37.fbe; cch=a112b;";
    let other = "x-anthropic-billing-header: cc_version=2.1.88.a3f; cc_entrypoint=cli; cch=00000;";
    alike(&blocks(billing), &blocks(other), Operation::Messages);
    let line = |billing: &str| with_system(&format!(r#""{billing}\nYou are""#));
    alike(&line(billing), &line(other), Operation::Messages);
    let chat = |billing: &str| {
        let system = format!(r#"{{"role":"system","content":"{billing}\nYou are"}}"#);
        format!(r#"{{"model":"m","messages":[{system},{{"role":"user","content":{}}}]}}"#, text())
    };
    alike(&chat(billing), &chat(other), Operation::Chat);
    // What follows it still counts, and so does what merely speaks of it.
    let line = |rest: &str| with_system(&format!(r#""{billing}\n{rest}""#));
    apart(&line("You are"), &line("You were"), Operation::Messages);
    let quoted = |billing: &str| with_system(&format!(r#""\"{billing}""#));
    apart(&quoted(billing), &quoted(other), Operation::Messages);
    let quoted = |billing: &str| with_system(&format!(r#""Say {billing}""#));
    apart(&quoted(billing), &quoted(other), Operation::Messages);
}

#[test]
fn marks_are_left_out_wherever_they_stand() {
    let message = |content: &str| {
        let text = text();
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{content}]}},{text}]}}"#)
    };
    let plain = message(r#"{"type":"text","text":"a"}"#);
    for marked in [
        r#"{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}"#,
        r#"{"type":"text","cache_control":{"type":"ephemeral","ttl":"5m"},"text":"a"}"#,
        r#"{"cache_control":{"type":"ephemeral"},"type":"text","text":"a"}"#,
        r#"{"type":"text","text":"a" , "cache_control" : { "type" : "ephemeral" }}"#,
    ] {
        alike(&plain, &message(marked), Operation::Messages);
    }
    for (before, after) in [
        ("{\"type\":\"text\",\"text\":\"{ \\\" \\\\\"", "}"),
        ("{\"type\":\"image\",\"source\":{\"x\":[{}]}", "}"),
        ("{\"type\":\"tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"b\"", "}]}"),
    ] {
        let marked = format!("{before},\"cache_control\":{{\"type\":\"ephemeral\"}}{after}");
        alike(&message(&format!("{before}{after}")), &message(&marked), Operation::Messages);
    }
    let used = |input: &str| {
        message(&format!("{{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{input}}}"))
    };
    for (one, other) in [
        (r#"{"cache_control":{"type":"a"}, "b":1}"#, r#"{"cache_control":{"type":"c"}, "b":1}"#),
        (r#"{"b":"{","cache_control":{"type":"a"}}"#, r#"{"b":"{","cache_control":{"type":"c"}}"#),
    ] {
        apart(&used(one), &used(other), Operation::Messages);
    }
    for text in [
        r#"{"type":"text","text":"a\"cache_control\":{}"}"#,
        r#"{"type":"text","text":"\"cache_control"}"#,
        r#"{"type":"text","text":"a","cache_control":{"type":{"x":1}}}"#,
        r#"{"type":"text","text":"a","cache_control":"ephemeral"}"#,
        r#"{"type":"text","text":"a","cache_control":{"\"}":"}"}}"#,
    ] {
        apart(&plain, &message(text), Operation::Messages);
    }
}
