//! Which arm of a split a request goes to.
//!
//! Weighted rendezvous: each arm draws a number for each key, and the best by weight wins. Shards and
//! gateways agree without talking, and a changed weight moves only as many keys as it must: from arms whose
//! share shrinks to arms whose share grows.

use crate::config::plan::Arm;

/// The arm that `key` belongs to; `None` if no arm has a weight.
pub fn arm(arms: &[Arm], key: u64) -> Option<&Arm> {
    let weighted = arms.iter().filter(|arm| arm.weight > 0);
    weighted.min_by(|a, b| score(a, key).total_cmp(&score(b, key)))
}

/// Exponentially distributed with the weight as its rate: the least of several is each arm's with a chance of
/// its share.
fn score(arm: &Arm, key: u64) -> f64 {
    // 53 bits are what a double tells apart; never 0, whose logarithm is no number.
    let drawn = (mixed(key ^ arm.seed) >> 11) as f64 + 0.5;
    -(drawn / (1_u64 << 53) as f64).ln() / f64::from(arm.weight)
}

/// Every bit of the result depends on every bit of `word` (splitmix64's finish).
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{ArmId, ModelId};
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    const KEYS: u64 = 4_000;

    fn arms(weights: &[u32], salt: u64) -> Vec<Arm> {
        let seed = |at: usize| xxh3_64(format!("{salt} {at}").as_bytes());
        let one = |(at, weight): (usize, &u32)| {
            let id = at as u16;
            Arm { model: ModelId(id), weight: *weight, seed: seed(at), id: ArmId(id) }
        };
        weights.iter().enumerate().map(one).collect()
    }

    fn choices(arms: &[Arm]) -> Vec<u16> {
        (0..KEYS).filter_map(|key| Some(arm(arms, xxh3_64(&key.to_le_bytes()))?.id.0)).collect()
    }

    #[test]
    fn without_a_weight_there_is_no_arm() {
        assert!(arm(&[], 1).is_none());
        assert!(arm(&arms(&[0, 0], 0), 1).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn each_arm_gets_its_share(weights in prop::collection::vec(0u32..100, 1..8), salt: u64) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let chosen = choices(&arms(&weights, salt));
            prop_assert_eq!(chosen.len() as u64, KEYS);
            let total: u32 = weights.iter().sum();
            for (at, weight) in weights.iter().enumerate() {
                let share = f64::from(*weight) / f64::from(total);
                let got = chosen.iter().filter(|one| usize::from(**one) == at).count() as f64;
                // Six times the deviation of as many independent draws.
                let room = 6.0 * (KEYS as f64 * share * (1.0 - share)).sqrt();
                let off = (got - KEYS as f64 * share).abs();
                prop_assert!(off <= room, "arm {at} of {weights:?}: {got} of {KEYS}");
            }
        }

        #[test]
        fn a_greater_weight_only_takes(
            weights in prop::collection::vec(1u32..100, 2..8),
            at: prop::sample::Index,
            more in 1u32..100,
        ) {
            let at = at.index(weights.len());
            let before = choices(&arms(&weights, 3));
            let mut grown = weights.clone();
            grown[at] += more;
            for (old, new) in before.iter().zip(choices(&arms(&grown, 3))) {
                prop_assert!(new == *old || usize::from(new) == at);
            }
        }

        #[test]
        fn an_arm_that_leaves_gives_only_its_own_away(
            weights in prop::collection::vec(1u32..100, 2..8), at: prop::sample::Index,
        ) {
            let at = at.index(weights.len());
            let all = arms(&weights, 9);
            let stays = |arm: &&Arm| usize::from(arm.id.0) != at;
            let fewer: Vec<Arm> = all.iter().filter(stays).cloned().collect();
            let mut off = weights.clone();
            off[at] = 0;
            let drained = choices(&arms(&off, 9));
            for ((old, new), weightless) in choices(&all).iter().zip(choices(&fewer)).zip(drained) {
                prop_assert!(new == *old || usize::from(*old) == at);
                prop_assert_eq!(new, weightless);
            }
        }

        #[test]
        fn the_order_of_arms_does_not_matter(
            weights in prop::collection::vec(0u32..9, 2..8), key: u64, turn in 0usize..8,
        ) {
            let mut all = arms(&weights, 1);
            let before = arm(&all, key).map(|arm| arm.id);
            let turn = turn % all.len();
            all.rotate_left(turn);
            prop_assert_eq!(arm(&all, key).map(|arm| arm.id), before);
        }
    }
}
