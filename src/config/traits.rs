//! What an endpoint can take and what it is worth: `[[endpoints]]` keys that routing looks at.

use super::endpoints::Known;
use super::isolation::keeps_apart;
use super::names;
use super::plan::{Capabilities, Endpoint, EndpointId, Engine, Traits};
use super::reader::{At, Section};

/// Most tokens of a context or a cache: more is a slip of the pen.
const TOKENS_MAX: u64 = 1 << 30;

const CAPABILITIES: [(&str, Capabilities); 3] = [
    ("tools", Capabilities::TOOLS),
    ("vision", Capabilities::VISION),
    ("json_schema", Capabilities::JSON_SCHEMA),
];

/// What `where` of a model may look at.
const LABELS: [&str; 4] = ["region", "sku", "quantization", "role"];

/// Reads an endpoint's traits.
pub fn read(s: &Section<'_>, engine: Option<Engine>) -> Traits {
    let whole = |key, default, range| u32::try_from(s.whole(key, default, range)).unwrap_or(0);
    let adapters = s.texts("adapters").map_or(Vec::new(), |given| given.value);
    let adapters = adapters.into_iter().filter_map(|name| names::check(s, "adapters", name));
    Traits {
        context_tokens_max: whole("context_tokens_max", 0, 0..=TOKENS_MAX),
        requests_max: whole("requests_max", 0, 0..=1_000_000),
        kv_tokens: whole("kv_tokens", 0, 0..=TOKENS_MAX),
        kv_percent_max: whole("kv_percent_max", 0, 0..=1_000),
        bootstrap_port: s.whole("bootstrap_port", 8_998, 1..=65_535) as u16,
        capabilities: capabilities(s).with(engine.map_or(Capabilities::NONE, keeps_apart)),
        adapters: adapters.map(|name| name.value.into()).collect(),
        labels: LABELS.map(|label| s.text(label, "").map_or("".into(), |text| text.value.into())),
    }
}

/// Left out, the endpoint can do everything; a list is all that it can do.
fn capabilities(s: &Section<'_>) -> Capabilities {
    let Some(given) = s.texts("capabilities") else { return Capabilities::ALL };
    let picked =
        given.value.into_iter().filter_map(|word| s.pick("capabilities", word, &CAPABILITIES));
    picked.fold(Capabilities::NONE, |all, one| all.with(one))
}

/// What a model demands of its endpoints beyond being named.
pub struct Demand<'a> {
    adapter: Option<At<&'a str>>,
    /// By [`LABELS`].
    labels: Vec<(usize, At<&'a str>)>,
    at: usize,
}

impl<'a> Demand<'a> {
    /// Reads `adapter` and `where`.
    pub fn read(s: &Section<'a>) -> Self {
        let adapter = s.text("adapter", "").and_then(|name| names::check(s, "adapter", name));
        let mut labels = Vec::new();
        for (label, wanted) in s.pairs("where") {
            match LABELS.iter().position(|known| *known == label.value) {
                Some(known) => labels.push((known, wanted)),
                None => {
                    let what = format!("`where` knows no {:?}", label.value);
                    s.fault(label.at, what, format!("use {}", LABELS.join(", ")));
                }
            }
        }
        let at = labels.first().map(|(_, wanted)| wanted.at).or(adapter.map(|name| name.at));
        Self { adapter, labels, at: at.unwrap_or(s.at) }
    }

    /// The adapter that the model's name stands for.
    pub fn adapter(&self) -> Option<Box<str>> {
        self.adapter.map(|name| name.value.into())
    }

    /// Those of `ids` that meet it; that none does is a fault, if they are the `whole` list.
    pub fn keep(
        &self,
        s: &Section<'_>,
        ids: Vec<EndpointId>,
        whole: bool,
        known: &Known,
    ) -> Vec<EndpointId> {
        let fits = |id: &EndpointId| known.get(*id).is_some_and(|endpoint| self.met(endpoint));
        let kept: Vec<_> = ids.iter().copied().filter(fits).collect();
        if kept.is_empty() && !ids.is_empty() && whole {
            let what = format!("{} demands what none of its endpoints has", s.title());
            s.fault(self.at, what, "correct it, or give the endpoints that label or adapter");
        }
        kept
    }

    fn met(&self, endpoint: &Endpoint) -> bool {
        let traits = &endpoint.traits;
        let loaded =
            |name: &At<&str>| traits.adapters.iter().any(|adapter| &**adapter == name.value);
        self.adapter.as_ref().is_none_or(loaded)
            && self.labels.iter().all(|(at, wanted)| &*traits.labels[*at] == wanted.value)
    }
}

/// An endpoint's labels that are given, for people to read.
pub fn labels(traits: &Traits) -> impl Iterator<Item = (&'static str, &str)> {
    LABELS
        .into_iter()
        .zip(traits.labels.iter().map(|label| &**label))
        .filter(|(_, v)| !v.is_empty())
}

/// The names of what it can do.
pub fn capability_names(capabilities: Capabilities) -> String {
    let known = CAPABILITIES.iter().filter(|(_, one)| capabilities.has(*one));
    known.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
