//! Who decides: the seam between the fleet and a routing algorithm, ours or another's.
//!
//! A chooser sees what the real thing would see: the request, its own past decisions, what came of them,
//! and the engines' metrics as they were when last scraped. The truth stays in the fleet.

use sluice_sim::engine::{Engine, MILLISECOND, Time, Told};

use super::prompts::Prepared;
use super::trace::Ask;

/// A GPU of the fleet, by its place.
pub type Gpu = usize;

/// An engine's own gauges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Sequences in the batch.
    pub running: u32,
    /// Sequences in the queue.
    pub waiting: u32,
    /// Share of the KV blocks in use, 0 to 1.
    pub kv_use: f64,
}

/// One GPU as it is seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct GpuView {
    /// As health probes say; late by their delay.
    pub healthy: bool,
    /// As of the last scrape.
    pub gauges: Gauges,
}

/// The fleet as it is seen from outside, for one decision.
pub struct FleetView<'a> {
    pub gpus: &'a [GpuView],
    /// GPUs that failed this request already.
    pub tried: &'a [Gpu],
    pub(super) engines: &'a [Option<Engine>],
}

impl FleetView<'_> {
    /// GPUs to choose from: healthy and not tried; if there are none, whatever was not tried.
    pub fn candidates(&self) -> Vec<Gpu> {
        let open = |gpu: &Gpu| !self.tried.contains(gpu);
        let all = || (0..self.gpus.len()).filter(open);
        let healthy: Vec<Gpu> = all().filter(|gpu| self.gpus[*gpu].healthy).collect();
        if healthy.is_empty() { all().collect() } else { healthy }
    }

    /// Tokens that a GPU's KV cache holds, as the engines' metrics say.
    pub fn kv_tokens(&self) -> Option<u32> {
        let config = self.engines.iter().flatten().next()?.config();
        u32::try_from(config.capacity_tokens()).ok()
    }

    /// Tokens of one block of it, as they say.
    pub fn block_tokens(&self) -> Option<u32> {
        self.engines.iter().flatten().next().map(|engine| engine.config().block_size)
    }

    /// Leading blocks that are in the GPU's cache, as its KV events told without any delay.
    pub fn blocks_stored(&self, gpu: Gpu, blocks: &[u64]) -> usize {
        self.engines[gpu].as_ref().map_or(0, |engine| engine.blocks_cached(blocks))
    }
}

/// A request to be placed.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Its place in the trace.
    pub index: usize,
    pub ask: &'a Ask,
    pub prepared: &'a Prepared,
    /// Tokens of one block of `prepared`.
    pub block_tokens: u32,
}

impl<'a> Question<'a> {
    /// Hashes of the prompt's whole blocks.
    pub fn blocks(&self) -> &'a [u64] {
        &self.prepared.prompt.blocks
    }

    /// Tokens of the prompt.
    pub fn tokens(&self) -> u32 {
        self.prepared.prompt.tokens
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Prompt tokens found in the cache, as the engine's usage says; `None` if there was no usage.
    pub cached_tokens: Option<u32>,
    pub output_tokens: u32,
    /// False if the GPU died under it.
    pub whole: bool,
}

/// A routing algorithm.
pub trait Chooser {
    /// When the request can be routed, where something is to be found out first. Asked once, as it arrives.
    fn consult(&mut self, _now: Time, _asked: &Question<'_>) -> Option<Time> {
        None
    }

    /// The GPU for a request; `None` refuses it.
    fn route(&mut self, now: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu>;

    /// The request was sent there.
    fn dispatched(&mut self, _now: Time, _asked: &Question<'_>, _gpu: Gpu) {}

    /// Its first token came.
    fn first_token(&mut self, _now: Time, _asked: &Question<'_>, _gpu: Gpu) {}

    /// The attempt is over.
    fn finished(&mut self, _now: Time, _asked: &Question<'_>, _gpu: Gpu, _end: &End) {}

    /// The engines' metrics have just been scraped.
    fn scraped(&mut self, _now: Time, _fleet: &FleetView<'_>) {}

    /// Whether it listens to the engines' KV events.
    fn listens(&self) -> bool {
        false
    }

    /// What happened to a GPU's cache, in order.
    fn told(&mut self, _now: Time, _gpu: Gpu, _told: Vec<Told>) {}

    /// How often the engines' metrics are scraped.
    fn scrape_every(&self) -> Time {
        50 * MILLISECOND
    }
}
