//! Which series belong to which name.
//!
//! A name keeps its series over reloads, so its counters never go back. A name that left the
//! configuration is still shown, until requests that began under the old plan are gone and more
//! than [`RETIRED_NAMES_MAX`] names have left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::arm::ArmSeries;
use super::endpoint::{EndpointSeries, Load};
use super::explain::Waiting;
use super::kv::KvCounts;
use super::model::ModelSeries;
use super::queue::Rows;
use super::shadow::ShadowSeries;
use super::shard::ShardSeries;
use crate::config::plan::{EndpointId, KeyId, ModelId, OtherNameId, Plan, Target};

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
    /// Of splits and aliases.
    pub others: Vec<Box<str>>,
}

impl Names {
    /// The names of `plan`.
    pub fn of(plan: &Plan) -> Self {
        Self {
            generation: plan.generation,
            models: plan.models.iter().map(|model| model.name.clone()).collect(),
            endpoints: plan.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            keys: plan.keys.iter().map(|key| key.name.clone()).collect(),
            others: plan.other_names.clone(),
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

    /// A split's or an alias's name; empty for an id of another plan.
    pub fn other(&self, id: OtherNameId) -> &str {
        self.others.get(usize::from(id.0)).map_or("", |name| name)
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
    /// By [`crate::config::plan::ArmId`].
    pub arms: Vec<Arc<ArmSeries>>,
    /// By [`crate::config::plan::ShadowId`].
    pub shadows: Vec<Arc<ShadowSeries>>,
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
    arms: Family<ArmSeries, NamePair>,
    shadows: Family<ShadowSeries, NamePair>,
    endpoints: Family<EndpointSeries>,
}

/// A split's name and a model's, or a model's and its shadow's.
pub type NamePair = (Box<str>, Box<str>);

impl Registry {
    /// Series for `shard_count` shards, with row queues of `queue_rows_max` rows each.
    pub fn new(shard_count: usize, queue_rows_max: usize) -> Self {
        Self {
            shards: (0..shard_count).map(|_| Arc::default()).collect(),
            rows: (0..shard_count).map(|_| Arc::new(Rows::new(queue_rows_max))).collect(),
            kv: Arc::default(),
            explained: (0..shard_count).map(|_| Arc::default()).collect(),
            models: Family::default(),
            arms: Family::default(),
            shadows: Family::default(),
            endpoints: Family::default(),
        }
    }

    /// The series that each shard writes under `plan`, by shard.
    pub fn bind(&mut self, plan: &Plan) -> Vec<Arc<Series>> {
        let count = self.shards.len();
        let name = |id| Box::from(plan.name_of(Target::Model(id)));
        let arms = plan.splits.iter().flat_map(|split| {
            split.arms.iter().map(move |arm| (split.name.clone(), name(arm.model)))
        });
        let shadows = plan.shadows.iter().map(|shadow| (name(shadow.of), name(shadow.to)));
        let bound = Bound {
            models: self.models.bind(plan.models.iter().map(|model| model.name.clone()), count),
            arms: self.arms.bind(arms, count),
            shadows: self.shadows.bind(shadows, count),
            endpoints: self.endpoints.bind(plan.endpoints.iter().map(|e| e.name.clone()), count),
        };
        (0..count).map(|shard| Arc::new(self.series(shard, plan, &bound))).collect()
    }

    fn series(&self, shard: usize, plan: &Plan, bound: &Bound) -> Series {
        Series {
            index: u16::try_from(shard).unwrap_or(u16::MAX),
            shard: Arc::clone(&self.shards[shard]),
            rows: Arc::clone(&self.rows[shard]),
            explained: Arc::clone(&self.explained[shard]),
            names: Arc::new(Names::of(plan)),
            models: of_shard(&bound.models, shard),
            arms: of_shard(&bound.arms, shard),
            shadows: of_shard(&bound.shadows, shard),
            endpoints: of_shard(&bound.endpoints, shard),
            peers: Arc::clone(&self.shards),
            endpoint_peers: bound.endpoints.clone(),
        }
    }

    /// A model's series without a plan.
    #[cfg(test)]
    pub fn model_for_test(&mut self, name: &str) -> PerShard<ModelSeries> {
        self.models.of(name.into(), self.shards.len())
    }

    /// An endpoint's series without a plan.
    #[cfg(test)]
    pub fn endpoint_for_test(&mut self, name: &str) -> PerShard<EndpointSeries> {
        self.endpoints.of(name.into(), self.shards.len())
    }

    /// Models by name, in the order of names.
    pub fn models(&self) -> impl Iterator<Item = (&str, &PerShard<ModelSeries>)> {
        self.models.0.iter().map(|(name, series)| (&**name, series))
    }

    /// Arms by their splits' names and their models', in that order.
    pub fn arms(&self) -> impl Iterator<Item = (&NamePair, &PerShard<ArmSeries>)> {
        self.arms.0.iter()
    }

    /// Shadows by their models' names and the names of those that get the copies, in that order.
    pub fn shadows(&self) -> impl Iterator<Item = (&NamePair, &PerShard<ShadowSeries>)> {
        self.shadows.0.iter()
    }

    /// Endpoints by name, in the order of names.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &PerShard<EndpointSeries>)> {
        self.endpoints.0.iter().map(|(name, series)| (&**name, series))
    }
}

/// Every shard's series under one plan, by the plan's ids.
struct Bound {
    models: Vec<PerShard<ModelSeries>>,
    arms: Vec<PerShard<ArmSeries>>,
    shadows: Vec<PerShard<ShadowSeries>>,
    endpoints: Vec<PerShard<EndpointSeries>>,
}

fn of_shard<T>(all: &[PerShard<T>], shard: usize) -> Vec<Arc<T>> {
    all.iter().map(|one| Arc::clone(&one[shard])).collect()
}

/// The series of one kind of name.
#[derive(Debug)]
struct Family<T, N = Box<str>>(BTreeMap<N, PerShard<T>>);

impl<T, N> Default for Family<T, N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default, N: Ord> Family<T, N> {
    fn of(&mut self, name: N, shard_count: usize) -> PerShard<T> {
        let fresh = || (0..shard_count).map(|_| Arc::default()).collect();
        Arc::clone(self.0.entry(name).or_insert_with(fresh))
    }

    /// The series of `names`, in their order.
    fn bind(&mut self, names: impl Iterator<Item = N>, shard_count: usize) -> Vec<PerShard<T>>
    where
        N: Clone,
    {
        let names: Vec<N> = names.collect();
        let bound = names.iter().map(|name| self.of(name.clone(), shard_count)).collect();
        self.retire(names.iter());
        bound
    }

    /// Forgets names that are neither configured nor in use, if there are too many of them.
    fn retire<'a>(&mut self, configured: impl Iterator<Item = &'a N>)
    where
        N: 'a,
    {
        let configured: BTreeSet<&N> = configured.collect();
        let gone = |name: &N, all: &PerShard<T>| !configured.contains(name) && !in_use(all);
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
        let first = family.of("a".into(), 2);
        first[1].output_events.add(3);
        assert_eq!(family.of("a".into(), 2)[1].output_events.get(), 3);
        assert_eq!(family.of("b".into(), 2)[1].output_events.get(), 0);
    }

    #[test]
    fn retired_names_go_when_they_are_too_many_and_nobody_holds_them() {
        let mut family = Family::<EndpointSeries>::default();
        let held = family.of("held".into(), 1);
        for n in 0..=RETIRED_NAMES_MAX {
            drop(family.of(format!("old-{n}").into(), 1));
        }
        drop(family.of("kept".into(), 1));
        family.retire([&"kept".into()].into_iter());
        assert_eq!(family.0.keys().map(|name| &**name).collect::<Vec<_>>(), ["held", "kept"]);
        drop(held);
    }
}
