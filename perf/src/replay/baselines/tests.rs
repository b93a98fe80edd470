use sluice_sim::engine::{Engine, EngineConfig, Prompt, Request, SECOND};

use super::*;
use crate::replay::chooser::{Chooser, End, FleetView, Gauges, GpuView, Question};
use crate::replay::prompts::Prepared;
use crate::replay::trace::{Ask, Part, Piece};

/// A few GPUs with nothing in them, and requests of whole blocks of 64 tokens.
struct Bench {
    views: Vec<GpuView>,
    engines: Vec<Option<Engine>>,
    asks: Vec<(Ask, Prepared)>,
}

impl Bench {
    fn new(gpus: usize, prompts: &[&[u64]]) -> Self {
        let config = EngineConfig { block_size: 64, ..EngineConfig::default() };
        let ask = |blocks: &&[u64]| {
            let tokens = blocks.len() as u32 * 64;
            let pieces = vec![Piece { seed: blocks[0], tokens, part: Part::User }];
            let prompt = Prompt { tokens, blocks: blocks.to_vec(), ..Prompt::default() };
            let ask = Ask {
                at: 0,
                offset: 0,
                after: None,
                session: None,
                pieces,
                output_tokens: 4,
                voice: None,
            };
            (ask, Prepared { prompt, said: Vec::new() })
        };
        Self {
            views: vec![GpuView { healthy: true, gauges: Gauges::default() }; gpus],
            engines: (0..gpus).map(|_| Some(Engine::new(config.clone()))).collect(),
            asks: prompts.iter().map(ask).collect(),
        }
    }

    fn question(&self, index: usize) -> Question<'_> {
        let (ask, prepared) = &self.asks[index];
        Question { index, ask, prepared, block_tokens: 64 }
    }

    fn choose(&self, chooser: &mut dyn Chooser, index: usize) -> usize {
        let fleet = FleetView { gpus: &self.views, tried: &[], engines: &self.engines };
        chooser.route(0, &self.question(index), &fleet).unwrap()
    }

    fn send(&self, chooser: &mut dyn Chooser, index: usize) -> usize {
        let gpu = self.choose(chooser, index);
        chooser.dispatched(0, &self.question(index), gpu);
        gpu
    }

    fn finish(&self, chooser: &mut dyn Chooser, index: usize, gpu: usize) {
        chooser.first_token(0, &self.question(index), gpu);
        let end = End { cached_tokens: Some(0), output_tokens: 4, whole: true };
        chooser.finished(0, &self.question(index), gpu, &end);
    }
}

#[test]
fn turns_and_counts() {
    let mut bench = Bench::new(3, &[&[1][..]; 4]);
    let mut turns = RoundRobin::default();
    assert_eq!([0, 1, 2, 3].map(|at| bench.send(&mut turns, at)), [0, 1, 2, 0]);
    let mut counts = LeastLoaded::new(3);
    let first = bench.send(&mut counts, 0);
    let second = bench.send(&mut counts, 1);
    let third = bench.send(&mut counts, 2);
    assert_eq!(first + second + third, 3);
    bench.finish(&mut counts, 1, second);
    assert_eq!(bench.send(&mut counts, 3), second);
    bench.views[0].healthy = false;
    assert!((0..9).all(|_| bench.choose(&mut turns, 0) != 0));
}

#[test]
fn sglang_follows_the_longest_match_and_else_fills_the_smallest_tree() {
    let bench = Bench::new(2, &[&[1, 2, 3, 4], &[9], &[1, 2, 3, 5], &[1, 7, 8, 6]]);
    let mut chooser = CacheAware::new(2, Settings::CLI);
    let first = bench.send(&mut chooser, 0);
    assert_eq!(bench.send(&mut chooser, 1), 1 - first);
    assert_eq!(bench.send(&mut chooser, 2), first);
    // A quarter of it is known, which is under the threshold.
    assert_eq!(bench.send(&mut chooser, 3), 1 - first);
}

#[test]
fn sglang_takes_the_least_loaded_when_out_of_balance() {
    let bench = Bench::new(2, &[&[1, 2, 3, 4][..]; 40]);
    let mut chooser = CacheAware::new(2, Settings::LIBRARY);
    let gpus: Vec<usize> = (0..40).map(|at| bench.send(&mut chooser, at)).collect();
    assert!(gpus[..33].iter().all(|gpu| *gpu == gpus[0]));
    assert_ne!(gpus[33], gpus[0]);
}

