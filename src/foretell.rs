//! `sluice route`: where a request would go, asked without a gateway: the plan's own policy over endpoints
//! that are healthy and idle, with caches that hold what was said to be sent there before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::api::ask::read_ask;
use crate::api::fault::Fault;
use crate::api::operation::{Operation, resolve};
use crate::config::plan::{
    ClientKey, EndpointId, ModelId, Named, Pair, Plan, Policy, Stick, Target,
};
use crate::config::{self};
use crate::dialect;
use crate::gate::rights;
use crate::http::Method;
use crate::json::Bounds;
use crate::relay::asking::{Asking, Request, Sender, fault};
use crate::relay::explain::{explain, paired, ranked, turn};
use crate::relay::isolate::{self, Salt};
use crate::relay::seating::{Look, Seating};
use crate::relay::{arm, session};
use crate::route::candidate::{Candidate, Reason};
use crate::route::chain::Chain;
use crate::route::pair::{Course, Terms, course};
use crate::route::precise::Told;
use crate::route::router::{Decision, Inquiry, Router, Seat};
use crate::route::split;
use crate::telemetry::explain::{Drawn, Explained};
use crate::telemetry::registry::Names;

/// Every router's random numbers begin here, so that one question has one answer.
const SEED: u64 = 1;
/// Keys that are named to who named none.
const KEYS_SHOWN: usize = 10;

/// What is asked.
pub struct Question {
    pub config: PathBuf,
    /// The request's body.
    pub request: PathBuf,
    /// The path it would be sent to.
    pub path: String,
    /// The name of the client's key.
    pub key: Option<String>,
    /// What the client's session header says.
    pub session: Option<String>,
    /// Requests that were sent before: the endpoint's name, and the body's file.
    pub warm: Vec<(String, PathBuf)>,
}

/// Answers it.
///
/// # Errors
/// In words: the configuration, a file, or the request cannot be read, or its policy looks at nothing.
pub fn foretell(question: &Question) -> Result<Explained, String> {
    let plan = config::load(&question.config, 1).map_err(|errors| errors.to_string())?;
    let mut teller = Teller::new(plan);
    for (endpoint, file) in &question.warm {
        let at = teller.ground.plan.endpoints.iter().position(|one| *one.name == **endpoint);
        let at = at.ok_or_else(|| format!("there is no endpoint {endpoint:?}"))?;
        teller.send(question, file, Some(EndpointId(at as u16)))?;
    }
    teller.send(question, &question.request, None)
}

struct Teller {
    ground: Ground,
    router: Router,
    /// Nanoseconds; each request comes a second after the last.
    now: u64,
}

/// What stays as it is.
struct Ground {
    plan: Plan,
    names: Arc<Names>,
    seating: Seating,
}

impl Teller {
    fn new(plan: Plan) -> Self {
        let memory_mib = Seating::prefix_table_mib(&plan).unwrap_or(1);
        let mut router = Router::new(memory_mib, false, SEED);
        let seating = Seating::of(&plan, Some(&mut router));
        let names = Arc::new(Names::of(&plan));
        Self { ground: Ground { plan, names, seating }, router, now: 0 }
    }

    /// Decides the request in `file`, and books it at `to`, or where it was decided to go.
    fn send(
        &mut self,
        question: &Question,
        file: &Path,
        to: Option<EndpointId>,
    ) -> Result<Explained, String> {
        let in_words = |fault: Fault| format!("{}: {fault}", file.display());
        let body = &std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let Self { ground, router, now } = self;
        let ground = &*ground;
        let Ground { plan, seating, .. } = ground;
        let op = operation(&question.path)?;
        let key = key(plan, question)?;
        let bounds = Bounds { depth_max: plan.limits.json_depth_max };
        let ask = read_ask(op, body, &bounds).map_err(in_words)?;
        let named = rights::model(plan, &ask.model).map_err(in_words)?;
        let (client, session) = hashes(question, key);
        let (model, drawn) = ground.draw(named, client, session)?;
        let seat = seating.model(model);
        let Some(slot) = seat.slot.filter(|_| seat.look > Look::Nothing) else {
            return ground.turns(model, named, drawn);
        };
        *now += 1_000_000_000;
        // All that is asked about comes from one tenant.
        let whose = isolate::Sender { key, tenant: b"", given: isolate::given(body, &ask) };
        let salt = isolate::salt_of(plan, &whose, op, model).map_err(in_words)?;
        let sender = Sender { client: client.unwrap_or(0), session, salt: salt.as_deref() };
        let request = Request { model, ask: &ask, body, told: Told::default() };
        let asking = Asking::new(plan, (seat, slot), &request, &sender, Chain::default());
        let sent = Sent { ground, asking, request, salt: salt.as_deref(), now: *now };
        let explained = sent.decide(router, to);
        let mut explained = explained.map_err(|words| format!("{}: {words}", file.display()))?;
        (explained.asked, explained.drawn) = (named.other, drawn);
        Ok(*explained)
    }
}

