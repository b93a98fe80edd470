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
}

impl Kit {
    /// For one shard; `seed` must differ between shards.
    pub fn new(tick: std::time::Duration, seed: u64) -> Self {
        let ledgers = Ledgers::new();
        let pool = Pool::new(ledgers.clone());
        let random = Rc::new(Cell::new(seed));
        Self { ledgers, pool, wheel: Wheel::new(tick), random }
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
