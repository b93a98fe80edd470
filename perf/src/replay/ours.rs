//! Sluice's own routing, called as a shard calls it.

use sluice::config::plan::{EndpointId, Model, Policy};
use sluice::route::rank::{View, rank};
use sluice_sim::engine::Time;

use super::chooser::{Chooser, End, FleetView, Gpu, Question};

/// The ranking of a model's endpoints by views and turn.
pub struct Ranked {
    model: Model,
    in_flight: Vec<u64>,
    turn: u64,
}

impl Ranked {
    /// For so many GPUs.
    pub fn new(policy: Policy, gpus: usize) -> Self {
        let endpoints = (0..gpus as u16).map(EndpointId).collect();
        let model = Model { name: "m".into(), endpoints, policy, upstream_model: None };
        Self { model, in_flight: vec![0; gpus], turn: 0 }
    }
}

impl Chooser for Ranked {
    fn route(&mut self, _: Time, _: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        let view = |gpu: Gpu| View {
            endpoint: EndpointId(gpu as u16),
            healthy: fleet.gpus[gpu].healthy,
            in_flight: self.in_flight[gpu],
        };
        let views: Vec<View> = fleet.candidates().into_iter().map(view).collect();
        self.turn += 1;
        let ranked = rank(&self.model, &views, self.turn - 1);
        ranked.attempts().first().map(|endpoint| usize::from(endpoint.0))
    }

    fn dispatched(&mut self, _: Time, _: &Question<'_>, gpu: Gpu) {
        self.in_flight[gpu] += 1;
    }

    fn finished(&mut self, _: Time, _: &Question<'_>, gpu: Gpu, _: &End) {
        self.in_flight[gpu] -= 1;
    }
}
