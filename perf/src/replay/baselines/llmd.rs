//! llm-d's endpoint picker: the default of three weighted scores over an approximate prefix index, and
//! "sticky until saturated", both with their defaults.
//!
//! The index: blocks of 64 tokens, up to 131,072 tokens of a prompt, the last 31,250 blocks sent to each pod.

use std::collections::HashMap;

use sluice_sim::engine::Time;

use super::lru::Lru;
use crate::replay::chooser::{Chooser, End, FleetView, Gpu, Question};
use crate::replay::random::Random;

const BLOCK_TOKENS: u32 = 64;
const INDEXED_TOKENS_MAX: u32 = 131_072;
const BLOCKS_PER_POD: usize = 31_250;

/// Weights of the default profile: prefix, queue, KV use.
const WEIGHTS: (f64, f64, f64) = (3.0, 2.0, 2.0);

/// Prefix score from which an endpoint is sticky.
const STICKY: f64 = 0.8;
/// The default calibration: tokens per second, and the penalty that breaks stickiness, in seconds.
const PEAK_PREFILL: f64 = 15_928.0;
const PENALTY_SECONDS: f64 = 18.0;
/// Tokens in flight at which the load score is 0.
const TOKENS_MAX: f64 = 4_194_304.0;

/// Which pods were sent which blocks.
struct Index {
    pods: Vec<Lru>,
}

impl Index {
    fn new(pods: usize) -> Self {
        Self { pods: (0..pods).map(|_| Lru::new(BLOCKS_PER_POD)).collect() }
    }

    /// Blocks of at least 64 tokens: of smaller engine blocks every so many.
    fn blocks<'a>(asked: &Question<'a>) -> impl Iterator<Item = u64> + 'a {
        let step = (BLOCK_TOKENS / asked.block_tokens).max(1) as usize;
        let most = (INDEXED_TOKENS_MAX / asked.block_tokens) as usize;
        asked.blocks().iter().take(most).skip(step - 1).step_by(step).copied()
    }

    /// For each pod the share of the prompt's blocks that it was sent before.
    fn shares(&self, asked: &Question<'_>) -> Vec<f64> {
        let (mut counts, mut total) = (vec![0_u32; self.pods.len()], 0_u32);
        let mut leading = true;
        for hash in Self::blocks(asked) {
            total += 1;
            if leading {
                leading = false;
                for (pod, count) in self.pods.iter().zip(&mut counts) {
                    let here = pod.contains(hash);
                    *count += u32::from(here);
                    leading |= here;
                }
            }
        }
        let share = |count: u32| f64::from(count) / f64::from(total.max(1));
        counts.into_iter().map(share).collect()
    }

    fn sent(&mut self, asked: &Question<'_>, gpu: Gpu) {
        Self::blocks(asked).for_each(|hash| self.pods[gpu].add(hash));
    }
}

/// The default profile.
pub struct Scored {
    index: Index,
    random: Random,
}

impl Scored {
    pub fn new(gpus: usize, seed: u64) -> Self {
        Self { index: Index::new(gpus), random: Random::new(seed) }
    }
}

impl Chooser for Scored {
    fn route(&mut self, _: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        let open = fleet.candidates();
        let prefix = self.index.shares(asked);
        let waiting = |gpu: &Gpu| f64::from(fleet.gpus[*gpu].gauges.waiting);
        let most = open.iter().map(waiting).fold(0.0, f64::max);
        let least = open.iter().map(waiting).fold(f64::INFINITY, f64::min);
        let queue = |gpu: Gpu| match most > least {
            true => (most - waiting(&gpu)) / (most - least),
            false => 1.0,
        };
        let kv = |gpu: Gpu| 1.0 - fleet.gpus[gpu].gauges.kv_use;
        super::cheapest(&open, &mut self.random, |gpu| {
            -(WEIGHTS.0 * prefix[gpu] + WEIGHTS.1 * queue(gpu) + WEIGHTS.2 * kv(gpu))
        })
    }

    fn dispatched(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu) {
        self.index.sent(asked, gpu);
    }
}

/// Sticky until saturated.
pub struct Sticky {
    index: Index,
    /// Uncached prompt tokens without a first token, by pod.
    tokens: Vec<f64>,
    /// Request → its part of that.
    pending: HashMap<usize, f64>,
    random: Random,
}

impl Sticky {
    pub fn new(gpus: usize, seed: u64) -> Self {
        let (index, random) = (Index::new(gpus), Random::new(seed));
        Self { index, tokens: vec![0.0; gpus], pending: HashMap::new(), random }
    }

    /// The sticky endpoints, unless they are too far behind the others.
    fn filter(&self, open: Vec<Gpu>, shares: &[f64]) -> Vec<Gpu> {
        let (sticky, others): (Vec<Gpu>, Vec<Gpu>) =
            open.iter().partition(|gpu| shares[**gpu] >= STICKY);
        if sticky.is_empty() || others.is_empty() {
            return open;
        }
        let least =
            |gpus: &[Gpu]| gpus.iter().map(|g| self.tokens[*g]).fold(f64::INFINITY, f64::min);
        let penalty = (least(&sticky) - least(&others)) / PEAK_PREFILL;
        if penalty > PENALTY_SECONDS { open } else { sticky }
    }

    fn prefilled(&mut self, index: usize, gpu: Gpu) {
        let tokens = self.pending.remove(&index).unwrap_or(0.0);
        self.tokens[gpu] = (self.tokens[gpu] - tokens).max(0.0);
    }
}

impl Chooser for Sticky {
    fn route(&mut self, _: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        let shares = self.index.shares(asked);
        let uncached = |gpu: Gpu| f64::from(asked.tokens()) * (1.0 - shares[gpu]);
        let open = self.filter(fleet.candidates(), &shares);
        let load = |gpu: Gpu| (self.tokens[gpu] + uncached(gpu)).min(TOKENS_MAX);
        let gpu = super::cheapest(&open, &mut self.random, load)?;
        self.pending.insert(asked.index, uncached(gpu));
        Some(gpu)
    }

    fn dispatched(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu) {
        self.tokens[gpu] += self.pending.get(&asked.index).copied().unwrap_or(0.0);
        self.index.sent(asked, gpu);
    }

    fn first_token(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu) {
        self.prefilled(asked.index, gpu);
    }

    fn finished(&mut self, _: Time, asked: &Question<'_>, gpu: Gpu, _: &End) {
        self.prefilled(asked.index, gpu);
    }
}
