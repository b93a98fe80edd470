//! An explanation as people read it: JSON, with names in the place of ids.

use serde::{Serialize, Serializer};

use super::{Drawn, Explained, Paired, Ranked, Weighed};
use crate::config::plan::{EndpointId, ModelId, OtherNameId};
use crate::telemetry::registry::Names;
use crate::telemetry::route::Reason;

impl Serialize for Explained {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = &*self.names;
        let view = View {
            request_id: Some(self.request_id.as_str()).filter(|id| !id.is_empty()),
            model: model(names, self.model),
            asked_model: self.asked.map(|id| other(names, id)),
            split: self.drawn.as_ref().map(|drawn| Split::of(names, drawn)),
            policy: self.policy,
            reason: self.reason.map(Reason::name),
            error: Some(self.error).filter(|error| !error.is_empty()),
            endpoint: self.endpoint.map(|id| endpoint(names, id)),
            expected: Tokens {
                // Who takes turns looks at nothing.
                input_tokens: Some(self.input_tokens.into()).filter(|tokens| *tokens > 0),
                output_tokens: Some(self.output_tokens.into()).filter(|_| self.input_tokens > 0),
                cached_tokens: self.ranked.weighed.first().map(|best| best.cached_tokens.into()),
            },
            got: Tokens {
                input_tokens: self.input_tokens_got,
                output_tokens: None,
                cached_tokens: self.cached_tokens_got,
            },
            candidates: self.ranked.candidates,
            ranking: ranking(names, &self.ranked),
            lacking: self.lacking.iter().map(|one| Lacking::of(names, one)).collect(),
            pair: self.paired.as_ref().map(|paired| Pair::of(names, paired)),
        };
        view.serialize(serializer)
    }
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<Split<'a>>,
    policy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Tokens::is_unknown")]
    expected: Tokens,
    #[serde(skip_serializing_if = "Tokens::is_unknown")]
    got: Tokens,
    candidates: u32,
    ranking: Vec<Line<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lacking: Vec<Lacking<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<Pair<'a>>,
}

#[derive(Serialize)]
struct Lacking<'a> {
    endpoint: &'a str,
    lacks: &'a str,
}

impl<'a> Lacking<'a> {
    fn of(names: &'a Names, (id, lacks): &(EndpointId, &'a str)) -> Self {
        Self { endpoint: endpoint(names, *id), lacks }
    }
}

#[derive(Serialize)]
struct Split<'a> {
    name: &'a str,
    drawn_by: &'a str,
    arms: Vec<Arm<'a>>,
}

#[derive(Serialize)]
struct Arm<'a> {
    model: &'a str,
    weight: u32,
}

#[derive(Serialize)]
struct Pair<'a> {
    course: &'a str,
    uncached_tokens: u32,
    uncached_tokens_min: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill: Option<&'a str>,
    candidates: u32,
    ranking: Vec<Line<'a>>,
}

impl<'a> Split<'a> {
    fn of(names: &'a Names, drawn: &Drawn) -> Self {
        let arm = |(id, weight): &(ModelId, u32)| Arm { model: model(names, *id), weight: *weight };
        let arms = drawn.arms.iter().map(arm).collect();
        Self { name: other(names, drawn.split), drawn_by: drawn.by, arms }
    }
}

impl<'a> Pair<'a> {
    fn of(names: &'a Names, paired: &Paired) -> Self {
        Self {
            course: paired.course.name(),
            uncached_tokens: paired.uncached_tokens,
            uncached_tokens_min: paired.uncached_tokens_min,
            prefill: paired.prefill.map(|id| endpoint(names, id)),
            candidates: paired.ranked.candidates,
            ranking: ranking(names, &paired.ranked),
        }
    }
}

fn endpoint(names: &Names, id: EndpointId) -> &str {
    names.endpoints.get(usize::from(id.0)).map_or("", |name| name)
}

fn model(names: &Names, id: ModelId) -> &str {
    names.models.get(usize::from(id.0)).map_or("", |name| name)
}

fn other(names: &Names, id: OtherNameId) -> &str {
    names.others.get(usize::from(id.0)).map_or("", |name| name)
}

fn ranking<'a>(names: &'a Names, ranked: &Ranked) -> Vec<Line<'a>> {
    ranked.weighed.iter().map(|one| Line::of(one, endpoint(names, one.endpoint))).collect()
}

#[derive(Serialize)]
struct Tokens {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
}

impl Tokens {
    fn is_unknown(&self) -> bool {
        self.input_tokens.is_none() && self.cached_tokens.is_none()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    endpoint: &'a str,
    healthy: bool,
    score: f32,
    cached_tokens: u32,
    requests_in_flight: u64,
    prefill_tokens_in_flight: u64,
    prefill_tokens_per_second: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_use: Option<f32>,
}

impl<'a> Line<'a> {
    fn of(weighed: &Weighed, endpoint: &'a str) -> Self {
        Self {
            endpoint,
            healthy: weighed.healthy,
            score: weighed.score,
            cached_tokens: weighed.cached_tokens,
            requests_in_flight: weighed.requests,
            prefill_tokens_in_flight: weighed.prefill_tokens,
            prefill_tokens_per_second: weighed.prefill_rate,
            kv_use: weighed.kv_use,
        }
    }
}
