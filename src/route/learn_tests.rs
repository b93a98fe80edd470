//! The learned rates, against the simulated engine.

use std::collections::HashMap;

use sluice_sim::engine::{Engine, EngineConfig, Prompt, Request, SeqId, Time};

use super::*;

/// One engine under a stream of requests of mixed sizes, and what is learned of it.
struct Rig {
    engine: Engine,
    learned: Learned,
    now: Time,
    flights: HashMap<SeqId, (Time, u64, u32, Option<StepEnd>)>,
    ahead: u64,
    draw: u64,
}

impl Rig {
    fn new() -> Self {
        Self {
            engine: Engine::new(EngineConfig::default()),
            learned: Learned::default(),
            now: 1,
            flights: HashMap::new(),
            ahead: 0,
            draw: 1,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draw = self.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
        (self.draw >> 33) % below
    }

    /// Plays so many requests, about one in `pause` nanoseconds.
    fn play(&mut self, requests: u32, pause: u64) {
        for at in 0..requests {
            // One in six is a long prompt; the rest are turns of a conversation.
            let tokens =
                if self.draw(6) == 0 { 2_000 + self.draw(14_000) } else { 100 + self.draw(900) };
            let blocks: Vec<u64> = (0..1_024).map(|block| self.draw << 16 | block).collect();
            let prompt = Prompt::from_blocks(tokens as u32, 16, &blocks);
            let output_tokens = 20 + self.draw(100) as u32;
            let request = Request { prompt, output_tokens, ..Request::default() };
            let seq = self.engine.submit(self.now, request).expect("room");
            self.flights.insert(seq, (self.now, self.ahead, tokens as u32, None));
            self.ahead += tokens;
            let until = self.now + self.draw(2 * pause);
            self.run(until, at % 25 == 0);
        }
    }

    /// `slow`: what comes now is read late, by a client that dawdles.
    fn run(&mut self, until: Time, slow: bool) {
        let mut outputs = Vec::new();
        self.engine.advance(until, &mut outputs);
        for output in outputs {
            let Some(flight) = self.flights.get_mut(&output.seq) else { continue };
            let (dispatched, ahead_tokens, tokens, _) = *flight;
            if output.first == 0 {
                self.ahead -= u64::from(tokens);
                let now = output.at + if slow { 30_000_000 } else { 0 };
                let seen = FirstContent { dispatched, now, ahead_tokens, predicted_seconds: 0.1 };
                flight.3 = Some(self.learned.first_content(&seen));
            }
            if output.last {
                if let Some(step) = flight.3 {
                    self.learned.computed(step, tokens);
                }
                self.flights.remove(&output.seq);
            }
        }
        self.now = until;
    }

    fn rate(&self) -> f32 {
        self.learned.prefill_rate().expect("learned")
    }
}

#[test]
fn the_rate_is_found_within_200_requests_of_each_change() {
    for pause in [180, 250, 400] {
        let mut rig = Rig::new();
        let near = |rig: &Rig, truth: f32| {
            let share = rig.rate() / truth;
            assert!((0.85..1.15).contains(&share), "{share} of {truth}, pause {pause}");
        };
        rig.play(200, pause * 1_000_000);
        near(&rig, 20_000.0);
        rig.engine.set_slowdown(3.0);
        rig.play(200, 3 * pause * 1_000_000);
        near(&rig, 20_000.0 / 3.0);
        rig.engine.set_slowdown(1.0);
        rig.play(200, pause * 1_000_000);
        near(&rig, 20_000.0);
    }
}

/// Who gets short prompts alone for a while, each of which waits for a full batch's step, is not slow.
#[test]
fn short_prompts_do_not_make_an_endpoint_slow() {
    let mut learned = Learned::default();
    let mut now = 0;
    let mut piece = |tokens: u32, nanos: Nanos| {
        let dispatched = now + 1_000_000_000;
        now = dispatched + nanos;
        let seen = FirstContent { dispatched, now, ahead_tokens: 0, predicted_seconds: 0.1 };
        let step = learned.first_content(&seen);
        learned.computed(step, tokens);
        learned.prefill_rate()
    };
    let long = |at: u32| 2_000 + at % 7 * 2_000;
    for at in 0..100 {
        piece(long(at), 20_000_000 + Nanos::from(long(at)) * 50_000);
    }
    let short = |at: u32| 20 + at % 29 * 20;
    let after =
        (0..400).filter_map(|at| piece(short(at), 60_000_000 + Nanos::from(short(at)) * 50_000));
    let least = after.fold(f32::INFINITY, f32::min);
    assert!(least > 14_000.0, "{least} of 20,000");
}

#[test]
fn decode_time_follows_and_one_outlier_does_not_move_it_far() {
    let mut learned = Learned::default();
    (0..50).for_each(|_| learned.decoded(200, 4_000_000_000));
    assert!((learned.decode_seconds().unwrap_or(0.0) - 0.02).abs() < 1e-4);
    learned.decoded(200, 400_000_000_000);
    assert!(learned.decode_seconds().unwrap_or(1.0) < 0.03);
    (0..100).for_each(|_| learned.decoded(200, 12_000_000_000));
    assert!((learned.decode_seconds().unwrap_or(0.0) - 0.06).abs() < 0.006);
}

#[test]
fn what_lagged_fades() {
    let mut learned = Learned::default();
    let late =
        FirstContent { dispatched: 0, now: 2_000_000_000, ahead_tokens: 0, predicted_seconds: 1.0 };
    learned.first_content(&late);
    assert!((learned.lag_seconds(2_000_000_000) - 0.1).abs() < 1e-6);
    assert!((learned.lag_seconds(7_000_000_000) - 0.05).abs() < 1e-6);
}

#[test]
fn the_prior_is_the_middle_of_the_fleet() {
    assert_eq!(Prior::of([].iter()), Prior::default());
    let fast = |seconds: u64| {
        let mut learned = Learned::default();
        learned.decoded(100, seconds * 1_000_000_000);
        learned
    };
    let fleet = [fast(1), fast(2), fast(90), Learned::default()];
    assert!((Prior::of(fleet.iter()).decode_seconds - 0.02).abs() < 1e-6);
}

#[test]
fn an_endpoint_is_like_the_others_until_it_is_certainly_not() {
    let prior = Prior { prefill_rate: 20_000.0, decode_seconds: 0.02 };
    let rate = |learned| prior.rate(learned).round();
    assert_eq!(
        (rate(None), rate(Some(14_000.0)), rate(Some(30_000.0))),
        (20_000.0, 20_000.0, 20_000.0)
    );
    assert!(rate(Some(5_000.0)) < 10_000.0 && rate(Some(5_000.0)) > 5_000.0);
    assert!(rate(Some(80_000.0)) > 40_000.0);
}
