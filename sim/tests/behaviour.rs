//! The engine model against what is published of engines: time to first token grows linearly with the tokens
//! that are not cached, gaps between tokens grow with the batch, the cache holds whole blocks and forgets the
//! least recently used ones, and prefills are cut into chunks beside which others go on decoding.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use sluice_sim::engine::{
    Engine, EngineConfig, MILLISECOND, Output, Prompt, Request, SECOND, SeqId, Time,
};

const BLOCK: u32 = 16;

/// Token ids that no other seed gives.
fn ids(seed: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|at| seed << 20 | at).collect()
}

fn request(ids: &[u32], output_tokens: u32) -> Request {
    Request { prompt: Prompt::from_tokens(ids, BLOCK, 0), output_tokens, ..Request::default() }
}

/// An engine, its time, and everything it gave.
struct World {
    engine: Engine,
    now: Time,
    outputs: Vec<Output>,
}

impl World {
    fn new(config: EngineConfig) -> Self {
        Self { engine: Engine::new(config), now: 0, outputs: Vec::new() }
    }

    fn submit(&mut self, request: Request) -> SeqId {
        self.engine.submit(self.now, request).unwrap()
    }

    fn run_until(&mut self, until: Time) {
        self.engine.advance(until, &mut self.outputs);
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(at) = self.engine.next_wakeup() {
            self.run_until(at.max(self.now));
        }
    }

    /// Runs one request alone; its first output.
    fn alone(&mut self, request: Request) -> Output {
        let seq = self.submit(request);
        self.drain();
        *self.of(seq).first().unwrap()
    }

    fn of(&self, seq: SeqId) -> Vec<Output> {
        self.outputs.iter().filter(|output| output.seq == seq).copied().collect()
    }

    /// Milliseconds between a sequence's outputs.
    fn gaps(&self, seq: SeqId) -> Vec<f64> {
        let times: Vec<Time> = self.of(seq).iter().map(|output| output.at).collect();
        times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / MILLISECOND as f64).collect()
    }
}

/// Least squares: slope, intercept, r².
fn line(points: &[(f64, f64)]) -> (f64, f64, f64) {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|p| of(p.0 - x, p.1 - y)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|a, _| a * a), sum(&|a, b| a * b), sum(&|_, b| b * b));
    (xy / xx, y - xy / xx * x, xy * xy / (xx * yy))
}

fn ttft_ms(output: &Output) -> f64 {
    (output.at - output.arrived) as f64 / MILLISECOND as f64
}

#[test]
fn time_to_first_token_is_a_line_over_uncached_tokens() {
    let config = EngineConfig::default();
    let per_token_ms = config.step_per_prefill_token as f64 / MILLISECOND as f64;
    let base_ms = config.step_base as f64 / MILLISECOND as f64;
    let mut world = World::new(config);
    let mut points = Vec::new();
    for round in 0..60u32 {
        // A prefix that is cached from the second of its kind on, and a tail of its own.
        let mut prompt = ids(1 + round % 3, 1_024 * (round % 3));
        prompt.extend(ids(100 + round, 50 + 137 * round % 7_000));
        let output = world.alone(request(&prompt, 1));
        points.push((f64::from(prompt.len() as u32 - output.cached), ttft_ms(&output)));
    }
    let (slope, intercept, r2) = line(&points);
    assert!(r2 > 0.999, "r2 {r2}");
    assert!((slope / per_token_ms - 1.0).abs() < 0.01, "{slope} ms a token");
    assert!((intercept - base_ms).abs() < 1.0, "{intercept} ms");
    // Whole prompts do not predict it: what was cached costs nothing.
    assert!(world.engine.stats().prefix_hits > 10_000);
}

#[test]
fn gaps_between_tokens_are_a_line_over_the_batch() {
    let config = EngineConfig::default();
    let each_ms = config.step_per_sequence as f64 / MILLISECOND as f64;
    let points: Vec<(f64, f64)> = [1, 2, 4, 8, 16, 32, 64, 128, 256]
        .map(|batch| {
            let mut world = World::new(config.clone());
            let all: Vec<SeqId> =
                (0..batch).map(|seed| world.submit(request(&ids(seed, 20), 20))).collect();
            world.drain();
            let gaps = world.gaps(all[0]);
            (f64::from(batch), gaps.iter().sum::<f64>() / gaps.len() as f64)
        })
        .to_vec();
    let (slope, _, r2) = line(&points);
    assert!(r2 > 0.999 && (slope / each_ms - 1.0).abs() < 0.01, "{slope} ms, r2 {r2}");
    // Throughput still grows: that is why engines batch.
    let rate = |(batch, gap): &(f64, f64)| batch / gap;
    assert!(points.windows(2).all(|pair| rate(&pair[1]) > rate(&pair[0])));
}

