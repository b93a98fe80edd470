//! Shares out the places of endpoints that take only so many requests, between shards.
//!
//! Invariant: what shards may hold together is never more than the endpoint takes; see
//! [`crate::route::admission::share`]. A plan that lowers a bound waits for places to come back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::plan::{EndpointId, Plan};
use crate::route::admission::share::{Grant, Word, issue};
use crate::route::admission::split::{Claim, Owed, split};
use crate::shard::link::Bell;
use crate::telemetry::registry::{PerShard, Registry};
use crate::telemetry::{EndpointSeries, ModelSeries};

/// All endpoints that take only so many requests.
#[derive(Debug, Default)]
pub struct Bank {
    accounts: Vec<Account>,
}

/// One endpoint.
#[derive(Debug)]
struct Account {
    name: Box<str>,
    capacity: u32,
    series: PerShard<EndpointSeries>,
    /// Those that it serves.
    models: Vec<PerShard<ModelSeries>>,
    /// By shard.
    grants: Vec<Grant>,
    owed: Vec<Owed>,
    parts: Vec<u32>,
}

impl Bank {
    /// Goes over to a plan, with what is known of the endpoints that stay. A single shard needs no bank.
    pub fn adopt(&mut self, plan: &Plan, registry: &Registry) {
        let known: BTreeMap<Box<str>, Account> =
            self.accounts.drain(..).map(|account| (account.name.clone(), account)).collect();
        if registry.shards.len() < 2 {
            return;
        }
        let series: BTreeMap<&str, _> = registry.endpoints().collect();
        let models: BTreeMap<&str, _> = registry.models().collect();
        for (id, endpoint) in (0..).zip(&plan.endpoints) {
            let capacity = endpoint.traits.requests_max;
            let Some(series) = series.get(&*endpoint.name).filter(|_| capacity > 0) else {
                continue;
            };
            let served = plan.models.iter().filter(|model| model.uses(EndpointId(id)));
            let served = served.filter_map(|model| models.get(&*model.name).copied().cloned());
            let old = known.get(&endpoint.name);
            self.accounts.push(Account::new(
                capacity,
                &endpoint.name,
                series,
                served.collect(),
                old,
            ));
        }
    }

    /// Whether there is anything to share out.
    pub fn is_idle(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Hears the shards and gives its orders; by shard, whether it has a new one.
    pub fn balance(&mut self, shards: usize) -> Vec<bool> {
        let mut told = vec![false; shards];
        self.accounts.iter_mut().for_each(|account| account.balance(&mut told));
        told
    }
}

impl Account {
    fn new(
        capacity: u32,
        name: &str,
        series: &PerShard<EndpointSeries>,
        models: Vec<PerShard<ModelSeries>>,
        old: Option<&Account>,
    ) -> Self {
        let found = |one: &Arc<EndpointSeries>| {
            let share = &one.share;
            Grant::found(Word::from_bits(share.ordered()), Word::from_bits(share.held()))
        };
        let found = || series.iter().map(found).collect();
        Self {
            name: name.into(),
            capacity,
            series: series.clone(),
            models,
            grants: old.map_or_else(found, |old| old.grants.clone()),
            owed: vec![0.0; series.len()],
            parts: vec![0; series.len()],
        }
    }

    fn balance(&mut self, told: &mut [bool]) {
        for (grant, series) in self.grants.iter_mut().zip(&*self.series) {
            grant.hear(Word::from_bits(series.share.held()));
        }
        let claims: Vec<Claim> = (0..self.series.len()).map(|shard| self.claim(shard)).collect();
        for (part, grant) in self.parts.iter_mut().zip(&self.grants) {
            *part = grant.ordered().places;
        }
        split(self.capacity, &claims, &mut self.owed, &mut self.parts);
        let series = &self.series;
        issue(self.capacity, &mut self.grants, &self.parts, |shard, word| {
            series[shard].share.order(word.bits());
            told[shard] = true;
        });
    }

    fn claim(&self, shard: usize) -> Claim {
        let share = &self.series[shard].share;
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let pull = self.models.iter().map(|model| {
            let tenants = model[shard].tenants_milli.get() as f64 / 1e3;
            tenants * place_nanos(model, shard)
        });
        Claim {
            used: small(share.used.get()),
            waiting: small(share.wanted.get()),
            pull: pull.sum(),
        }
    }
}

/// How long a place is taken for a token in a shard, or where that is not known, in the others.
fn place_nanos(model: &PerShard<ModelSeries>, shard: usize) -> f64 {
    let own = model[shard].place_nanos.get();
    if own > 0 {
        return own as f64;
    }
    let known = || model.iter().map(|one| one.place_nanos.get()).filter(|nanos| *nanos > 0);
    known().sum::<u64>().checked_div(known().count() as u64).map_or(1.0, |mean| mean as f64)
}

/// Where the bank hears that a shard wants another share. Rings between two looks are one ring.
pub struct Doorbell {
    rung: Arc<AtomicBool>,
    ringing: Arc<UnixStream>,
    watched: UnixStream,
}

impl Doorbell {
    /// A silent one.
    ///
    /// # Errors
    /// The kernel's, when descriptors are out.
    pub fn new() -> io::Result<Self> {
        let (ringing, watched) = UnixStream::pair()?;
        ringing.set_nonblocking(true)?;
        watched.set_nonblocking(true)?;
        Ok(Self { rung: Arc::default(), ringing: Arc::new(ringing), watched })
    }

    /// What shards ring; it never waits.
    pub fn bell(&self) -> Bell {
        let (rung, ringing) = (self.rung.clone(), self.ringing.clone());
        Arc::new(move || {
            if !rung.swap(true, Ordering::AcqRel) {
                let _ = (&*ringing).write(&[1]);
            }
        })
    }

    /// The waiting end. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The kernel's, when it lets nobody watch it.
    pub fn listen(self) -> io::Result<Rings> {
        let watched = tokio::net::UnixStream::from_std(self.watched)?;
        Ok(Rings { rung: self.rung, _ringing: self.ringing, watched })
    }
}

/// The bank's end of the bell.
pub struct Rings {
    rung: Arc<AtomicBool>,
    _ringing: Arc<UnixStream>,
    watched: tokio::net::UnixStream,
}

impl Rings {
    /// Waits for a ring. What was published before it is visible after it.
    pub async fn rung(&self) {
        while self.watched.readable().await.is_ok() {
            if self.watched.try_read(&mut [0; 8]).is_ok() {
                self.rung.store(false, Ordering::Release);
                return;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