impl Ground {
    /// Of a model whose policy looks at nothing, only how a request came to it can be said.
    fn turns(&self, id: ModelId, named: Named, drawn: Option<Drawn>) -> Result<Explained, String> {
        let model = &self.plan.models[usize::from(id.0)];
        if drawn.is_none() {
            let name = &model.name;
            return Err(format!(
                "the policy of {name:?} does not look at requests: they take turns"
            ));
        }
        let mut explained = turn(&self.names, id, model.policy, turn_reason(model.policy));
        (explained.asked, explained.drawn) = (named.other, drawn);
        Ok(*explained)
    }

    /// The model that serves a name. Where chance would draw, the arm with the greatest weight is.
    fn draw(
        &self,
        named: Named,
        client: Option<u64>,
        session: Option<u64>,
    ) -> Result<(ModelId, Option<Drawn>), String> {
        let split = match named.target {
            Target::Model(id) => return Ok((id, None)),
            Target::Split(id) => &self.plan.splits[usize::from(id.0)],
        };
        let sticks = match split.stick {
            Stick::Session => session,
            Stick::Key => client,
            Stick::Request => None,
        };
        let heaviest = || split.arms.iter().rev().max_by_key(|arm| arm.weight);
        let arm = sticks.map_or_else(heaviest, |key| split::arm(&split.arms, key));
        let arm = arm.ok_or("the split has no arm with a weight")?;
        Ok((arm.model, arm::drawn_of(&self.plan, split, sticks.is_some())))
    }

    /// An endpoint with nothing to do.
    fn seat(&self, id: EndpointId) -> Seat {
        let endpoint = &self.plan.endpoints[usize::from(id.0)];
        let kv_tokens = Some(endpoint.traits.kv_tokens).filter(|tokens| *tokens > 0);
        let candidate = Candidate {
            weight: endpoint.weight,
            kv_tokens,
            price: endpoint.price,
            ..Candidate::idle(id)
        };
        Seat { slot: self.seating.slots[usize::from(id.0)], candidate }
    }
}

/// A request, read.
struct Sent<'a> {
    ground: &'a Ground,
    asking: Asking<'a>,
    request: Request<'a>,
    /// Of an isolated tenant's request.
    salt: Option<&'a Salt>,
    now: u64,
}

impl Sent<'_> {
    fn decide(
        &self,
        router: &mut Router,
        to: Option<EndpointId>,
    ) -> Result<Box<Explained>, String> {
        let model = self.asking.model;
        let mut decision = match to {
            None => self.choose(router, &model.endpoints)?,
            Some(to) if model.endpoints.contains(&to) => self.choose(router, &[to])?,
            // A server that does a part for those of the model, or all of it in their place.
            Some(to) if model.uses(to) => self.instead(router, &self.apart(&[to]))?,
            Some(_) => return Err("the model is not served there".to_owned()),
        };
        let (names, id) = (&self.ground.names, self.request.model);
        let mut explained = explain(router, names, id, model.policy, &decision);
        if let (Some(pair), None) = (&model.pair, to) {
            decision = self.share(router, pair, decision, &mut explained)?;
        }
        let pick = decision.picks().next().copied();
        let pick = pick.ok_or("the model is not served there")?;
        explained.endpoint = Some(pick.endpoint);
        router.dispatched(self.now, &self.asking.chain, &pick, &self.asking.whose);
        Ok(explained)
    }

    /// As a gateway chooses whose endpoints have nothing to do.
    fn choose(&self, router: &mut Router, ids: &[EndpointId]) -> Result<Decision, String> {
        let asking = &self.asking;
        let inquiry = asking.inquiry();
        let estimate = router.estimate(self.now, &inquiry);
        let gate = asking.gate(&asking.needs(&estimate), ids, |_| false);
        let gate = gate.map_err(|nobody| fault(nobody).to_string())?;
        let able = ids.iter().filter(|id| gate.lets(asking.traits(**id), false));
        let seats = able.map(|id| self.ground.seat(*id));
        let decision = router.decide(self.now, &inquiry, &estimate, seats);
        decision.ok_or_else(|| "the model is not served there".to_owned())
    }

    /// As it chooses among servers that are not the model's own.
    fn instead(&self, router: &mut Router, ids: &[EndpointId]) -> Result<Decision, String> {
        let inquiry = Inquiry {
            known: false,
            policy: Policy::PredictedTtft,
            columns: &self.ground.seating.columns(ids),
            ..self.asking.inquiry()
        };
        let estimate = router.estimate(self.now, &inquiry);
        let seats = ids.iter().map(|id| self.ground.seat(*id));
        let decision = router.decide(self.now, &inquiry, &estimate, seats);
        decision.ok_or_else(|| Fault::Unsupported("isolated tenants").to_string())
    }

    /// Those of `ids` that keep it apart from other tenants' requests, if that must be.
    fn apart(&self, ids: &[EndpointId]) -> Vec<EndpointId> {
        let endpoint = |id: &EndpointId| &self.ground.plan.endpoints[usize::from(id.0)];
        let fits = |id: &&EndpointId| self.salt.is_none_or(|salt| salt.fits(endpoint(id)));
        ids.iter().filter(fits).copied().collect()
    }

    /// Whether two servers would share it, and where it then goes, or else one server's choice.
    fn share(
        &self,
        router: &mut Router,
        pair: &Pair,
        decision: Decision,
        explained: &mut Explained,
    ) -> Result<Decision, String> {
        let (prefill, whole) = (self.apart(&pair.prefill), self.apart(&pair.whole));
        if prefill.is_empty() && whole.is_empty() {
            return Err(Fault::Unsupported("isolated tenants").to_string());
        }
        let Request { ask, body, .. } = self.request;
        let bounds = Bounds { depth_max: self.ground.plan.limits.json_depth_max };
        let asked = dialect::pair::read(ask.op, body, &bounds);
        let terms = Terms {
            uncached_tokens: decision.picks().next().map_or(u32::MAX, |pick| pick.prefill_tokens),
            uncached_tokens_min: pair.uncached_tokens_min,
            splittable: asked.map_err(|fault| fault.to_string())?.splittable,
            prefill_up: !prefill.is_empty(),
            whole: !whole.is_empty(),
        };
        let course = course(&terms);
        let mut paired = paired(&terms, course);
        let decision = match course {
            Course::Refused => return Err(Fault::Unsupported("a request of this kind").to_string()),
            Course::Split => {
                let prefill = self.instead(router, &prefill)?;
                paired.prefill = prefill.picks().next().map(|pick| pick.endpoint);
                paired.ranked = ranked(router);
                decision
            }
            _ if pair.whole == self.asking.model.endpoints => decision,
            _ => {
                let whole = self.instead(router, &whole)?;
                (explained.ranked, explained.reason) = (ranked(router), Some(whole.reason));
                whole
            }
        };
        explained.paired = Some(paired);
        Ok(decision)
    }
}

