//! Consistent hashing with bounded load: a ring with 160 places for each GPU; the key's GPU takes the
//! request unless it has more than 1.25 times the mean number in flight, then the next on the ring.
//!
//! The key is the session where there is one, else the first 256 tokens.

use sluice_sim::engine::Time;
use sluice_sim::text::mix;

use crate::replay::chooser::{Chooser, End, FleetView, Gpu, Question};

const PLACES: u64 = 160;
const LOAD_FACTOR: f64 = 1.25;
const KEY_TOKENS: u32 = 256;

pub struct BoundedHash {
    /// (where, whose), in order.
    ring: Vec<(u64, Gpu)>,
    in_flight: Vec<u64>,
}

impl BoundedHash {
    pub fn new(gpus: usize) -> Self {
        let places = |gpu: Gpu| (0..PLACES).map(move |at| (mix(mix(7, gpu as u64), at), gpu));
        let mut ring: Vec<(u64, Gpu)> = (0..gpus).flat_map(places).collect();
        ring.sort_unstable();
        Self { ring, in_flight: vec![0; gpus] }
    }
}

fn key(asked: &Question<'_>) -> u64 {
    match asked.ask.session {
        Some(session) => mix(1, session),
        None => {
            let blocks = KEY_TOKENS.div_ceil(asked.block_tokens) as usize;
            let blocks = &asked.blocks()[..blocks.min(asked.blocks().len())];
            blocks.last().copied().unwrap_or(asked.ask.pieces.first().map_or(0, |p| p.seed))
        }
    }
}

impl Chooser for BoundedHash {
    fn route(&mut self, _: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        let open = fleet.candidates();
        let total: u64 = self.in_flight.iter().sum::<u64>() + 1;
        let most = (total as f64 * LOAD_FACTOR / open.len().max(1) as f64).ceil() as u64;
        let start = self.ring.partition_point(|(place, _)| *place < key(asked));
        let around = (0..self.ring.len()).map(|step| self.ring[(start + step) % self.ring.len()].1);
        let mut open_around = around.filter(|gpu| open.contains(gpu));
        let first = open_around.clone().next()?;
        Some(open_around.find(|gpu| self.in_flight[*gpu] < most).unwrap_or(first))
    }

    fn dispatched(&mut self, _: Time, _: &Question<'_>, gpu: Gpu) {
        self.in_flight[gpu] += 1;
    }

    fn finished(&mut self, _: Time, _: &Question<'_>, gpu: Gpu, _: &End) {
        self.in_flight[gpu] -= 1;
    }
}
