//! What a shard and the control plane tell each other of engines that tell of their own caches.
//!
//! All ways are bounded and lossy: a prompt that finds no room is not tokenised, a change that finds none
//! leaves the estimate in its place, and who waits for an answer waits no longer than it likes.
//!
//! Of some prompts such an engine cannot tell ([`is_tellable`]): they are not offered, and what is believed
//! of them is learned from answers, as if their engine told nothing.

use std::ops::Range;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;

use super::chain::{Chain, Root};
use crate::api::Ask;
use crate::api::operation::Operation;
use crate::config::plan::EndpointId;

/// Prompts of one shard that wait to be tokenised. They are copies: under load, most are not made.
pub const PROMPTS_MAX: usize = 16;
/// Bytes of a body that is copied for it, at most.
pub const PROMPT_BYTES_MAX: usize = 1 << 20;
/// Prompts of one shard that are to be tokenised before they are sent, and bytes of their bodies.
pub const QUESTIONS_MAX: usize = 64;
pub const QUESTION_BYTES_MAX: usize = 8 << 20;
/// Changes that wait for one shard's tick, or for its bell.
pub const CHANGES_MAX: usize = 16_384;

/// A block's hash in a prompt's chain.
pub type ChainHash = u64;

/// Who waits for a prompt's tokens: a place in its shard's list, and which use of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub place: u16,
    pub life: u32,
}

/// What comes of a prompt that was tokenised before it was sent. The changes that it brought were told
/// earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub ticket: Ticket,
    pub told: Told,
}

/// What is known of a prompt by the engines' own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `None`: nobody has counted them.
    pub tokens: Option<u32>,
    /// Whatever any of the model's engines holds of it is known.
    pub everywhere: bool,
}

/// A prompt, and who has to do with it.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Of the plan whose ids follow.
    pub generation: u64,
    /// Who was sent it, or is to tokenise it.
    pub endpoint: EndpointId,
    /// All that serve its model, that one included.
    pub endpoints: &'a [EndpointId],
    /// The name that they know the model by.
    pub model: &'a str,
    pub body: &'a [u8],
    /// The `cache_salt` that it is sent with, as JSON; empty without one.
    pub salt: &'a [u8],
}

/// A copy of a prompt, and where each block of its chain ends.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Of the plan whose ids follow.
    pub generation: u64,
    pub endpoint: EndpointId,
    pub endpoints: Box<[EndpointId]>,
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
    /// Who waits for it; `None`: it was sent, and nobody waits.
    pub waiter: Option<Waiter>,
}

/// Who waits for a prompt's tokens, for as long as the other end is there.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub ticket: Ticket,
    pub waits: Weak<()>,
}

impl Waiter {
    /// Nobody waits any more.
    pub fn is_gone(&self) -> bool {
        self.waits.strong_count() == 0
    }
}

/// What an engine's cache was found to have, or not to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Holds(ChainHash),
    /// It was stored a while ago, for whomever.
    Has(ChainHash),
    Lost(ChainHash),
    LostAll,
}

/// A change, and whose: by what the endpoint's cache depends on.
pub type News = (u64, Change);

/// The ways between one shard and the control plane.
#[derive(Debug)]
pub struct Lane {
    pub prompts: ArrayQueue<Prompt>,
    /// Prompts for which somebody waits, and the bytes of their bodies.
    questions: ArrayQueue<Prompt>,
    question_bytes: AtomicUsize,
    pub changes: ArrayQueue<News>,
    pub answers: ArrayQueue<Answer>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            prompts: ArrayQueue::new(PROMPTS_MAX),
            questions: ArrayQueue::new(QUESTIONS_MAX),
            question_bytes: AtomicUsize::new(0),
            changes: ArrayQueue::new(CHANGES_MAX),
            answers: ArrayQueue::new(2 * QUESTIONS_MAX),
        }
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
    /// Offers a prompt that was sent, if events can tell of it and there is room for a copy; whether there
    /// was.
    pub fn offer(&self, sent: &Sent<'_>, chain: &Chain) -> bool {
        let may = !self.prompts.is_full() && chain.is_tellable() && !chain.hashes().is_empty();
        may && self.prompts.push(Prompt::of(sent, chain, None)).is_ok()
    }

    /// Asks for a prompt's tokens before it is sent; whether there was room.
    pub fn ask(&self, sent: &Sent<'_>, chain: &Chain, waiter: Waiter) -> bool {
        let bytes = self.question_bytes.load(Ordering::Relaxed) + sent.body.len();
        if self.questions.is_full() || bytes > QUESTION_BYTES_MAX {
            return false;
        }
        self.question_bytes.fetch_add(sent.body.len(), Ordering::Relaxed);
        // The shard alone asks, so there is room.
        self.questions.push(Prompt::of(sent, chain, Some(waiter))).is_ok()
    }

    /// The next prompt for which somebody still waits.
    pub fn question(&self) -> Option<Prompt> {
        loop {
            let prompt = self.questions.pop()?;
            self.question_bytes.fetch_sub(prompt.body.len(), Ordering::Relaxed);
            if prompt.waiter.as_ref().is_some_and(|waiter| !waiter.is_gone()) {
                return Some(prompt);
            }
        }
    }

    /// Nobody is there to tokenise anything.
    pub fn clear(&self) {
        while self.question().is_some() || self.prompts.pop().is_some() {}
    }
}

impl Prompt {
    fn of(sent: &Sent<'_>, chain: &Chain, waiter: Option<Waiter>) -> Self {
        let end = |(at, hash): (usize, &u64)| (*hash, chain.bytes_at(at + 1));
        Self {
            generation: sent.generation,
            endpoint: sent.endpoint,
            endpoints: sent.endpoints.into(),
            model: sent.model.into(),
            body: sent.body.into(),
            salt: sent.salt.into(),
            blocks: chain.hashes().iter().enumerate().map(end).collect(),
            bytes: chain.bytes(),
            waiter,
        }
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
