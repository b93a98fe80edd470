//! What comes out of the queue, against what went in.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::route::admission::fair::{Bounds, CLASSES, Entry, FairQueue, Full, Id};

const WIDE: Bounds = Bounds { requests_max: 10_000, bytes_max: 1 << 40 };

fn entry(tenant: u64, class: usize, tokens: u32) -> Entry {
    Entry { tenant, class, tokens, bytes: 1 }
}

/// One thing done to a queue.
#[derive(Clone, Debug)]
enum Step {
    Push(Entry),
    /// Serve the next of those whose number is no multiple of this.
    Serve(u64),
    /// Remove the n-th of those that wait.
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (0..5u64, 0..CLASSES, 1..5_000u32, 0..50u64)
        .prop_map(|(tenant, class, tokens, bytes)| Entry { tenant, class, tokens, bytes });
    let step = prop_oneof![
        4 => push.prop_map(Step::Push),
        2 => (2..9u64).prop_map(Step::Serve),
        1 => (0..20usize).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_the_bounds_hold(all in steps()) {
        let bounds = Bounds { requests_max: 20, bytes_max: 400 };
        let mut queue = FairQueue::new(bounds);
        let mut model: BTreeMap<Id, (Entry, u64)> = BTreeMap::new();
        for (number, step) in (0u64..).zip(all) {
            match step {
                Step::Push(entry) => match queue.push(entry, number) {
                    Ok(pushed) => {
                        for (id, kept) in pushed.displaced {
                            let (gone, known) = model.remove(&id).expect("it waited");
                            prop_assert_eq!(known, kept);
                            prop_assert!(gone.class >= entry.class);
                        }
                        prop_assert!(model.insert(pushed.id, (entry, number)).is_none());
                    }
                    Err(Full { .. }) => prop_assert!(
                        queue.len() >= bounds.requests_max
                            || queue.bytes() + entry.bytes > bounds.bytes_max
                    ),
                },
                Step::Serve(not) => {
                    let fits = |number: &u64| !number.is_multiple_of(not);
                    let found = queue.next(fits);
                    let any = model.values().any(|(_, number)| fits(number));
                    prop_assert_eq!(found.is_some(), any);
                    if let Some(id) = found {
                        let (entry, number) = model.remove(&id).expect("it waits");
                        prop_assert!(fits(&number));
                        let earlier = model.range(..id).any(|(_, (other, number))| {
                            let same = (other.tenant, other.class) == (entry.tenant, entry.class);
                            same && fits(number)
                        });
                        prop_assert!(!earlier, "a tenant's requests keep their order");
                        prop_assert_eq!(queue.serve(id, entry.tokens, 1.0), Some((entry, number)));
                    }
                }
                Step::Remove(at) => {
                    if let Some(id) = model.keys().nth(at).copied() {
                        prop_assert_eq!(queue.remove(id), model.remove(&id));
                        prop_assert_eq!(queue.remove(id), None);
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            let bytes: u64 = model.values().map(|(entry, _)| entry.bytes).sum();
            prop_assert_eq!(queue.bytes(), bytes);
            let tokens: u64 = model.values().map(|(entry, _)| u64::from(entry.tokens)).sum();
            prop_assert_eq!(queue.tokens_before(CLASSES - 1), tokens);
            prop_assert!(queue.len() <= bounds.requests_max && queue.bytes() <= bounds.bytes_max);
        }
    }
}

#[test]
fn the_urgent_go_first_and_the_others_are_not_starved() {
    let mut queue = FairQueue::new(WIDE);
    for _ in 0..1_000 {
        (0..CLASSES).for_each(|class| drop(queue.push(entry(1, class, 10), class).expect("room")));
    }
    let mut served = [0; CLASSES];
    for _ in 0..900 {
        let id = queue.next(|_| true).expect("one");
        let (_, class) = queue.serve(id, 10, 1.0).expect("it waits");
        served[class] += 1;
    }
    assert!(served[2] >= 2 && served[0] > 800, "{served:?}");
    assert!((14..=18).contains(&(served[0] / served[1].max(1))), "{served:?}");
}

#[test]
fn a_few_that_are_less_urgent_wait_until_the_others_are_through() {
    let mut queue = FairQueue::new(WIDE);
    for class in [2, 1, 0, 1, 2, 0, 1] {
        drop(queue.push(entry(1, class, 10), class).expect("room"));
    }
    let serve = || {
        let id = queue.next(|_| true)?;
        queue.serve(id, 10, 1.0).map(|(_, class)| class)
    };
    let served: Vec<usize> = std::iter::from_fn(serve).collect();
    assert_eq!(served, [0, 0, 1, 1, 1, 2, 2]);
}

#[test]
fn who_fills_the_queue_does_not_keep_others_out() {
    let mut queue = FairQueue::new(Bounds { requests_max: 8, bytes_max: 1_000 });
    let greedy: Vec<Id> =
        (0..8).map(|_| queue.push(entry(1, 1, 100), ()).expect("room").id).collect();
    assert_eq!(queue.push(entry(1, 1, 100), ()).err(), Some(Full { own_doing: true }));
    for _ in 0..4 {
        let pushed = queue.push(entry(2, 1, 100), ()).expect("room is made");
        assert_eq!(pushed.displaced.len(), 1);
    }
    // Now each has an equal part, and there is nobody to take from.
    assert_eq!(queue.push(entry(2, 1, 100), ()).err(), Some(Full { own_doing: true }));
    assert!(queue.push(entry(3, 1, 100), ()).is_ok());
    // One that would itself have more than it leaves to the other takes nothing.
    assert_eq!(queue.push(entry(3, 1, 500), ()).err(), Some(Full { own_doing: false }));
    // The oldest stay.
    assert!(greedy[..3].iter().all(|id| queue.get(*id).is_some()));
    // What is more urgent takes from what is less so, and not the other way round.
    assert_eq!(queue.push(entry(4, 2, 1), ()).err(), Some(Full { own_doing: false }));
    assert!(queue.push(entry(1, 0, 100), ()).is_ok());
}

#[test]
fn a_tenant_that_was_away_has_saved_nothing() {
    let mut queue = FairQueue::new(WIDE);
    let serve = |queue: &mut FairQueue<u64>| {
        let id = queue.next(|_| true).expect("one");
        queue.serve(id, 10, 1.0).expect("it waits").1
    };
    (0..50).for_each(|_| drop(queue.push(entry(1, 0, 10), 1).expect("room")));
    (0..20).for_each(|_| assert_eq!(serve(&mut queue), 1));
    (0..50).for_each(|_| drop(queue.push(entry(2, 0, 10), 2).expect("room")));
    let next: Vec<u64> = (0..20).map(|_| serve(&mut queue)).collect();
    assert_eq!(next.iter().filter(|tenant| **tenant == 2).count(), 10, "{next:?}");
}

#[test]
fn ids_are_never_given_twice() {
    let mut queue = FairQueue::new(WIDE);
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let id = queue.push(entry(1, 0, 1), ()).expect("room").id;
        assert!(seen.insert(id));
        queue.remove(id);
    }
}
