//! The engine in virtual time.

use super::*;
use crate::text::voice::Voice;
use std::collections::HashSet;

fn config() -> EngineConfig {
    EngineConfig { kv_blocks: 10_000, ..EngineConfig::default() }
}

/// `tokens` token ids; different seeds share no block.
fn ids(seed: u64, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|at| mix(seed, u64::from(at)) as u32).collect()
}

fn request(ids: &[u32], output_tokens: u32) -> Request {
    let prompt = Prompt::from_tokens(ids, 16, 0);
    Request { prompt, output_tokens, ..Request::default() }
}

/// Runs until the engine is idle.
fn drain(engine: &mut Engine) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(at) = engine.next_wakeup() {
        engine.advance(at, &mut outputs);
    }
    outputs
}

/// Runs one request alone from now on; its outputs.
fn alone(engine: &mut Engine, request: Request) -> Vec<Output> {
    let now = engine.ended;
    engine.submit(now, request).unwrap();
    drain(engine)
}

fn ttft(outputs: &[Output]) -> Time {
    outputs[0].at - outputs[0].arrived
}

#[test]
fn time_to_first_token_is_linear_in_uncached_tokens() {
    let config = config();
    let mut engine = Engine::new(config.clone());
    for (seed, tokens) in [(1, 100), (2, 1_000), (3, 8_000), (4, 20_000)] {
        let outputs = alone(&mut engine, request(&ids(seed, tokens), 1));
        let steps = u64::from(tokens.div_ceil(config.max_num_batched_tokens));
        let expected = steps * config.step_base + u64::from(tokens) * config.step_per_prefill_token;
        assert_eq!(ttft(&outputs), expected);
        assert_eq!(outputs[0].cached, 0);
    }
    // All but the last token's block are found again.
    let outputs = alone(&mut engine, request(&ids(3, 8_000), 1));
    assert_eq!(outputs[0].cached, 7_984);
    assert_eq!(ttft(&outputs), config.step_base + 16 * config.step_per_prefill_token);
}

#[test]
fn the_gap_between_tokens_grows_with_the_batch() {
    let config = config();
    for batch in [1, 8, 64] {
        let mut engine = Engine::new(config.clone());
        let first = engine.submit(0, request(&ids(0, 32), 10)).unwrap();
        for other in 1..batch {
            engine.submit(0, request(&ids(other, 32), 10)).unwrap();
        }
        let outputs = drain(&mut engine);
        let times: Vec<Time> =
            outputs.iter().filter(|output| output.seq == first).map(|output| output.at).collect();
        assert_eq!(times.len(), 10);
        for pair in times.windows(2) {
            assert_eq!(pair[1] - pair[0], config.step_base + batch * config.step_per_sequence);
        }
    }
}

#[test]
fn a_long_prefill_slows_the_decoding_of_others() {
    let config = EngineConfig { max_num_batched_tokens: 512, ..config() };
    let mut engine = Engine::new(config.clone());
    let first = engine.submit(0, request(&ids(0, 16), 40)).unwrap();
    let mut outputs = Vec::new();
    engine.advance(100 * MILLISECOND, &mut outputs);
    engine.submit(100 * MILLISECOND, request(&ids(1, 5_110), 1)).unwrap();
    outputs.extend(drain(&mut engine));
    let times: Vec<Time> =
        outputs.iter().filter(|output| output.seq == first).map(|output| output.at).collect();
    let slow = times.windows(2).filter(|pair| pair[1] - pair[0] > 2 * config.step_base).count();
    assert_eq!(slow, 10, "ten chunks of 511 tokens beside one decoding sequence");
}

#[test]
fn requests_beyond_the_batch_wait_their_turn() {
    let mut engine = Engine::new(EngineConfig { max_num_seqs: 2, ..config() });
    for seed in 0..5 {
        engine.submit(0, request(&ids(seed, 16), 3)).unwrap();
    }
    engine.advance(0, &mut Vec::new());
    assert_eq!((engine.stats().running, engine.stats().waiting), (2, 3));
    let outputs = drain(&mut engine);
    let order: Vec<u32> =
        outputs.iter().filter(|output| output.last).map(|output| output.first + 1).collect();
    assert_eq!(order, [3; 5]);
    assert_eq!(engine.next_wakeup(), None);
}

#[test]
fn a_request_joins_at_the_next_step_after_its_arrival() {
    let mut engine = Engine::new(config());
    engine.submit(0, request(&ids(0, 16), 10)).unwrap();
    // Both are submitted late, with the times at which they came.
    let middle = engine.submit(30 * MILLISECOND, request(&ids(1, 16), 1)).unwrap();
    let outputs = drain(&mut engine);
    let begun = outputs.iter().find(|output| output.seq == middle).unwrap().scheduled;
    let before = outputs.iter().filter(|output| output.at <= begun).count();
    assert_eq!(before, 2, "the step that was under way at 30 ms ends first");
}

