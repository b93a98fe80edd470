//! Which series belong to which name.
//!
//! A name keeps its series over reloads, so its counters never go back. A name that left the
//! configuration is still shown, until requests that began under the old plan are gone and more
//! than [`RETIRED_NAMES_MAX`] names have left.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::endpoint::{EndpointSeries, Load};
use super::explain::Waiting;
use super::kv::KvCounts;
use super::model::ModelSeries;
use super::queue::Rows;
use super::shard::ShardSeries;
use crate::config::plan::{EndpointId, KeyId, ModelId, Plan};

/// Names that left the configuration and are still shown, per kind.
pub const RETIRED_NAMES_MAX: usize = 64;

/// One name's series, one for each shard.
pub type PerShard<T> = Arc<[Arc<T>]>;

/// The names of one plan, for those who only have ids.
#[derive(Debug, Default)]
pub struct Names {
    pub generation: u64,
    pub models: Vec<Box<str>>,
    pub endpoints: Vec<Box<str>>,
    pub keys: Vec<Box<str>>,
}

impl Names {
    /// The names of `plan`.
    pub fn of(plan: &Plan) -> Self {
        Self {
            generation: plan.generation,
            models: plan.models.iter().map(|model| model.name.clone()).collect(),
            endpoints: plan.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            keys: plan.keys.iter().map(|key| key.name.clone()).collect(),
        }
    }

    /// A model's name; empty for an id of another plan.
    pub fn model(&self, id: ModelId) -> &str {
        self.models.get(usize::from(id.0)).map_or("", |name| name)
    }

    /// An endpoint's name; empty for an id of another plan.
    pub fn endpoint(&self, id: EndpointId) -> &str {
        self.endpoints.get(usize::from(id.0)).map_or("", |name| name)
    }

    /// A key's name; empty for an id of another plan.
    pub fn key(&self, id: KeyId) -> &str {
        self.keys.get(usize::from(id.0)).map_or("", |name| name)
    }
}

/// What one shard writes under one plan.
#[derive(Debug)]
pub struct Series {
    /// This shard's number.
    pub index: u16,
    pub shard: Arc<ShardSeries>,
    pub rows: Arc<Rows>,
    /// Decisions of its router, for those who ask.
    pub explained: Arc<Waiting>,
    /// For rows; this shard's own copy, so that counting references costs no other core anything.
    pub names: Arc<Names>,
    /// By [`ModelId`].
    pub models: Vec<Arc<ModelSeries>>,
    /// By [`EndpointId`].
    pub endpoints: Vec<Arc<EndpointSeries>>,
    /// Every shard's own series (read only): whom to hand a fresh connection to.
    pub peers: PerShard<ShardSeries>,
    /// By [`EndpointId`]: every shard's series (read only): how loaded an endpoint is.
    pub endpoint_peers: Vec<PerShard<EndpointSeries>>,
}

impl Series {
    /// What an endpoint has to do now, all shards together: exact as to this shard, and as the others
    /// published it.
    pub fn load(&self, id: EndpointId) -> Load {
        let per_shard = &self.endpoint_peers[usize::from(id.0)];
        per_shard.iter().fold(Load::default(), |sum, series| Load {
            requests: sum.requests + series.in_flight.get(),
            prefill_tokens: sum.prefill_tokens.saturating_add(series.prefill_tokens.get()),
            context_tokens: sum.context_tokens.saturating_add(series.context_tokens.get()),
        })
    }
}

/// All series of this process.
#[derive(Debug)]
pub struct Registry {
    pub shards: PerShard<ShardSeries>,
    /// By shard.
    pub rows: Vec<Arc<Rows>>,
    /// Of the engines' KV events.
    pub kv: Arc<KvCounts>,
    /// By shard.
    pub explained: Vec<Arc<Waiting>>,
    models: Family<ModelSeries>,
    endpoints: Family<EndpointSeries>,
}

impl Registry {
    /// Series for `shard_count` shards, with row queues of `queue_rows_max` rows each.
    pub fn new(shard_count: usize, queue_rows_max: usize) -> Self {
        Self {
            shards: (0..shard_count).map(|_| Arc::default()).collect(),
            rows: (0..shard_count).map(|_| Arc::new(Rows::new(queue_rows_max))).collect(),
            kv: Arc::default(),
            explained: (0..shard_count).map(|_| Arc::default()).collect(),
            models: Family::default(),
            endpoints: Family::default(),
        }
    }

