//! Which endpoints a request is tried at, in order.

use std::rc::Rc;

use crate::api::fault::Fault;
use crate::api::needs;
use crate::config::plan::{Capabilities, EndpointId, Model, Policy};
use crate::relay::arm;
use crate::relay::core::Core;
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::inbound::Inbound;
use crate::relay::isolate;
use crate::relay::pair::room;
use crate::relay::places;
use crate::relay::seating::{Look, ModelSeat};
use crate::relay::session;
use crate::relay::state::Admitted;
use crate::relay::trip::Trip;
use crate::route::candidate::ATTEMPTS_MAX;
use crate::route::chain::{self, Chain, Root};
use crate::route::eligible::{Gate, Lack, Needs, Nobody};
use crate::route::router::{Decision, Estimate, Inquiry, Router, Slot, Whose};
use crate::route::size::{self, Size};

/// Endpoints in the order in which to try them.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    endpoints: [EndpointId; ATTEMPTS_MAX],
    count: usize,
}

impl Order {
    /// The first [`ATTEMPTS_MAX`] of `endpoints`.
    pub fn of(endpoints: impl Iterator<Item = EndpointId>) -> Self {
        let mut order = Self { endpoints: [EndpointId(0); ATTEMPTS_MAX], count: 0 };
        for (place, endpoint) in order.endpoints.iter_mut().zip(endpoints) {
            *place = endpoint;
            order.count += 1;
        }
        order
    }

    /// The endpoints.
    pub fn endpoints(&self) -> &[EndpointId] {
        &self.endpoints[..self.count]
    }
}

/// What comes of choosing.
pub enum Choice {
    Go(Order),
    /// Those that can take it have no place, or others came before.
    Wait(Want),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub needs: Needs,
    /// Of its prompt, those that must be computed wherever it goes.
    pub tokens: u32,
    /// What it takes of a cache: prompt and expected answer.
    pub kv_tokens: u64,
}

/// Why there is no decision.
enum Undecided {
    Fault(Fault),
    Busy(Want),
}

impl From<Fault> for Undecided {
    fn from(fault: Fault) -> Self {
        Undecided::Fault(fault)
    }
}

/// Chooses, and notes why; `called`: it has stood in line, and it is its turn.
///
/// # Errors
/// No endpoint of the model can take the request.
pub fn choose(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    admitted: &Admitted,
    called: bool,
) -> Result<Choice, Fault> {
    let epoch = exit.epoch.clone();
    let seat = epoch.seating().model(admitted.model);
    let (Some(slot), true) = (seat.slot, seat.look > Look::Nothing) else {
        let (reason, order) = epoch.take_turns(admitted.model);
        exit.routed(reason);
        if exit.arm().is_some() {
            explain::tell_turn(exit, inbound, admitted.model, reason);
        }
        return Ok(Choice::Go(order));
    };
    let mut asking = Asking::new(core, exit, inbound, admitted, seat, slot);
    let decision = asking.decide(called);
    let Asking { chain, whose, .. } = asking;
    let decision = match decision {
        Ok(decision) => decision,
        Err(undecided) => {
            core.router(|router| router.put_chain(chain));
            return match undecided {
                Undecided::Fault(fault) => Err(fault),
                Undecided::Busy(want) => Ok(Choice::Wait(want)),
            };
        }
    };
    exit.routed(decision.reason);
    if let Some(pick) = decision.picks().next() {
        offer(core, exit, admitted, pick.endpoint, inbound, &chain);
    }
    // A copy has its request's id; asked for is the request.
    if epoch.seating().explained && !exit.is_copy() {
        let (names, model) = (&epoch.series().names, admitted.model);
        let policy = epoch.plan().models[usize::from(model.0)].policy;
        exit.explained =
            core.router(|router| explain::explain(router, names, model, policy, &decision));
        explain::tell_name(exit, inbound);
    }
    let order = Order::of(decision.picks().map(|pick| pick.endpoint));
    let streamed = admitted.ask.stream;
    exit.trip = Some(Box::new(Trip::new(core, &epoch, decision, whose, chain, streamed)));
    Ok(Choice::Go(order))
}

