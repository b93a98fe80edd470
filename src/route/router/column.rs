//! What is known of one endpoint beside its cache's content.

use crate::route::horizon::Horizon;
use crate::route::learn::Learned;

/// Prompts that an endpoint answered last, kept to tell a cache that was lost from one that is small.
const RECENT_MAX: usize = 16;

/// One endpoint's column.
#[derive(Debug, Default)]
pub struct Column {
    pub learned: Learned,
    pub horizon: Horizon,
    /// How often it had come back after it was away, when that was last heard.
    pub returns: Option<u32>,
    /// Tokens of one block of its KV cache, where that is known.
    pub block_tokens: Option<u32>,
    /// Its engine tells of its cache itself.
    pub tells: bool,
    recent: [u64; RECENT_MAX],
    next: usize,
}

impl Column {
    /// An endpoint of which nothing is known. Takes its memory now.
    pub fn new() -> Self {
        Self { learned: Learned::with_memory(), ..Self::default() }
    }

    /// What is known of it, where its KV cache holds `kv_tokens` in blocks of `block_tokens`, as far as that
    /// is known.
    pub fn seen(&mut self, kv_tokens: Option<u32>, block_tokens: Option<u32>) -> &Self {
        kv_tokens.into_iter().for_each(|tokens| self.horizon.bound(tokens));
        self.block_tokens = block_tokens.or(self.block_tokens);
        self
    }

    /// The prompt that ends with this block was answered.
    pub fn answered(&mut self, end: u64) {
        self.recent[self.next % RECENT_MAX] = end;
        self.next = self.next.wrapping_add(1);
    }

    /// Whether a prompt that ends with this block was one of the last answered: no cache is so small
    /// that it has lost it since.
    pub fn is_recent(&self, end: u64) -> bool {
        self.recent.contains(&end)
    }

    /// Its cache is empty again; its speed is what it was.
    pub fn forget(&mut self) {
        self.recent = [0; RECENT_MAX];
    }
}
