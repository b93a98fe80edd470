//! What routing knows of a plan: for each model what its policy looks at, for each endpoint its place in the
//! router's tables.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::plan::{Capabilities, Endpoint, EndpointId, Model, ModelId, Plan, Policy};
use crate::relay::explain::is_wanted;
use crate::route::endpoints::EndpointSet;
use crate::route::router::{Places, Router, Slot};

/// How much of a request its model's policy looks at. What is not looked at costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Turns, weights, chance.
    Nothing,
    /// How many tokens it will take.
    Tokens,
    /// Which endpoint has the beginning of its prompt.
    Prompt,
}

/// One model.
#[derive(Clone, Debug)]
pub struct ModelSeat {
    pub look: Look,
    /// Some endpoint does not take every request.
    pub guarded: bool,
    /// Some endpoint cannot do everything.
    pub choosy: bool,
    /// Some endpoint takes only so many requests or tokens at once.
    pub limited: bool,
    /// All of its endpoints' engines tell of their caches, and there is a choice.
    pub tells: bool,
    pub slot: Option<Slot>,
    /// The columns of its endpoints.
    pub columns: EndpointSet,
}

/// One plan's seating.
#[derive(Clone, Debug)]
pub struct Seating {
    pub models: Vec<ModelSeat>,
    /// The endpoints that take only so many requests at once.
    pub limited: Vec<EndpointId>,
    /// Some endpoint takes only so many tokens at once.
    pub kv_bounded: bool,
    /// By endpoint.
    pub slots: Vec<Option<Slot>>,
    /// Some requests share no engine's cache with others.
    pub isolates: bool,
    /// Decisions are written down.
    pub explained: bool,
}

impl Seating {
    /// MiB of the prefix table that `plan` needs, the least there is where no prompt is looked at; `None` if
    /// it needs no router at all.
    pub fn prefix_table_mib(plan: &Plan) -> Option<usize> {
        match plan.models.iter().map(|model| look(plan, model)).max()? {
            Look::Nothing => None,
            Look::Tokens => Some(1),
            Look::Prompt => Some(plan.routing.prefix_table_mib),
        }
    }

    /// Seats a plan; without a router, nobody has a slot.
    pub fn of(plan: &Plan, router: Option<&mut Router>) -> Self {
        let endpoints: Vec<u64> = plan.endpoints.iter().map(Endpoint::cache_identity).collect();
        let models: Vec<u64> =
            plan.models.iter().map(|model| xxh3_64(model.name.as_bytes())).collect();
        let places = router.map_or_else(Places::default, |r| r.adopt(&endpoints, &models));
        let mut slots = places.endpoints;
        slots.resize(plan.endpoints.len(), None);
        let seat = |(at, model): (usize, &Model)| {
            let traits = || servers(model).map(|id| &plan.endpoints[usize::from(id.0)].traits);
            let columns = model.endpoints.iter().filter_map(|id| slots[usize::from(id.0)]);
            ModelSeat {
                look: look(plan, model),
                guarded: guarded(plan, model),
                limited: limited(plan, model),
                tells: tells(plan, model),
                choosy: traits().any(|traits| !traits.capabilities.has(Capabilities::ALL)),
                slot: places.models.get(at).copied().flatten(),
                columns: columns.map(|slot| slot.index).collect(),
            }
        };
        let models = plan.models.iter().enumerate().map(seat).collect();
        let limited = (0..).map(EndpointId).zip(&plan.endpoints);
        let limited = limited.filter(|(_, endpoint)| endpoint.traits.requests_max > 0);
        let limited = limited.map(|(id, _)| id).collect();
        let kv_bounded = plan.endpoints.iter().any(|one| one.traits.kv_percent_max > 0);
        let (isolates, explained) = (plan.isolates, is_wanted(plan));
        Self { models, limited, kv_bounded, slots, isolates, explained }
    }

    /// The columns of these endpoints.
    pub fn columns(&self, ids: &[EndpointId]) -> EndpointSet {
        ids.iter().filter_map(|id| self.slots[usize::from(id.0)]).map(|slot| slot.index).collect()
    }

    /// An endpoint's column. Those that have none share one: what is said of it holds for all of them.
    pub fn column(&self, id: EndpointId) -> u16 {
        self.slots[usize::from(id.0)].map_or(0, |slot| slot.index)
    }

    /// A model's seat.
    pub fn model(&self, id: ModelId) -> &ModelSeat {
        &self.models[usize::from(id.0)]
    }
}

/// The longest tick that leaves a short wait short.
const TICK_MAX: Duration = Duration::from_millis(20);

/// Pairs have two servers to be chosen; they go by what they know.
fn tells(plan: &Plan, model: &Model) -> bool {
    let tells = |id: &EndpointId| plan.endpoints[usize::from(id.0)].kv_events.is_some();
    let prompt = plan.runtime.tick <= TICK_MAX;
    prompt && model.pair.is_none() && model.endpoints.len() > 1 && model.endpoints.iter().all(tells)
}

/// Where tenants are isolated, any model may be asked for what only some engines and APIs can do.
fn guarded(plan: &Plan, model: &Model) -> bool {
    plan.isolates
        || limited(plan, model)
        || servers(model).any(|id| {
            let traits = &plan.endpoints[usize::from(id.0)].traits;
            traits.context_tokens_max > 0 || !traits.capabilities.has(Capabilities::ALL)
        })
}

/// All that may get a leg of its requests.
fn servers(model: &Model) -> impl Iterator<Item = &EndpointId> {
    let beside = model.pair.iter().flat_map(|pair| pair.prefill.iter().chain(&pair.whole));
    model.endpoints.iter().chain(beside)
}

/// Where the model's own servers cannot do all of every request alone, others' room counts, too.
fn limited(plan: &Plan, model: &Model) -> bool {
    let alone = model.pair.iter().any(|pair| pair.whole == model.endpoints);
    servers(model).filter(|id| !alone || model.endpoints.contains(id)).any(|id| {
        let traits = &plan.endpoints[usize::from(id.0)].traits;
        traits.requests_max > 0 || traits.kv_percent_max > 0
    })
}

/// What the policy looks at. Whether a request fits takes its tokens; where there is no choice, a prompt is
/// not looked at to make it. Whether a request is split depends on what is cached.
fn look(plan: &Plan, model: &Model) -> Look {
    match policy_look(plan, model) {
        _ if model.pair.is_some() => Look::Prompt,
        Look::Prompt if model.endpoints.len() < 2 => Look::Tokens,
        look => look,
    }
}

fn policy_look(plan: &Plan, model: &Model) -> Look {
    match model.policy {
        Policy::RoundRobin | Policy::Random | Policy::Weighted => match guarded(plan, model) {
            true => Look::Tokens,
            false => Look::Nothing,
        },
        Policy::LeastLoaded | Policy::PowerOfTwo | Policy::LeastKv => Look::Tokens,
        Policy::PredictedTtft
        | Policy::PrefixAffinity
        | Policy::ConsistentHash
        | Policy::Cheapest => Look::Prompt,
    }
}