/// Has the prompt tokenised, if the endpoint's engine tells of its cache by tokens.
pub(super) fn offer(
    core: &Core,
    exit: &Exit,
    admitted: &Admitted,
    to: EndpointId,
    inbound: &Inbound,
    chain: &Chain,
) {
    let plan = exit.epoch.plan();
    let tells = plan.endpoints[usize::from(to.0)].kv_events.is_some();
    if let Some(lane) = core.precise().filter(|_| tells && !chain.hashes().is_empty()) {
        let salt = isolate::sent(exit, inbound, &admitted.ask);
        lane.offer((plan.generation, to), inbound.body(), salt, chain);
    }
}

/// A request on its way to a decision.
struct Asking<'a> {
    core: &'a Core,
    inbound: &'a Inbound,
    admitted: &'a Admitted,
    seat: &'a ModelSeat,
    model: &'a Model,
    /// Of an isolated request, what its endpoint must be able to do.
    apart: Capabilities,
    chain: Chain,
    whose: Whose,
    now: u64,
}

impl<'a> Asking<'a> {
    fn new(
        core: &'a Core,
        exit: &Exit,
        inbound: &'a Inbound,
        admitted: &'a Admitted,
        seat: &'a ModelSeat,
        slot: Slot,
    ) -> Self {
        let plan = admitted.epoch().plan();
        let model = &plan.models[usize::from(admitted.model.0)];
        let client = arm::client(plan, exit).unwrap_or(0);
        let mut chain = core.router(Router::chain).unwrap_or_default();
        let prompt = match seat.look {
            Look::Prompt => read_chain(&mut chain, model, exit, inbound, admitted),
            Look::Nothing | Look::Tokens => Size::of_body(inbound.body(), &admitted.ask),
        };
        let session = session_of(model, plan.routing.session_header.as_deref(), inbound, client);
        let computes = admitted.ask.op.computes();
        let whose = Whose { model: slot, client, session, prompt, computes };
        let apart = exit.salt.as_ref().map_or(Capabilities::NONE, |salt| salt.needs);
        let now = exit.mark().nanos();
        Self { core, inbound, admitted, seat, model, apart, chain, whose, now }
    }

    fn decide(&mut self, called: bool) -> Result<Decision, Undecided> {
        let ask = &self.admitted.ask;
        let plan = self.admitted.epoch().plan();
        let inquiry = Inquiry {
            policy: self.model.policy,
            whose: self.whose,
            columns: &self.seat.columns,
            chain: &self.chain,
            output_tokens_max: ask.output_tokens_max.map(|max| max.saturating_mul(ask.n)),
            session_ttl: plan.routing.session_ttl.as_nanos() as u64,
        };
        let estimate = self.core.router(|router| router.estimate(self.now, &inquiry));
        let estimate = estimate.ok_or(Fault::Internal)?;
        let needs = self.needs(&estimate);
        let kv_tokens = estimate.kv_tokens();
        let gate = match self.gate(&needs, kv_tokens, called) {
            Err(Nobody::Busy) => {
                let tokens = self.core.router(|router| router.uncached_tokens(&inquiry, &estimate));
                let tokens = tokens.unwrap_or(estimate.input_tokens);
                return Err(Undecided::Busy(Want { needs, tokens, kv_tokens }));
            }
            gate => gate.map_err(fault)?,
        };
        let epoch = self.admitted.epoch();
        let seats = self.admitted.epoch().seats(self.admitted.model).filter(|seat| {
            let endpoint = &plan.endpoints[usize::from(seat.candidate.endpoint.0)];
            let id = seat.candidate.endpoint;
            let full = self.seat.limited && !places::takes(epoch, id, kv_tokens);
            gate.lets(&endpoint.traits, full)
        });
        let decided =
            self.core.router(|router| router.decide(self.now, &inquiry, &estimate, seats));
        Ok(decided.flatten().ok_or(Fault::Unavailable { retry_after_s: None })?)
    }

