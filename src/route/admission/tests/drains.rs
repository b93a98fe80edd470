//! Times told to those who are turned away.

use std::time::Duration;

use proptest::prelude::*;

use crate::route::admission::drain::Drain;

const SECOND: u64 = 1_000_000_000;

#[test]
fn nothing_is_claimed_to_be_known_before_anything_was_served() {
    let mut drain = Drain::default();
    drain.begin(5 * SECOND);
    assert_eq!(drain.predicted(9 * SECOND, 1_000), None);
    let told = |guess| drain.retry_after_s(9 * SECOND, 1_000, guess);
    assert_eq!([told(Duration::ZERO), told(Duration::from_millis(4_100))], [1, 5]);
}

#[test]
fn a_place_is_kept_for_as_long_as_others_were() {
    let mut drain = Drain::default();
    let foreseen = Duration::from_secs(2);
    assert_eq!(drain.keeping(foreseen), foreseen);
    (0..3).for_each(|_| drain.kept(Duration::from_secs(5)));
    assert_eq!(drain.keeping(foreseen), Duration::from_secs(5));
    (0..100).for_each(|_| drain.kept(Duration::from_secs(1)));
    assert!(drain.keeping(foreseen) < Duration::from_millis(1_010));
}

#[test]
fn time_in_which_nobody_waited_does_not_count() {
    let mut drain = Drain::default();
    for round in 0..10 {
        let at = round * 1_000 * SECOND;
        drain.begin(at);
        drain.served(at + SECOND, 100);
        drain.end(at + SECOND);
    }
    let told = drain.predicted(20_000 * SECOND, 1_000).expect("known").as_secs_f64();
    assert!((9.9..10.1).contains(&told), "{told}");
}

#[test]
fn a_queue_that_stands_still_takes_longer_and_longer() {
    let mut drain = Drain::default();
    drain.begin(0);
    drain.served(SECOND, 1_000);
    let told: Vec<Duration> =
        (1..6).filter_map(|at| drain.predicted(at * 10 * SECOND, 1_000)).collect();
    assert!(told.len() == 5 && told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert_eq!(drain.retry_after_s(100_000 * SECOND, u64::MAX, Duration::ZERO), 600);
}

proptest! {
    /// Served at a steady pace, a queue is told to take what it takes.
    #[test]
    fn a_steady_pace_is_told(
        tokens in 1..100_000u32,
        each_nanos in 1_000_000..SECOND,
        waiting in 1..1_000u64,
    ) {
        let mut drain = Drain::default();
        drain.begin(0);
        let rounds = 200;
        (1..=rounds).for_each(|at| drain.served(at * each_nanos, tokens));
        let told = drain.predicted(rounds * each_nanos, waiting * u64::from(tokens));
        let told = told.expect("known").as_secs_f64();
        let right = (waiting * each_nanos) as f64 / 1e9;
        prop_assert!((told / right - 1.0).abs() < 0.05, "{} for {}", told, right);
    }
}
