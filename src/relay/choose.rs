//! Which endpoints a request is tried at, in order.

use std::rc::Rc;
use std::time::Duration;

use crate::api::fault::Fault;
use crate::config::plan::{EndpointId, Model, ModelId, Pair, Policy};
use crate::relay::arm;
use crate::relay::asking::{self, Asking, Request, Sender, fault};
use crate::relay::consult::{Consultation, Doubt};
use crate::relay::core::{Core, Epoch};
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::hall::LineKey;
use crate::relay::inbound::Inbound;
use crate::relay::isolate;
use crate::relay::pair::room::{self, Pool};
use crate::relay::pair::way::{self, Burden, Way};
use crate::relay::seating::{Look, ModelSeat};
use crate::relay::session;
use crate::relay::state::Admitted;
use crate::relay::trip::Trip;
use crate::route::candidate::ATTEMPTS_MAX;
use crate::route::chain::Chain;
use crate::route::eligible::{Gate, Needs, Nobody};
use crate::route::pair::Course;
use crate::route::precise::Sent;
use crate::route::router::{Decision, Estimate, Inquiry, Router, Slot};

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
    /// Others may have sent its prompt's beginning somewhere: engines are being asked.
    Consult(Consultation),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub needs: Needs,
    /// Of its prompt, those that must be computed wherever it goes.
    pub tokens: u32,
    /// What it takes of a cache: prompt and expected answer.
    pub kv_tokens: u64,
    /// Among whom.
    pub pool: Pool,
    /// How long it should keep an endpoint busy.
    pub lasts: Duration,
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
    let mut choosing = Choosing::new(core, exit, inbound, admitted, called, (seat, slot));
    if let Some(doubt) = choosing.doubt(exit) {
        let chain = &choosing.asking.chain;
        let sent = sent(exit, inbound, admitted, doubt.endpoint);
        if let Some(consultation) = Consultation::begin(core, &sent, chain, doubt) {
            core.router(|router| router.put_chain(choosing.asking.chain));
            return Ok(Choice::Consult(consultation));
        }
    }
    let decision = match room::beside(choosing.asking.model) {
        None => choosing.decide(Pool::Own),
        Some(pair) => choosing.decide_way(pair, exit.is_copy(), inbound, admitted),
    };
    let Choosing { asking: Asking { chain, whose, .. }, needs, way, .. } = choosing;
    let decision = match decision {
        Ok(decision) => decision,
        Err(undecided) => {
            core.router(|router| router.put_chain(chain));
            if epoch.seating().explained && !exit.is_copy() {
                let kv_tokens = match &undecided {
                    Undecided::Busy(want) => want.kv_tokens,
                    Undecided::Fault(_) => 0,
                };
                explain::nobody(exit, admitted.model, &needs, kv_tokens);
                explain::tell_name(exit, inbound);
            }
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
    let mut trip = Trip::new(core, &epoch, (decision, needs), whose, chain, streamed);
    trip.way = way;
    exit.trip = Some(Box::new(trip));
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
    let tells = exit.epoch.plan().endpoints[usize::from(to.0)].kv_events.is_some();
    // Who was asked has its tokens, or is at it.
    if let Some(lane) = core.precise().filter(|_| tells && exit.told.is_none()) {
        lane.offer(&sent(exit, inbound, admitted, to), chain);
    }
}

/// The prompt as this endpoint gets it, or is to tokenise it.
fn sent<'a>(
    exit: &'a Exit,
    inbound: &'a Inbound,
    admitted: &'a Admitted,
    to: EndpointId,
) -> Sent<'a> {
    let plan = exit.epoch.plan();
    let model = &plan.models[usize::from(admitted.model.0)];
    Sent {
        generation: plan.generation,
        endpoint: to,
        endpoints: &model.endpoints,
        model: asking::upstream_name(model),
        body: inbound.body(),
        salt: isolate::sent(exit, inbound, &admitted.ask),
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
    /// Its engines may be asked what they hold: they can tell, and were not asked yet.
    may_consult: bool,
    /// Its own pool was looked up for the prompt, and nothing else since.
    looked: Option<Estimate>,
    /// By the last estimate.
    needs: Needs,
    /// Of a model that has servers beside its own.
    way: Option<Box<Way>>,
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
        let told = exit.told.unwrap_or_default();
        let request = Request { model: id, ask: &admitted.ask, body: inbound.body(), told };
        // Nobody waits for a copy, and who has stood in line has waited.
        let may_consult = seat.tells && !called && exit.told.is_none() && !exit.is_copy();
        let chain = core.router(Router::chain).unwrap_or_default();
        let asking = Asking::new(plan, (seat, slot), &request, &sender, chain);
        let called = called.then(|| LineKey::of(epoch, id));
        let needs = way::needs(exit);
        let now = exit.mark().nanos();
        let (looked, way) = (None, None);
        Self { core, epoch, id, asking, called, now, may_consult, looked, needs, way }
    }

    /// Chooses where servers beside the model's own do all of some requests; a copy is never split.
    fn decide_way(
        &mut self,
        pair: &Pair,
        is_copy: bool,
        inbound: &Inbound,
        admitted: &Admitted,
    ) -> Result<Decision, Undecided> {
        if is_copy {
            return self.decide(Pool::Whole);
        }
        let (epoch, model) = (self.epoch, self.asking.model);
        let asked = way::read(epoch, inbound, admitted)?;
        let own = self.decide(Pool::Own);
        let (uncached_tokens, kv_tokens) = match &own {
            Ok(decision) => (decision.uncached_tokens(), decision.estimate.kv_tokens()),
            Err(Undecided::Busy(want)) => (want.tokens, want.kv_tokens),
            Err(Undecided::Fault(_)) => (u32::MAX, 0),
        };
        let burden = Burden { needs: self.needs, kv_tokens, uncached_tokens };
        let way = self.way.insert(Box::new(Way::of(epoch, model, pair, asked, &burden)));
        match way.course {
            Course::Split => own,
            Course::Refused => {
                epoch.series().models[usize::from(self.id.0)].paired(way.course);
                Err(way.fault(epoch, model, pair, &burden.needs).into())
            }
            _ => self.decide(Pool::Whole),
        }
    }

    fn decide(&mut self, pool: Pool) -> Result<Decision, Undecided> {
        let (asking, epoch) = (&self.asking, self.epoch);
        let columns;
        let mut inquiry = asking.inquiry();
        if pool == Pool::Whole {
            columns = epoch.seating().columns(pool.of(asking.model));
            inquiry = Inquiry { policy: Policy::PredictedTtft, columns: &columns, ..inquiry };
        }
        let look = || self.core.router(|router| router.estimate(self.now, &inquiry));
        let looked = self.looked.filter(|_| pool == Pool::Own);
        let estimate = looked.or_else(look).ok_or(Fault::Internal)?;
        self.needs = asking.needs(&estimate);
        let (needs, kv_tokens) = (self.needs, estimate.kv_tokens());
        let seats = epoch.seats_of(pool.of(asking.model));
        let gate = match self.gate(pool, &needs, kv_tokens) {
            Err(Nobody::Busy) => {
                let asked = self.core.router(|router| {
                    let tokens = router.uncached_tokens(&inquiry, &estimate);
                    (tokens, router.lasts(self.now, &inquiry, &estimate, seats))
                });
                let (tokens, lasts) = asked.unwrap_or_default();
                return Err(Undecided::Busy(Want { needs, tokens, kv_tokens, pool, lasts }));
            }
            gate => gate.map_err(fault)?,
        };
        let seats = seats.filter(|seat| {
            let id = seat.candidate.endpoint;
            gate.lets(asking.traits(id), self.is_full(id, kv_tokens))
        });
        let decided =
            self.core.router(|router| router.decide(self.now, &inquiry, &estimate, seats));
        Ok(decided.flatten().ok_or(Fault::Unavailable { retry_after_s: None })?)
    }

    /// Whether it would pay to ask the engines first, and which.
    fn doubt(&mut self, exit: &Exit) -> Option<Doubt> {
        if !self.may_consult {
            return None;
        }
        let inquiry = self.asking.inquiry();
        let look = |router: &mut Router| {
            router.may_doubt(&inquiry).then(|| router.estimate(self.now, &inquiry))
        };
        let estimate = self.core.router(look)??;
        self.looked = Some(estimate);
        let doubtful = |router: &mut Router| router.doubtful_tokens(&inquiry, &estimate);
        let tokens = self.core.router(doubtful)??;
        let up = |id: &EndpointId| self.epoch.is_up(*id) && isolate::allows(exit, *id);
        // All the same; asked is one after the other.
        let ids = &self.asking.model.endpoints;
        let first = (self.now % ids.len() as u64) as usize;
        let endpoint = *ids[first..].iter().chain(ids).find(|id| up(id))?;
        Some(Doubt { endpoint, tokens })
    }

    /// Who can take it now. Where others wait, a newcomer does not overtake them.
    fn gate(&self, pool: Pool, needs: &Needs, kv_tokens: u64) -> Result<Gate, Nobody> {
        let Asking { model, seat, .. } = self.asking;
        let full = |id| self.is_full(id, kv_tokens);
        let gate = self.asking.gate(needs, pool.of(model), full)?;
        if !seat.limited {
            return Ok(gate);
        }
        let (epoch, hall) = (self.epoch, &self.core.hall);
        let overtakes = self.called.is_none() && hall.is_waited_for(epoch, self.id, pool);
        let alone = pool == Pool::Whole;
        match overtakes || !(alone || room::suffices(epoch, model, needs, kv_tokens)) {
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
