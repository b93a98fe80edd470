//! The engine model: continuous batching over a paged KV cache, in the caller's time.
//!
//! Pure: no clock, no I/O, no threads, no randomness but hashes. The caller submits and aborts
//! with the time it is, asks [`Engine::next_wakeup`], and lets [`Engine::advance`] run every step
//! that ends by then. One step is scheduled as vLLM's V1 scheduler does it: running sequences
//! first (one token each, or the next chunk of an unfinished prefill), then waiting ones, within
//! `max_num_batched_tokens` and `max_num_seqs`; when blocks run out the youngest sequence is
//! preempted and recomputed later. A step takes `step_base` + its decoding sequences ×
//! `step_per_sequence` + its prefilled tokens × `step_per_prefill_token`.
//!
//! Invariants: the blocks of a sequence cover at least its computed tokens; a sequence is in
//! exactly one of `running`, `waiting`, gone; outputs come in step order, and within a step in
//! batch order; a step that has begun keeps its length whatever is aborted meanwhile.

mod blocks;
mod config;
mod journal;
mod request;
mod sequence;
mod slots;

pub use blocks::{BlockId, BlockPool};
pub use config::{EngineConfig, MILLISECOND, SECOND, Time, prefill_cost};
pub use journal::Told;
pub use request::{Aborted, Output, Phase, Prompt, Request, SeqId, Stats, TooLong, chain};

use crate::text::mix;
use journal::Journal;
use sequence::Sequence;
use slots::Slots;
use std::collections::VecDeque;

/// A step that is under way.
struct Step {
    ends: Time,
    /// Who computes how many tokens.
    plan: Vec<(SeqId, u32)>,
}

/// What a schedule under construction has taken so far.
#[derive(Default)]
struct Batch {
    plan: Vec<(SeqId, u32)>,
    tokens: u32,
    decoding: u64,
    prefilled: u64,
}

/// One simulated engine.
pub struct Engine {
    config: EngineConfig,
    /// Step times are multiplied by this: a slow or throttled machine.
    slowdown: f64,
    pool: BlockPool,
    seqs: Slots<Sequence>,
    running: Vec<SeqId>,
    waiting: VecDeque<SeqId>,
    step: Option<Step>,
    /// A plan's memory, kept from one step to the next.
    spare: Vec<(SeqId, u32)>,
    /// The end of the last step.
    ended: Time,
    stats: Stats,
    journal: Journal,
}

impl Engine {
    /// An idle engine with an empty cache.
    pub fn new(config: EngineConfig) -> Self {
        let pool = BlockPool::new(config.kv_blocks);
        Self {
            config,
            slowdown: 1.0,
            pool,
            seqs: Slots::default(),
            running: Vec::new(),
            waiting: VecDeque::new(),
            step: None,
            spare: Vec::new(),
            ended: 0,
            stats: Stats::default(),
            journal: Journal::default(),
        }
    }

    /// Begins to note what happens to the cache, for [`Engine::told`]. Prompts must bring their token ids.
    pub fn tell(&mut self) {
        self.journal.switch_on();
    }

    /// What happened to the cache since the last call.
    pub fn told(&mut self) -> Vec<Told> {
        self.journal.take()
    }

    /// What it was made with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Multiplies the time of all later steps (1.0 = as configured).
    pub fn set_slowdown(&mut self, factor: f64) {
        self.slowdown = factor;
    }

    /// Forgets every cached block that is not in use, as a restarted engine has.
    pub fn clear_cache(&mut self) {
        self.pool.clear_cache();
        self.journal.tell(Some(Told::Cleared));
    }

    /// Counters, and gauges as of now.
    pub fn stats(&self) -> Stats {
        Stats {
            running: self.running.len() as u32,
            waiting: self.waiting.len() as u32,
            blocks_total: self.pool.total(),
            blocks_used: self.pool.total() - self.pool.free(),
            evictions: self.pool.evictions(),
            ..self.stats
        }
    }

