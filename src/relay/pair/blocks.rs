//! Prompts' blocks that a server keeps until another one has fetched them.
//!
//! Invariant: what is kept counts against its server until it was fetched, or until the engine's own patience
//! with those who never come is over: nobody can tell it sooner.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::lifecycle::permit::KvTokens;
use crate::relay::core::Core;
use crate::relay::trip::Claim;
use crate::runtime::clock::{self, Instant};

/// Prompts whose blocks were never fetched, counted at once by one shard; the oldest are forgotten.
const ABANDONED_MAX: usize = 4_096;

/// One prompt's blocks.
pub struct Blocks {
    core: Rc<Core>,
    claim: Option<Claim<KvTokens>>,
    /// When the engine gives them up.
    until: Instant,
}

impl Blocks {
    /// Kept from now on, for `lease`.
    pub fn kept(core: &Rc<Core>, claim: Option<Claim<KvTokens>>, lease: Duration) -> Self {
        Self { core: core.clone(), claim, until: clock::now().after(lease) }
    }

    /// They were fetched, so their server is rid of them.
    pub fn fetched(mut self) {
        self.claim = None;
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.core.abandoned.add(self.until, claim);
        }
    }
}

/// A shard's blocks that nobody will fetch.
#[derive(Default)]
pub struct Abandoned(RefCell<VecDeque<(Instant, Claim<KvTokens>)>>);

impl Abandoned {
    fn add(&self, until: Instant, claim: Claim<KvTokens>) {
        let mut all = self.0.borrow_mut();
        if all.len() == ABANDONED_MAX {
            all.pop_front();
        }
        all.push_back((until, claim));
    }

    /// Forgets those whose engines have given them up.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|(until, _)| *until > now);
    }

    /// Forgets them all: the shard ends.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
