use super::*;
use crate::replay::agents::agents;
use crate::replay::baselines::{LeastLoaded, RoundRobin, Sticky};
use crate::replay::ideal;
use crate::replay::prompts::prepare;
use crate::replay::summary::{Ideals, Slo, Summary, summarise};

fn load(sessions: u32) -> Load {
    let trace = agents(sessions, 3);
    let prepared = prepare(&trace, 64);
    Load { trace, prepared, block_tokens: 64 }
}

fn setup(gpus: usize, faults: &[&str]) -> Setup {
    let engine = EngineConfig { block_size: 64, kv_blocks: 4_000, ..EngineConfig::default() };
    let faults = faults.iter().map(|text| text.parse().unwrap()).collect();
    Setup { gpus, engine, pace: 2.0, faults }
}

fn summary(load: &Load, setup: &Setup, chooser: &mut dyn Chooser) -> Summary {
    let blocks = setup.engine.kv_blocks * setup.gpus as u32;
    let pooled = ideal::pooled(&load.prepared, blocks, 64);
    let ideals = Ideals { endless: ideal::plain(&load.trace), pooled };
    let slo = Slo { ttft_ms: 2_000.0, itl_ms: 200.0 };
    summarise(load, &play(load, setup, chooser), &ideals, slo)
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let (load, setup) = (load(30), setup(3, &["1:dead@30%-60%"]));
    let run = |seed| summary(&load, &setup, &mut Sticky::new(3, seed));
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn everybody_is_served_and_turns_wait_for_each_other() {
    let (load, setup) = (load(30), setup(3, &[]));
    let played = play(&load, &setup, &mut LeastLoaded::new(3));
    for (course, ask) in played.courses.iter().zip(&load.trace.asks) {
        assert_eq!(course.fate, Fate::Served);
        assert_eq!(course.output_tokens, ask.output_tokens);
        assert!(course.arrived >= ask.due(2.0) && course.first_token > course.arrived);
        let Some(before) = ask.after else { continue };
        assert!(course.arrived >= played.courses[before].last_token);
    }
    let outputs: usize = load.trace.asks.iter().map(|ask| ask.output_tokens as usize - 1).sum();
    assert_eq!(played.gaps_us.len(), outputs);
}

#[test]
fn one_gpu_finds_what_the_pool_finds() {
    let (load, setup) = (load(12), setup(1, &[]));
    let run = summary(&load, &setup, &mut RoundRobin::default());
    assert!((0.98..1.02).contains(&run.of_pooled), "{}", run.of_pooled);
}

#[test]
fn who_is_sent_to_a_dead_gpu_goes_elsewhere() {
    let (load, faulty) = (load(30), setup(3, &["1:dead@30%-60%"]));
    let run = summary(&load, &faulty, &mut RoundRobin::default());
    assert_eq!(run.served + run.failed, run.requests);
    assert!(run.retried > 0 && run.failed < 30, "{} {}", run.retried, run.failed);
    assert!(run.gpus[1].requests < run.gpus[0].requests);
}

#[test]
fn a_slow_gpu_is_slow() {
    let load = load(30);
    let run = |faults: &[&str]| summary(&load, &setup(3, faults), &mut RoundRobin::default());
    let (well, slow) = (run(&[]), run(&["0:slow=3@0%-100%"]));
    assert!(slow.ttft_ms.p90 > well.ttft_ms.p90 * 1.3);
}

#[test]
fn a_prompt_that_fits_nowhere_is_refused() {
    let load = load(2);
    let small = EngineConfig { kv_blocks: 100, ..setup(2, &[]).engine };
    let setup = Setup { engine: small, ..setup(2, &[]) };
    let run = summary(&load, &setup, &mut RoundRobin::default());
    assert_eq!((run.refused, run.served), (run.requests, 0));
}
