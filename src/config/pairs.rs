//! `[[pairs]]`: models whose prompts one server computes and another one answers.

use std::collections::HashSet;

use super::ability::{Can, pairs_up};
use super::endpoints::{self, Known};
use super::models::{self, Models};
use super::plan::{EndpointId, Model, ModelId, Pair, PairProtocol};
use super::reader::{At, Section};

const PROTOCOLS: [(&str, PairProtocol); 2] =
    [("nixl", PairProtocol::Nixl), ("sglang", PairProtocol::Sglang)];

const DAY: f64 = 86_400.0;

/// Reads every `[[pairs]]` table into the models that they are about.
pub fn read(root: &Section<'_>, known: &Known, models: &mut Models<'_>) {
    let mut seen = HashSet::new();
    for Read { name, of, pair } in root.tables("pairs", |s| read_pair(s, known, models)) {
        let Some(name) = name else { continue };
        if !seen.insert(name.value) {
            let what = format!("two [[pairs]] are about the model {:?}", name.value);
            root.fault(name.at, what, "put their endpoints into one of them");
        }
        if let Some(model) = of.and_then(|id| models.list.get_mut(usize::from(id.0))) {
            model.pair = pair.map(Box::new);
        }
    }
}

/// One table.
struct Read<'a> {
    name: Option<At<&'a str>>,
    of: Option<ModelId>,
    pair: Option<Pair>,
}

fn read_pair<'a>(s: &Section<'a>, known: &Known, models: &Models<'_>) -> Read<'a> {
    let name = s.required("model", "llama-3.1-8b");
    let protocol = s.required("protocol", "nixl");
    let protocol = protocol.and_then(|word| s.pick("protocol", word, &PROTOCOLS));
    let prefill = models::read_endpoints(s, "prefill", known);
    let given = s.texts("whole").is_some();
    let whole = given.then(|| models::read_endpoints(s, "whole", known));
    let uncached_tokens_min = s.whole("uncached_tokens_min", 1_024, 0..=1 << 30) as u32;
    let prefill_timeout = s.seconds("prefill_seconds", 120.0, 0.1..=DAY);
    let lease = s.seconds("lease_seconds", 480.0, 1.0..=DAY);
    let of = name.and_then(|name| models.index.model(s, name));
    let model = of.and_then(|id| models.list.get(usize::from(id.0)));
    if let Some(model) = model {
        keep_apart(s, "prefill", &prefill.ids, &model.endpoints);
    }
    if let Some(protocol) = protocol {
        check_halves(s, "prefill", &prefill.ids, protocol, known);
        check_halves(s, "model", model.map_or(&[], |model| &model.endpoints), protocol, known);
    }
    if let (Some(PairProtocol::Sglang), Some(whole)) = (protocol, &whole)
        && whole.ids.iter().any(|id| prefill.ids.contains(id))
    {
        let what = "`whole` names an endpoint of `prefill`, which does its half only";
        s.fault(s.given("whole").unwrap_or(s.at), what, "name other endpoints");
    }
    let pair = model.zip(protocol).map(|(model, protocol)| {
        let sound = models.whole && prefill.whole && whole.as_ref().is_none_or(|list| list.whole);
        let whole = alone(s, model, protocol, whole.map(|list| list.ids));
        if model.isolate && sound {
            let at = s.given("prefill").unwrap_or(s.at);
            models::check_isolation(s, at, prefill.ids.iter().chain(&whole), known);
        }
        let prefill = prefill.ids;
        Pair { protocol, prefill, whole, uncached_tokens_min, prefill_timeout, lease }
    });
    Read { name, of, pair }
}

/// Who does all of a request: vLLM's servers can, SGLang's do one half each.
fn alone(
    s: &Section<'_>,
    model: &Model,
    protocol: PairProtocol,
    given: Option<Vec<EndpointId>>,
) -> Vec<EndpointId> {
    match (protocol, given) {
        (PairProtocol::Nixl, given) => given.unwrap_or_else(|| model.endpoints.clone()),
        (PairProtocol::Sglang, None) => Vec::new(),
        (PairProtocol::Sglang, Some(whole)) => {
            keep_apart(s, "whole", &whole, &model.endpoints);
            whole
        }
    }
}

/// Each half of a request needs an engine that speaks the protocol. `key` is what names these endpoints.
fn check_halves(
    s: &Section<'_>,
    key: &str,
    ids: &[EndpointId],
    protocol: PairProtocol,
    known: &Known,
) {
    let (name, engine) = match protocol {
        PairProtocol::Nixl => ("nixl", "vllm"),
        PairProtocol::Sglang => ("sglang", "sglang"),
    };
    let endpoints = ids.iter().filter_map(|id| known.get(*id));
    for one in endpoints.filter(|one| pairs_up(one.engine, protocol) == Can::Never) {
        let (who, runs) = (&one.name, endpoints::engine_name(one.engine));
        let what = format!("{who:?} runs {runs}, which does no half of a request by {name:?}");
        let fix = format!("name endpoints of {engine}, or correct `protocol`");
        s.fault(s.given(key).unwrap_or(s.at), what, fix);
    }
}

/// A server is started as one or the other.
fn keep_apart(s: &Section<'_>, key: &str, list: &[EndpointId], decode: &[EndpointId]) {
    if list.iter().any(|id| decode.contains(id)) {
        let what = format!("`{key}` names an endpoint of the model itself, which decodes");
        s.fault(s.given(key).unwrap_or(s.at), what, "name other endpoints");
    }
}

/// How a protocol is called in the file.
pub fn protocol_name(protocol: PairProtocol) -> &'static str {
    PROTOCOLS.iter().find(|(_, known)| *known == protocol).map_or("?", |(name, _)| name)
}
