//! `[[models]]`: the names that clients ask for.

use std::collections::HashSet;

use super::endpoints::Known;
use super::index::{Index, Kind};
use super::isolation::Ground;
use super::plan::{EndpointId, MODELS_MAX, Model, ModelId, Named, Policy, Queue, Target};
use super::reader::{At, Section};
use super::traits::Demand;
use super::{isolation, names, routing};

const POLICIES: [(&str, Policy); 10] = [
    ("predicted-ttft", Policy::PredictedTtft),
    ("prefix-affinity", Policy::PrefixAffinity),
    ("least-loaded", Policy::LeastLoaded),
    ("power-of-two", Policy::PowerOfTwo),
    ("least-kv", Policy::LeastKv),
    ("round-robin", Policy::RoundRobin),
    ("random", Policy::Random),
    ("weighted", Policy::Weighted),
    ("consistent-hash", Policy::ConsistentHash),
    ("cheapest", Policy::Cheapest),
];

/// What was read.
pub struct Models<'a> {
    pub list: Vec<Model>,
    pub index: Index<'a>,
    /// Every table is faultless, and so are the endpoints that it names: what is missing is missing.
    pub whole: bool,
}

/// Reads every `[[models]]` table.
pub fn read<'a>(root: &Section<'a>, endpoints: &Known, ground: Ground) -> Models<'a> {
    let mut models = Vec::new();
    let mut index = Index::new(root);
    let mut whole = true;
    for Read { name, model, listed } in root.tables("models", |s| read_model(s, endpoints, ground))
    {
        whole &= model.is_some() && listed;
        let Some(name) = name else { continue };
        let id = ModelId(u16::try_from(models.len()).unwrap_or(u16::MAX));
        let named = Named { target: Target::Model(id), other: None };
        index.enter(root, Kind::Model, name, model.is_some().then_some(named));
        models.extend(model);
    }
    if models.len() > MODELS_MAX {
        let at = root.given("models").unwrap_or_default();
        root.fault(at, "too many [[models]]", format!("keep at most {MODELS_MAX}"));
    }
    if root.is_empty("models") {
        let at = root.given("models").unwrap_or_default();
        let fix = "add [[models]] with a name and its endpoints";
        root.fault(at, "there are no models", fix);
    }
    Models { list: models, index, whole }
}

/// One table.
struct Read<'a> {
    name: Option<At<&'a str>>,
    model: Option<Model>,
    /// Each endpoint that it names is known, and faultless.
    listed: bool,
}

fn read_model<'a>(s: &Section<'a>, known: &Known, ground: Ground) -> Read<'a> {
    let name = names::name(s, "name", "llama-3.1-8b");
    let policy = s.choice("policy", policy_name(Policy::default()), &POLICIES);
    let hash_header = routing::header(s, "hash_header", "x-user-id");
    let demand = Demand::read(s);
    let Listed { ids, whole: listed } = read_endpoints(s, "endpoints", known);
    let endpoints = demand.keep(s, ids, listed, known);
    let upstream = s.text("upstream_model", "");
    let upstream = upstream.and_then(|text| names::check(s, "upstream_model", text));
    let queue = read_queue(s);
    let isolate = ground.switch(s);
    if isolate && listed {
        let at = s.given("isolate").unwrap_or(s.at);
        check_isolation(s, at, endpoints.iter(), known);
    }
    let model = name.zip(policy).map(|(name, policy)| Model {
        name: name.value.into(),
        endpoints,
        policy,
        hash_header,
        // Engines know an adapter by its name.
        upstream_model: upstream.map(|text| text.value.into()).or_else(|| demand.adapter()),
        adapter: demand.adapter(),
        pair: None,
        shadow: None,
        queue,
        isolate,
    });
    Read { name, model, listed }
}

/// Where no endpoint keeps tenants apart, every request would be refused. `at` is whom the fault is about.
pub fn check_isolation<'i>(
    s: &Section<'_>,
    at: usize,
    mut ids: impl Iterator<Item = &'i EndpointId>,
    known: &Known,
) {
    let Some(first) = ids.next() else { return };
    let able = |id: &EndpointId| known.get(*id).is_some_and(isolation::is_able);
    if !able(first) && !ids.any(able) {
        let what = format!("{} isolates tenants, and no engine of its endpoints can", s.title());
        s.fault(at, what, "use endpoints of vllm, sglang or tensorrt-llm");
    }
}

fn read_queue(s: &Section<'_>) -> Queue {
    Queue {
        requests_per_shard_max: s.size("queue_requests_per_shard_max", 1_024, 0..=65_536),
        bytes_per_shard_max: s.whole("queue_bytes_per_shard_max", 64 << 20, 0..=1 << 40),
        patience: s.seconds("queue_seconds", 30.0, 0.1..=3_600.0),
    }
}

/// A list of endpoints' names.
pub struct Listed {
    pub ids: Vec<EndpointId>,
    /// Each name is known, and its endpoint faultless.
    pub whole: bool,
}

/// Reads one, which must not be empty.
pub fn read_endpoints(s: &Section<'_>, key: &'static str, known: &Known) -> Listed {
    let Some(given) = s.texts(key) else {
        if s.given(key).is_none() {
            let what = format!("{} has no `{key}`", s.title());
            s.fault(s.at, what, format!("add {key} = [\"NAME\"] with names of [[endpoints]]"));
        }
        return Listed { ids: Vec::new(), whole: false };
    };
    if s.is_empty(key) {
        let what = format!("{} has an empty list of endpoints", s.title());
        s.fault(given.at, what, "name at least one of [[endpoints]]");
    }
    let mut listed = Listed { ids: Vec::with_capacity(given.value.len()), whole: true };
    let mut seen = HashSet::new();
    for name in given.value {
        if !seen.insert(name.value) {
            s.fault(name.at, format!("endpoint {:?} stands twice", name.value), "keep one of them");
        }
        let id = known.by_name.get(name.value);
        if id.is_none() {
            refuse_unknown(s, name, known);
        }
        listed.whole &= matches!(id, Some(Some(_)));
        listed.ids.extend(id.copied().flatten());
    }
    listed
}

fn refuse_unknown(s: &Section<'_>, name: At<&str>, known: &Known) {
    if known.unread {
        return;
    }
    let fix = match s.reader.nearest(name.value, known.by_name.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("add [[endpoints]] with name = {:?}", name.value),
    };
    s.fault(name.at, format!("there is no endpoint {:?}", name.value), fix);
}

/// How a policy is called in the file.
pub fn policy_name(policy: Policy) -> &'static str {
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("?", |(name, _)| name)
}
