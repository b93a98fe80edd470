//! What a shard and the control plane tell each other of engines that tell of their own caches.
//!
//! Both ways are bounded and lossy: a prompt that finds no room is not tokenised, a change that finds none
//! leaves the estimate in its place.
//!
//! Of some prompts such an engine cannot tell ([`is_tellable`]): they are not offered, and what is believed
//! of them is learned from answers, as if their engine told nothing.

use std::ops::Range;

use crossbeam::queue::ArrayQueue;

use super::chain::{Chain, Root};
use crate::api::Ask;
use crate::api::operation::Operation;
use crate::config::plan::EndpointId;

/// Prompts of one shard that wait to be tokenised. They are copies: under load, most are not made.
pub const PROMPTS_MAX: usize = 16;
/// Bytes of a body that is copied for it, at most.
pub const PROMPT_BYTES_MAX: usize = 1 << 20;
/// Changes that wait for one shard's tick.
pub const CHANGES_MAX: usize = 16_384;

/// A block's hash in a prompt's chain.
pub type ChainHash = u64;

/// A prompt that was sent to an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Of the plan whose id follows.
    pub generation: u64,
    pub endpoint: EndpointId,
    /// The name that the endpoint knows the model by.
    pub model: Box<str>,
    /// The request's body, as the client sent it.
    pub body: Box<[u8]>,
    /// The `cache_salt` that it was sent with, as JSON; empty without one.
    pub salt: Box<[u8]>,
    /// Where each block of its chain ends, bytes of the prompt.
    pub blocks: Box<[(ChainHash, u64)]>,
    /// All bytes of the prompt.
    pub bytes: u64,
}

/// What an engine's cache was found to have, or not to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Holds(ChainHash),
    Lost(ChainHash),
    LostAll,
}

/// A change, and whose: by what the endpoint's cache depends on.
pub type News = (u64, Change);

/// The two ways between one shard and the control plane.
#[derive(Debug)]
pub struct Lane {
    pub prompts: ArrayQueue<Prompt>,
    pub changes: ArrayQueue<News>,
}

impl Default for Lane {
    fn default() -> Self {
        let prompts = ArrayQueue::new(PROMPTS_MAX);
        Self { prompts, changes: ArrayQueue::new(CHANGES_MAX) }
    }
}

/// Whether events can tell of this prompt: engines tokenise it as they render it, and of equal tokens they
/// mean this one. `/tokenize` takes what chat and text completions do, one prompt at a time; for Anthropic's
/// messages and for responses it has no members, and each release translates them its own way. Not every
/// engine tells which adapter a block is for.
pub fn is_tellable(root: &Root<'_>, body: &[u8], ask: &Ask) -> bool {
    let one = |span: &Range<usize>| body.get(span.clone()).is_some_and(is_one);
    root.adapter.is_empty()
        && body.len() <= PROMPT_BYTES_MAX
        && match ask.op {
            Operation::Chat => true,
            Operation::Completions => ask.prompt.prompt.as_ref().is_some_and(one),
            _ => false,
        }
}

/// A text, or a list of token ids; lists of them are several prompts.
fn is_one(prompt: &[u8]) -> bool {
    match prompt.strip_prefix(b"[") {
        Some(list) => list.trim_ascii_start().first().is_some_and(u8::is_ascii_digit),
        None => prompt.first() == Some(&b'"'),
    }
}

impl Lane {
    /// Offers a prompt for the model that its endpoint knows by the name `model`, if events can tell of it
    /// and there is room for a copy; whether there was.
    pub fn offer(
        &self,
        (generation, endpoint): (u64, EndpointId),
        model: &str,
        body: &[u8],
        salt: &[u8],
        chain: &Chain,
    ) -> bool {
        if self.prompts.is_full() || !chain.is_tellable() || chain.hashes().is_empty() {
            return false;
        }
        let end = |(at, hash): (usize, &u64)| (*hash, chain.bytes_at(at + 1));
        let prompt = Prompt {
            generation,
            endpoint,
            model: model.into(),
            body: body.into(),
            salt: salt.into(),
            blocks: chain.hashes().iter().enumerate().map(end).collect(),
            bytes: chain.bytes(),
        };
        self.prompts.push(prompt).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::read_ask;
    use crate::json::Bounds;

    fn told(op: Operation, adapter: &str, body: &str) -> bool {
        let ask = read_ask(op, body.as_bytes(), &Bounds { depth_max: 64 }).unwrap();
        let root = Root { model: "m", adapter, salt: b"" };
        let mut chain = Chain::default();
        crate::route::chain::read(&mut chain, &root, body.as_bytes(), &ask);
        chain.is_tellable()
    }

    #[test]
    fn events_tell_of_what_engines_tokenise_as_they_render_it() {
        let chat = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#;
        assert!(told(Operation::Chat, "", chat));
        assert!(!told(Operation::Chat, "sql", chat));
        assert!(!told(Operation::Messages, "", chat));
        assert!(!told(Operation::Responses, "", r#"{"model":"m","input":"x"}"#));
        for (prompt, expected) in [
            (r#""x""#, true),
            ("[1, 2]", true),
            ("[ 1]", true),
            (r#"["x"]"#, false),
            ("[[1],[2]]", false),
            ("[]", false),
        ] {
            let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
            assert_eq!(told(Operation::Completions, "", &body), expected, "{prompt}");
        }
    }
}
