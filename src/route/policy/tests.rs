//! What every policy keeps to, and what a burst does.

use proptest::prelude::*;

use crate::config::plan::{EndpointId, Policy};
use crate::route::candidate::{ATTEMPTS_MAX, Candidate, Question, Ranking, Reason};
use crate::route::policy::wait;
use crate::route::rank::rank;

const POLICIES: [Policy; 10] = [
    Policy::PredictedTtft,
    Policy::PrefixAffinity,
    Policy::LeastLoaded,
    Policy::PowerOfTwo,
    Policy::LeastKv,
    Policy::RoundRobin,
    Policy::Random,
    Policy::Weighted,
    Policy::ConsistentHash,
    Policy::Cheapest,
];

fn idle(endpoint: u16) -> Candidate {
    Candidate {
        endpoint: EndpointId(endpoint),
        identity: u64::from(endpoint),
        healthy: true,
        weight: 1,
        requests: 0,
        prefill_tokens: 0,
        context_tokens: 0,
        cached_tokens: 0,
        prefill_rate: 20_000.0,
        decode_seconds: 0.02,
        lag_seconds: 0.0,
        kv_use: None,
        running: None,
        waiting: None,
        kv_tokens: None,
        block_tokens: None,
        price: 0.0,
    }
}

fn question(turn: u64) -> Question {
    let mixed = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Question {
        input_tokens: 16_000,
        output_tokens: 300,
        anchor: mixed,
        session: None,
        forked: false,
        others: 0.0,
        turn,
        random: mixed.rotate_left(17) ^ turn,
    }
}

fn order(policy: Policy, question: &Question, candidates: &[Candidate]) -> (Vec<u16>, Reason) {
    let mut ranking = Ranking::default();
    let reason = rank(policy, question, candidates, &mut ranking);
    (ranking.attempts().iter().map(|score| score.endpoint.0).collect(), reason)
}

fn first(policy: Policy, question: &Question, candidates: &[Candidate]) -> u16 {
    order(policy, question, candidates).0[0]
}

prop_compose! {
    /// Any candidate, with numbers that no engine would give among them.
    fn any_candidate()(
        healthy in prop::bool::weighted(0.8),
        weight in 0..5_u32,
        requests in 0..60_u64,
        prefill_tokens in 0..400_000_u64,
        cached_tokens in 0..20_000_u32,
        rate in prop_oneof![9 => 100.0..50_000_f32, 1 => Just(0.0), 1 => Just(f32::NAN)],
        lag_seconds in prop_oneof![9 => 0.0..3_f32, 1 => Just(f32::INFINITY)],
        kv_use in proptest::option::of(0.0..1.2_f32),
        waiting in proptest::option::of(0..90_u32),
        kv_tokens in proptest::option::of(0..700_000_u32),
        price in 0..3_u8,
    ) -> Candidate {
        Candidate {
            healthy, weight, requests, prefill_tokens, cached_tokens, lag_seconds, kv_use, waiting,
            kv_tokens,
            running: waiting,
            prefill_rate: rate,
            context_tokens: requests * 9_000,
            price: f32::from(price),
            ..idle(0)
        }
    }
}

fn numbered(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let number = |(at, candidate)| Candidate {
        endpoint: EndpointId(at),
        identity: u64::from(at),
        ..candidate
    };
    (0..).zip(candidates).map(number).collect()
}

proptest! {
    #[test]
    fn each_is_ranked_once_and_the_healthy_first(
        candidates in proptest::collection::vec(any_candidate(), 1..12),
        turn in any::<u64>(),
    ) {
        let candidates = numbered(candidates);
        for policy in POLICIES {
            let (order, _) = order(policy, &question(turn), &candidates);
            prop_assert_eq!(order.len(), candidates.len().min(ATTEMPTS_MAX));
            let healthy: Vec<bool> =
                order.iter().map(|at| candidates[usize::from(*at)].healthy).collect();
            prop_assert!(healthy.is_sorted_by(|a, b| a >= b), "{:?}: {:?}", policy, order);
            let mut once = order.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), order.len());
        }
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(
        candidates in proptest::collection::vec(any_candidate(), 1..12),
        turn in any::<u64>(),
        shuffle in any::<u64>(),
        others in 0.0..1.0_f32,
    ) {
        let candidates = numbered(candidates);
        let mut shuffled = candidates.clone();
        shuffled.sort_by_key(|c| (u64::from(c.endpoint.0) + 1).wrapping_mul(shuffle | 1));
        for policy in POLICIES {
            let (one, other) = (
                order(policy, &Question { others, ..question(turn) }, &candidates),
                order(policy, &Question { others, ..question(turn) }, &shuffled),
            );
            prop_assert_eq!(one, other, "{:?}", policy);
        }
    }

    /// Whoever is not first does not become it by having more to do.
    #[test]
    fn more_load_never_makes_an_endpoint_more_attractive(
        candidates in proptest::collection::vec(any_candidate(), 2..9),
        turn in any::<u64>(),
        others in 0.0..1.0_f32,
        whom in any::<prop::sample::Index>(),
    ) {
        let candidates = numbered(candidates);
        let at = whom.index(candidates.len());
        let mut busier = candidates.clone();
        busier[at].requests += 7;
        busier[at].prefill_tokens += 30_000;
        busier[at].context_tokens += 90_000;
        // Bounded hashing moves the bound of all with the load of one.
        use Policy::{LeastKv, LeastLoaded, PowerOfTwo, PredictedTtft};
        let exact = [PredictedTtft, LeastLoaded, PowerOfTwo, LeastKv];
        for policy in exact {
            let asked = Question { others, ..question(turn) };
            let before = first(policy, &asked, &candidates);
            let after = first(policy, &asked, &busier);
            prop_assert!(before == at as u16 || after != at as u16, "{:?}", policy);
        }
    }
}

