//! From an admitted request to its place: at once where there is one, in line where there is none.
//!
//! Invariant: the wait ends when a place is there, the client leaves, or the request's patience is over,
//! and in each case its place in the line is given back at once.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::api::fault::Fault;
use crate::config::plan::{Class, EndpointId, ModelId, Queue};
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::permit::{Permit, QueuePlace};
use crate::relay::choose::{self, Choice, Order, Want};
use crate::relay::consult::Consultation;
use crate::relay::core::{Core, Epoch};
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::hall::{Verdict, Waiter, Word};
use crate::relay::inbound::Inbound;
use crate::relay::pair::room::{self, Pool};
use crate::relay::pair::way;
use crate::relay::places::{self, Place, Stake, Work};
use crate::relay::session;
use crate::relay::state::Admitted;
use crate::relay::stop::Stop;
use crate::route::admission::fair::{Bounds, Entry, Full, Id};
use crate::route::eligible::Unfit;
use crate::runtime::clock::Instant;
use crate::runtime::wheel::{Deadline, Due};
use crate::telemetry::admission::{QueueSeries, Refusal};
use crate::telemetry::shard::Stage;

/// Where nobody is to wait, requests wait until the other shards were asked: so many, and so many ticks.
const ASKING_MAX: usize = 64;
const ASKING_TICKS: u32 = 2;

/// Endpoints in the order in which to try them, and a place on the first of them.
pub struct Seated {
    pub order: Order,
    pub place: Option<Box<Place>>,
    pub work: Work,
}

impl Seated {
    /// Gives the place back that was taken before the order changed.
    pub fn leave_unless_first(&mut self) {
        let first = self.order.endpoints().first();
        self.place.take_if(|place| first != Some(&place.endpoint));
    }

    /// The place at this one of its endpoints: the one that it has, or another.
    ///
    /// # Errors
    /// There is none.
    pub fn place_at(
        &mut self,
        core: &Rc<Core>,
        exit: &Exit,
        endpoint: EndpointId,
    ) -> Result<Option<Box<Place>>, places::Full> {
        match self.place.take_if(|place| place.endpoint == endpoint) {
            Some(place) => Ok(Some(place)),
            None => Place::take(core, &exit.epoch, endpoint, self.work),
        }
    }
}

/// What comes of asking for a place.
pub enum Asked {
    Seated(Seated),
    /// It has to [`wait`].
    Line(Want),
    /// It has to wait for what engines say, and to ask again.
    Consult(Consultation),
}

/// Chooses, and takes a place on the first of the chosen if there is one.
///
/// # Errors
/// No endpoint can take the request.
pub fn ask(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    admitted: &Admitted,
) -> Result<Asked, Fault> {
    match choose::choose(core, exit, inbound, admitted, false)? {
        Choice::Go(order) => take(core, exit, inbound, admitted, order).map(Asked::Seated),
        Choice::Wait(want) => Ok(Asked::Line(want)),
        Choice::Consult(consultation) => Ok(Asked::Consult(consultation)),
    }
}

/// Takes a place on the first endpoint.
fn take(
    core: &Rc<Core>,
    exit: &Exit,
    inbound: &Inbound,
    admitted: &Admitted,
    order: Order,
) -> Result<Seated, Fault> {
    let (model, epoch) = (admitted.model, &exit.epoch);
    let mut work = Work { model, tenant: 0, tokens: 1 };
    let Some(first) = order.endpoints().first().filter(|_| epoch.seating().model(model).limited)
    else {
        return Ok(Seated { order, place: None, work });
    };
    let pick = exit.trip.as_ref().and_then(|trip| trip.decision.pick(*first));
    work.tokens = pick.map_or(1, |pick| pick.prefill_tokens);
    work.tenant = tenant(exit, inbound);
    let place = Place::take(core, epoch, *first, work);
    let place = place.map_err(|_| Fault::Saturated { retry_after_s: 1 })?;
    Ok(Seated { order, place, work })
}