#[test]
fn only_whole_blocks_are_found_again_and_never_the_whole_prompt() {
    let mut world = World::new(EngineConfig::default());
    let text = ids(1, 2_000);
    world.alone(request(&text, 1));
    for shared in [0, 1, 15, 16, 17, 31, 32, 33, 1_000, 1_999, 2_000] {
        let mut prompt = text[..shared as usize].to_vec();
        prompt.extend(ids(2 + shared, 40));
        let output = world.alone(request(&prompt, 1));
        assert_eq!(output.cached, shared / BLOCK * BLOCK, "{shared} tokens shared");
    }
    // The last token is always computed, for its logits are needed.
    assert_eq!(world.alone(request(&text, 1)).cached, 2_000 - BLOCK);
    // A difference in the first block hides all that follow.
    let mut other = text.clone();
    other[3] += 1;
    assert_eq!(world.alone(request(&other, 1)).cached, 0);
}

#[test]
fn what_was_used_least_recently_is_forgotten_first() {
    // Eight prompts fit, each of ten whole blocks and one more for its last token.
    let mut world = World::new(EngineConfig { kv_blocks: 88, ..EngineConfig::default() });
    let prompt = |seed| request(&ids(seed, 161), 1);
    let mut order: Vec<u32> = (0..8).collect();
    let mut forgotten = Vec::new();
    for seed in 0..8 {
        world.alone(prompt(seed));
    }
    // Uses move a prompt to the back; a new one takes the place of the front.
    for (used, new) in [(0, 20), (3, 21), (5, 22)] {
        assert_eq!(world.alone(prompt(used)).cached, 160, "{used} is still there");
        order.retain(|seed| *seed != used);
        order.push(used);
        assert_eq!(world.alone(prompt(new)).cached, 0);
        forgotten.push(order.remove(0));
        order.push(new);
    }
    assert_eq!((&*forgotten, &*order), (&[1, 2, 4][..], &[6, 7, 0, 20, 3, 21, 5, 22][..]));
    for seed in order {
        assert_eq!(world.alone(prompt(seed)).cached, 160, "{seed} was used lately");
    }
    for seed in forgotten {
        assert_eq!(world.alone(prompt(seed)).cached, 0, "{seed} was not");
    }
}

#[test]
fn of_one_prompt_the_end_is_forgotten_first() {
    let mut world = World::new(EngineConfig { kv_blocks: 21, ..EngineConfig::default() });
    world.alone(request(&ids(1, 160), 1));
    // Needs all free blocks and four of the ten that hold the first prompt.
    world.alone(request(&ids(2, 15 * 16 - 1), 1));
    assert_eq!(world.alone(request(&ids(1, 160), 1)).cached, 6 * BLOCK);
}

#[test]
fn prefills_are_cut_into_chunks_and_decoding_goes_on_beside_them() {
    let config = EngineConfig { max_num_batched_tokens: 1_024, ..EngineConfig::default() };
    let longest_ms = (config.step_base + 8 * config.step_per_sequence) as f64 / MILLISECOND as f64
        + 1_024.0 * config.step_per_prefill_token as f64 / MILLISECOND as f64;
    let mut world = World::new(config.clone());
    let talking: Vec<SeqId> =
        (0..8).map(|seed| world.submit(request(&ids(seed, 32), 200))).collect();
    world.run_until(SECOND);
    let long = world.submit(request(&ids(50, 10_160), 1));
    world.drain();
    let first = world.of(long)[0];
    // Each step carries the eight that decode and 1,016 tokens of the prompt: ten steps.
    for seq in &talking {
        let beside: Vec<Output> = world
            .of(*seq)
            .into_iter()
            .filter(|output| (first.scheduled + 1..=first.at).contains(&output.at))
            .collect();
        assert_eq!(beside.len(), 10, "a token in every step of the prefill");
        assert!(world.gaps(*seq).into_iter().all(|gap| gap <= longest_ms));
    }
    // Uncut, the same prompt silences everyone for as long as it takes.
    let mut uncut = World::new(EngineConfig { max_num_batched_tokens: 16_384, ..config });
    let talking = uncut.submit(request(&ids(1, 32), 200));
    uncut.run_until(SECOND);
    uncut.submit(request(&ids(50, 10_160), 1));
    uncut.drain();
    assert!(uncut.gaps(talking).into_iter().fold(0.0, f64::max) > 7.0 * longest_ms);
}

#[test]
fn a_full_batch_makes_others_wait_and_a_queue_shows_in_their_first_token() {
    let mut world = World::new(EngineConfig { max_num_seqs: 4, ..EngineConfig::default() });
    let all: Vec<SeqId> = (0..16).map(|seed| world.submit(request(&ids(seed, 64), 50))).collect();
    world.drain();
    let waits: Vec<f64> = all.iter().map(|seq| ttft_ms(&world.of(*seq)[0])).collect();
    for (early, late) in waits.iter().zip(&waits[4..]) {
        assert!(late > early && late - early > 49.0 * 20.0, "{waits:?}");
    }
}
