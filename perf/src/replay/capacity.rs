//! What a fleet could serve at best, measured: the fleet as one engine, that many times as fast, with one
//! pooled cache and no routing to get wrong. Capacity is the highest rate at which it keeps up.

use sluice_sim::engine::EngineConfig;

use super::baselines::RoundRobin;
use super::fleet::{Fate, Load, Played, Setup, play};

/// It keeps up while those who come last (a quarter of all) wait less for their first token, in the mean.
const WAIT_MS_MAX: f64 = 1_000.0;
/// Steps of the search: the rate is exact to a few thousandths.
const STEPS: u32 = 9;

/// A fleet as one engine.
pub fn pooled(setup: &Setup) -> Setup {
    let (engine, gpus) = (&setup.engine, setup.gpus as u32);
    let engine = EngineConfig {
        kv_blocks: engine.kv_blocks * gpus,
        max_num_seqs: engine.max_num_seqs * gpus,
        max_num_batched_tokens: engine.max_num_batched_tokens * gpus,
        step_per_sequence: engine.step_per_sequence / u64::from(gpus),
        step_per_prefill_token: engine.step_per_prefill_token / u64::from(gpus),
        ..engine.clone()
    };
    Setup { gpus: 1, engine, faults: Vec::new(), ..setup.clone() }
}

/// The pace at which the pooled fleet is full.
pub fn full_pace(load: &Load, setup: &Setup) -> f64 {
    let mut setup = pooled(setup);
    let (mut low, mut high) = (0.0, fastest(load, &setup));
    for _ in 0..STEPS {
        setup.pace = (low + high) / 2.0;
        match keeps_up(&play(load, &setup, &mut RoundRobin::default())) {
            true => low = setup.pace,
            false => high = setup.pace,
        }
    }
    low
}

/// The pace at which the engine would have to generate all outputs and the cheapest prompts without pause:
/// more than it can.
fn fastest(load: &Load, setup: &Setup) -> f64 {
    let engine = &setup.engine;
    let outputs: u64 = load.trace.asks.iter().map(|ask| u64::from(ask.output_tokens)).sum();
    let fresh = super::ideal::working_set(&load.prepared) as u64 * u64::from(load.block_tokens);
    let least = outputs * engine.step_per_sequence
        + fresh.saturating_sub(outputs) * engine.step_per_prefill_token;
    let span = load.trace.asks.len() as f64 / load.trace.rate();
    span / (least as f64 / 1e9).max(1e-9)
}

fn keeps_up(played: &Played) -> bool {
    let mut served: Vec<_> = played.courses.iter().filter(|c| c.fate == Fate::Served).collect();
    served.sort_by_key(|course| course.arrived);
    let late = &served[served.len() * 3 / 4..];
    let waits = late.iter().map(|course| (course.first_token - course.arrived) as f64 / 1e6);
    waits.sum::<f64>() / late.len().max(1) as f64 <= WAIT_MS_MAX
}
