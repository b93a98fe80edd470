//! Dynamo's KV router with its defaults: an index of every worker's blocks from KV events, and the least
//!
//! `max(0, prefill blocks in flight + the request's - overlap) + blocks that would be active`
//!
//! where prefill counts until the first token and active blocks are the distinct blocks of all prompts in
//! flight. Temperature 0: the least cost, any of equals.

use std::collections::HashMap;

use sluice_sim::engine::Time;

use crate::replay::chooser::{Chooser, End, FleetView, Gpu, Question};
use crate::replay::hashes::HashTable;
use crate::replay::random::Random;

#[derive(Default)]
struct Worker {
    /// Uncached prompt tokens of requests without a first token.
    prefill_tokens: u64,
    /// Blocks of prompts in flight → how many prompts.
    active: HashTable<u32>,
}

pub struct Dynamo {
    workers: Vec<Worker>,
    /// Request → uncached tokens it was sent with, until its first token.
    pending: HashMap<usize, u64>,
    random: Random,
}

impl Dynamo {
    pub fn new(gpus: usize, seed: u64) -> Self {
        let workers = (0..gpus).map(|_| Worker::default()).collect();
        Self { workers, pending: HashMap::new(), random: Random::new(seed) }
    }

    /// Cost in blocks.
    fn cost(&self, asked: &Question<'_>, fleet: &FleetView<'_>, gpu: Gpu) -> f64 {
        let worker = &self.workers[gpu];
        let block = f64::from(asked.block_tokens);
        let overlap = fleet.blocks_stored(gpu, asked.blocks()) as f64;
        let prefill = (worker.prefill_tokens as f64 + f64::from(asked.tokens())) / block;
        let shared = asked.blocks().iter().take_while(|hash| worker.active.contains_key(hash));
        let active = worker.active.len() + asked.blocks().len() - shared.count();
        (prefill - overlap).max(0.0) + active as f64
    }

    fn prefilled(&mut self, index: usize, gpu: Gpu) {
        self.workers[gpu].prefill_tokens -= self.pending.remove(&index).unwrap_or(0);
    }
}

impl Chooser for Dynamo {
    fn route(&mut self, _: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        let open = fleet.candidates();
        let costs: Vec<f64> = open.iter().map(|gpu| self.cost(asked, fleet, *gpu)).collect();
        let cost = |gpu: Gpu| costs[open.iter().position(|at| *at == gpu).unwrap_or(0)];
        let gpu = super::cheapest(&open, &mut self.random, cost)?;
        let stored = fleet.blocks_stored(gpu, asked.blocks()) as u64;
        let cached = stored * u64::from(asked.block_tokens);
        self.pending.insert(asked.index, u64::from(asked.tokens()).saturating_sub(cached));
        Some(gpu)
    }

    fn dispatched(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu) {
        let worker = &mut self.workers[gpu];
        worker.prefill_tokens += self.pending.get(&asked.index).copied().unwrap_or(0);
        for hash in asked.blocks() {
            *worker.active.entry(*hash).or_default() += 1;
        }
    }

    fn first_token(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu) {
        self.prefilled(asked.index, gpu);
    }

    fn finished(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu, _: &End) {
        self.prefilled(asked.index, gpu);
        let active = &mut self.workers[gpu].active;
        for hash in asked.blocks() {
            if let Some(count) = active.get_mut(hash) {
                *count -= 1;
                if *count == 0 {
                    active.remove(hash);
                }
            }
        }
    }
}
