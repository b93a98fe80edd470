//! Why a request went where it went, for people who ask afterwards.
//!
//! A shard writes one [`Explained`] for each request that its router decided, and hands it over when the
//! request ends. The last ones can be asked for by request id. Lossy: what finds no room is not kept.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use serde::{Serialize, Serializer};

use super::registry::Names;
use super::route::Reason;
use super::row::{Inline, REQUEST_ID_BYTES_MAX};
use crate::config::plan::{EndpointId, ModelId};

/// Candidates that are kept of one decision: the best ones.
pub const CANDIDATES_MAX: usize = 16;
/// Explanations of one shard that wait to be taken, at most.
const WAITING_MAX: usize = 1_024;

/// What spoke for and against one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weighed {
    pub endpoint: EndpointId,
    pub healthy: bool,
    /// Lower is better, in the policy's own unit (seconds for `predicted-ttft`).
    pub score: f32,
    /// Tokens of the prompt expected in its cache.
    pub cached_tokens: u32,
    pub requests: u64,
    /// Uncached prompt tokens in flight there.
    pub prefill_tokens: u64,
    /// Learned, tokens per second.
    pub prefill_rate: f32,
    pub kv_use: Option<f32>,
}

/// One decision, and what came of it.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Names behind the ids.
    pub names: Arc<Names>,
    pub request_id: Inline<REQUEST_ID_BYTES_MAX>,
    pub model: ModelId,
    pub policy: &'static str,
    pub reason: Reason,
    pub input_tokens: u32,
    pub output_tokens: u32,
    /// All that could be chosen from.
    pub candidates: u32,
    /// The best of them, best first.
    pub weighed: Vec<Weighed>,
    /// Where it went in the end.
    pub endpoint: Option<EndpointId>,
    /// What the engine said.
    pub input_tokens_got: Option<u64>,
    pub cached_tokens_got: Option<u64>,
}

/// One shard's explanations on their way.
#[derive(Debug)]
pub struct Waiting(ArrayQueue<Box<Explained>>);

impl Default for Waiting {
    fn default() -> Self {
        Self(ArrayQueue::new(WAITING_MAX))
    }
}

impl Waiting {
    /// Shard side: hands one over, if there is room.
    pub fn offer(&self, explained: Box<Explained>) {
        // Nobody counts on every one of them.
        let _ = self.0.push(explained);
    }

    /// The other side: the oldest.
    pub fn take(&self) -> Option<Box<Explained>> {
        self.0.pop()
    }
}

/// The last explanations of all shards.
#[derive(Debug, Default)]
pub struct Kept(VecDeque<Box<Explained>>);

impl Kept {
    /// Takes what waits, and keeps the last `kept_max` of all.
    pub fn gather(&mut self, waiting: &[Arc<Waiting>], kept_max: usize) {
        for shard in waiting {
            // No more than fit at once: a shard may go on filling.
            self.0.extend(std::iter::from_fn(|| shard.take()).take(WAITING_MAX));
        }
        let over = self.0.len().saturating_sub(kept_max);
        self.0.drain(..over);
    }

    /// The last one of this request.
    pub fn find(&self, request_id: &str) -> Option<&Explained> {
        self.0.iter().rev().find(|one| one.request_id.as_str() == request_id).map(|one| &**one)
    }
}

impl Serialize for Explained {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name =
            |id: EndpointId| self.names.endpoints.get(usize::from(id.0)).map_or("", |name| &**name);
        let view = View {
            request_id: Some(self.request_id.as_str()).filter(|id| !id.is_empty()),
            model: self.names.models.get(usize::from(self.model.0)).map_or("", |name| &**name),
            policy: self.policy,
            reason: self.reason.name(),
            endpoint: self.endpoint.map(name),
            expected: Tokens {
                input_tokens: Some(self.input_tokens.into()),
                output_tokens: Some(self.output_tokens.into()),
                cached_tokens: self.weighed.first().map(|best| best.cached_tokens.into()),
            },
            got: Tokens {
                input_tokens: self.input_tokens_got,
                output_tokens: None,
                cached_tokens: self.cached_tokens_got,
            },
            candidates: self.candidates,
            ranking: self.weighed.iter().map(|one| Line::of(one, name(one.endpoint))).collect(),
        };
        view.serialize(serializer)
    }
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    model: &'a str,
    policy: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    expected: Tokens,
    #[serde(skip_serializing_if = "Tokens::is_unknown")]
    got: Tokens,
    candidates: u32,
    ranking: Vec<Line<'a>>,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(id: &str) -> Box<Explained> {
        let names = Names {
            generation: 1,
            models: vec!["m".into()],
            endpoints: vec!["a".into(), "b".into()],
            keys: Vec::new(),
        };
        let best = Weighed {
            endpoint: EndpointId(1),
            healthy: true,
            score: 0.5,
            cached_tokens: 96,
            prefill_rate: 1000.0,
            ..Weighed::default()
        };
        Box::new(Explained {
            names: Arc::new(names),
            request_id: Inline::new(id),
            model: ModelId(0),
            policy: "predicted-ttft",
            reason: Reason::Warm,
            input_tokens: 100,
            output_tokens: 20,
            candidates: 2,
            weighed: vec![best],
            endpoint: Some(EndpointId(1)),
            input_tokens_got: Some(101),
            cached_tokens_got: Some(96),
        })
    }

    #[test]
    fn it_reads_as_json() {
        let expected = json!({
            "request_id": "r", "model": "m", "policy": "predicted-ttft", "reason": "warm",
            "endpoint": "b",
            "expected": {"input_tokens": 100, "output_tokens": 20, "cached_tokens": 96},
            "got": {"input_tokens": 101, "cached_tokens": 96},
            "candidates": 2,
            "ranking": [{
                "endpoint": "b", "healthy": true, "score": 0.5, "cached_tokens": 96,
                "requests_in_flight": 0, "prefill_tokens_in_flight": 0,
                "prefill_tokens_per_second": 1000.0,
            }],
        });
        assert_eq!(serde_json::to_value(&*explained("r")).unwrap(), expected);
    }

    #[test]
    fn the_last_ones_are_kept() {
        let waiting = Arc::new(Waiting::default());
        let mut kept = Kept::default();
        for number in 0..WAITING_MAX + 10 {
            waiting.offer(explained(&number.to_string()));
        }
        kept.gather(std::slice::from_ref(&waiting), 4);
        let last = WAITING_MAX - 1;
        assert!(kept.find(&last.to_string()).is_some() && kept.find("0").is_none());
        assert!(kept.find(&(last + 1).to_string()).is_none(), "there was no room for it");
        kept.gather(&[waiting], 0);
        assert!(kept.find(&last.to_string()).is_none());
    }
}