#[test]
fn the_least_recently_used_prompt_is_forgotten_first() {
    // Room for three prompts of ten blocks, and for one running beside them.
    let mut engine = Engine::new(EngineConfig { kv_blocks: 31, ..config() });
    let prompt = |seed| request(&ids(seed, 160), 1);
    for seed in [1, 2, 3, 1, 4] {
        alone(&mut engine, prompt(seed));
    }
    let mut cached = |seed| alone(&mut engine, prompt(seed))[0].cached;
    assert_eq!(cached(1), 144, "used again after 2 and 3");
    assert_eq!(cached(3), 144);
    assert_eq!(cached(4), 144);
    assert_eq!(cached(2), 0);
}

#[test]
fn cached_tokens_equal_an_independent_count() {
    let mut engine = Engine::new(EngineConfig { kv_blocks: 100_000, ..config() });
    let mut seen: HashSet<Vec<u32>> = HashSet::new();
    let mut total = 0;
    for turn in 0..300u64 {
        // A prompt is a prefix of one of ten long texts, and a tail of its own.
        let mut prompt = ids(1_000 + turn % 10, (mix(turn, 1) % 700) as u32);
        prompt.extend(ids(turn, (mix(turn, 2) % 40 + 1) as u32));
        let blocks = (1..=prompt.len() / 16).map(|count| prompt[..count * 16].to_vec());
        let reusable = blocks.clone().take((prompt.len() - 1) / 16);
        let expected = 16 * reusable.take_while(|block| seen.contains(block)).count() as u32;
        seen.extend(blocks);
        let outputs = alone(&mut engine, request(&prompt, 1));
        assert_eq!(outputs[0].cached, expected, "turn {turn}");
        total += u64::from(expected);
    }
    assert!(total > 10_000);
    assert_eq!(engine.stats().prefix_hits, total);
}

#[test]
fn a_conversation_finds_its_own_answers() {
    let mut engine = Engine::new(config());
    let voice = Voice::new(42);
    let mut prompt = ids(7, 100);
    let said = Request { voice: Some(voice), ..request(&prompt, 100) };
    alone(&mut engine, said);
    prompt.extend((0..100).map(|position| voice.id(position)));
    prompt.extend(ids(8, 20));
    let outputs = alone(&mut engine, request(&prompt, 1));
    // The last generated token is never computed, so it fills no block: 199 tokens, 12 blocks.
    assert_eq!(outputs[0].cached, 192);
}

#[test]
fn without_prefix_caching_nothing_is_found() {
    let mut engine = Engine::new(EngineConfig { prefix_caching: false, ..config() });
    alone(&mut engine, request(&ids(1, 160), 1));
    assert_eq!(alone(&mut engine, request(&ids(1, 160), 1))[0].cached, 0);
}

#[test]
fn an_abort_frees_everything_at_once() {
    let mut engine = Engine::new(config());
    let running = engine.submit(0, request(&ids(1, 1_600), 100)).unwrap();
    engine.advance(150 * MILLISECOND, &mut Vec::new());
    let late = engine.submit(150 * MILLISECOND, request(&ids(2, 1_600), 100)).unwrap();
    assert!(engine.stats().blocks_used >= 100);
    assert_eq!(engine.abort(late).unwrap().phase, Phase::Prefill);
    let found = engine.abort(running).unwrap();
    assert_eq!(found.phase, Phase::Decode);
    assert!(found.generated > 0);
    assert_eq!(engine.abort(running), None);
    assert_eq!(engine.stats().blocks_used, 0);
    assert!(drain(&mut engine).is_empty(), "the step under way ends without outputs");
    // The name of a dead sequence is never given again.
    let next = engine.submit(engine.ended, request(&ids(3, 16), 1)).unwrap();
    assert!(next != running && next != late);
}

#[test]
fn what_does_not_fit_the_pool_is_refused() {
    let mut engine = Engine::new(EngineConfig { kv_blocks: 10, ..config() });
    let refused = engine.submit(0, request(&ids(1, 100), 61));
    assert_eq!(refused, Err(TooLong { needed: 161, capacity: 160 }));
    assert!(engine.submit(0, request(&ids(1, 100), 60)).is_ok());
    assert_eq!(drain(&mut engine).len(), 60);
}

#[test]
fn when_blocks_run_out_the_youngest_is_preempted_and_finishes_later() {
    let mut engine = Engine::new(EngineConfig { kv_blocks: 20, ..config() });
    let old = engine.submit(0, request(&ids(1, 64), 150)).unwrap();
    let young = engine.submit(0, request(&ids(2, 64), 150)).unwrap();
    let outputs = drain(&mut engine);
    assert!(engine.stats().preemptions > 0);
    for seq in [old, young] {
        let mine: Vec<&Output> = outputs.iter().filter(|output| output.seq == seq).collect();
        let positions: Vec<u32> = mine.iter().map(|output| output.first).collect();
        assert_eq!(positions, (0..150).collect::<Vec<_>>());
    }
    assert_eq!(outputs.last().unwrap().seq, young);
    assert_eq!(engine.stats().blocks_used, 0);
}

