//! What a table learned from its own shard's requests, for the tables of other shards.

use std::collections::VecDeque;

/// A block that an endpoint did not hold before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    pub hash: u64,
    pub endpoint: u16,
}

/// Fresh entries in the order of their insertion. When it is full, what comes is lost and counted:
/// the other tables can do without.
#[derive(Debug)]
pub struct News {
    ring: VecDeque<Fresh>,
    entries_max: usize,
    lost: u64,
}

impl News {
    /// Holds up to `entries_max` entries, 16 bytes each.
    pub fn new(entries_max: usize) -> Self {
        Self { ring: VecDeque::with_capacity(entries_max), entries_max, lost: 0 }
    }

    pub fn push(&mut self, fresh: Fresh) {
        if self.ring.len() < self.entries_max {
            self.ring.push_back(fresh);
        } else {
            self.lost = self.lost.wrapping_add(1);
        }
    }

    /// Takes all entries out, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Fresh> + '_ {
        self.ring.drain(..)
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Entries that found no room, ever.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
