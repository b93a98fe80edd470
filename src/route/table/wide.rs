//! A fixed pool of sets of endpoints, for blocks that many hold: system prompts and tools.

use super::bucket::WAYS;
use crate::route::endpoints::EndpointSet;

/// Bytes that one set takes: the set, and who owns it.
pub const WIDE_BYTES: usize = size_of::<EndpointSet>() + size_of::<u32>();

/// No set.
const NONE: u32 = u32::MAX;

/// Where an entry of the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub bucket: usize,
    pub way: usize,
}

impl Place {
    fn pack(self) -> u32 {
        u32::try_from(self.bucket * WAYS + self.way).unwrap_or(NONE)
    }

    fn unpack(packed: u32) -> Self {
        let packed = packed as usize;
        Self { bucket: packed / WAYS, way: packed % WAYS }
    }
}

/// Every set in use belongs to one entry of the table, which names it.
#[derive(Debug)]
pub struct Pool {
    sets: Box<[EndpointSet]>,
    /// Of a set in use its owner, of a free one the next that is free.
    owners: Box<[u32]>,
    free: u32,
    used: usize,
    /// Where the clock stands.
    hand: usize,
}

impl Pool {
    /// `count` is at least 1.
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        let mut owners: Box<[u32]> = (1u32..).take(count).collect();
        owners[count - 1] = NONE;
        let sets = vec![EndpointSet::EMPTY; count].into_boxed_slice();
        Self { sets, owners, free: 0, used: 0, hand: 0 }
    }

    pub fn count(&self) -> usize {
        self.sets.len()
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// The owner of the set where the clock stands, if the pool is full; the clock goes on.
    pub fn tick(&mut self) -> Place {
        let owner = Place::unpack(self.owners[self.hand]);
        self.hand = (self.hand + 1) % self.sets.len();
        owner
    }

    /// Gives a free set to `owner`.
    pub fn take(&mut self, owner: Place, set: EndpointSet) -> Option<u32> {
        let index = self.free;
        let slot = self.sets.get_mut(index as usize)?;
        *slot = set;
        self.free = std::mem::replace(&mut self.owners[index as usize], owner.pack());
        self.used += 1;
        Some(index)
    }

    /// Takes back a set that is in use.
    pub fn release(&mut self, index: u32) {
        if let Some(owner) = self.owners.get_mut(index as usize) {
            *owner = std::mem::replace(&mut self.free, index);
            self.used -= 1;
        }
    }

    #[inline]
    pub fn get(&self, index: u32) -> &EndpointSet {
        self.sets.get(index as usize).unwrap_or(&EndpointSet::EMPTY)
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut EndpointSet> {
        self.sets.get_mut(index as usize)
    }
}