#[test]
fn sglang_evicts_the_oldest_leaves() {
    let bench = Bench::new(1, &[&[1, 2, 3], &[1, 2, 4]]);
    let two_blocks = Settings { tree_characters_max: 2 * 64 * 4, ..Settings::LIBRARY };
    let mut chooser = CacheAware::new(1, two_blocks);
    bench.send(&mut chooser, 0);
    let fleet = FleetView { gpus: &bench.views, tried: &[], engines: &bench.engines };
    chooser.route(SECOND, &bench.question(1), &fleet);
    // At the eviction, 3 is the oldest, then 4: the beginning stays. Then this request comes again.
    chooser.route(31 * SECOND, &bench.question(0), &fleet);
    assert_eq!(chooser.nodes(), vec![1, 2, 3]);
}

#[test]
fn llm_d_weighs_prefix_against_queues() {
    let mut bench = Bench::new(2, &[&[1, 2, 3, 4], &[1, 2, 3, 5]]);
    let mut chooser = Scored::new(2, 1);
    let first = bench.send(&mut chooser, 0);
    assert_eq!(bench.choose(&mut chooser, 1), first);
    // 3 × 3/4 for the prefix against 2 for the queue and 2 × 0.2 for the cache.
    bench.views[first].gauges = Gauges { running: 9, waiting: 3, kv_use: 0.2 };
    assert_eq!(bench.choose(&mut chooser, 1), 1 - first);
    bench.views[first].gauges.kv_use = 0.1;
    assert_eq!(bench.choose(&mut chooser, 1), first);
}

#[test]
fn llm_d_sticks_until_saturated() {
    let short: Vec<u64> = (0..1_000).collect();
    let long: Vec<u64> = (0..4_600).collect();
    // 85 % of the part that is indexed is the same.
    let alike: Vec<u64> = (0..1_750).chain(9_000..11_850).collect();
    let bench = Bench::new(2, &[&short, &short, &long, &alike]);
    let mut chooser = Sticky::new(2, 1);
    let first = bench.send(&mut chooser, 0);
    assert_eq!(bench.choose(&mut chooser, 1), first);
    // 18 seconds at the default rate are 286,704 tokens; the long one has 294,400.
    let mut saturated = Sticky::new(2, 1);
    let first = bench.send(&mut saturated, 2);
    assert_eq!(bench.choose(&mut saturated, 3), 1 - first);
    saturated.first_token(0, &bench.question(2), first);
    assert_eq!(bench.choose(&mut saturated, 3), first);
}

#[test]
fn dynamo_pays_for_what_is_not_cached_and_for_what_is_active() {
    let mut bench = Bench::new(2, &[&[1, 2, 3, 4], &[1, 2, 3, 5], &[1, 2, 3, 6]]);
    let prompt = bench.asks[0].1.prompt.clone();
    let request = Request { prompt, output_tokens: 1, voice: None, stride: 1 };
    let engine = bench.engines[1].as_mut().unwrap();
    engine.submit(0, request).unwrap();
    engine.advance(SECOND, &mut Vec::new());
    let mut chooser = Dynamo::new(2, 1);
    assert_eq!(bench.send(&mut chooser, 1), 1);
    // There: 1 of prefill, 1 in flight, 5 active. Here: 4 of prefill, 4 active.
    assert_eq!(bench.choose(&mut chooser, 2), 1);
    bench.finish(&mut chooser, 1, 1);
    assert_eq!(bench.choose(&mut chooser, 2), 1);
}

#[test]
fn bounded_hashing_keeps_a_key_until_it_is_too_much() {
    let bench = Bench::new(4, &[&[1, 2, 3, 4, 5][..]; 8]);
    let mut chooser = BoundedHash::new(4);
    let first = bench.send(&mut chooser, 0);
    bench.finish(&mut chooser, 0, first);
    assert_eq!(bench.send(&mut chooser, 1), first);
    // One in flight, and one more makes a mean of 0.5: 1.25 times that is 1.
    assert_ne!(bench.send(&mut chooser, 2), first);
}

#[test]
fn the_set_forgets_what_was_added_longest_ago() {
    let mut set = lru::Lru::new(2);
    [1, 2, 1, 3].into_iter().for_each(|hash| set.add(hash));
    assert!(set.contains(1) && set.contains(3) && !set.contains(2));
    (0..1_000).for_each(|at| set.add(7 + at % 2));
    assert!(set.contains(7) && set.contains(8) && !set.contains(1));
}