    /// How many of these leading blocks are in the cache now.
    pub fn blocks_cached(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|hash| self.pool.find(**hash).is_some()).count()
    }

    /// Queues a request that arrives at `now` (never earlier than any time given before).
    pub fn submit(&mut self, now: Time, request: Request) -> Result<SeqId, TooLong> {
        let (needed, capacity) = (request.tokens_max(), self.config.capacity_tokens());
        if needed > capacity {
            return Err(TooLong { needed, capacity });
        }
        let id = self.seqs.insert(Sequence::new(request, now));
        self.waiting.push_back(id);
        Ok(id)
    }

    /// Ends a sequence at once and frees its blocks; `None` if it is over already.
    pub fn abort(&mut self, id: SeqId) -> Option<Aborted> {
        let generated = self.seqs.get(id)?.generated;
        let phase = if generated == 0 { Phase::Prefill } else { Phase::Decode };
        self.running.retain(|other| *other != id);
        self.waiting.retain(|other| *other != id);
        self.retire(id);
        Some(Aborted { phase, generated })
    }

    /// When [`Engine::advance`] next has something to do; `None` while there is no work.
    pub fn next_wakeup(&self) -> Option<Time> {
        match &self.step {
            Some(step) => Some(step.ends),
            None => self.next_start(),
        }
    }

    /// Runs every step that ends by `now`, appends what they gave to `outputs`, and begins the
    /// step that `now` falls into.
    pub fn advance(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while self.advance_step(now, outputs) {}
    }

    /// As [`Engine::advance`], but at most one step; whether one ended.
    pub fn advance_step(&mut self, now: Time, outputs: &mut Vec<Output>) -> bool {
        if self.step.is_none() {
            match self.next_start() {
                Some(start) if start <= now => self.begin_step(start),
                _ => return false,
            }
        }
        match self.step.take_if(|step| step.ends <= now) {
            Some(step) => {
                self.finish_step(step, outputs);
                true
            }
            None => false,
        }
    }

    /// When the next step can begin: straight after the last one, or when work arrives.
    fn next_start(&self) -> Option<Time> {
        if !self.running.is_empty() {
            return Some(self.ended);
        }
        let first = self.seqs.get(*self.waiting.front()?)?;
        Some(first.arrived.max(self.ended))
    }

    fn begin_step(&mut self, start: Time) {
        let mut batch = Batch { plan: std::mem::take(&mut self.spare), ..Batch::default() };
        let preempted = self.schedule_running(&mut batch);
        if !preempted {
            self.schedule_waiting(start, &mut batch);
        }
        let length = self.config.step_base
            + batch.decoding * self.config.step_per_sequence
            + batch.prefilled * self.config.step_per_prefill_token;
        let length = (length as f64 * self.slowdown) as Time;
        self.step = Some(Step { ends: start + length, plan: batch.plan });
        self.stats.busy += length;
        self.stats.step_tokens += u64::from(batch.tokens);
    }

    /// Gives every running sequence its turn; whether one had to leave for want of blocks.
    fn schedule_running(&mut self, batch: &mut Batch) -> bool {
        let (mut at, mut preempted) = (0, false);
        while at < self.running.len() {
            let id = self.running[at];
            let want = self.turn(id, batch);
            if want == 0 {
                at += 1;
            } else if self.grow(id, want) {
                self.book(id, want, batch);
                at += 1;
            } else {
                preempted = true;
                self.preempt_last();
            }
        }
        preempted
    }

    /// Tokens the running sequence may compute in this step.
    fn turn(&mut self, id: SeqId, batch: &Batch) -> u32 {
        let budget = self.config.max_num_batched_tokens.saturating_sub(batch.tokens);
        let Some(seq) = self.seqs.get_mut(id) else { return 0 };
        if seq.is_decoding() && seq.rest > 0 {
            seq.rest -= 1;
            return 0;
        }
        (seq.known() - seq.computed).min(budget)
    }

    fn schedule_waiting(&mut self, start: Time, batch: &mut Batch) {
        while let Some(&id) = self.waiting.front() {
            let budget = self.config.max_num_batched_tokens.saturating_sub(batch.tokens);
            let full = self.running.len() >= self.config.max_num_seqs as usize;
            let late = self.seqs.get(id).is_none_or(|seq| seq.arrived > start);
            if budget == 0 || full || late {
                return;
            }
            let Some(want) = self.admit(id, start, budget) else { return };
            self.waiting.pop_front();
            self.running.push(id);
            self.book(id, want, batch);
        }
    }

    /// Takes the cached prefix and blocks for the first chunk of a waiting sequence; `None`
    /// leaves everything as it was, for want of blocks.
    fn admit(&mut self, id: SeqId, start: Time, budget: u32) -> Option<u32> {
        let seq = self.seqs.get(id)?;
        let hits = self.cached_blocks(seq);
        let found = hits.len() as u32 * self.config.block_size;
        let want = (seq.known() - found).min(budget);
        let needed = (found + want).div_ceil(self.config.block_size) - hits.len() as u32;
        let resting = hits.iter().filter(|block| self.pool.is_free(**block)).count() as u32;
        if needed + resting > self.pool.free() {
            return None;
        }
        hits.iter().for_each(|block| self.pool.share(*block));
        let seq = self.seqs.get_mut(id)?;
        (seq.computed, seq.published) = (found, hits.len() as u32);
        seq.blocks = hits;
        if seq.scheduled.is_none() {
            (seq.scheduled, seq.cached) = (Some(start), found);
            self.stats.prefix_queries += u64::from(seq.request.prompt.tokens);
            self.stats.prefix_hits += u64::from(found);
        }
        self.grow(id, want).then_some(want)
    }

    /// The longest chain of cached blocks that leaves at least one token to compute.
    fn cached_blocks(&self, seq: &Sequence) -> Vec<BlockId> {
        if !self.config.prefix_caching {
            return Vec::new();
        }
        let most = (seq.known().saturating_sub(1) / self.config.block_size) as usize;
        seq.hashes().iter().take(most).map_while(|hash| self.pool.find(*hash)).collect()
    }

    /// Makes room for `want` more tokens and publishes the blocks that they fill; false, with
    /// nothing taken, when there are not enough blocks.
    fn grow(&mut self, id: SeqId, want: u32) -> bool {
        let Some(seq) = self.seqs.get_mut(id) else { return false };
        let covered = seq.computed + want;
        let needed = covered.div_ceil(self.config.block_size) as usize;
        if needed.saturating_sub(seq.blocks.len()) > self.pool.free() as usize {
            return false;
        }
        while seq.blocks.len() < needed {
            let Some((block, evicted)) = self.pool.take() else { return false };
            self.journal.tell(evicted.map(|hash| Told::Removed { hash }));
            seq.blocks.push(block);
        }
        if self.config.prefix_caching {
            let whole = (covered / self.config.block_size).min(seq.hashes().len() as u32);
            for at in seq.published as usize..whole as usize {
                let fresh = self.pool.publish(seq.blocks[at], seq.hashes()[at]);
                if fresh && self.journal.is_on() {
                    self.journal.tell(seq.told(at, self.config.block_size));
                }
            }
            seq.published = seq.published.max(whole);
        }
        true
    }

    fn book(&mut self, id: SeqId, want: u32, batch: &mut Batch) {
        batch.plan.push((id, want));
        batch.tokens += want;
        match self.seqs.get(id).is_some_and(Sequence::is_decoding) {
            true => batch.decoding += 1,
            false => batch.prefilled += u64::from(want),
        }
    }

    fn preempt_last(&mut self) {
        let Some(id) = self.running.pop() else { return };
        self.release_blocks(id);
        if let Some(seq) = self.seqs.get_mut(id) {
            seq.preempt();
        }
        self.waiting.push_front(id);
        self.stats.preemptions += 1;
    }

    fn finish_step(&mut self, mut step: Step, outputs: &mut Vec<Output>) {
        self.ended = step.ends;
        self.stats.steps += 1;
        for (id, computed) in step.plan.drain(..) {
            if let Some(output) = self.finish_turn(id, computed, step.ends) {
                outputs.push(output);
                if output.last {
                    self.running.retain(|other| *other != id);
                    self.retire(id);
                }
            }
        }
        self.spare = step.plan;
    }

    /// Books what one sequence computed; an output once it has computed all it knows.
    fn finish_turn(&mut self, id: SeqId, computed: u32, at: Time) -> Option<Output> {
        let seq = self.seqs.get_mut(id)?;
        seq.computed += computed;
        if seq.computed < seq.known() {
            return None;
        }
        let first = seq.generated;
        let count = accepted(&self.config, seq).min(seq.request.output_tokens - first);
        seq.generate(count, self.config.block_size);
        // Draft tokens were computed beside the one that was known.
        seq.computed += count.saturating_sub(1);
        seq.rest = seq.request.stride.saturating_sub(1);
        self.stats.generation_tokens += u64::from(count);
        if first == 0 {
            self.stats.prompt_tokens += u64::from(seq.request.prompt.tokens);
        }
        Some(Output {
            at,
            seq: id,
            first,
            count,
            last: seq.generated == seq.request.output_tokens,
            cached: seq.cached,
            arrived: seq.arrived,
            scheduled: seq.scheduled.unwrap_or(at),
        })
    }

    fn retire(&mut self, id: SeqId) {
        self.release_blocks(id);
        self.seqs.remove(id);
    }

    /// Gives the blocks back, the end of the sequence first: beginnings are shared more often.
    fn release_blocks(&mut self, id: SeqId) {
        if let Some(seq) = self.seqs.get_mut(id) {
            seq.blocks.drain(..).rev().for_each(|block| self.pool.release(block));
        }
    }
}

/// Tokens a decode step yields: one, and each accepted draft.
fn accepted(config: &EngineConfig, seq: &Sequence) -> u32 {
    if config.draft_tokens == 0 || seq.generated == 0 {
        return 1;
    }
    let chance = u64::from(config.draft_acceptance_permille);
    let roll = |draft: u32| mix(u64::from(seq.known()), u64::from(draft)) % 1_000;
    1 + (0..config.draft_tokens).take_while(|draft| roll(*draft) < chance).count() as u32
}

#[cfg(test)]
mod tests;
