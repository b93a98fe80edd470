//! What `sluice check` remarks on a plan that is valid: settings that do nothing there, or rest on what the
//! file cannot tell.

use super::ability::{Can, pairs_up, publishes_events, tells_cache_size};
use super::isolation::is_able;
use super::plan::{Capabilities, Endpoint, EndpointId, Engine, Model, Plan, Policy};
use super::{endpoints, models, pairs};

/// On `[routing]`.
pub fn on_routing(plan: &Plan) -> Vec<String> {
    let idle = plan.routing.isolation.is_some() && !plan.isolates;
    idle.then(|| "no key and no model has `isolate`: isolation_secret is not used".to_owned())
        .into_iter()
        .collect()
}

/// On an endpoint.
pub fn on_endpoint(plan: &Plan, id: EndpointId, endpoint: &Endpoint) -> Vec<String> {
    let mut notes = Vec::new();
    if !plan.models.iter().any(|model| model.uses(id)) {
        notes.push("no model uses this endpoint".to_owned());
    }
    let hosted = matches!(endpoint.engine, Engine::OpenAi | Engine::Anthropic);
    if hosted && endpoint.api_key.is_none() && endpoint.headers.is_empty() {
        let note = "without api_key it gets no credential: clients' own are never sent on";
        notes.push(note.to_owned());
    }
    let traits = &endpoint.traits;
    if traits.kv_percent_max > 0 && traits.kv_tokens == 0 && tells_size(endpoint) == Can::Perhaps {
        let flag = match endpoint.engine {
            Engine::Sglang => " (SGLang: with --enable-metrics)",
            _ => "",
        };
        notes.push(format!(
            "kv_percent_max bounds nothing until the engine's metrics tell its cache's size{flag}"
        ));
    }
    if endpoint.kv_events.is_some() && publishes_events(endpoint.engine) == Can::Perhaps {
        notes.push("kv_events are understood as vLLM and SGLang publish them".to_owned());
    }
    notes
}

fn tells_size(endpoint: &Endpoint) -> Can {
    tells_cache_size(endpoint.engine, endpoint.metrics_path.is_some())
}

/// On a model.
pub fn on_model(plan: &Plan, model: &Model) -> Vec<String> {
    let mut notes = on_policy(plan, model);
    if plan.isolates {
        notes.extend(on_isolation(plan, model));
    }
    let Some(pair) = &model.pair else { return notes };
    let halves = known(plan, model.endpoints.iter().chain(&pair.prefill));
    let halves = halves.filter(|one| pairs_up(one.engine, pair.protocol) == Can::Perhaps);
    notes.extend(halves.map(|one| {
        let (name, protocol) = (&one.name, pairs::protocol_name(pair.protocol));
        format!("{name} must speak {protocol}, which the engine \"generic\" does not tell")
    }));
    notes
}

fn known<'p>(
    plan: &'p Plan,
    ids: impl Iterator<Item = &'p EndpointId>,
) -> impl Iterator<Item = &'p Endpoint> {
    ids.filter_map(|id| plan.endpoints.get(usize::from(id.0)))
}

fn names<'p>(endpoints: impl Iterator<Item = &'p Endpoint>) -> String {
    endpoints.map(|one| &*one.name).collect::<Vec<_>>().join(", ")
}

fn on_policy(plan: &Plan, model: &Model) -> Vec<String> {
    let mut notes = Vec::new();
    if model.hash_header.is_some() && model.policy != Policy::ConsistentHash {
        let policy = models::policy_name(model.policy);
        notes.push(format!("hash_header does nothing: the policy is {policy}"));
    }
    let of_model = || known(plan, model.endpoints.iter());
    let without = |lacks: fn(&Endpoint) -> bool| names(of_model().filter(|one| lacks(one)));
    let priceless = without(|one| one.price == 0.0);
    if model.policy == Policy::Cheapest && !priceless.is_empty() {
        notes.push(format!("cheapest knows no price of {priceless}: dearer than any"));
    }
    let silent = without(|one| one.traits.kv_tokens == 0 && tells_size(one) == Can::Never);
    if model.policy == Policy::LeastKv && !silent.is_empty() {
        notes.push(format!(
            "least-kv counts this gateway's own requests at {silent}: nothing tells their caches' size"
        ));
    }
    notes
}

/// Which requests of isolated tenants it has no place for.
fn on_isolation(plan: &Plan, model: &Model) -> Option<String> {
    let whose = if model.isolate { "requests" } else { "isolated keys' requests" };
    let beside = model.pair.iter().flat_map(|pair| pair.prefill.iter().chain(&pair.whole));
    let beside: Vec<&Endpoint> = known(plan, beside).collect();
    let own = || known(plan, model.endpoints.iter());
    let nobody =
        !own().any(is_able) || !(beside.is_empty() || beside.iter().any(|one| is_able(one)));
    if nobody {
        return Some(format!(
            "{whose} are refused: no engine of its endpoints keeps tenants apart"
        ));
    }
    let blind = names(own().chain(beside).filter(|one| !is_able(one)));
    if !blind.is_empty() {
        return Some(format!("{whose} never go to {blind}, which keeps no tenants apart"));
    }
    let text = |one: &Endpoint| one.traits.capabilities.has(Capabilities::SALTED_TEXT);
    (!own().any(text)).then(|| {
        let engines: Vec<_> = own().map(|one| endpoints::engine_name(one.engine)).collect();
        format!(
            "{whose} are refused but for chat completions: {} keeps no others apart",
            engines[0]
        )
    })
}
