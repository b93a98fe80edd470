//! Writing down why a request went where it went.

use std::sync::Arc;

use crate::config::plan::{EndpointId, ModelId, Plan, Policy};
use crate::config::policy_name;
use crate::relay::arm;
use crate::relay::core::Core;
use crate::relay::exit::Exit;
use crate::relay::inbound::Inbound;
use crate::relay::places;
use crate::route::candidate::{Candidate, Reason, Score};
use crate::route::eligible::{Needs, Unfit};
use crate::route::pair::{Course, Terms};
use crate::route::router::{Decision, Router};
use crate::telemetry::explain::{CANDIDATES_MAX, Explained, Paired, Ranked, Weighed};
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
    let mut explained = turn(names, model, policy, decision.reason);
    explained.input_tokens = decision.estimate.input_tokens;
    explained.output_tokens = decision.estimate.output_tokens;
    explained.ranked = ranked(router);
    explained
}

/// A decision that looked at nothing of its request.
pub fn turn(names: &Arc<Names>, model: ModelId, policy: Policy, reason: Reason) -> Box<Explained> {
    Box::new(Explained {
        names: names.clone(),
        request_id: Inline::default(),
        model,
        asked: None,
        drawn: None,
        paired: None,
        policy: policy_name(policy),
        reason: Some(reason),
        input_tokens: 0,
        output_tokens: 0,
        ranked: Ranked::default(),
        lacking: Vec::new(),
        error: "",
        endpoint: None,
        input_tokens_got: None,
        cached_tokens_got: None,
    })
}

/// Nobody was chosen for these needs, and so many tokens of a cache: what each of the model's servers lacks.
pub fn nobody(exit: &mut Exit, model: ModelId, needs: &Needs, kv_tokens: u64) {
    let epoch = exit.epoch.clone();
    let (plan, names) = (epoch.plan(), &epoch.series().names);
    let lacks = |id: &EndpointId| {
        let full = !places::takes(&epoch, *id, kv_tokens);
        let unfit = needs.fit(&plan.endpoints[usize::from(id.0)].traits, full).err();
        // Whoever could take it has others before it.
        (*id, unfit.map_or("a turn", Unfit::name))
    };
    let one = &plan.models[usize::from(model.0)];
    let mut explained = turn(names, model, one.policy, Reason::OnlyOne);
    explained.reason = None;
    explained.input_tokens = needs.input_tokens;
    let servers = one.pair.iter().flat_map(|pair| pair.prefill.iter().chain(&pair.whole));
    let servers = one.endpoints.iter().chain(servers).take(CANDIDATES_MAX);
    explained.lacking = servers.map(lacks).collect();
    exit.explained = Some(explained);
}

/// Who could be chosen in the router's last decision.
pub fn ranked(router: &Router) -> Ranked {
    let candidates = router.candidates();
    let weighed = router.scores().iter().take(CANDIDATES_MAX);
    let weighed = weighed.filter_map(|score| {
        let of = |candidate: &&Candidate| candidate.endpoint == score.endpoint;
        candidates.iter().find(of).map(|candidate| weigh(candidate, score))
    });
    Ranked { candidates: candidates.len() as u32, weighed: weighed.collect() }
}

/// Notes the name that was asked for, and the arm that was drawn.
pub fn tell_name(exit: &mut Exit, inbound: &Inbound) {
    let drawn = arm::drawn(exit, inbound);
    let Some(explained) = &mut exit.explained else { return };
    (explained.asked, explained.drawn) = (exit.row.asked, drawn);
}

/// Writes down an arm whose model's endpoints take turns.
pub fn tell_turn(exit: &mut Exit, inbound: &Inbound, id: ModelId, reason: Reason) {
    if !exit.epoch.seating().explained {
        return;
    }
    let policy = exit.epoch.plan().models[usize::from(id.0)].policy;
    exit.explained = Some(turn(&exit.epoch.series().names, id, policy, reason));
    tell_name(exit, inbound);
}

/// Notes how a request of a model with pairs is served.
pub fn tell_course(exit: &mut Exit, terms: &Terms, course: Course) {
    if let Some(explained) = &mut exit.explained {
        explained.paired = Some(paired(terms, course));
    }
}

/// How a request of a model with pairs is served, before anybody is chosen to prefill.
pub fn paired(terms: &Terms, course: Course) -> Paired {
    Paired {
        course,
        uncached_tokens: terms.uncached_tokens,
        uncached_tokens_min: terms.uncached_tokens_min,
        prefill: None,
        ranked: Ranked::default(),
    }
}

/// The router's last decision was about who prefills.
pub fn tell_prefill(core: &Core, exit: &mut Exit) {
    let paired = exit.explained.as_mut().and_then(|explained| explained.paired.as_mut());
    let Some(paired) = paired else { return };
    paired.ranked = core.router(|router| ranked(router)).unwrap_or_default();
}

/// An attempt has its prompt from another server, or `None`: it is one server's after all.
pub fn tell_share(exit: &mut Exit, prefill: Option<EndpointId>) {
    let paired = exit.explained.as_mut().and_then(|explained| explained.paired.as_mut());
    let Some(paired) = paired else { return };
    paired.prefill = prefill;
    paired.course = if prefill.is_some() { Course::Split } else { Course::FellBack };
}

/// The router's last decision stands in the place of the one before: others can do all of the request.
pub fn tell_instead(core: &Core, exit: &mut Exit, reason: Reason) {
    let Some(explained) = &mut exit.explained else { return };
    explained.ranked = core.router(|router| ranked(router)).unwrap_or_default();
    explained.reason = Some(reason);
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
