//! Each in its turn.

use sluice_sim::engine::Time;

use crate::replay::chooser::{Chooser, FleetView, Gpu, Question};

#[derive(Default)]
pub struct RoundRobin {
    turn: usize,
}

impl Chooser for RoundRobin {
    fn route(&mut self, _: Time, _: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        let open = fleet.candidates();
        self.turn += 1;
        (!open.is_empty()).then(|| open[(self.turn - 1) % open.len()])
    }
}