#[test]
fn nobody_starves_and_turns_are_fair() {
    for policy in POLICIES {
        let candidates: Vec<Candidate> = (0..8).map(idle).collect();
        let mut got = [0_u32; 8];
        (0..8_000)
            .for_each(|turn| got[usize::from(first(policy, &question(turn), &candidates))] += 1);
        assert!(got.iter().all(|count| (700..1_300).contains(count)), "{policy:?}: {got:?}");
    }
}

#[test]
fn round_robin_skips_the_dead_without_doubling_their_neighbours() {
    let mut candidates: Vec<Candidate> = (0..4).map(idle).collect();
    candidates[1].healthy = false;
    let firsts = |from: u64| -> Vec<u16> {
        (from..from + 6)
            .map(|turn| first(Policy::RoundRobin, &question(turn), &candidates))
            .collect()
    };
    assert_eq!(firsts(0), [0, 2, 3, 0, 2, 3]);
    assert_eq!(order(Policy::RoundRobin, &question(0), &candidates).0, [0, 2, 3, 1]);
}

#[test]
fn weights_are_kept_to_at_any_time() {
    let mut candidates: Vec<Candidate> = (0..3).map(idle).collect();
    candidates[2].weight = 6;
    let mut got = [0_u32; 3];
    for turn in 1..=800 {
        got[usize::from(first(Policy::Weighted, &question(turn), &candidates))] += 1;
        let share = turn as f64 * 6.0 / 8.0;
        assert!((f64::from(got[2]) - share).abs() <= 4.0, "{got:?} after {turn}");
    }
    assert!(got[0].abs_diff(100) <= 4 && got[1].abs_diff(100) <= 4, "{got:?}");
}

/// Requests come one after the other, each to the endpoint that is chosen; every endpoint works off its
/// queue in order.
fn simulate(policy: Policy, requests: u64, every: f32) -> (f32, f32) {
    let mut fleet: Vec<Candidate> = (0..8).map(idle).collect();
    let (mut sent, mut tokens) = (vec![0.0_f32; 8], vec![Vec::<u64>::new(); 8]);
    for turn in 0..requests {
        let size = 2_000 + question(turn).random % 12_000;
        let asked = Question { input_tokens: size as u32, ..question(turn) };
        let at = usize::from(first(policy, &asked, &fleet));
        (sent[at], _) = (sent[at] + size as f32, tokens[at].push(size));
        for (endpoint, queue) in fleet.iter_mut().zip(&mut tokens) {
            let mut left = (every * endpoint.prefill_rate) as u64;
            while let Some(head) = queue.first_mut() {
                let done = left.min(*head);
                (*head, left) = (*head - done, left - done);
                if *head > 0 {
                    break;
                }
                queue.remove(0);
            }
            endpoint.requests = queue.len() as u64;
            endpoint.prefill_tokens = queue.iter().sum();
            endpoint.context_tokens = endpoint.prefill_tokens;
        }
    }
    let mean = sent.iter().sum::<f32>() / 8.0;
    (sent.iter().fold(0.0, |most: f32, one| most.max(*one)) / mean, mean)
}

#[test]
fn imbalance_is_bounded() {
    for policy in POLICIES {
        // Eight at 20,000 tokens a second, 8,000 tokens every 62 ms: 80 % of what they can do.
        let (imbalance, _) = simulate(policy, 4_000, 0.0625);
        assert!(imbalance < 1.25, "{policy:?}: {imbalance}");
    }
}

/// Many requests at once, whose shared prefix one endpoint has: 50 ms of work each there, 800 elsewhere.
#[test]
fn a_burst_spreads_once_the_warm_lead_costs_more_than_the_cache_saves() {
    let mut fleet: Vec<Candidate> = (0..8).map(idle).collect();
    fleet[3].cached_tokens = 15_000;
    let mut order = Vec::new();
    for turn in 0..600 {
        let asked = Question { forked: turn > 1, ..question(turn) };
        let at = usize::from(first(Policy::PredictedTtft, &asked, &fleet));
        let seconds = wait(&asked, &fleet[at]).seconds();
        // All work so far, laid out evenly, and a prefix that is cold.
        let fair = 0.05 * turn as f32 / 8.0 + 0.8;
        assert!(seconds < 1.25 * fair + 0.05, "request {turn} waits {seconds} s");
        let endpoint = &mut fleet[at];
        endpoint.prefill_tokens += u64::from(asked.input_tokens - endpoint.cached_tokens);
        endpoint.requests += 1;
        endpoint.cached_tokens = 15_000;
        order.push(at);
    }
    assert!(order[..10].iter().all(|at| *at == 3), "{order:?}");
    let others = order[..40].iter().filter(|at| **at != 3).count();
    assert!(others > 5, "{order:?}");
}

