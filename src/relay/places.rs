//! Places on endpoints that take only so many requests at once.
//!
//! Invariant: this shard has no more places taken than its share of them, which only the bank enlarges.

use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::plan::{EndpointId, ModelId};
use crate::lifecycle::permit::{EndpointPlace, Permit};
use crate::relay::core::{Core, Epoch};
use crate::relay::hall::Hall;
use crate::route::admission::share::{self, Word};
use crate::runtime::clock::{self, Instant};
use crate::telemetry::admission::Share;
use crate::telemetry::endpoint::EndpointSeries;

/// What a request is to whoever shares places out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub model: ModelId,
    pub tenant: u64,
    /// Tokens of its prompt that must be computed.
    pub tokens: u32,
}

/// One place, taken. Its drop offers it to those who wait.
pub struct Place {
    core: Rc<Core>,
    epoch: Rc<Epoch>,
    pub endpoint: EndpointId,
    work: Work,
    began: Instant,
    _stake: Option<Stake>,
    _permit: Permit<EndpointPlace>,
}

/// The shard's share has no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Place {
    /// Takes a place; `None` on an endpoint that needs none.
    ///
    /// # Errors
    /// There is none.
    pub fn take(
        core: &Rc<Core>,
        epoch: &Rc<Epoch>,
        endpoint: EndpointId,
        work: Work,
    ) -> Result<Option<Box<Place>>, Full> {
        if epoch.plan().endpoints[usize::from(endpoint.0)].traits.requests_max == 0 {
            return Ok(None);
        }
        if !has_room(epoch, endpoint, 0) {
            return Err(Full);
        }
        let permit = core.kit.ledgers.take::<EndpointPlace>(1).ok_or(Full)?;
        epoch.series().endpoints[usize::from(endpoint.0)].share.used.add(1);
        // Boxed: it goes from hand to hand, and most requests have none.
        Ok(Some(Box::new(Place {
            core: core.clone(),
            epoch: epoch.clone(),
            endpoint,
            work,
            began: clock::now(),
            _stake: Stake::claim(epoch, &work),
            _permit: permit,
        })))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = clock::now();
        let series = &self.epoch.series().endpoints[usize::from(self.endpoint.0)];
        series.share.used.sub(1);
        let hall = &self.core.hall;
        look(hall, &series.share);
        hall.place_was_taken(&self.epoch, &self.work, now.since(self.began));
        hall.offer();
    }
}

/// What is held at an endpoint for those who come before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub places: u64,
    pub kv_tokens: u64,
}

/// Whether a request of so many tokens, prompt and answer, could be sent there now. One that is larger than
/// the endpoint's cache is let in alone. Says the same until the next wait: shares change in ticks, and when
/// the bank rings.
pub fn takes(epoch: &Epoch, id: EndpointId, kv_tokens: u64) -> bool {
    takes_beside(epoch, id, kv_tokens, Held::default())
}

/// The same, beside what is held for others.
pub fn takes_beside(epoch: &Epoch, id: EndpointId, kv_tokens: u64, held: Held) -> bool {
    has_room(epoch, id, held.places) && has_tokens(epoch, id, kv_tokens, held)
}

fn has_room(epoch: &Epoch, id: EndpointId, held: u64) -> bool {
    if epoch.plan().endpoints[usize::from(id.0)].traits.requests_max == 0 {
        return true;
    }
    let series: &EndpointSeries = &epoch.series().endpoints[usize::from(id.0)];
    if series.share.requests_max.get() == 0 {
        // A later plan has no bound: those that came before it wait for nothing.
        return true;
    }
    // What was sent there under a plan that had no bound took no place, and is there all the same.
    let used = series.share.used.get().max(series.in_flight.get());
    used.saturating_add(held) < u64::from(Word::from_bits(series.share.held()).places)
}

fn has_tokens(epoch: &Epoch, id: EndpointId, kv_tokens: u64, held: Held) -> bool {
    let Some(most) = epoch.kv_tokens_max(id) else { return true };
    let taken = epoch.series().load(id).context_tokens;
    let alone = taken == 0 && held.places == 0;
    alone || taken.saturating_add(held.kv_tokens).saturating_add(kv_tokens) <= most
}

/// Does what the bank has ordered since. Places that it takes back it hears of at once.
pub fn look(hall: &Hall, share: &Share) {
    let (ordered, held) = (Word::from_bits(share.ordered()), Word::from_bits(share.held()));
    if ordered == held {
        return;
    }
    let used = u32::try_from(share.used.get()).unwrap_or(u32::MAX);
    let answer = share::answer(ordered, held, used);
    if answer != held {
        share.hold(answer.bits());
        if answer.places < held.places {
            hall.ring_bank();
        }
    }
}

/// A tenant's tokens in this shard, for as long as the request waits or is under way.
pub struct Stake {
    epoch: Rc<Epoch>,
    hash: u64,
    tokens: u64,
}

impl Stake {
    /// `None` where there is no other shard to compare with.
    pub fn claim(epoch: &Rc<Epoch>, work: &Work) -> Option<Self> {
        (epoch.series().peers.len() > 1).then(|| {
            let hash = stake_hash(epoch, work.model, work.tenant);
            let tokens = u64::from(work.tokens);
            epoch.series().shard.stakes.of(hash).add(tokens);
            Self { epoch: epoch.clone(), hash, tokens }
        })
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        self.epoch.series().shard.stakes.of(self.hash).sub(self.tokens);
    }
}

fn stake_hash(epoch: &Epoch, model: ModelId, tenant: u64) -> u64 {
    xxh3_64_with_seed(epoch.plan().models[usize::from(model.0)].name.as_bytes(), tenant)
}

/// The part of a tenant that is in this shard, 0 to 1.
pub fn weight(epoch: &Epoch, model: ModelId, tenant: u64) -> f64 {
    let series = epoch.series();
    if series.peers.len() < 2 {
        return 1.0;
    }
    let hash = stake_hash(epoch, model, tenant);
    let own = series.shard.stakes.of(hash).get();
    let all: u64 = series.peers.iter().map(|peer| peer.stakes.of(hash).get()).sum();
    if all == 0 { 1.0 } else { own as f64 / all as f64 }
}
