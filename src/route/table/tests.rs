use std::collections::HashSet;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::route::endpoints::ENDPOINTS_MAX;

/// Block `i` of the chain `branch`, which leaves the common one at block `16 * branch`.
fn hash(branch: u16, i: usize) -> u64 {
    let own = if i < 16 * usize::from(branch) { 0 } else { branch };
    xxh3_64(&[own.to_le_bytes().as_slice(), &i.to_le_bytes()].concat())
}

fn chain(branch: u16, blocks: usize) -> Vec<u64> {
    (0..blocks).map(|i| hash(branch, i)).collect()
}

/// Hashes that stand in no other chain.
fn unique(from: u64, count: u64) -> Vec<u64> {
    (from..from + count).map(|i| xxh3_64(&i.to_le_bytes())).collect()
}

fn everyone() -> EndpointSet {
    (0..ENDPOINTS_MAX as u16).collect()
}

fn depths(table: &mut PrefixTable, hashes: &[u64]) -> Vec<(u16, usize)> {
    let mut depths = Depths::default();
    table.depths(hashes, &everyone(), &mut depths);
    depths.warm().iter().map(|endpoint| (endpoint, depths.get(endpoint))).collect()
}

fn insert(table: &mut PrefixTable, hashes: &[u64], endpoint: u16) {
    table.insert(hashes, endpoint, &mut News::new(0));
}

#[derive(Clone, Debug)]
enum Step {
    Insert { branch: u16, blocks: usize, endpoint: u16 },
    Trim { branch: u16, from: usize, endpoint: u16 },
    Clear(u16),
    Sweep(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few endpoints for restarts of the same one, many for wide sets.
    let endpoint = || prop_oneof![0..8u16, 0..ENDPOINTS_MAX as u16];
    let step = prop_oneof![
        8 => (0..5u16, 0..100usize, endpoint())
            .prop_map(|(branch, blocks, endpoint)| Step::Insert { branch, blocks, endpoint }),
        2 => (0..5u16, 0..110usize, endpoint())
            .prop_map(|(branch, from, endpoint)| Step::Trim { branch, from, endpoint }),
        1 => endpoint().prop_map(Step::Clear),
        1 => (0..30_000usize).prop_map(Step::Sweep),
    ];
    proptest::collection::vec(step, 0..120)
}

/// What a table would be that had room for everything.
#[derive(Default)]
struct Reference(HashSet<(u64, u16)>);

impl Reference {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Insert { branch, blocks, endpoint } => {
                self.0.extend(chain(branch, blocks).iter().map(|hash| (*hash, endpoint)));
            }
            Step::Trim { branch, from, endpoint } => {
                for hash in chain(branch, 100).get(from..).unwrap_or_default() {
                    self.0.remove(&(*hash, endpoint));
                }
            }
            Step::Clear(endpoint) => self.0.retain(|(_, held)| *held != endpoint),
            Step::Sweep(_) => {}
        }
    }

    fn depths(&self, hashes: &[u64]) -> Vec<(u16, usize)> {
        let deepest = |endpoint| {
            let deepest = hashes.iter().rposition(|hash| self.0.contains(&(*hash, endpoint)))?;
            Some((endpoint, deepest + 1))
        };
        (0..ENDPOINTS_MAX as u16).filter_map(deepest).collect()
    }
}

