//! The bank against shards that look when they like.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config;
use crate::route::admission::share::answer;
use crate::route::views::{Bound, Views};
use crate::shard::link;

const SHARDS: usize = 3;

fn plan(requests_max: u32, generation: u64) -> Arc<Plan> {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:8080\"\n[runtime]\nshards = {SHARDS}\n\
         [[endpoints]]\nname = \"e\"\nurl = \"http://127.0.0.1:9001\"\nengine = \"vllm\"\n\
         requests_max = {requests_max}\n[[models]]\nname = \"m\"\nendpoints = [\"e\"]\n"
    );
    let none = |_: &str| None;
    Arc::new(config::parse(&text, "plan", Path::new("/"), &none, generation).expect("sound"))
}

/// A bank and shards that only count.
struct World {
    registry: Registry,
    bound: Vec<Arc<Bound>>,
    bank: Bank,
}

impl World {
    fn new(requests_max: u32) -> Self {
        let registry = Registry::new(SHARDS, 64);
        let mut world = Self { registry, bound: Vec::new(), bank: Bank::default() };
        world.adopt(requests_max, 1);
        world
    }

    fn adopt(&mut self, requests_max: u32, generation: u64) {
        let plan = plan(requests_max, generation);
        let views = Arc::new(Views::unprobed(&plan));
        self.bound = link::bind(&mut self.registry, &plan, &views);
        self.bank.adopt(&plan, &self.registry);
    }

    fn share(&self, shard: usize) -> &crate::telemetry::admission::Share {
        &self.bound[shard].series.endpoints[0].share
    }

    fn held(&self, shard: usize) -> u64 {
        u64::from(Word::from_bits(self.share(shard).held()).places)
    }

    fn look(&self, shard: usize) {
        let share = self.share(shard);
        let (ordered, held) = (Word::from_bits(share.ordered()), Word::from_bits(share.held()));
        share.hold(answer(ordered, held, share.used.get() as u32).bits());
    }

    /// Some rounds of looking, all around.
    fn settle(&mut self) {
        for _ in 0..4 {
            (0..SHARDS).for_each(|shard| self.look(shard));
            self.bank.balance(SHARDS);
        }
        (0..SHARDS).for_each(|shard| self.look(shard));
    }

    fn set(&self, shard: usize, used: u64, wanted: u64, tenants_milli: u64) {
        self.share(shard).used.set(used);
        self.share(shard).wanted.set(wanted);
        self.bound[shard].series.models[0].tenants_milli.set(tenants_milli);
    }
}

#[test]
fn places_begin_in_equal_parts_and_go_where_they_are_wanted() {
    let mut world = World::new(10);
    world.settle();
    let held: Vec<u64> = (0..SHARDS).map(|shard| world.held(shard)).collect();
    assert_eq!(held, [4, 3, 3]);
    // One shard takes all there are, although the others would have kept theirs.
    world.set(1, 3, 7, 1_000);
    world.settle();
    assert_eq!(world.held(1), 10);
    // What is in use cannot be taken back, and what is not is.
    world.set(1, 10, 5, 1_000);
    world.set(2, 0, 5, 1_000);
    world.settle();
    assert_eq!((world.held(1), world.held(2)), (10, 0));
    world.set(1, 6, 5, 1_000);
    world.settle();
    assert_eq!((world.held(1), world.held(2)), (6, 4));
    world.set(1, 5, 5, 1_000);
    world.settle();
    assert_eq!((world.held(1), world.held(2)), (5, 5));
}

#[test]
fn two_tenants_in_one_shard_weigh_as_much_as_two_shards_with_one_each() {
    let mut world = World::new(12);
    world.set(0, 0, 50, 2_000);
    world.set(1, 0, 50, 1_000);
    world.set(2, 0, 50, 1_000);
    world.settle();
    let held: Vec<u64> = (0..SHARDS).map(|shard| world.held(shard)).collect();
    assert_eq!(held, [6, 3, 3]);
}

#[test]
fn a_reload_keeps_what_is_out_within_the_larger_of_both_bounds() {
    let mut world = World::new(12);
    world.settle();
    (0..SHARDS).for_each(|shard| world.set(shard, 4, 2, 1_000));
    world.adopt(6, 2);
    world.settle();
    assert_eq!((0..SHARDS).map(|shard| world.held(shard)).sum::<u64>(), 12);
    (0..SHARDS).for_each(|shard| world.set(shard, 0, 2, 1_000));
    world.settle();
    assert_eq!((0..SHARDS).map(|shard| world.held(shard)).sum::<u64>(), 6);
    world.adopt(9, 3);
    world.settle();
    assert_eq!((0..SHARDS).map(|shard| world.held(shard)).sum::<u64>(), 9);
}

#[test]
fn a_single_shard_needs_no_bank() {
    let mut registry = Registry::new(1, 64);
    let first = plan(7, 1);
    let bind = |registry: &mut Registry, plan: &Arc<Plan>| {
        link::bind(registry, plan, &Arc::new(Views::unprobed(plan))).remove(0)
    };
    let bound = bind(&mut registry, &first);
    let ordered = |bound: &Bound| Word::from_bits(bound.series.endpoints[0].share.ordered()).places;
    assert_eq!(ordered(&bound), 7);
    assert_eq!(ordered(&bind(&mut registry, &plan(5, 2))), 5);
    let mut bank = Bank::default();
    bank.adopt(&first, &registry);
    assert!(bank.is_idle());
}
