//! The GPU with the fewest requests of ours in flight; ties go round.

use sluice_sim::engine::Time;

use crate::replay::chooser::{Chooser, End, FleetView, Gpu, Question};

pub struct LeastLoaded {
    in_flight: Vec<u64>,
    turn: usize,
}

impl LeastLoaded {
    pub fn new(gpus: usize) -> Self {
        Self { in_flight: vec![0; gpus], turn: 0 }
    }
}

impl Chooser for LeastLoaded {
    fn route(&mut self, _: Time, _: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        self.turn += 1;
        let (turn, count) = (self.turn, self.in_flight.len());
        let place = |gpu: usize| (gpu + count - turn % count) % count;
        fleet.candidates().into_iter().min_by_key(|gpu| (self.in_flight[*gpu], place(*gpu)))
    }

    fn dispatched(&mut self, _: Time, _: &Question<'_>, gpu: Gpu) {
        self.in_flight[gpu] += 1;
    }

    fn finished(&mut self, _: Time, _: &Question<'_>, gpu: Gpu, _: &End) {
        self.in_flight[gpu] -= 1;
    }
}
