//! What a valid plan is remarked with.

use super::*;

/// Each note of `text`, behind the table that it stands in.
fn notes(text: &str) -> Vec<String> {
    let described = describe(&parse_here(text).unwrap_or_else(|errors| panic!("{errors}")));
    let mut table = "";
    let mut notes = Vec::new();
    for line in described.lines() {
        match line.strip_prefix("  note: ") {
            Some(note) => notes.push(format!("{table}: {note}")),
            None if line.starts_with('[') => table = line,
            None => {}
        }
    }
    notes
}

fn endpoint(name: &str, engine: &str, more: &str) -> String {
    format!(
        "[[endpoints]]\nname = \"{name}\"\nurl = \"http://{name}\"\nengine = \"{engine}\"\n{more}\n"
    )
}

fn model(name: &str, endpoints: &[&str], more: &str) -> String {
    format!("[[models]]\nname = \"{name}\"\nendpoints = {endpoints:?}\n{more}\n")
}

const SERVER: &str = "[server]\nlisten = \"127.0.0.1:80\"\n";
const KEY: &str = "[[keys]]\nname = \"k\"\nsecret = \"env:GOOD\"\n";
const SECRET: &str = "[routing]\nisolation_secret = \"env:LONG\"\n";

#[test]
fn what_works_needs_no_note() {
    assert!(notes(LEAST).is_empty());
}

#[test]
fn what_an_endpoint_s_engine_may_not_tell() {
    let text = [
        SERVER,
        &endpoint("a", "vllm", "kv_percent_max = 90"),
        &endpoint("b", "sglang", "kv_percent_max = 90\nkv_events = \"tcp://b:1\""),
        &endpoint("c", "tensorrt-llm", "kv_percent_max = 90\nkv_events = \"tcp://c:1\""),
        &endpoint("d", "sglang", "kv_percent_max = 90\nkv_tokens = 1000"),
        &endpoint("e", "openai", ""),
        &endpoint("f", "openai", "api_key = \"env:GOOD\""),
        &endpoint("g", "vllm", ""),
        &model("m", &["a", "b", "c", "d", "e", "f"], ""),
    ];
    assert_eq!(
        notes(&text.concat()),
        [
            "[[endpoints]] \"b\": kv_percent_max bounds nothing until the engine's metrics tell its \
             cache's size (SGLang: with --enable-metrics)",
            "[[endpoints]] \"c\": kv_percent_max bounds nothing until the engine's metrics tell its \
             cache's size",
            "[[endpoints]] \"c\": kv_events are understood as vLLM and SGLang publish them",
            "[[endpoints]] \"e\": without api_key it gets no credential: clients' own are never sent on",
            "[[endpoints]] \"g\": no model uses this endpoint",
        ]
    );
}

#[test]
fn what_a_policy_does_not_look_at_or_cannot_see() {
    let text = [
        SERVER,
        &endpoint("a", "vllm", "price = 3"),
        &endpoint("b", "llama-cpp", ""),
        &model("hashed", &["a", "b"], "hash_header = \"x-user\""),
        &model("cheap", &["a", "b"], "policy = \"cheapest\""),
        &model("least", &["a", "b"], "policy = \"least-kv\""),
    ];
    assert_eq!(
        notes(&text.concat()),
        [
            "[[models]] \"hashed\": hash_header does nothing: the policy is predicted-ttft",
            "[[models]] \"cheap\": cheapest knows no price of b: dearer than any",
            "[[models]] \"least\": least-kv counts this gateway's own requests at b: nothing tells \
             their caches' size",
        ]
    );
}

#[test]
fn whom_isolated_requests_pass_by() {
    let ends = [
        endpoint("a", "vllm", ""),
        endpoint("b", "llama-cpp", ""),
        endpoint("c", "tensorrt-llm", ""),
        endpoint("d", "generic", ""),
    ];
    let ends = ends.concat();
    let own = model("own", &["a", "b"], "isolate = true");
    let models = [
        own.clone(),
        model("local", &["b"], ""),
        model("chats", &["c"], ""),
        model("both", &["a"], ""),
        model("halves", &["d"], ""),
        "[[pairs]]\nmodel = \"halves\"\nprotocol = \"nixl\"\nprefill = [\"a\"]\n".to_owned(),
    ];
    let models = models.concat();
    let key = format!("{KEY}isolate = true\n");
    let refused = "isolated keys' requests are refused";
    assert_eq!(
        notes(&[SERVER, SECRET, &key, &ends, &models].concat()),
        [
            "[[models]] \"own\": requests never go to b, which keeps no tenants apart".to_owned(),
            format!(
                "[[models]] \"local\": {refused}: no engine of its endpoints keeps tenants apart"
            ),
            format!(
                "[[models]] \"chats\": {refused} but for chat completions: tensorrt-llm keeps no others apart"
            ),
            format!(
                "[[models]] \"halves\": {refused}: no engine of its endpoints keeps tenants apart"
            ),
            "[[models]] \"halves\": d must speak nixl, which the engine \"generic\" does not tell"
                .to_owned(),
        ]
    );
    assert_eq!(
        notes(&[SERVER, SECRET, KEY, &ends, &models.replace("isolate = true", "")].concat()),
        [
            "[routing]: no key and no model has `isolate`: isolation_secret is not used",
            "[[models]] \"halves\": d must speak nixl, which the engine \"generic\" does not tell",
        ]
    );
}
