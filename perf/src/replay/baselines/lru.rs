//! A set of so many hashes that forgets what was added longest ago.

use std::collections::VecDeque;

use crate::replay::hashes::HashTable;

pub struct Lru {
    most: usize,
    /// Hash → the number of its last use.
    used: HashTable<u64>,
    /// Uses in their order; those that are not their hash's last are skipped.
    order: VecDeque<(u64, u64)>,
    count: u64,
}

impl Lru {
    pub fn new(most: usize) -> Self {
        Self { most, used: HashTable::default(), order: VecDeque::new(), count: 0 }
    }

    pub fn contains(&self, hash: u64) -> bool {
        self.used.contains_key(&hash)
    }

    /// Adds a hash, or makes it the youngest.
    pub fn add(&mut self, hash: u64) {
        self.count += 1;
        self.used.insert(hash, self.count);
        self.order.push_back((hash, self.count));
        while self.used.len() > self.most || self.order.len() > 4 * self.most {
            let Some((oldest, use_)) = self.order.pop_front() else { return };
            match self.used.get(&oldest) {
                Some(last) if *last == use_ && self.used.len() > self.most => {
                    self.used.remove(&oldest);
                }
                // Kept, though its place in the order was given up: it goes to the end.
                Some(last) if *last == use_ => self.order.push_back((oldest, use_)),
                _ => {}
            }
        }
    }
}
