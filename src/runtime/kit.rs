//! What a shard lends to the code that runs on it.

use std::cell::Cell;
use std::rc::Rc;

use super::buf::Pool;
use super::wheel::Wheel;
use crate::lifecycle::ledger::Ledgers;

/// Clones share everything.
#[derive(Clone)]
pub struct Kit {
    pub ledgers: Rc<Ledgers>,
    pub pool: Pool,
    pub wheel: Rc<Wheel>,
    random: Rc<Cell<u64>>,
    scratch: Rc<Cell<Vec<u8>>>,
}

/// Largest scratch memory that is kept, bytes.
const SCRATCH_BYTES_MAX: usize = 32 * 1024;

impl Kit {
    /// For one shard; `seed` must differ between shards.
    pub fn new(tick: std::time::Duration, seed: u64) -> Self {
        let ledgers = Ledgers::new();
        let pool = Pool::new(ledgers.clone());
        let random = Rc::new(Cell::new(seed));
        let scratch = Rc::default();
        Self { ledgers, pool, wheel: Wheel::new(tick), random, scratch }
    }

    /// An empty vector with memory from before, if nobody has it.
    pub fn scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.clear();
        scratch
    }

    /// Gives it back, to be used again.
    pub fn put_scratch(&self, scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch.set(scratch);
        }
    }

    /// The next number of the shard's generator (splitmix64): for identifiers and for breaking ties,
    /// not for secrets.
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
