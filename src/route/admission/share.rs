//! A shard's share of an endpoint's places: the words that bank and shard write, each its own, and each
//! reads of the other.
//!
//! The bank writes what a shard should have; the shard answers with what it holds, and under which order.
//! A larger share may be used at once. A smaller one is answered with what is still in use, and again with
//! less as requests end. What a shard may hold at most is therefore known to the bank at all times: the
//! largest of its orders that are not answered, and the last answer. It gives out nothing that this, summed
//! over the shards, does not leave.
//!
//! Invariant: no more is in use than the capacity, whenever each side looks, and however late.

/// A number of places, and the order that it answers (or is).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pub order: u32,
    pub places: u32,
}

impl Word {
    /// From a word as it is shared.
    pub const fn from_bits(bits: u64) -> Self {
        Self { order: (bits >> 32) as u32, places: bits as u32 }
    }

    /// As it is shared.
    pub const fn bits(self) -> u64 {
        (self.order as u64) << 32 | self.places as u64
    }
}

/// The shard's side: what it holds under the bank's last order, with so many places in use.
pub fn answer(ordered: Word, held: Word, used: u32) -> Word {
    let places = match held.places <= ordered.places {
        true => ordered.places,
        false => used.min(held.places).max(ordered.places),
    };
    Word { order: ordered.order, places }
}

/// The bank's side: what one shard was given and may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    ordered: Word,
    /// Places that it may hold at most.
    ceiling: u32,
}

impl Grant {
    /// A share as it is found.
    pub fn found(ordered: Word, held: Word) -> Self {
        Self { ordered, ceiling: ordered.places.max(held.places) }
    }

    /// The last order.
    pub fn ordered(&self) -> Word {
        self.ordered
    }

    /// Places that it may hold at most.
    pub fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// The shard's answer.
    pub fn hear(&mut self, held: Word) {
        if held.order == self.ordered.order {
            self.ceiling = self.ordered.places.max(held.places);
        }
    }

    /// Orders `wanted` places, or as many as it has and `spare` allow; takes what it needs out of `spare`.
    /// The word to write, if it is another.
    pub fn order(&mut self, wanted: u32, spare: &mut u32) -> Option<Word> {
        let places = wanted.min(self.ceiling.saturating_add(*spare));
        if places == self.ordered.places {
            return None;
        }
        *spare -= places.saturating_sub(self.ceiling);
        self.ceiling = self.ceiling.max(places);
        self.ordered = Word { order: self.ordered.order.wrapping_add(1), places };
        Some(self.ordered)
    }
}

/// Writes the orders for `wanted` places each, within `capacity`; recalled ones first, so that what they
/// leave at once can be given in the same round. Calls `write` for each word that changed.
pub fn issue(
    capacity: u32,
    grants: &mut [Grant],
    wanted: &[u32],
    mut write: impl FnMut(usize, Word),
) {
    let held = grants.iter().fold(0u32, |sum, grant| sum.saturating_add(grant.ceiling));
    let mut spare = capacity.saturating_sub(held);
    let less = |grant: &Grant, wanted: u32| wanted < grant.ordered.places;
    for recalls in [true, false] {
        for (at, (grant, wanted)) in grants.iter_mut().zip(wanted).enumerate() {
            if less(grant, *wanted) == recalls
                && let Some(word) = grant.order(*wanted, &mut spare)
            {
                write(at, word);
            }
        }
    }
}
