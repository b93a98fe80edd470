//! `sluice route`: where a request would go, asked without a gateway: the plan's own policy over endpoints
//! that are healthy and idle, with caches that hold what was said to be sent there before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::ask::{Ask, read_ask};
use crate::api::operation::resolve;
use crate::config::plan::{EndpointId, Model, ModelId, Plan, Target};
use crate::config::{self};
use crate::http::Method;
use crate::json::Bounds;
use crate::relay::explain::explain;
use crate::relay::seating::{Look, Seating};
use crate::route::candidate::Candidate;
use crate::route::chain::{self, Chain, Root};
use crate::route::router::{Inquiry, Router, Seat, Slot, Whose};
use crate::telemetry::explain::Explained;
use crate::telemetry::registry::Names;

/// Every router's random numbers begin here, so that one question has one answer.
const SEED: u64 = 1;

/// What is asked.
pub struct Question {
    pub config: PathBuf,
    /// The request's body.
    pub request: PathBuf,
    /// The path it would be sent to.
    pub path: String,
    /// Requests that were sent before: the endpoint's name, and the body's file.
    pub warm: Vec<(String, PathBuf)>,
}

/// Answers it.
///
/// # Errors
/// In words: the configuration, a file, or the request cannot be read, or its policy looks at nothing.
pub fn foretell(question: &Question) -> Result<Explained, String> {
    let plan = config::load(&question.config, 1).map_err(|errors| errors.to_string())?;
    let mut teller = Teller::new(plan)?;
    for (endpoint, file) in &question.warm {
        let at = teller.plan.endpoints.iter().position(|one| *one.name == **endpoint);
        let at = at.ok_or_else(|| format!("there is no endpoint {endpoint:?}"))?;
        teller.send(&question.path, &read(file)?, Some(EndpointId(at as u16)))?;
    }
    teller.send(&question.path, &read(&question.request)?, None)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

struct Teller {
    plan: Plan,
    names: Arc<Names>,
    router: Router,
    seating: Seating,
    /// Nanoseconds; each request comes a second after the last.
    now: u64,
}

impl Teller {
    fn new(plan: Plan) -> Result<Self, String> {
        let memory_mib = Seating::prefix_table_mib(&plan);
        let memory_mib =
            memory_mib.ok_or("no model's policy looks at requests: they take turns")?;
        let mut router = Router::new(memory_mib, false, SEED);
        let seating = Seating::of(&plan, Some(&mut router));
        let names = Arc::new(Names::of(&plan));
        Ok(Self { plan, names, router, seating, now: 0 })
    }

    /// Decides a request, and books it at `to`, or where it was decided to go.
    fn send(
        &mut self,
        path: &str,
        body: &[u8],
        to: Option<EndpointId>,
    ) -> Result<Explained, String> {
        let in_words = |fault: crate::api::fault::Fault| fault.to_string();
        let resolved = resolve(Method::Post, path.as_bytes());
        let resolved = resolved.map_err(|_| format!("{path} takes no requests"))?;
        let bounds = Bounds { depth_max: self.plan.limits.json_depth_max };
        let ask = read_ask(resolved.op, body, &bounds).map_err(in_words)?;
        let named = crate::gate::rights::model(&self.plan, &ask.model).map_err(in_words)?;
        let Target::Model(id) = named.target else {
            return Err(format!(
                "{:?} is a split: ask for the model of one of its arms",
                ask.model
            ));
        };
        let slot = self.seating.model(id).slot;
        let looks = self.seating.model(id).look > Look::Nothing;
        let slot = slot.filter(|_| looks).ok_or("its model's policy does not look at requests")?;
        self.now += 1_000_000_000;
        self.decide(&ask, body, id, slot, to)
    }

    fn decide(
        &mut self,
        ask: &Ask,
        body: &[u8],
        id: ModelId,
        slot: Slot,
        to: Option<EndpointId>,
    ) -> Result<Explained, String> {
        let Self { plan, names, router, seating, now } = self;
        let model = &plan.models[usize::from(id.0)];
        let mut chain = Chain::default();
        chain::read(&mut chain, &root(model, body, ask), body, ask);
        let whose = Whose { model: slot, client: 0, session: None, prompt_bytes: chain.bytes() };
        let inquiry = Inquiry {
            policy: model.policy,
            whose,
            columns: &seating.model(id).columns,
            chain: &chain,
            output_tokens_max: ask.output_tokens_max.map(|max| max.saturating_mul(ask.n)),
            session_ttl: 0,
        };
        let estimate = router.estimate(*now, &inquiry);
        let wanted = model.endpoints.iter().filter(|id| to.is_none_or(|to| to == **id));
        let seats = wanted.map(|id| seat(plan, seating, *id));
        let decision = router.decide(*now, &inquiry, &estimate, seats);
        let decision = decision.ok_or("the model is not served there")?;
        let mut explained = explain(router, names, id, model.policy, &decision);
        let pick = decision.picks().next().copied();
        let pick = pick.ok_or("the model is not served there")?;
        explained.endpoint = Some(pick.endpoint);
        router.dispatched(*now, &chain, &pick, &whose);
        Ok(*explained)
    }
}

fn root<'a>(model: &'a Model, body: &'a [u8], ask: &Ask) -> Root<'a> {
    let name = model.upstream_model.as_deref().unwrap_or(&model.name);
    let salt = ask.salt.clone().and_then(|span| body.get(span));
    let salt = salt.filter(|json| *json != b"null").unwrap_or_default();
    Root { model: name, adapter: model.adapter.as_deref().unwrap_or_default(), salt }
}

/// An endpoint with nothing to do.
fn seat(plan: &Plan, seating: &Seating, id: EndpointId) -> Seat {
    let endpoint = &plan.endpoints[usize::from(id.0)];
    let kv_tokens = Some(endpoint.traits.kv_tokens).filter(|tokens| *tokens > 0);
    let candidate = Candidate {
        weight: endpoint.weight,
        kv_tokens,
        price: endpoint.price,
        ..Candidate::idle(id)
    };
    Seat { slot: seating.slots[usize::from(id.0)], candidate }
}
