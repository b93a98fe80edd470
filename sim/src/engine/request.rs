//! What is asked of an engine and what it gives: prompts as block chains, sequences, outputs.

use std::sync::Arc;

use super::config::Time;
use crate::text::mix;
use crate::text::voice::Voice;

/// Names one sequence of one engine; never reused (a slot comes back with a new generation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId {
    /// Index into a dense table: small, reused.
    pub slot: u32,
    /// Tells the users of one slot apart.
    pub generation: u32,
}

/// A prompt as the cache sees it: its length, a chain hash for each whole block, and the tokens
/// after the last whole block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Tokens in all.
    pub tokens: u32,
    /// `blocks[i]` addresses the content of blocks `0..=i`.
    pub blocks: Vec<u64>,
    /// Token ids of the last, partial block; empty where they are unknown, and then the request has
    /// no voice, for what follows an unknown token cannot be cached.
    pub tail: Vec<u32>,
    /// The chain's root: separates models, adapters and salts.
    pub root: u64,
    /// What it was salted with, for an engine that tells of its cache.
    pub salt: Option<Arc<str>>,
    /// All token ids, for an engine that tells of its cache; else empty.
    pub ids: Vec<u32>,
}

impl Prompt {
    /// Chains `ids` into blocks of `block_size` tokens.
    pub fn from_tokens(ids: &[u32], block_size: u32, root: u64) -> Self {
        let mut blocks = Vec::with_capacity(ids.len() / block_size as usize);
        let mut chunks = ids.chunks_exact(block_size as usize);
        let mut parent = root;
        for chunk in chunks.by_ref() {
            parent = chain(parent, chunk);
            blocks.push(parent);
        }
        Self {
            tokens: ids.len() as u32,
            blocks,
            tail: chunks.remainder().to_vec(),
            root,
            salt: None,
            ids: Vec::new(),
        }
    }

    /// With its token ids, of which it was chained, and its salt.
    pub fn with_ids(self, ids: &[u32], salt: Option<&str>) -> Self {
        Self { ids: ids.to_vec(), salt: salt.map(Arc::from), ..self }
    }

    /// A prompt known only by the identities of its blocks, as traces give it: equal identities
    /// must mean equal content up to and including that block.
    pub fn from_blocks(tokens: u32, block_size: u32, identities: &[u64]) -> Self {
        let whole = (tokens / block_size) as usize;
        let blocks = identities.iter().take(whole).map(|id| mix(0, *id)).collect();
        Self { tokens, blocks, ..Self::default() }
    }
}

/// The hash of a block's content that follows `parent`.
pub fn chain(parent: u64, ids: &[u32]) -> u64 {
    ids.iter().fold(mix(parent, 0x5bd1_e995), |state, id| mix(state, u64::from(*id)))
}

/// One sequence to run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What it reads.
    pub prompt: Prompt,
    /// Tokens it generates; 0 ends it with its prefill (embeddings).
    pub output_tokens: u32,
    /// What it says, so that its output can be cached too; `None` caches the prompt alone.
    pub voice: Option<Voice>,
    /// Takes part in decoding only every this many steps (0 and 1 mean every step): a slow decode
    /// on command.
    pub stride: u32,
}

impl Request {
    /// Tokens that the KV cache must hold for it at the end.
    pub fn tokens_max(&self) -> u64 {
        u64::from(self.prompt.tokens) + u64::from(self.output_tokens)
    }
}

/// A request that could never run: it needs more blocks than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Tokens it needs.
    pub needed: u64,
    /// Tokens the pool holds.
    pub capacity: u64,
}

/// What one step gave one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// When: the end of the step.
    pub at: Time,
    /// Whose.
    pub seq: SeqId,
    /// Position of the first new token among the sequence's outputs.
    pub first: u32,
    /// New tokens: 1, or more with speculative decoding, or 0 for a sequence without output.
    pub count: u32,
    /// Whether the sequence is over.
    pub last: bool,
    /// Prompt tokens that were found in the cache when it was first scheduled.
    pub cached: u32,
    /// When it was submitted.
    pub arrived: Time,
    /// When it was first scheduled.
    pub scheduled: Time,
}

/// How far a sequence was when it was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not one token had come out.
    Prefill,
    /// Tokens were coming.
    Decode,
}

/// What an abort found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// How far it was.
    pub phase: Phase,
    /// Tokens it had generated.
    pub generated: u32,
}

/// Counters and gauges of an engine, as its metrics page shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sequences in the batch.
    pub running: u32,
    /// Sequences in the queue.
    pub waiting: u32,
    /// Blocks in the pool.
    pub blocks_total: u32,
    /// Blocks in use by running sequences.
    pub blocks_used: u32,
    /// Cached blocks given up for new work.
    pub evictions: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// Prompt tokens of sequences whose prefill is done.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Sequences thrown out of the batch for lack of blocks.
    pub preemptions: u64,
    /// Steps done.
    pub steps: u64,
    /// Tokens of all steps done.
    pub step_tokens: u64,
    /// Time of all steps begun.
    pub busy: Time,
}
