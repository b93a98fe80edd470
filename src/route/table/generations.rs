//! Which of the table's claims about an endpoint are still good: those made since it was last cleared,
//! and not so long ago that its cache has lost the block since.
//!
//! A slot of an entry carries its endpoint's generation, six bits; a wide set carries the number of
//! clears that it has followed. So a clear, and a generation that passes, changes one number, and what it
//! made stale is found when it is next looked at. What is in a wide set does not age: so many have it
//! because it is asked for all the time. Invariant: nothing stale is left when a generation comes round
//! again, since for every one that passes a share of the table ([`SHARES`]) is owed a sweep.

use super::bucket::Slot;
use crate::route::endpoints::{ENDPOINTS_MAX, EndpointSet};

const ENDPOINT_BITS: u32 = ENDPOINTS_MAX.trailing_zeros();
const GENERATIONS: u8 = 1 << (Slot::BITS - ENDPOINT_BITS);

/// Generations that a claim is good for.
const KEPT: u8 = crate::route::horizon::GENERATIONS;

/// For each generation that passes, a share of the table must be swept, one in so many.
pub const SHARES: usize = 40;

/// Shares that may be owed at a time: a clear's, and one more.
pub const OWED_SHARES_MAX: usize = KEPT as usize + 1;

// A clear may make a claim stale that was all but that, and then seem as old as two clears, less one
// generation. From there until it comes round the whole table must be swept, whatever is still owed.
const _: () = assert!(SHARES + OWED_SHARES_MAX <= GENERATIONS as usize - (2 * KEPT as usize - 1));

#[derive(Debug)]
pub struct Generations {
    current: Box<[u8; ENDPOINTS_MAX]>,
    /// The number of the last clear of each endpoint.
    cleared_at: Box<[u32; ENDPOINTS_MAX]>,
    clears: u32,
}

impl Generations {
    pub fn new() -> Self {
        Self {
            current: Box::new([0; ENDPOINTS_MAX]),
            cleared_at: Box::new([0; ENDPOINTS_MAX]),
            clears: 0,
        }
    }

    pub const fn memory_bytes() -> usize {
        ENDPOINTS_MAX * (size_of::<u8>() + size_of::<u32>())
    }

    /// How many clears there have been.
    pub fn clears(&self) -> u32 {
        self.clears
    }

    /// Makes every claim about `endpoint` stale: [`KEPT`] generations pass.
    pub fn clear(&mut self, endpoint: u16) {
        let at = usize::from(endpoint);
        if let (Some(current), Some(cleared)) =
            (self.current.get_mut(at), self.cleared_at.get_mut(at))
        {
            self.clears = self.clears.wrapping_add(1);
            *current = (*current + KEPT) % GENERATIONS;
            *cleared = self.clears;
        }
    }

    /// One generation of `endpoint` passes.
    pub fn pass(&mut self, endpoint: u16) {
        if let Some(current) = self.current.get_mut(usize::from(endpoint)) {
            *current = (*current + 1) % GENERATIONS;
        }
    }

    /// The slot that says that `endpoint` holds a block; None if there can be no such endpoint.
    pub fn slot(&self, endpoint: u16) -> Option<Slot> {
        let generation = self.current.get(usize::from(endpoint))?;
        Some(endpoint | (u16::from(*generation) << ENDPOINT_BITS))
    }

    /// The same, as it was said a generation ago.
    pub fn slot_before(&self, endpoint: u16) -> Option<Slot> {
        let generation = self.current.get(usize::from(endpoint))?;
        let before = (*generation + GENERATIONS - 1) % GENERATIONS;
        Some(endpoint | (u16::from(before) << ENDPOINT_BITS))
    }

    /// The endpoint that a slot names.
    pub const fn endpoint(slot: Slot) -> u16 {
        slot % ENDPOINTS_MAX as u16
    }

    /// Whether a slot's claim is still good.
    #[inline]
    pub fn holds(&self, slot: Slot) -> bool {
        self.age(slot) < KEPT
    }

    /// Whether a slot's claim is no longer good, or has lived through half of the time that it is good for.
    pub fn is_aged(&self, slot: Slot) -> bool {
        self.age(slot) >= KEPT / 2
    }

    /// How many generations ago the claim was made.
    #[inline]
    pub fn age(&self, slot: Slot) -> u8 {
        let current = self.current[usize::from(Self::endpoint(slot))];
        current.wrapping_sub((slot >> ENDPOINT_BITS) as u8) % GENERATIONS
    }

    /// Takes out of `set`, which has followed `stamp` clears, what was cleared since.
    pub fn refresh(&self, set: &mut EndpointSet, stamp: u32) {
        let age = self.clears.wrapping_sub(stamp);
        let stale = set.iter().filter(|endpoint| {
            let since = self.clears.wrapping_sub(self.cleared_at[usize::from(*endpoint)]);
            since < age
        });
        for endpoint in stale.collect::<EndpointSet>().iter() {
            set.remove(endpoint);
        }
    }
}
