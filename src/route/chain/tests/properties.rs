//! Against a reference that keeps the bytes themselves; and arbitrary input.

use proptest::prelude::*;

use super::*;
use crate::api::{Ask, PromptSpans, UsageAsk};

/// The prompt of a chat by hand: tools, system prompt, and texts of messages.
#[derive(Clone, Debug)]
struct Prompt {
    model: &'static str,
    tools: Option<String>,
    system: Option<String>,
    messages: Vec<String>,
}

/// Pieces of text, few enough that prompts have much in common and still differ now and then.
fn piece() -> impl Strategy<Value = String> {
    (0..3usize, prop_oneof![Just(40), Just(511), Just(512), Just(513), 0..3_000usize])
        .prop_map(|(seed, len)| json(&"ab\"c\n".repeat(610)[seed..seed + len].into()))
}

fn prompt() -> impl Strategy<Value = Prompt> {
    let section = || proptest::option::of(piece());
    let messages = proptest::collection::vec(piece(), 0..12);
    (prop_oneof![9 => Just("m"), 1 => Just("n")], section(), section(), messages)
        .prop_map(|(model, tools, system, messages)| Prompt { model, tools, system, messages })
}

impl Prompt {
    fn body(&self) -> String {
        let member = |name: &str, value: &Option<String>| {
            value.as_ref().map_or(String::new(), |value| format!(r#""{name}": {value}, "#))
        };
        let (tools, system) = (member("tools", &self.tools), member("system", &self.system));
        format!(r#"{{{tools}{system}"messages":[{}],"model":"m"}}"#, self.messages.join(","))
    }

    fn chain(&self) -> Chain {
        chain_under(&Root { model: self.model, ..ROOT }, Operation::Messages, &self.body())
    }

    /// For each block, everything that must be equal for its hash to be.
    fn blocks(&self) -> Vec<String> {
        let messages = format!("[{}", self.messages.join(","));
        let messages = messages.strip_suffix('"').unwrap_or(&messages);
        let sections = [("tools", self.tools.as_deref()), ("system", self.system.as_deref())];
        let (mut blocks, mut before, mut at) = (Vec::new(), format!("model {}", self.model), 0);
        for (name, text) in sections.into_iter().chain([("messages", Some(messages))]) {
            let Some(mut text) = text else { continue };
            before = format!("{before} {name} ");
            while text.len() >= 512 || (!text.is_empty() && name != "messages") {
                // No prompt here is as long as 64 KiB.
                let (block, rest) = text.split_at(text.len().min(512));
                (text, at) = (rest, at + block.len());
                before.push_str(block);
                blocks.push(format!("{at} {before}"));
            }
        }
        blocks
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hashes_are_equal_if_and_only_if_the_bytes_are(
        one in prompt(), other in prompt(), keep in any::<[bool; 4]>(), common in 0..12usize,
    ) {
        // The other one takes over parts of the first.
        let mut other = other;
        if keep[0] { other.model = one.model; }
        if keep[1] { other.tools = one.tools.clone(); }
        if keep[2] { other.system = one.system.clone(); }
        if keep[3] {
            let own = other.messages.split_off(common.min(other.messages.len()));
            other.messages = one.messages.iter().take(common).cloned().chain(own).collect();
        }
        let (ours, theirs) = (one.chain(), other.chain());
        let (one, other) = (one.blocks(), other.blocks());
        prop_assert_eq!((ours.hashes().len(), theirs.hashes().len()), (one.len(), other.len()));
        for (i, (one, other)) in one.iter().zip(&other).enumerate() {
            prop_assert_eq!(ours.hashes()[i] == theirs.hashes()[i], one == other);
        }
    }

    #[test]
    fn a_prompt_that_goes_on_keeps_its_blocks(
        prompt in prompt(), more in proptest::collection::vec(piece(), 1..5),
    ) {
        prop_assume!(!prompt.messages.is_empty());
        let mut longer = prompt.clone();
        longer.messages.extend(more);
        let (shorter, longer) = (prompt.chain(), longer.chain());
        prop_assert_eq!(shared(&shorter, &longer), shorter.hashes().len());
    }

    /// Spans that no scan gave out, of bytes that are no JSON.
    #[test]
    fn no_input_panics(
        body in "[\\[\\]{}\",:\\\\a ]{0,300}", cuts in any::<[prop::sample::Index; 10]>(),
        mark in any::<prop::sample::Index>(), wild in any::<bool>(),
    ) {
        let marks = ["\"cache_control\"", "\"x-anthropic-billing-header:", "{\"role\":\"user\"}"];
        let mut body = body;
        marks.iter().for_each(|text| body.insert_str(mark.index(body.len() + 1), text));
        let reach = body.len() + if wild { 20 } else { 1 };
        let span = |i: usize| {
            let (a, b) = (cuts[i].index(reach), cuts[i + 1].index(reach));
            Some(a.min(b)..a.max(b))
        };
        let prompt = PromptSpans {
            tools: span(0), system: span(2), messages: span(4), input: span(6), prompt: span(8),
        };
        let ask = Ask {
            op: Operation::Chat, model: "m".into(), model_span: 0..0, stream: false,
            output_tokens_max: None, n: 1, usage: UsageAsk::AsSent, continuous_usage: false, prompt,
            salt: None,
        };
        let mut chain = Chain::default();
        read(&mut chain, &ROOT, body.as_bytes(), &ask);
        let input = Ask { prompt: PromptSpans { messages: span(4), ..Default::default() }, ..ask };
        read(&mut chain, &ROOT, body.as_bytes(), &input);
    }
}
