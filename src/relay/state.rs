//! The states of a request, as types: each transition consumes the state before it.
//!
//! Fields drop in the order of their declaration, so the upstream's meter stops first, then the places,
//! then the money, then the pins.

use std::rc::Rc;

use crate::api::ask::Ask;
use crate::api::fault::Fault;
use crate::api::usage::Usage;
use crate::config::plan::{KeyId, ModelId};
use crate::lifecycle::hold::{Hold, Receipt};
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::permit::{KeySlot, Permit, PlanPin, Turn, UsageRow};
use crate::relay::core::{Core, Epoch};
use crate::relay::exit::Exit;
use crate::relay::places::Place;
use crate::runtime::clock::Instant;
use crate::upstream::lease::Lease;

/// Tokens reserved for an answer whose length nobody bounded.
const OUTPUT_TOKENS_DEFAULT: u64 = 1_024;
/// Tokens reserved for one request, at most: more than any context holds.
const RESERVED_TOKENS_MAX: u64 = 1 << 24;
/// Bytes of a request's body per input token, at least: the floor of what its input costs.
const BODY_BYTES_PER_TOKEN: u64 = 8;

/// Its head was parsed.
pub struct Accepted {
    _turn: Permit<Turn>,
    _pin: Permit<PlanPin>,
    epoch: Rc<Epoch>,
}

/// Its cost is reserved and its usage row has a place.
pub struct Admitted {
    hold: Hold,
    _row: Option<Permit<UsageRow>>,
    _key: Option<Permit<KeySlot>>,
    base: Accepted,
    pub ask: Box<Ask>,
    pub model: ModelId,
}

/// An endpoint is answering it.
pub struct Placed {
    pub lease: Lease,
    place: Option<Box<Place>>,
    pub admitted: Admitted,
}

/// Its answer is over and paid for.
pub struct Settled {
    pub receipt: Receipt,
    _base: Accepted,
}

impl Accepted {
    /// Pins the epoch.
    ///
    /// # Errors
    /// The shard is at its limit of requests.
    pub fn enter(core: &Core, epoch: Rc<Epoch>) -> Result<Self, Fault> {
        let full = Fault::Overloaded { retry_after_s: 1 };
        let turn = core.kit.ledgers.take::<Turn>(1).ok_or(full.clone())?;
        let pin = core.kit.ledgers.take::<PlanPin>(1).ok_or(full)?;
        Ok(Self { _turn: turn, _pin: pin, epoch })
    }

    /// The epoch it keeps.
    pub fn epoch(&self) -> &Rc<Epoch> {
        &self.epoch
    }

    /// Reserves what the request may cost.
    ///
    /// # Errors
    /// No place for its usage row, or the shard is at a limit.
    pub fn admit(
        self,
        core: &Core,
        exit: &mut Exit,
        key: Option<KeyId>,
        model: ModelId,
        ask: Box<Ask>,
        body_bytes: usize,
    ) -> Result<Admitted, Fault> {
        let full = Fault::Overloaded { retry_after_s: 1 };
        let ledgers = &core.kit.ledgers;
        let mut row = None;
        if self.epoch.plan().log.usage.is_some() {
            let place = self.epoch.series().rows.usage.reserve().ok_or(full.clone())?;
            exit.usage_place(place);
            row = Some(ledgers.take::<UsageRow>(1).ok_or(full.clone())?);
        }
        let slot = key.map(|_| ledgers.take::<KeySlot>(1).ok_or(full.clone())).transpose()?;
        let floor = body_bytes as u64 / BODY_BYTES_PER_TOKEN;
        let output = ask.output_tokens_max.unwrap_or(OUTPUT_TOKENS_DEFAULT);
        let reserve = floor.saturating_add(output.saturating_mul(ask.n)).min(RESERVED_TOKENS_MAX);
        let hold = Hold::open(ledgers, reserve, floor, core.book.clone()).ok_or(full)?;
        Ok(Admitted { hold, _row: row, _key: slot, base: self, ask, model })
    }
}

impl Accepted {
    /// A copy of a request, for which nobody pays.
    ///
    /// # Errors
    /// The shard is at a limit.
    pub fn for_nobody(self, core: &Core, model: ModelId, ask: Box<Ask>) -> Result<Admitted, Fault> {
        let hold = Hold::open(&core.kit.ledgers, 0, 0, Rc::new(|_| ()));
        let hold = hold.ok_or(Fault::Overloaded { retry_after_s: 1 })?;
        Ok(Admitted { hold, _row: None, _key: None, base: self, ask, model })
    }
}

impl Admitted {
    /// An endpoint took it.
    pub fn place(self, (lease, place): (Lease, Option<Box<Place>>)) -> Placed {
        Placed { lease, place, admitted: self }
    }

    /// Notes tokens that passed.
    pub fn observe(&mut self, output: u64) {
        self.hold.observe(output);
    }

    /// The epoch it keeps.
    pub fn epoch(&self) -> &Rc<Epoch> {
        &self.base.epoch
    }
}

impl Placed {
    /// The endpoint is done with it, whatever the client still has to take.
    pub fn finish(&mut self, now: Instant) {
        self.lease.finish(now);
        self.place = None;
    }

    /// The answer ended cleanly: the connection may be used again, and the engine's usage is booked.
    pub fn settle(mut self, usage: Usage, now: Instant) -> Settled {
        inject::point(Point::Settling);
        self.finish(now);
        let Admitted { hold, base, .. } = self.admitted;
        let receipt = hold.settle(usage.input, usage.output);
        Settled { receipt, _base: base }
    }
}