/// Stands in line until its turn has brought it a place.
///
/// # Errors
/// The client left, no endpoint can take the request, or it waited in vain.
pub async fn wait<X: Exchange>(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    x: &mut X,
    admitted: &Admitted,
    want: Want,
) -> Result<Seated, Stop> {
    inject::point(Point::Queued);
    exit.worked(Stage::Place);
    let began = exit.mark();
    let mut ticket = Ticket::draw(core, exit, inbound, admitted, want)?;
    let deadline = core.kit.wheel.deadline(None);
    deadline.set_at(Due::Total, began.after(ticket.patience.patience).min(exit.total));
    loop {
        let called = poll_fn(|cx| ticket.called(x, cx, &deadline)).await;
        let waited = exit.waited(Stage::Queue).as_micros() as u64;
        *exit.row.queued_micros.get_or_insert(0) += waited;
        called?;
        inject::point(Point::Turn);
        match choose::choose(core, exit, inbound, admitted, true)? {
            Choice::Go(order) => {
                let seated = take(core, exit, inbound, admitted, order)?;
                ticket.serve(&seated.work, exit.mark());
                return Ok(seated);
            }
            Choice::Wait(want) => ticket.pass(want),
            // Who is called is not asked to ask.
            Choice::Consult(_) => return Err(Fault::Internal.into()),
        }
    }
}

/// A place in the line. Its drop leaves the line, and passes the turn on.
struct Ticket {
    core: Rc<Core>,
    epoch: Rc<Epoch>,
    id: Id,
    word: Rc<Word>,
    class: Class,
    work: Work,
    want: Want,
    began: Instant,
    patience: Queue,
    _stake: Option<Stake>,
    _permit: Permit<QueuePlace>,
}

impl Ticket {
    fn draw(
        core: &Rc<Core>,
        exit: &Exit,
        inbound: &Inbound,
        admitted: &Admitted,
        want: Want,
    ) -> Result<Self, Fault> {
        let (epoch, model) = (exit.epoch.clone(), admitted.model);
        let class = class(exit, inbound);
        let work = Work { model, tenant: tenant(exit, inbound), tokens: want.tokens };
        let patience = patience(&epoch, model);
        let bounds = Bounds {
            requests_max: patience.requests_per_shard_max,
            bytes_max: patience.bytes_per_shard_max,
        };
        let bytes = inbound.body().len() as u64;
        let entry =
            Entry { tenant: work.tenant, class: class as usize, tokens: work.tokens, bytes };
        let permit = core.kit.ledgers.take::<QueuePlace>(1);
        let permit = permit.ok_or(Fault::Overloaded { retry_after_s: 1 })?;
        let word = Rc::new(Word::default());
        let waiter = Waiter { word: word.clone(), epoch: epoch.clone(), model, want };
        let id = core.hall.enter(entry, waiter, bounds).map_err(|(full, retry_after_s)| {
            series(&epoch, model, class).refuse(Refusal::Full);
            match full {
                Full { own_doing: true } => Fault::RateLimited { retry_after_s },
                Full { own_doing: false } => Fault::Saturated { retry_after_s },
            }
        })?;
        series(&epoch, model, class).waiting.add(1);
        count_wish(&epoch, model, &want, true);
        let _stake = Stake::claim(&epoch, &work);
        let (core, began) = (core.clone(), exit.mark());
        core.hall.ring_bank();
        let ticket = Self {
            want,
            core,
            epoch,
            id,
            word,
            class,
            work,
            began,
            patience,
            _stake,
            _permit: permit,
        };
        // There may be a place that nobody before it could use.
        ticket.core.hall.offer();
        Ok(ticket)
    }

