//! Why a request went where it went, for people who ask afterwards.
//!
//! A shard writes one [`Explained`] for each request that its router decided, and hands it over when the
//! request ends. The last ones can be asked for by request id. Lossy: what finds no room is not kept.

mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::registry::Names;
use super::route::{Course, Reason};
use super::row::{Inline, REQUEST_ID_BYTES_MAX};
use crate::config::plan::{EndpointId, ModelId, OtherNameId};

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

/// Those that could be chosen from, and the best of them, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    pub candidates: u32,
    pub weighed: Vec<Weighed>,
}

/// Which of a split's models a request came to.
#[derive(Clone, Debug)]
pub struct Drawn {
    pub split: OtherNameId,
    /// What stays with its arm: "session", "key", or "chance" where there was nothing that could.
    pub by: &'static str,
    /// Each with its weight.
    pub arms: Vec<(ModelId, u32)>,
}

/// Whether two servers shared a request, and which of them computed the prompt.
#[derive(Clone, Debug)]
pub struct Paired {
    pub course: Course,
    /// Of its prompt, what the server lacked that would answer; fewer than the least are not split.
    pub uncached_tokens: u32,
    pub uncached_tokens_min: u32,
    pub prefill: Option<EndpointId>,
    pub ranked: Ranked,
}

/// One decision, and what came of it.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Names behind the ids.
    pub names: Arc<Names>,
    pub request_id: Inline<REQUEST_ID_BYTES_MAX>,
    pub model: ModelId,
    /// The name it was asked for by, where that is not the model's own.
    pub asked: Option<OtherNameId>,
    pub drawn: Option<Drawn>,
    pub paired: Option<Paired>,
    pub policy: &'static str,
    /// `None`: nobody was chosen.
    pub reason: Option<Reason>,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub ranked: Ranked,
    /// Where nobody was chosen: what each endpoint that was looked at lacked, the first of them.
    pub lacking: Vec<(EndpointId, &'static str)>,
    /// What the client was told, if that was an error.
    pub error: &'static str,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(id: &str) -> Box<Explained> {
        let names = Names {
            generation: 1,
            models: vec!["m".into(), "n".into()],
            endpoints: vec!["a".into(), "b".into()],
            keys: Vec::new(),
            others: vec!["chat".into(), "best".into()],
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
            asked: None,
            drawn: None,
            paired: None,
            policy: "predicted-ttft",
            reason: Some(Reason::Warm),
            input_tokens: 100,
            output_tokens: 20,
            ranked: Ranked { candidates: 2, weighed: vec![best] },
            lacking: Vec::new(),
            error: "",
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
    fn splits_and_pairs_are_told_where_there_are_any() {
        let mut told = explained("r");
        let arms = vec![(ModelId(0), 9), (ModelId(1), 1)];
        told.asked = Some(OtherNameId(1));
        told.drawn = Some(Drawn { split: OtherNameId(0), by: "session", arms });
        told.paired = Some(Paired {
            course: Course::Split,
            uncached_tokens: 5_000,
            uncached_tokens_min: 1_024,
            prefill: Some(EndpointId(0)),
            ranked: Ranked { candidates: 1, ..Ranked::default() },
        });
        let value = serde_json::to_value(&*told).unwrap();
        let split = json!({"name": "chat", "drawn_by": "session", "arms": [
            {"model": "m", "weight": 9}, {"model": "n", "weight": 1},
        ]});
        let pair = json!({"course": "split", "uncached_tokens": 5_000, "uncached_tokens_min": 1_024,
            "prefill": "a", "candidates": 1, "ranking": []});
        assert_eq!((&value["asked_model"], &value["split"]), (&json!("best"), &split));
        assert_eq!(value["pair"], pair);
    }

    #[test]
    fn who_was_refused_is_told_what_each_endpoint_lacked() {
        let mut told = explained("r");
        (told.reason, told.endpoint, told.error) = (None, None, "saturated");
        (told.ranked, told.lacking) = (Ranked::default(), vec![(EndpointId(0), "room")]);
        let value = serde_json::to_value(&*told).unwrap();
        assert_eq!(value["lacking"], json!([{"endpoint": "a", "lacks": "room"}]));
        assert_eq!((&value["error"], value.get("reason")), (&json!("saturated"), None));
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