fn take(table: &mut PrefixTable, step: &Step) {
    match *step {
        Step::Insert { branch, blocks, endpoint } => {
            insert(table, &chain(branch, blocks), endpoint);
        }
        Step::Trim { branch, from, endpoint } => table.trim(&chain(branch, 100), from, endpoint),
        Step::Clear(endpoint) => table.clear(endpoint),
        Step::Sweep(buckets) => table.sweep(buckets),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn depths_are_those_of_a_table_without_bounds(steps in steps()) {
        let (mut table, mut reference) = (PrefixTable::new(1), Reference::default());
        for step in &steps {
            take(&mut table, step);
            reference.take(step);
        }
        prop_assert_eq!(table.stats().evictions, 0);
        for branch in 0..5 {
            let hashes = chain(branch, 100);
            prop_assert_eq!(depths(&mut table, &hashes), reference.depths(&hashes));
        }
        // Once swept, it holds what the reference holds, and nothing else.
        table.sweep(usize::MAX);
        let held: HashSet<u64> = reference.0.iter().map(|(hash, _)| *hash).collect();
        prop_assert_eq!(table.stats().entries, held.len());
        check_books(&table);
    }

    #[test]
    fn only_those_asked_about_are_told_of(
        wanted in proptest::collection::hash_set(0..ENDPOINTS_MAX as u16, 0..40),
        holders in proptest::collection::vec(0..ENDPOINTS_MAX as u16, 0..40),
    ) {
        let mut table = PrefixTable::new(1);
        let hashes = chain(0, 10);
        for endpoint in &holders {
            insert(&mut table, &hashes, *endpoint);
        }
        let mut found = Depths::default();
        table.depths(&hashes, &wanted.iter().copied().collect(), &mut found);
        for endpoint in 0..ENDPOINTS_MAX as u16 {
            let held = wanted.contains(&endpoint) && holders.contains(&endpoint);
            prop_assert_eq!(found.get(endpoint), if held { 10 } else { 0 });
        }
    }
}

/// Counts again what the table counts as it goes.
fn check_books(table: &PrefixTable) {
    let ways = table.buckets.iter().flat_map(|bucket| {
        bucket.live().map(move |way| matches!(bucket.holders(way), Holders::Wide(_)))
    });
    let (mut entries, mut wide) = (0, 0);
    for is_wide in ways {
        entries += 1;
        wide += usize::from(is_wide);
    }
    assert_eq!((table.stats().entries, table.stats().wide), (entries, wide));
}

#[test]
fn memory_is_what_was_given() {
    for mib in [1, 3, 64] {
        let table = PrefixTable::new(mib);
        let bytes = size_of_val(&*table.buckets)
            + table.pool.count() * WIDE_BYTES
            + table.ends.memory_bytes()
            + PrefixTable::fixed_bytes();
        assert!(bytes <= mib << 20 && bytes + 64 > mib << 20, "{bytes}");
    }
    assert_eq!(PrefixTable::new(0).stats(), PrefixTable::new(1).stats());
}

#[test]
fn a_full_table_keeps_what_is_asked_for_and_tells_nothing_untrue() {
    let mut table = PrefixTable::new(1);
    let hot = unique(1 << 40, 64);
    insert(&mut table, &hot, 7);
    let count = table.stats().entries_max as u64 / 100 * 400;
    for from in (0..count).step_by(100) {
        insert(&mut table, &unique(from, 100), (from / 100 % 1000) as u16);
        if from % 1000 == 0 {
            assert!(depths(&mut table, &hot).contains(&(7, 64)));
        }
    }
    let stats = table.stats();
    assert!(stats.entries <= stats.entries_max && stats.fill() > 0.95, "{stats:?}");
    assert_eq!(stats.evictions, count + 64 - stats.entries as u64);
    check_books(&table);
    let mut held = 0;
    for from in (0..count).step_by(100) {
        let found = depths(&mut table, &unique(from, 100));
        assert!(found.iter().all(|(endpoint, _)| u64::from(*endpoint) == from / 100 % 1000));
        held += found.iter().map(|(_, depth)| depth).sum::<usize>();
    }
    assert!(held > 0);
    assert_eq!(depths(&mut table, &unique(1 << 41, 1024)), []);
}

#[test]
fn the_pool_of_wide_sets_keeps_what_is_asked_for() {
    let mut table = PrefixTable::new(1);
    let hot = unique(1 << 40, 20);
    let holders: Vec<u16> = (0..SLOTS as u16 + 3).collect();
    let spread = |table: &mut PrefixTable, hashes: &[u64]| {
        holders.iter().for_each(|endpoint| insert(table, hashes, *endpoint));
    };
    spread(&mut table, &hot);
    for from in (0..5_000).step_by(10) {
        spread(&mut table, &unique(from, 10));
        assert_eq!(depths(&mut table, &hot).len(), holders.len());
    }
    let stats = table.stats();
    assert_eq!(stats.wide, stats.wide_max);
    assert!(stats.evictions > 0);
    check_books(&table);
    for from in (0..5_000).step_by(10) {
        let found = depths(&mut table, &unique(from, 10));
        assert!(found.iter().all(|(endpoint, _)| holders.contains(endpoint)));
    }
}

#[test]
fn a_hole_hides_nothing() {
    let mut table = PrefixTable::new(1);
    let hashes = chain(0, 50);
    insert(&mut table, &hashes[..20], 3);
    insert(&mut table, &hashes[30..40], 3);
    assert_eq!(depths(&mut table, &hashes), [(3, 40)]);
    table.trim(&hashes, 35, 3);
    assert_eq!(depths(&mut table, &hashes), [(3, 35)]);
    table.trim(&hashes, 25, 3);
    assert_eq!(depths(&mut table, &hashes), [(3, 20)]);
    table.trim(&hashes, 0, 3);
    assert_eq!((depths(&mut table, &hashes), table.stats().entries), (vec![], 0));
}

#[test]
fn what_was_cleared_does_not_come_back() {
    for others in [0, 9u16] {
        let mut table = PrefixTable::new(1);
        let hashes = chain(0, 30);
        (0..=others).for_each(|endpoint| insert(&mut table, &hashes, endpoint));
        // More clears than there are generations, and not one insertion that would sweep.
        for _ in 0..200 {
            table.clear(0);
            let left: Vec<_> = (1..=others).map(|endpoint| (endpoint, 30)).collect();
            assert_eq!(depths(&mut table, &hashes), left);
        }
        insert(&mut table, &hashes[..5], 0);
        assert!(depths(&mut table, &hashes).contains(&(0, 5)));
    }
}

#[test]
fn a_generation_that_comes_round_finds_nothing_of_the_last_time() {
    // Claims that are all but stale when their endpoint is cleared come round soonest.
    for (passes, clears) in [(7, 1), (0, 1), (3, 2), (7, 0), (0, 5)] {
        let mut table = PrefixTable::new(1);
        let hashes = unique(0, 5_000);
        hashes.iter().for_each(|hash| insert(&mut table, &[*hash], 4));
        (0..passes).for_each(|_| table.pass(4));
        (0..clears).for_each(|_| table.clear(4));
        (0..8).for_each(|_| table.pass(4));
        for generation in 0..64 {
            let held = |hash: &&u64| table.age(**hash, 4).is_some();
            let held = hashes.iter().filter(held).count();
            assert_eq!(held, 0, "{passes} passes, {clears} clears, {generation} more");
            table.pass(4);
        }
    }
}

#[test]
fn a_clear_leaves_its_sweep_to_ticks() {
    let mut table = PrefixTable::new(1);
    let hashes = unique(0, 5_000);
    hashes.iter().for_each(|hash| insert(&mut table, &[*hash], 4));
    table.pass(5);
    let (before, share) = (table.sweep_at, table.buckets.len().div_ceil(SHARES));
    table.clear(4);
    assert_eq!((table.sweep_at, table.unswept), (before, table.buckets.len()));
    assert!(hashes.iter().all(|hash| table.age(*hash, 4).is_none()));
    // One more cannot wait for them all; and when they have passed, the next one can.
    table.clear(6);
    assert_eq!((table.sweep_at, table.owed), (before + 7 * share, 9 * share));
    for _ in 0..400 {
        table.sweep_a_part();
    }
    assert!(table.owed < SWEPT_SHARE_PER_TICK);
    let before = table.sweep_at;
    table.clear(7);
    assert_eq!(table.sweep_at, before);
}

#[test]
fn a_clear_is_swept_up_by_insertions() {
    let mut table = PrefixTable::new(1);
    insert(&mut table, &unique(0, 1000), 4);
    table.clear(4);
    assert_eq!(table.stats().entries, 1000);
    for _ in 0..table.buckets.len().div_ceil(SWEPT_BUCKETS_PER_INSERT) {
        insert(&mut table, &[], 5);
    }
    assert_eq!((table.stats().entries, table.unswept), (0, 0));
}

#[test]
fn endpoints_beyond_the_last_are_nobody() {
    let mut table = PrefixTable::new(1);
    let (hashes, nobody) = (chain(0, 3), ENDPOINTS_MAX as u16);
    insert(&mut table, &hashes, nobody);
    table.trim(&hashes, 0, nobody);
    table.clear(u16::MAX);
    table.learn(Fresh { hash: hashes[0], endpoint: nobody });
    assert_eq!((depths(&mut table, &hashes), table.stats().entries), (vec![], 0));
    insert(&mut table, &hashes, nobody - 1);
    assert_eq!(depths(&mut table, &hashes), [(nobody - 1, 3)]);
}

#[test]
fn news_are_what_was_not_known() {
    let (mut table, mut other) = (PrefixTable::new(1), PrefixTable::new(1));
    let (hashes, mut news) = (chain(0, 12), News::new(16));
    for endpoint in 0..8 {
        table.insert(&hashes[..1], endpoint, &mut news);
        table.insert(&hashes[..1], endpoint, &mut news);
    }
    table.insert(&hashes[..9], 3, &mut news);
    table.insert(&hashes, 3, &mut news);
    assert_eq!((news.len(), news.lost()), (16, 3));
    news.drain().for_each(|fresh| other.learn(fresh));
    assert!(news.is_empty());
    let mut expected: Vec<_> = (0..8).map(|endpoint| (endpoint, 1)).collect();
    expected[3] = (3, 9);
    assert_eq!(depths(&mut other, &hashes), expected);
    assert_eq!(depths(&mut table, &hashes)[3], (3, 12));
}

#[test]
fn tokens_are_remembered_at_the_end_of_a_chain() {
    let mut table = PrefixTable::new(1);
    assert_eq!(table.tokens_at(0), None);
    for (i, hash) in (1u32..).zip(unique(0, 1000)) {
        table.remember_tokens(hash, i);
        assert_eq!(table.tokens_at(hash), Some(i));
    }
    let known = unique(0, 1000).iter().filter(|hash| table.tokens_at(**hash).is_some()).count();
    assert!(known > 600, "{known} of 1000 in {} places", table.ends.memory_bytes() / END_BYTES);
}

#[test]
fn nothing_is_allocated() {
    let mut table = PrefixTable::new(1);
    let (mut depths, mut news) = (Depths::default(), News::new(1_000));
    let chains: Vec<_> = (0..2_000).map(|i| unique(i * 64, 64)).collect();
    let (wanted, shared) = (everyone(), chain(0, 64));
    let counted = allocation_counter::measure(|| {
        for (i, hashes) in chains.iter().enumerate() {
            table.depths(hashes, &wanted, &mut depths);
            table.insert(hashes, (i % 1_000) as u16, &mut news);
            table.insert(&shared, (i % 1_000) as u16, &mut news);
            table.trim(hashes, 40, (i % 1_000) as u16);
            table.remember_tokens(hashes[63], 9);
            news.drain().for_each(|fresh| table.learn(fresh));
            if i % 100 == 0 {
                table.clear(3);
            }
        }
    });
    assert!(table.stats().evictions > 0 && table.stats().wide > 0);
    assert_eq!(counted.count_total, 0);
}