#[test]
fn draft_tokens_come_several_at_a_time() {
    let drafts = EngineConfig { draft_tokens: 3, draft_acceptance_permille: 700, ..config() };
    let mut engine = Engine::new(drafts);
    let outputs = alone(&mut engine, request(&ids(1, 50), 200));
    let total: u32 = outputs.iter().map(|output| output.count).sum();
    assert_eq!(total, 200);
    assert!((70..130).contains(&outputs.len()), "{}", outputs.len());
    assert!(outputs.windows(2).all(|pair| pair[0].first + pair[0].count == pair[1].first));
}

#[test]
fn a_stride_slows_one_sequence_alone() {
    let mut engine = Engine::new(config());
    let slow = Request { stride: 4, ..request(&ids(1, 16), 10) };
    let slow = engine.submit(0, slow).unwrap();
    let quick = engine.submit(0, request(&ids(2, 16), 10)).unwrap();
    let outputs = drain(&mut engine);
    let end = |seq| outputs.iter().rfind(|output| output.seq == seq).unwrap().at;
    assert!(end(slow) > 3 * end(quick));
}

#[test]
fn a_slowdown_stretches_every_step() {
    let mut engine = Engine::new(config());
    let normal = ttft(&alone(&mut engine, request(&ids(1, 1_000), 1)));
    engine.set_slowdown(3.0);
    assert_eq!(ttft(&alone(&mut engine, request(&ids(2, 1_000), 1))), 3 * normal);
}

#[test]
fn an_embedding_ends_with_its_prefill() {
    let mut engine = Engine::new(config());
    let outputs = alone(&mut engine, request(&ids(1, 100), 0));
    assert_eq!((outputs.len(), outputs[0].count, outputs[0].last), (1, 0, true));
}

#[test]
fn a_trace_finds_the_blocks_it_names() {
    let mut engine = Engine::new(EngineConfig { block_size: 512, ..config() });
    let trace = |tokens, blocks: &[u64]| Request {
        prompt: Prompt::from_blocks(tokens, 512, blocks),
        output_tokens: 1,
        ..Request::default()
    };
    alone(&mut engine, trace(1_600, &[1, 2, 3, 4]));
    assert_eq!(alone(&mut engine, trace(1_700, &[1, 2, 9, 10]))[0].cached, 1_024);
    assert_eq!(alone(&mut engine, trace(1_600, &[1, 2, 3, 4]))[0].cached, 1_536);
}

/// A long, mixed run: what is submitted and aborted when depends on `seed` alone.
fn mixed_run(seed: u64, fine: bool) -> (Vec<Output>, Stats) {
    let small = EngineConfig { kv_blocks: 300, max_num_seqs: 16, ..EngineConfig::default() };
    let mut engine = Engine::new(small);
    let (mut outputs, mut alive) = (Vec::new(), Vec::new());
    for turn in 0..400u64 {
        let roll = |salt: u64| mix(mix(seed, turn), salt);
        let now = turn * 40 * MILLISECOND + roll(0) % (40 * MILLISECOND);
        while let Some(at) = engine.next_wakeup().filter(|at| fine && *at <= now) {
            engine.advance(at, &mut outputs);
        }
        engine.advance(now, &mut outputs);
        let prompt = ids(roll(1) % 20, 1 + (roll(2) % 500) as u32);
        let voice = Some(Voice::new(roll(1) % 20));
        let request = Request { voice, ..request(&prompt, 1 + (roll(3) % 60) as u32) };
        alive.push(engine.submit(now, request).unwrap());
        if roll(4) % 4 == 0 {
            engine.abort(alive[(roll(5) % alive.len() as u64) as usize]);
        }
    }
    outputs.extend(drain(&mut engine));
    (outputs, engine.stats())
}

#[test]
fn the_same_input_gives_the_same_output_however_finely_time_moves() {
    for seed in 0..5 {
        let run = mixed_run(seed, false);
        assert_eq!(run, mixed_run(seed, true));
        assert_ne!(run, mixed_run(seed + 100, false));
    }
}

#[test]
fn after_any_run_no_block_is_in_use_and_positions_are_gapless() {
    for seed in 0..20 {
        let (outputs, stats) = mixed_run(seed, false);
        assert_eq!((stats.blocks_used, stats.running, stats.waiting), (0, 0, 0));
        let mut next = std::collections::HashMap::new();
        for output in &outputs {
            let expected = next.entry(output.seq).or_insert(0);
            assert_eq!(output.first, *expected);
            *expected = if output.last { u32::MAX } else { output.first + output.count };
        }
        let total: u64 = outputs.iter().map(|output| u64::from(output.count)).sum();
        assert_eq!(stats.generation_tokens, total);
        assert!(outputs.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }
}
