//! Which column of the prefix table belongs to which endpoint, and which line of the router to which model,
//! over reloads.
//!
//! An endpoint is known by what its cache depends on: its address and path; a model by its name. A slot that
//! is given to another one gets another life, so that what is said later of the old one is not taken for the
//! new one.

use std::collections::HashMap;

/// An endpoint's or a model's place in the tables of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub index: u16,
    life: u16,
}

impl Slot {
    /// A number of its own, different from that of whoever had the index before.
    pub fn key(self) -> u64 {
        u64::from(self.life) << 16 | u64::from(self.index)
    }
}

/// Who has which slot.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    by_identity: HashMap<u64, Slot, ahash::RandomState>,
    /// By index: its life, and who lives there.
    lives: Vec<(u16, Option<u64>)>,
}

impl Slots {
    /// So many slots at most, no more than a [`Slot`] can name.
    pub fn new(most: usize) -> Self {
        let most = most.min(usize::from(u16::MAX));
        Self { most, by_identity: HashMap::default(), lives: Vec::new() }
    }

    /// Gives each of `identities` a slot, its old one if it had one: in their order, `None` for those beyond
    /// the last. Calls `freed` for every slot whose owner is not among them.
    pub fn adopt(&mut self, identities: &[u64], mut freed: impl FnMut(Slot)) -> Vec<Option<Slot>> {
        let wanted: std::collections::HashSet<u64> = identities.iter().copied().collect();
        for (index, (life, held)) in self.lives.iter_mut().enumerate() {
            let Some(identity) = held.filter(|identity| !wanted.contains(identity)) else {
                continue;
            };
            self.by_identity.remove(&identity);
            freed(Slot { index: index as u16, life: *life });
            *held = None;
            *life = life.wrapping_add(1);
        }
        let mut free = 0;
        identities.iter().map(|identity| self.enter(*identity, &mut free)).collect()
    }

    /// `free`: no slot before it is.
    fn enter(&mut self, identity: u64, free: &mut usize) -> Option<Slot> {
        if let Some(slot) = self.by_identity.get(&identity) {
            return Some(*slot);
        }
        while self.lives.get(*free).is_some_and(|(_, held)| held.is_some()) {
            *free += 1;
        }
        let index = *free;
        if index >= self.most {
            return None;
        }
        if index == self.lives.len() {
            self.lives.push((0, None));
        }
        self.lives[index].1 = Some(identity);
        let slot = Slot { index: index as u16, life: self.lives[index].0 };
        self.by_identity.insert(identity, slot);
        Some(slot)
    }

    /// Whether the slot is still its owner's.
    pub fn is_current(&self, slot: Slot) -> bool {
        let life = self.lives.get(usize::from(slot.index));
        life.is_some_and(|(life, held)| *life == slot.life && held.is_some())
    }

    /// The slot of an endpoint or a model that is configured now.
    pub fn of(&self, identity: u64) -> Option<Slot> {
        self.by_identity.get(&identity).copied()
    }

    /// Who has this slot now.
    pub fn identity(&self, slot: Slot) -> Option<u64> {
        let life = self.lives.get(usize::from(slot.index));
        life.filter(|(life, _)| *life == slot.life).and_then(|(_, held)| *held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_keeps_its_slot_and_a_freed_one_gets_another_life() {
        let mut slots = Slots::new(4);
        let first = slots.adopt(&[10, 20, 30], |_| panic!("nobody left"));
        let mut freed = Vec::new();
        let second = slots.adopt(&[30, 10, 40], |slot| freed.push(slot));
        assert_eq!(freed, [first[1].expect("a slot")]);
        assert_eq!((second[0], second[1]), (first[2], first[0]));
        let (old, new) = (first[1].expect("a slot"), second[2].expect("a slot"));
        assert_eq!(old.index, new.index);
        assert!(!slots.is_current(old) && slots.is_current(new));
        assert_eq!((slots.identity(old), slots.identity(new)), (None, Some(40)));
        assert_eq!((slots.of(20), slots.of(40)), (None, Some(new)));
    }

    #[test]
    fn those_beyond_the_last_slot_have_none_until_one_is_free() {
        let identities: Vec<u64> = (0..7).collect();
        let mut slots = Slots::new(5);
        let given = slots.adopt(&identities, |_| {});
        assert_eq!(given.iter().flatten().count(), 5);
        assert_eq!(given[5..], [None, None]);
        let mut freed = Vec::new();
        let given = slots.adopt(&identities[1..], |slot| freed.push(slot.index));
        assert_eq!((freed, given[4].map(|slot| slot.index), given[5]), (vec![0], Some(0), None));
    }
}
