//! Shares, with each side looking whenever it likes.

use proptest::prelude::*;

use crate::route::admission::share::{Grant, Word, answer, issue};
use crate::route::admission::split::{Claim, split};

/// What one shard and the bank know of each other.
#[derive(Clone, Copy, Default)]
struct Shard {
    used: u32,
    held: Word,
    ordered: Word,
    /// The order that it has read and not answered.
    read: Option<Word>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The bank reads the answers of the shards in this set, and orders these parts.
    Order(u8, Vec<u32>),
    /// A shard reads its order.
    Read(usize),
    /// It answers what it has read.
    Answer(usize),
    /// A shard takes a place, if it may.
    Take(usize),
    Return(usize),
    Capacity(u32),
}

const SHARDS: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let parts = prop::collection::vec(0..12u32, SHARDS);
    let step = prop_oneof![
        3 => (any::<u8>(), parts).prop_map(|(heard, parts)| Step::Order(heard, parts)),
        3 => (0..SHARDS).prop_map(Step::Read),
        3 => (0..SHARDS).prop_map(Step::Answer),
        6 => (0..SHARDS).prop_map(Step::Take),
        3 => (0..SHARDS).prop_map(Step::Return),
        1 => (1..20u32).prop_map(Step::Capacity),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn no_more_is_in_use_than_there_is(all in steps()) {
        let mut shards = [Shard::default(); SHARDS];
        let mut grants = [Grant::default(); SHARDS];
        let mut capacity = 10;
        for step in all {
            match step {
                Step::Order(heard, parts) => {
                    for (at, grant) in grants.iter_mut().enumerate() {
                        if heard >> at & 1 == 1 {
                            grant.hear(shards[at].held);
                        }
                    }
                    issue(capacity, &mut grants, &parts, |at, word| shards[at].ordered = word);
                }
                Step::Read(at) => shards[at].read = Some(shards[at].ordered),
                Step::Answer(at) => answer_what_was_read(&mut shards[at]),
                Step::Take(at) => {
                    let shard = &mut shards[at];
                    shard.used += u32::from(shard.used < shard.held.places);
                }
                Step::Return(at) => shards[at].used = shards[at].used.saturating_sub(1),
                // What is out stays out.
                Step::Capacity(new) => capacity = new.max(ceilings(&grants)),
            }
            let held: u32 = shards.iter().map(|shard| shard.held.places).sum();
            prop_assert!(held <= ceilings(&grants) && ceilings(&grants) <= capacity);
            for (shard, grant) in shards.iter().zip(&grants) {
                prop_assert!(shard.used <= shard.held.places);
                prop_assert!(shard.held.places <= grant.ceiling());
            }
        }
    }

    /// Once both sides have looked often enough, shards hold what was ordered: places are not lost.
    #[test]
    fn what_is_recalled_comes_back(
        before in steps(),
        parts in prop::collection::vec(0..9u32, SHARDS),
    ) {
        let mut shards = [Shard::default(); SHARDS];
        let mut grants = [Grant::default(); SHARDS];
        for step in before {
            match step {
                Step::Order(_, parts) => {
                    issue(10, &mut grants, &parts, |at, word| shards[at].ordered = word);
                }
                Step::Read(at) => shards[at].read = Some(shards[at].ordered),
                Step::Answer(at) => answer_what_was_read(&mut shards[at]),
                Step::Take(at) => {
                    let shard = &mut shards[at];
                    shard.used += u32::from(shard.used < shard.held.places);
                }
                Step::Return(_) | Step::Capacity(_) => {}
            }
        }
        shards.iter_mut().for_each(|shard| (shard.used, shard.read) = (0, None));
        let capacity = parts.iter().sum::<u32>().max(10);
        for _ in 0..3 {
            shards.iter_mut().for_each(look);
            grants.iter_mut().zip(&shards).for_each(|(grant, shard)| grant.hear(shard.held));
            issue(capacity, &mut grants, &parts, |at, word| shards[at].ordered = word);
        }
        shards.iter_mut().for_each(look);
        prop_assert_eq!(shards.map(|shard| shard.held.places).to_vec(), parts);
    }

    #[test]
    fn parts_are_the_capacity_and_go_to_those_who_want(
        capacity in 1..200u32,
        claims in prop::collection::vec((0..60u32, 0..60u32, 0.0..8.0f64), 1..9),
        rounds in 1..30usize,
    ) {
        let claims: Vec<Claim> =
            claims.into_iter().map(|(used, waiting, pull)| Claim { used, waiting, pull }).collect();
        let mut owed = vec![0.0; claims.len()];
        let mut parts = vec![0; claims.len()];
        for _ in 0..rounds {
            split(capacity, &claims, &mut owed, &mut parts);
            prop_assert_eq!(parts.iter().sum::<u32>(), capacity);
        }
        let demand: Vec<u32> = claims.iter().map(|claim| claim.used + claim.waiting).collect();
        if demand.iter().sum::<u32>() <= capacity {
            // No false refusals: whoever wants a place has it.
            prop_assert!(parts.iter().zip(&demand).all(|(part, demand)| part >= demand));
        } else {
            prop_assert!(parts.iter().zip(&demand).all(|(part, demand)| *part <= demand + 1));
        }
    }
}

fn answer_what_was_read(shard: &mut Shard) {
    if let Some(read) = shard.read.take() {
        shard.held = answer(read, shard.held, shard.used);
    }
}

fn look(shard: &mut Shard) {
    shard.held = answer(shard.ordered, shard.held, shard.used);
}

fn ceilings(grants: &[Grant]) -> u32 {
    grants.iter().map(Grant::ceiling).sum()
}

#[test]
fn words_are_taken_apart_as_they_were_put_together() {
    let word = Word { order: 7, places: 40_000_000 };
    assert_eq!(Word::from_bits(word.bits()), word);
    assert_eq!(Word::from_bits(0), Word::default());
}

#[test]
fn a_single_place_goes_round() {
    let claim = |pull| Claim { used: 0, waiting: 5, pull };
    let claims = [claim(1.0), claim(1.0), claim(2.0)];
    let (mut owed, mut parts, mut had) = ([0.0; 3], [0; 3], [0; 3]);
    for _ in 0..400 {
        split(1, &claims, &mut owed, &mut parts);
        parts.iter().zip(&mut had).for_each(|(part, had)| *had += part);
    }
    assert!(had[0].abs_diff(100) < 10 && had[2].abs_diff(200) < 10, "{had:?}");
}

#[test]
fn shares_that_suffice_are_left_alone() {
    let claim = |used| Claim { used, waiting: 0, pull: 0.0 };
    let (mut owed, mut parts) = ([0.0; 2], [7, 3]);
    split(10, &[claim(5), claim(3)], &mut owed, &mut parts);
    assert_eq!(parts, [7, 3]);
    split(10, &[claim(1), claim(4)], &mut owed, &mut parts);
    assert_eq!(parts.iter().sum::<u32>(), 10);
    assert!(parts[1] >= 4);
}