fn turn_reason(policy: Policy) -> Reason {
    match policy {
        Policy::Random => Reason::Random,
        Policy::Weighted => Reason::Weighted,
        _ => Reason::RoundRobin,
    }
}

/// What is asked for at `path`.
fn operation(path: &str) -> Result<Operation, String> {
    let asked = resolve(Method::Post, path.as_bytes()).map(|resolved| resolved.op);
    asked.map_err(|_| {
        let known = Operation::ALL.into_iter().filter(|op| op.has_body()).map(Operation::path);
        format!("{path} takes no requests; these do: {}", known.collect::<Vec<_>>().join(", "))
    })
}

/// The key that is said to ask. Where there are keys, a gateway refuses who has none.
fn key<'a>(plan: &'a Plan, question: &Question) -> Result<Option<&'a ClientKey>, String> {
    let wanted = match (&question.key, &plan.keys[..]) {
        (None, []) => return Ok(None),
        (None, _) => "requests need one of [[keys]]; say whose this is".to_owned(),
        (Some(name), []) => {
            return Err(format!(
                "there is no key {name:?}, for there are no [[keys]]: leave --key out"
            ));
        }
        (Some(name), keys) => match keys.iter().find(|key| *key.name == **name) {
            Some(key) => return Ok(Some(key)),
            None => format!("there is no key {name:?}"),
        },
    };
    let known: Vec<&str> = plan.keys.iter().map(|key| &*key.name).take(KEYS_SHOWN).collect();
    let more = if plan.keys.len() > KEYS_SHOWN { ", ..." } else { "" };
    Err(format!("{wanted}: --key with one of {}{more}", known.join(", ")))
}

/// The hashes of who asks: of the key, and of the session.
fn hashes(question: &Question, key: Option<&ClientKey>) -> (Option<u64>, Option<u64>) {
    let client = key.map(|key| xxh3_64(key.name.as_bytes()));
    let session = question.session.as_ref();
    (client, session.map(|name| session::hash(name.as_bytes(), client.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration knows no operations, and has a list of their paths of its own.
    #[test]
    fn no_endpoints_url_may_end_with_an_operations_path() {
        for op in Operation::ALL {
            let text = format!("[[endpoints]]\nname = \"a\"\nurl = \"http://a{}\"\n", op.path());
            let faults = config::parse(&text, "f", Path::new("/"), &|_| None, 1).err();
            let told = faults.map(|faults| faults.to_string()).unwrap_or_default();
            assert!(told.contains("ends with the path of an operation"), "{op:?}: {told}");
        }
    }
}
