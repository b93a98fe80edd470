//! A dense table whose keys are never mistaken for one another.

use super::request::SeqId;

/// Values under [`SeqId`]s; slots are reused, ids are not.
pub struct Slots<T> {
    entries: Vec<(u32, Option<T>)>,
    vacant: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, value: T) -> SeqId {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[slot as usize];
        entry.1 = Some(value);
        SeqId { slot, generation: entry.0 }
    }

    pub fn get(&self, id: SeqId) -> Option<&T> {
        let (generation, value) = self.entries.get(id.slot as usize)?;
        value.as_ref().filter(|_| *generation == id.generation)
    }

    pub fn get_mut(&mut self, id: SeqId) -> Option<&mut T> {
        let (generation, value) = self.entries.get_mut(id.slot as usize)?;
        value.as_mut().filter(|_| *generation == id.generation)
    }

    pub fn remove(&mut self, id: SeqId) -> Option<T> {
        self.get(id)?;
        let entry = &mut self.entries[id.slot as usize];
        entry.0 = entry.0.wrapping_add(1);
        self.vacant.push(id.slot);
        entry.1.take()
    }
}
