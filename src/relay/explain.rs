//! Writing down why a request went where it went.

use std::sync::Arc;

use crate::config::plan::{ModelId, Plan, Policy};
use crate::config::policy_name;
use crate::route::candidate::{Candidate, Score};
use crate::route::router::{Decision, Router};
use crate::telemetry::explain::{CANDIDATES_MAX, Explained, Weighed};
use crate::telemetry::registry::Names;
use crate::telemetry::row::Inline;

/// What the router's last decision rested on; `decision` is that one.
pub fn explain(
    router: &Router,
    names: &Arc<Names>,
    model: ModelId,
    policy: Policy,
    decision: &Decision,
) -> Box<Explained> {
    let candidates = router.candidates();
    let weighed = router.scores().iter().take(CANDIDATES_MAX);
    let weighed = weighed.filter_map(|score| {
        let of = |candidate: &&Candidate| candidate.endpoint == score.endpoint;
        candidates.iter().find(of).map(|candidate| weigh(candidate, score))
    });
    Box::new(Explained {
        names: names.clone(),
        request_id: Inline::default(),
        model,
        policy: policy_name(policy),
        reason: decision.reason,
        input_tokens: decision.estimate.input_tokens,
        output_tokens: decision.estimate.output_tokens,
        candidates: candidates.len() as u32,
        weighed: weighed.collect(),
        endpoint: None,
        input_tokens_got: None,
        cached_tokens_got: None,
    })
}

fn weigh(candidate: &Candidate, score: &Score) -> Weighed {
    Weighed {
        endpoint: candidate.endpoint,
        healthy: candidate.healthy,
        score: score.score,
        cached_tokens: candidate.cached_tokens,
        requests: candidate.requests,
        prefill_tokens: candidate.prefill_tokens,
        prefill_rate: candidate.prefill_rate,
        kv_use: candidate.kv_use,
    }
}

/// Whether decisions are written down at all, for this key's header or for those who ask later.
pub fn is_wanted(plan: &Plan) -> bool {
    plan.routing.explained_requests_max > 0 || plan.keys.iter().any(|key| key.explain)
}

/// The header's value: JSON in ASCII.
pub fn header(explained: &Explained) -> Vec<u8> {
    // A plain struct always serialises.
    let text = serde_json::to_string(explained).unwrap_or_default();
    let mut out = Vec::with_capacity(text.len());
    let mut units = [0; 2];
    for character in text.chars() {
        match character.is_ascii() {
            true => out.push(character as u8),
            false => character.encode_utf16(&mut units).iter().for_each(|unit| {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }),
        }
    }
    out
}
