//! One sequence inside an engine: how far it is, and the hashes of its blocks.

use super::blocks::BlockId;
use super::config::Time;
use super::request::{Request, chain};

/// State of one submitted request.
pub struct Sequence {
    pub request: Request,
    pub arrived: Time,
    /// First time in a batch.
    pub scheduled: Option<Time>,
    /// Prompt tokens found in the cache at that time.
    pub cached: u32,
    /// Tokens (of prompt and output) whose KV is in `blocks`.
    pub computed: u32,
    /// Output tokens so far.
    pub generated: u32,
    /// Steps until its next turn to decode.
    pub rest: u32,
    pub blocks: Vec<BlockId>,
    /// Blocks already published to the cache.
    pub published: u32,
    hashes: Vec<u64>,
    tail: Vec<u32>,
}

impl Sequence {
    pub fn new(mut request: Request, arrived: Time) -> Self {
        let hashes = std::mem::take(&mut request.prompt.blocks);
        let tail = std::mem::take(&mut request.prompt.tail);
        Self {
            request,
            arrived,
            scheduled: None,
            cached: 0,
            computed: 0,
            generated: 0,
            rest: 0,
            blocks: Vec::new(),
            published: 0,
            hashes,
            tail,
        }
    }

    /// Tokens that exist: the prompt and what was generated.
    pub fn known(&self) -> u32 {
        self.request.prompt.tokens + self.generated
    }

    /// Whether its next step is a plain decode.
    pub fn is_decoding(&self) -> bool {
        self.generated > 0 && self.known() - self.computed == 1
    }

    /// Hashes of the whole blocks known so far.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Books `count` generated tokens, whose blocks become addressable as they fill.
    pub fn generate(&mut self, count: u32, block_size: u32) {
        if let Some(voice) = self.request.voice {
            for position in self.generated..self.generated + count {
                self.tail.push(voice.id(position));
                self.close_block(block_size);
            }
        }
        self.generated += count;
    }

    fn close_block(&mut self, block_size: u32) {
        if self.tail.len() == block_size as usize {
            let parent = self.hashes.last().copied().unwrap_or(self.request.prompt.root);
            self.hashes.push(chain(parent, &self.tail));
            self.tail.clear();
        }
    }

    /// Back to the queue with nothing computed; its tokens stay known.
    pub fn preempt(&mut self) {
        self.computed = 0;
        self.published = 0;
    }
}