    /// The series that each shard writes under `plan`, by shard.
    pub fn bind(&mut self, plan: &Plan) -> Vec<Arc<Series>> {
        let count = self.shards.len();
        let models: Vec<_> =
            plan.models.iter().map(|model| self.models.of(&model.name, count)).collect();
        let endpoints: Vec<_> = plan
            .endpoints
            .iter()
            .map(|endpoint| self.endpoints.of(&endpoint.name, count))
            .collect();
        self.models.retire(plan.models.iter().map(|model| &*model.name));
        self.endpoints.retire(plan.endpoints.iter().map(|endpoint| &*endpoint.name));
        (0..count).map(|shard| Arc::new(self.series(shard, plan, &models, &endpoints))).collect()
    }

    fn series(
        &self,
        shard: usize,
        plan: &Plan,
        models: &[PerShard<ModelSeries>],
        endpoints: &[PerShard<EndpointSeries>],
    ) -> Series {
        Series {
            index: u16::try_from(shard).unwrap_or(u16::MAX),
            shard: Arc::clone(&self.shards[shard]),
            rows: Arc::clone(&self.rows[shard]),
            explained: Arc::clone(&self.explained[shard]),
            names: Arc::new(Names::of(plan)),
            models: models.iter().map(|all| Arc::clone(&all[shard])).collect(),
            endpoints: endpoints.iter().map(|all| Arc::clone(&all[shard])).collect(),
            peers: Arc::clone(&self.shards),
            endpoint_peers: endpoints.to_vec(),
        }
    }

    /// A model's series without a plan.
    #[cfg(test)]
    pub fn model_for_test(&mut self, name: &str) -> PerShard<ModelSeries> {
        self.models.of(name, self.shards.len())
    }

    /// An endpoint's series without a plan.
    #[cfg(test)]
    pub fn endpoint_for_test(&mut self, name: &str) -> PerShard<EndpointSeries> {
        self.endpoints.of(name, self.shards.len())
    }

    /// Models by name, in the order of names.
    pub fn models(&self) -> impl Iterator<Item = (&str, &PerShard<ModelSeries>)> {
        self.models.0.iter().map(|(name, series)| (&**name, series))
    }

    /// Endpoints by name, in the order of names.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &PerShard<EndpointSeries>)> {
        self.endpoints.0.iter().map(|(name, series)| (&**name, series))
    }
}

/// The series of one kind of name.
#[derive(Debug)]
struct Family<T>(BTreeMap<Box<str>, PerShard<T>>);

impl<T> Default for Family<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default> Family<T> {
    fn of(&mut self, name: &str, shard_count: usize) -> PerShard<T> {
        let fresh = || (0..shard_count).map(|_| Arc::default()).collect();
        Arc::clone(self.0.entry(name.into()).or_insert_with(fresh))
    }

    /// Forgets names that are neither configured nor in use, if there are too many of them.
    fn retire<'a>(&mut self, configured: impl Iterator<Item = &'a str>) {
        let configured: HashSet<&str> = configured.collect();
        let gone = |name: &str, all: &PerShard<T>| !configured.contains(name) && !in_use(all);
        let retired = self.0.iter().filter(|(name, all)| gone(name, all)).count();
        if retired > RETIRED_NAMES_MAX {
            self.0.retain(|name, all| !gone(name, all));
        }
    }
}

fn in_use<T>(all: &PerShard<T>) -> bool {
    Arc::strong_count(all) > 1 || all.iter().any(|one| Arc::strong_count(one) > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_series() {
        let mut family = Family::<ModelSeries>::default();
        let first = family.of("a", 2);
        first[1].output_events.add(3);
        assert_eq!(family.of("a", 2)[1].output_events.get(), 3);
        assert_eq!(family.of("b", 2)[1].output_events.get(), 0);
    }

    #[test]
    fn retired_names_go_when_they_are_too_many_and_nobody_holds_them() {
        let mut family = Family::<EndpointSeries>::default();
        let held = family.of("held", 1);
        for n in 0..=RETIRED_NAMES_MAX {
            drop(family.of(&format!("old-{n}"), 1));
        }
        drop(family.of("kept", 1));
        family.retire(["kept"].into_iter());
        assert_eq!(family.0.keys().map(|name| &**name).collect::<Vec<_>>(), ["held", "kept"]);
        drop(held);
    }
}
