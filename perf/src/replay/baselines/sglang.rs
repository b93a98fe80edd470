//! SGLang's `cache_aware`: one prefix tree over what was sent, with its workers on every node.
//!
//! While requests in flight are in balance: the worker at the end of the longest match, if that covers
//! more than a threshold of the prompt, else the worker with the smallest part of the tree. Out of balance:
//! the worker with the fewest requests. The real tree matches characters; here a node is a block.

use sluice_sim::engine::{SECOND, Time};

use crate::replay::chooser::{Chooser, End, FleetView, Gpu, Question};
use crate::replay::hashes::HashTable;

/// Characters of a token, for sizes in characters.
const TOKEN_CHARACTERS: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub cache_threshold: f64,
    pub balance_abs: u64,
    pub balance_rel: f64,
    pub eviction_every: Time,
    /// Characters that each worker may have in the tree after an eviction.
    pub tree_characters_max: u64,
}

impl Settings {
    /// What the router's command line sets.
    pub const CLI: Self = Self {
        cache_threshold: 0.3,
        balance_abs: 64,
        balance_rel: 1.5,
        eviction_every: 120 * SECOND,
        tree_characters_max: 67_108_864,
    };
    /// What the library sets.
    pub const LIBRARY: Self = Self {
        cache_threshold: 0.5,
        balance_abs: 32,
        balance_rel: 1.1,
        eviction_every: 30 * SECOND,
        tree_characters_max: 10_000,
    };
}

struct Node {
    depth: usize,
    /// Whose it is, and when each used it last; the first stays the first.
    workers: Vec<(Gpu, Time)>,
}

pub struct CacheAware {
    settings: Settings,
    tree: HashTable<Node>,
    /// Characters in the tree, by worker.
    sizes: Vec<u64>,
    in_flight: Vec<u64>,
    next_eviction: Time,
}

impl CacheAware {
    pub fn new(gpus: usize, settings: Settings) -> Self {
        Self {
            settings,
            tree: HashTable::default(),
            sizes: vec![0; gpus],
            in_flight: vec![0; gpus],
            next_eviction: settings.eviction_every,
        }
    }

    fn is_balanced(&self) -> bool {
        let most = self.in_flight.iter().copied().max().unwrap_or(0);
        let least = self.in_flight.iter().copied().min().unwrap_or(0);
        let apart = most as f64 > least as f64 * self.settings.balance_rel;
        most - least <= self.settings.balance_abs || !apart
    }

    /// Blocks matched, and whose the last of them is.
    fn longest_match(&mut self, now: Time, blocks: &[u64]) -> (usize, Option<Gpu>) {
        let matched = blocks.iter().take_while(|hash| self.tree.contains_key(hash)).count();
        let last = matched.checked_sub(1).and_then(|last| self.tree.get(&blocks[last]));
        let worker = last.and_then(|node| node.workers.first()).map(|(gpu, _)| *gpu);
        for hash in &blocks[..matched] {
            let node = self.tree.get_mut(hash);
            let seat =
                node.and_then(|n| n.workers.iter_mut().find(|(gpu, _)| Some(*gpu) == worker));
            seat.into_iter().for_each(|(_, used)| *used = now);
        }
        (matched, worker)
    }

    fn insert(&mut self, now: Time, asked: &Question<'_>, gpu: Gpu) {
        let characters = u64::from(asked.block_tokens) * TOKEN_CHARACTERS;
        for (depth, hash) in asked.blocks().iter().enumerate() {
            let new = || Node { depth, workers: Vec::new() };
            let node = self.tree.entry(*hash).or_insert_with(new);
            match node.workers.iter_mut().find(|(worker, _)| *worker == gpu) {
                Some((_, used)) => *used = now,
                None => {
                    node.workers.push((gpu, now));
                    self.sizes[gpu] += characters;
                }
            }
        }
    }

    #[cfg(test)]
    pub fn nodes(&self) -> Vec<u64> {
        let mut nodes: Vec<u64> = self.tree.keys().copied().collect();
        nodes.sort_unstable();
        nodes
    }

    /// Takes the leaves that were not used for longest from every worker that has too much.
    fn evict(&mut self, now: Time, block_tokens: u32) {
        while self.next_eviction <= now {
            self.next_eviction += self.settings.eviction_every;
            for gpu in 0..self.sizes.len() {
                self.evict_worker(gpu, u64::from(block_tokens) * TOKEN_CHARACTERS);
            }
            self.tree.retain(|_, node| !node.workers.is_empty());
        }
    }

    fn evict_worker(&mut self, gpu: Gpu, characters: u64) {
        let excess = self.sizes[gpu].saturating_sub(self.settings.tree_characters_max);
        let count = excess.div_ceil(characters) as usize;
        let used =
            |node: &Node| node.workers.iter().find(|(at, _)| *at == gpu).map(|(_, used)| *used);
        // What lies above was used at least as late, so leaves come first.
        let mut nodes: Vec<(Time, usize, u64)> = self
            .tree
            .iter()
            .filter_map(|(hash, node)| Some((used(node)?, usize::MAX - node.depth, *hash)))
            .collect();
        nodes.sort_unstable();
        for (_, _, hash) in nodes.into_iter().take(count) {
            self.sizes[gpu] -= characters;
            let node = self.tree.get_mut(&hash);
            node.into_iter().for_each(|node| node.workers.retain(|(at, _)| *at != gpu));
        }
    }
}

impl Chooser for CacheAware {
    fn route(&mut self, now: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        self.evict(now, asked.block_tokens);
        let open = fleet.candidates();
        let gpu = if self.is_balanced() {
            let (matched, worker) = self.longest_match(now, asked.blocks());
            let rate = matched as f64 / asked.blocks().len().max(1) as f64;
            let smallest = || (0..self.sizes.len()).min_by_key(|gpu| self.sizes[*gpu]);
            let chosen =
                worker.filter(|_| rate > self.settings.cache_threshold).or_else(smallest)?;
            if open.contains(&chosen) { chosen } else { *open.first()? }
        } else {
            open.into_iter().min_by_key(|gpu| self.in_flight[*gpu])?
        };
        self.insert(now, asked, gpu);
        Some(gpu)
    }

    fn dispatched(&mut self, _: Time, _: &Question<'_>, gpu: Gpu) {
        self.in_flight[gpu] += 1;
    }

    fn finished(&mut self, _: Time, _: &Question<'_>, gpu: Gpu, _: &End) {
        self.in_flight[gpu] -= 1;
    }
}
