//! One sequence inside an engine: how far it is, and the hashes of its blocks.

use super::blocks::BlockId;
use super::config::Time;
use super::journal::Told;
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
    /// All token ids so far, where the request brought its own.
    ids: Vec<u32>,
}

impl Sequence {
    pub fn new(mut request: Request, arrived: Time) -> Self {
        let hashes = std::mem::take(&mut request.prompt.blocks);
        let tail = std::mem::take(&mut request.prompt.tail);
        let ids = std::mem::take(&mut request.prompt.ids);
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
            ids,
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

    /// The block's content, as an engine tells it; `None` where the tokens are not known.
    pub fn told(&self, at: usize, block_size: u32) -> Option<Told> {
        let size = block_size as usize;
        let tokens = self.ids.get(at * size..(at + 1) * size)?.to_vec();
        let parent = at.checked_sub(1).map(|before| self.hashes[before]);
        let salt = self.request.prompt.salt.clone().filter(|_| at == 0);
        Some(Told::Stored { hash: self.hashes[at], parent, tokens, salt })
    }

    /// Books `count` generated tokens, whose blocks become addressable as they fill.
    pub fn generate(&mut self, count: u32, block_size: u32) {
        if let Some(voice) = self.request.voice {
            for position in self.generated..self.generated + count {
                let id = voice.id(position);
                self.tail.push(id);
                if !self.ids.is_empty() {
                    self.ids.push(id);
                }
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
