//! Which endpoints a request is tried at, in order.

use std::rc::Rc;

use crate::api::fault::Fault;
use crate::config::plan::{EndpointId, Model, ModelId, Policy};
use crate::relay::arm;
use crate::relay::asking::{self, Asking, Request, Sender, fault};
use crate::relay::core::{Core, Epoch};
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::hall::LineKey;
use crate::relay::inbound::Inbound;
use crate::relay::isolate;
use crate::relay::pair::room;
use crate::relay::seating::{Look, ModelSeat};
use crate::relay::session;
use crate::relay::state::Admitted;
use crate::relay::trip::Trip;
use crate::route::candidate::ATTEMPTS_MAX;
use crate::route::chain::Chain;
use crate::route::eligible::{Gate, Needs, Nobody};
use crate::route::router::{Decision, Router, Slot};

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
    let choosing = Choosing::new(core, exit, inbound, admitted, called, (seat, slot));
    let decision = choosing.decide();
    let Asking { chain, whose, .. } = choosing.asking;
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
    if let Some(lane) = core.precise().filter(|_| tells) {
        let model = &plan.models[usize::from(admitted.model.0)];
        let salt = isolate::sent(exit, inbound, &admitted.ask);
        lane.offer(
            (plan.generation, to),
            asking::upstream_name(model),
            inbound.body(),
            salt,
            chain,
        );
    }
}

/// A request on its way to a decision, among endpoints that have something to do.
struct Choosing<'a> {
    core: &'a Core,
    epoch: &'a Epoch,
    id: ModelId,
    asking: Asking<'a>,
    /// Its line, if it has stood in it and it is its turn.
    called: Option<LineKey>,
    now: u64,
}

impl<'a> Choosing<'a> {
    fn new(
        core: &'a Core,
        exit: &Exit,
        inbound: &'a Inbound,
        admitted: &'a Admitted,
        called: bool,
        (seat, slot): (&'a ModelSeat, Slot),
    ) -> Self {
        let (epoch, id) = (&**admitted.epoch(), admitted.model);
        let plan = epoch.plan();
        let model = &plan.models[usize::from(id.0)];
        let client = arm::client(plan, exit).unwrap_or(0);
        let session = session_of(model, plan.routing.session_header.as_deref(), inbound, client);
        let sender = Sender { client, session, salt: exit.salt.as_deref() };
        let request = Request { model: id, ask: &admitted.ask, body: inbound.body() };
        let chain = core.router(Router::chain).unwrap_or_default();
        let asking = Asking::new(plan, (seat, slot), &request, &sender, chain);
        let called = called.then(|| LineKey::of(epoch, id));
        Self { core, epoch, id, asking, called, now: exit.mark().nanos() }
    }

    fn decide(&self) -> Result<Decision, Undecided> {
        let asking = &self.asking;
        let inquiry = asking.inquiry();
        let estimate = self.core.router(|router| router.estimate(self.now, &inquiry));
        let estimate = estimate.ok_or(Fault::Internal)?;
        let needs = asking.needs(&estimate);
        let kv_tokens = estimate.kv_tokens();
        let gate = match self.gate(&needs, kv_tokens) {
            Err(Nobody::Busy) => {
                let tokens = self.core.router(|router| router.uncached_tokens(&inquiry, &estimate));
                let tokens = tokens.unwrap_or(estimate.input_tokens);
                return Err(Undecided::Busy(Want { needs, tokens, kv_tokens }));
            }
            gate => gate.map_err(fault)?,
        };
        let seats = self.epoch.seats(self.id).filter(|seat| {
            let id = seat.candidate.endpoint;
            gate.lets(asking.traits(id), self.is_full(id, kv_tokens))
        });
        let decided =
            self.core.router(|router| router.decide(self.now, &inquiry, &estimate, seats));
        Ok(decided.flatten().ok_or(Fault::Unavailable { retry_after_s: None })?)
    }

    /// Who can take it now. Where others wait, a newcomer does not overtake them.
    fn gate(&self, needs: &Needs, kv_tokens: u64) -> Result<Gate, Nobody> {
        let Asking { model, seat, .. } = self.asking;
        let full = |id| self.is_full(id, kv_tokens);
        let gate = self.asking.gate(needs, &model.endpoints, full)?;
        if !seat.limited {
            return Ok(gate);
        }
        let (epoch, hall) = (self.epoch, &self.core.hall);
        let overtakes = self.called.is_none() && hall.is_waited_for(epoch, self.id);
        match overtakes || !room::suffices(epoch, model, kv_tokens) {
            true => Err(Nobody::Busy),
            false => Ok(gate),
        }
    }

    /// Whether an endpoint has no room for it now beside those who were called before it.
    fn is_full(&self, id: EndpointId, kv_tokens: u64) -> bool {
        let called = self.called;
        self.asking.seat.limited && !self.core.hall.takes(self.epoch, id, kv_tokens, called)
    }
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
