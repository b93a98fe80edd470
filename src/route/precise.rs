//! What a shard and the control plane tell each other of engines that tell of their own caches.
//!
//! Both ways are bounded and lossy: a prompt that finds no room is not tokenised, a change that finds none
//! leaves the estimate in its place.

use crossbeam::queue::ArrayQueue;

use super::chain::Chain;
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

impl Lane {
    /// Offers a prompt, if there is room for a copy of it; whether there was.
    pub fn offer(
        &self,
        (generation, endpoint): (u64, EndpointId),
        body: &[u8],
        salt: &[u8],
        chain: &Chain,
    ) -> bool {
        if self.prompts.is_full() || body.len() > PROMPT_BYTES_MAX {
            return false;
        }
        let end = |(at, hash): (usize, &u64)| (*hash, chain.bytes_at(at + 1));
        let prompt = Prompt {
            generation,
            endpoint,
            body: body.into(),
            salt: salt.into(),
            blocks: chain.hashes().iter().enumerate().map(end).collect(),
            bytes: chain.bytes(),
        };
        self.prompts.push(prompt).is_ok()
    }
}