#[test]
fn a_conversation_stays_until_its_endpoint_is_saturated() {
    let reason = |ahead, forked| {
        let mut fleet: Vec<Candidate> = (0..4).map(idle).collect();
        fleet[2] = Candidate { cached_tokens: 15_500, prefill_tokens: ahead, ..fleet[2] };
        order(Policy::PredictedTtft, &Question { forked, ..question(1) }, &fleet).1
    };
    assert_eq!([20_000, 460_000].map(|ahead| reason(ahead, false)), [Reason::Warm; 2]);
    assert_eq!(reason(470_000, false), Reason::Released);
    // What many share at a time is no conversation.
    assert_eq!(reason(10_000, true), Reason::Warm);
    assert_eq!(reason(24_000, true), Reason::Released);
}

/// Gateways without contact, of which each sees its own load alone.
#[test]
fn what_is_unknown_here_goes_home_where_others_send_too() {
    let asked = |others| Question { others, ..question(7) };
    let idle: Vec<Candidate> = (0..8).map(idle).collect();
    let home = first(Policy::PredictedTtft, &asked(0.0), &idle);
    let sent = |others, ahead, cached| {
        let mut fleet = idle.clone();
        let home = &mut fleet[usize::from(home)];
        (home.prefill_tokens, home.cached_tokens) = (ahead, cached);
        first(Policy::PredictedTtft, &asked(others), &fleet)
    };
    assert_ne!(sent(0.0, 40_000, 0), home);
    assert_eq!(sent(0.5, 40_000, 0), home);
    assert_ne!(sent(0.5, 120_000, 0), home, "no more than it may be worth");
    assert_ne!(sent(0.5, 80_000, 12_000), home, "nor for what is known already");
}

#[test]
fn a_dead_endpoint_without_load_changes_nothing() {
    for policy in POLICIES {
        let mut fleet: Vec<Candidate> = (0..4)
            .map(|at| Candidate { requests: 40, prefill_tokens: 50_000, ..idle(at) })
            .collect();
        fleet[1].cached_tokens = 15_000;
        let with = |extra: Option<Candidate>| {
            let fleet: Vec<Candidate> = fleet.iter().copied().chain(extra).collect();
            (0..40).map(|turn| first(policy, &question(turn), &fleet)).collect::<Vec<_>>()
        };
        let dead = Candidate { healthy: false, cached_tokens: 16_000, ..idle(9) };
        assert_eq!(with(None), with(Some(dead)), "{policy:?}");
    }
}

#[test]
fn the_cheapest_is_left_when_its_wait_is_unbearable() {
    let mut fleet: Vec<Candidate> = (0..2).map(idle).collect();
    (fleet[0].price, fleet[1].price) = (1.0, 2.0);
    assert_eq!(first(Policy::Cheapest, &question(0), &fleet), 0);
    fleet[0].prefill_tokens = 100_000;
    assert_eq!(first(Policy::Cheapest, &question(0), &fleet), 1);
}

/// How many of `requests` of 1,000 tokens each of these gets, all under way at once.
fn least_kv_burst(mut candidates: Vec<Candidate>, requests: u64) -> Vec<u64> {
    for turn in 0..requests {
        let at = usize::from(first(Policy::LeastKv, &question(turn), &candidates));
        candidates[at].requests += 1;
        candidates[at].context_tokens += 1_000;
    }
    candidates.iter().map(|candidate| candidate.requests).collect()
}

#[test]
fn who_does_not_tell_its_cache_is_neither_empty_nor_full() {
    let telling = |at, kv_use| Candidate { kv_use, ..idle(at) };
    for (shares, even) in [
        (vec![Some(0.3), None], 15),
        (vec![Some(0.3), Some(0.3), None], 10),
        (vec![None, None, None], 10),
    ] {
        let candidates = (0..).zip(shares).map(|(at, share)| telling(at, share)).collect();
        let got = least_kv_burst(candidates, 30);
        assert!(got.last().is_some_and(|got| got.abs_diff(even) <= 2), "{got:?}");
    }
    let full = least_kv_burst(vec![telling(0, Some(0.9)), telling(1, Some(0.1)), idle(2)], 30);
    assert!(full[0] == 0 && full[1] > 0, "{full:?}");
    // Where nobody tells and not every size is known, weights count.
    let weighted = vec![Candidate { weight: 2, ..idle(0) }, idle(1)];
    assert_eq!(least_kv_burst(weighted, 30), [20, 10]);
}
