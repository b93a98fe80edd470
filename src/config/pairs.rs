//! `[[pairs]]`: models whose prompts one server computes and another one answers.

use std::collections::HashSet;

use super::endpoints::Known;
use super::models;
use super::plan::{EndpointId, Model, ModelIndex, Pair, PairProtocol, Target};
use super::reader::{At, Section};

const PROTOCOLS: [(&str, PairProtocol); 2] =
    [("nixl", PairProtocol::Nixl), ("sglang", PairProtocol::Sglang)];

const DAY: f64 = 86_400.0;

/// Reads every `[[pairs]]` table into the models that they are about.
pub fn read(root: &Section<'_>, known: &Known, models: &mut [Model], index: &ModelIndex) {
    let mut seen = HashSet::new();
    for (model, pair) in root.tables("pairs", |s| read_pair(s, known, models, index)) {
        let Some(model) = model else { continue };
        if !seen.insert(model.value) {
            let what = format!("two [[pairs]] are about the model {:?}", model.value);
            root.fault(model.at, what, "put their endpoints into one of them");
        }
        if let Some(model) = place(index, model.value).and_then(|at| models.get_mut(at)) {
            model.pair = pair.map(Box::new);
        }
    }
}

fn read_pair<'a>(
    s: &Section<'a>,
    known: &Known,
    models: &[Model],
    index: &ModelIndex,
) -> (Option<At<&'a str>>, Option<Pair>) {
    let name = s.required("model", "llama-3.1-8b");
    let protocol = s.required("protocol", "nixl");
    let protocol = protocol.and_then(|word| s.pick("protocol", word, &PROTOCOLS));
    let prefill = models::read_endpoints(s, "prefill", known);
    let given = s.texts("whole").map(|list| list.at);
    let whole = given.map(|_| models::read_endpoints(s, "whole", known));
    let uncached_tokens_min = s.whole("uncached_tokens_min", 1_024, 0..=1 << 30) as u32;
    let prefill_timeout = s.seconds("prefill_seconds", 120.0, 0.1..=DAY);
    let lease = s.seconds("lease_seconds", 480.0, 1.0..=DAY);
    let model = name.and_then(|name| model(s, name, models, index));
    let pair = model.zip(protocol).map(|(model, protocol)| {
        keep_apart(s, "prefill", &prefill, &model.endpoints);
        if let (Some(whole), PairProtocol::Sglang) = (&whole, protocol) {
            keep_apart(s, "whole", whole, &model.endpoints);
        }
        let able = || match protocol {
            PairProtocol::Nixl => model.endpoints.clone(),
            PairProtocol::Sglang => Vec::new(),
        };
        let whole = whole.unwrap_or_else(able);
        if model.isolate {
            let at = s.given("prefill").unwrap_or(s.at);
            models::check_isolation(s, at, prefill.iter().chain(&whole), known);
        }
        Pair { protocol, prefill, whole, uncached_tokens_min, prefill_timeout, lease }
    });
    (name, pair)
}

fn model<'m>(
    s: &Section<'_>,
    name: At<&str>,
    models: &'m [Model],
    index: &ModelIndex,
) -> Option<&'m Model> {
    let Some(at) = place(index, name.value) else {
        let fix = match s.reader.nearest(name.value, index.keys().map(|known| &**known)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("add [[models]] with name = {:?}", name.value),
        };
        s.fault(name.at, format!("there is no model {:?}", name.value), fix);
        return None;
    };
    models.get(at)
}

/// Where the model of that name stands.
fn place(index: &ModelIndex, name: &str) -> Option<usize> {
    match index.get(name)?.target {
        Target::Model(id) => Some(usize::from(id.0)),
        Target::Split(_) => None,
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