    fn needs(&self, estimate: &Estimate) -> Needs {
        let ask = &self.admitted.ask;
        let capabilities = match self.seat.choosy {
            true => capabilities(needs::read(self.inbound.body(), ask)),
            false => Capabilities::NONE,
        };
        let input_tokens = match self.seat.guarded {
            true => size::together(self.inbound.body(), ask, estimate.input_tokens),
            false => estimate.input_tokens,
        };
        let capabilities = capabilities.with(self.apart);
        Needs { capabilities, input_tokens, output_tokens_max: ask.output_tokens_max }
    }

    /// Who can take it at all. Where others wait, a newcomer does not overtake them.
    fn gate(&self, needs: &Needs, kv_tokens: u64, called: bool) -> Result<Gate, Nobody> {
        if !self.seat.guarded {
            return Ok(Gate::Open);
        }
        let (epoch, hall) = (self.admitted.epoch(), &self.core.hall);
        let limited = self.seat.limited;
        let all = self.model.endpoints.iter().map(|id| {
            let full = limited && !places::takes(epoch, *id, kv_tokens);
            (&epoch.plan().endpoints[usize::from(id.0)].traits, full)
        });
        let gate = needs.gate(all)?;
        if limited && !room::suffices(epoch, self.model, kv_tokens) {
            return Err(Nobody::Busy);
        }
        match limited && !called && hall.is_waited_for(epoch, self.admitted.model) {
            true => Err(Nobody::Busy),
            false => Ok(gate),
        }
    }
}

/// The blocks of the prompt, read anew into `chain`; its size.
fn read_chain(
    chain: &mut Chain,
    model: &Model,
    exit: &Exit,
    inbound: &Inbound,
    admitted: &Admitted,
) -> Size {
    let name = model.upstream_model.as_deref().unwrap_or(&model.name);
    let adapter = model.adapter.as_deref().unwrap_or_default();
    let salt = isolate::sent(exit, inbound, &admitted.ask);
    let root = Root { model: name, adapter, salt };
    chain::read(chain, &root, inbound.body(), &admitted.ask);
    Size::of(chain, inbound.body(), &admitted.ask)
}

/// What binds the request to earlier ones.
fn session_of(
    model: &Model,
    configured: Option<&str>,
    inbound: &Inbound,
    client: u64,
) -> Option<u64> {
    let hashed = model.hash_header.as_deref().filter(|_| model.policy == Policy::ConsistentHash);
    let hashed = hashed.and_then(|name| session::value(inbound, name));
    match hashed {
        Some(value) => Some(session::hash(value, client)),
        None => session::find(inbound, configured, client),
    }
}

fn capabilities(asked: needs::Asked) -> Capabilities {
    let needs::Asked { tools, images, json_schema } = asked;
    let all = [
        (tools, Capabilities::TOOLS),
        (images, Capabilities::VISION),
        (json_schema, Capabilities::JSON_SCHEMA),
    ];
    let wanted = all.into_iter().filter(|(asked, _)| *asked);
    wanted.fold(Capabilities::NONE, |set, (_, one)| set.with(one))
}

fn fault(nobody: Nobody) -> Fault {
    match nobody {
        Nobody::Lacks(Lack::Tools) => Fault::Unsupported("tools"),
        Nobody::Lacks(Lack::Vision) => Fault::Unsupported("images"),
        Nobody::Lacks(Lack::JsonSchema) => Fault::Unsupported("a JSON schema"),
        Nobody::Lacks(Lack::Isolation) => Fault::Unsupported("isolated tenants"),
        Nobody::TooLong { tokens, tokens_max } => Fault::ContextTooLong { tokens, tokens_max },
        Nobody::Busy => Fault::Saturated { retry_after_s: 1 },
    }
}
