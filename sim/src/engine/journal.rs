//! What an engine tells of its cache.

use std::sync::Arc;

/// One change of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A block was filled and can be found.
    Stored {
        hash: u64,
        /// The block before it; `None`: the prompt begins here.
        parent: Option<u64>,
        tokens: Vec<u32>,
        /// Of a prompt's first block, if the prompt has one.
        salt: Option<Arc<str>>,
    },
    /// Its content was given up.
    Removed { hash: u64 },
    /// Everything that was not in use was given up.
    Cleared,
}

/// Changes that wait to be taken, at most; more are lost, as on a network.
const WAITING_MAX: usize = 1 << 20;

/// The changes since they were last taken; off unless asked for.
#[derive(Debug, Default)]
pub struct Journal {
    on: bool,
    waiting: Vec<Told>,
}

impl Journal {
    /// Begins to write.
    pub fn switch_on(&mut self) {
        self.on = true;
    }

    /// Whether anybody reads it.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Notes a change.
    pub fn tell(&mut self, told: Option<Told>) {
        if self.on && self.waiting.len() < WAITING_MAX {
            self.waiting.extend(told);
        }
    }

    /// Takes what has come since the last call.
    pub fn take(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.waiting)
    }
}