    /// Ready when it is called, or must go.
    fn called<X: Exchange>(
        &self,
        x: &mut X,
        cx: &mut Context<'_>,
        deadline: &Deadline,
    ) -> Poll<Result<(), Stop>> {
        match self.word.heard(cx) {
            Verdict::Turn => return Poll::Ready(Ok(())),
            Verdict::Displaced => return Poll::Ready(Err(self.refused(Refusal::Displaced))),
            Verdict::Wait => {}
        }
        if x.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::Gone));
        }
        deadline.poll_fired(cx).map(|_| Err(self.refused(Refusal::Late)))
    }

    fn refused(&self, why: Refusal) -> Stop {
        series(&self.epoch, self.work.model, self.class).refuse(why);
        let hall = &self.core.hall;
        let (epoch, model, class) = (&self.epoch, self.work.model, self.class as usize);
        let retry_after_s = hall.retry_after_s(epoch, model, class, &self.want);
        Stop::Refuse(match why {
            Refusal::Displaced => Fault::RateLimited { retry_after_s },
            Refusal::Full | Refusal::Late => Fault::Saturated { retry_after_s },
        })
    }

    /// It goes on waiting, perhaps for something else.
    fn pass(&mut self, want: Want) {
        let model = self.work.model;
        count_wish(&self.epoch, model, &self.want, false);
        self.want = want;
        count_wish(&self.epoch, model, &self.want, true);
        self.core.hall.pass(&self.epoch, model, self.id, &want);
    }

    /// It has its place, at the cost of `work`.
    fn serve(self, work: &Work, now: Instant) {
        let series = series(&self.epoch, work.model, self.class);
        series.wait.record(now.since(self.began));
        self.core.hall.serve(&self.epoch, work, self.id);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let model = self.work.model;
        self.core.hall.remove(&self.epoch, model, self.id);
        series(&self.epoch, model, self.class).waiting.sub(1);
        count_wish(&self.epoch, model, &self.want, false);
        self.core.hall.offer();
    }
}

fn series(epoch: &Epoch, model: ModelId, class: Class) -> &QueueSeries {
    &epoch.series().models[usize::from(model.0)].queue[class as usize]
}

/// Counts a request among those that want places on the endpoints that can take it, or not any more.
fn count_wish(epoch: &Epoch, model: ModelId, want: &Want, comes: bool) {
    let model = &epoch.plan().models[usize::from(model.0)];
    let Want { needs, pool, .. } = want;
    let beside = room::needed(epoch, model, needs).filter(|_| *pool == Pool::Own);
    for id in pool.of(model).iter().chain(beside) {
        let traits = &epoch.plan().endpoints[usize::from(id.0)].traits;
        // It may be sent to a context that is too short by the estimate, too.
        if matches!(needs.fit(traits, false), Err(Unfit::Capability(_))) {
            continue;
        }
        let wanted = &epoch.series().endpoints[usize::from(id.0)].share.wanted;
        if comes { wanted.add(1) } else { wanted.sub(1) }
    }
}

/// What a request is told for which its servers have no place, though it was not to wait.
pub fn no_place(core: &Core, exit: &Exit, inbound: &Inbound, admitted: &Admitted) -> Fault {
    let (epoch, class) = (&exit.epoch, class(exit, inbound));
    let lasts = exit.trip.as_ref().map_or(Duration::ZERO, |trip| trip.lasts());
    let needs = way::needs(exit);
    let want = Want { needs, tokens: 1, kv_tokens: 0, pool: Pool::Whole, lasts };
    let model = admitted.model;
    let retry_after_s = core.hall.retry_after_s(epoch, model, class as usize, &want);
    Fault::Saturated { retry_after_s }
}

fn patience(epoch: &Epoch, model: ModelId) -> Queue {
    let queue = epoch.plan().models[usize::from(model.0)].queue;
    if queue.requests_per_shard_max > 0 || epoch.series().peers.len() < 2 {
        return queue;
    }
    let patience = epoch.plan().runtime.tick * ASKING_TICKS;
    Queue { requests_per_shard_max: ASKING_MAX, patience, ..queue }
}

/// On whose behalf it comes.
fn tenant(exit: &Exit, inbound: &Inbound) -> u64 {
    let plan = exit.epoch.plan();
    let key = exit.row.key.and_then(|key| plan.keys.get(usize::from(key.0)));
    let key = key.map_or(0, |key| xxh3_64(key.name.as_bytes()));
    let header = plan.routing.tenant_header.as_deref();
    let named = header.and_then(|name| session::value(inbound, name));
    named.map_or(key, |name| xxh3_64_with_seed(name, key))
}

/// How urgent it is: what it asks for, within what its key allows.
fn class(exit: &Exit, inbound: &Inbound) -> Class {
    let plan = exit.epoch.plan();
    let header = plan.routing.priority_header.as_deref();
    let asked = header.and_then(|name| session::value(inbound, name)).and_then(Class::of);
    match exit.row.key.and_then(|key| plan.keys.get(usize::from(key.0))) {
        Some(key) => asked.unwrap_or(key.priority).max(key.priority),
        None => asked.unwrap_or_default(),
    }
}
