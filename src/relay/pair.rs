//! Requests that two servers share: one computes the prompt, the other answers.
//!
//! A request of a model with pairs comes by [`prepare`] on its way from its choice to its attempts; what is
//! then done for it stands in [`Pairing`], which each attempt asks for its [`Share`]. Both legs have one
//! deadline. Where a leg dies, the other one is dropped, and so is its connection; as long as nothing of an
//! answer has left, a server that can do all of it by itself is tried.
//!
//! Invariants: both servers' places are taken at once, or neither's; nobody waits for a server whose partner
//! is gone; the place of a prompt's blocks is given to one attempt at most that may have read it; models
//! without pairs pay a look at one field.

pub mod blocks;
pub mod leg;
pub mod room;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::api::fault::Fault;
use crate::config::plan::{Authority, EndpointId, Pair, PairProtocol};
use crate::dialect::pair::{self as dialect, Asked, Meeting};
use crate::json::{Bounds, EditError, Edits};
use crate::lifecycle::permit::KvTokens;
use crate::relay::choose::{self, Order};
use crate::relay::core::{Core, Epoch};
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::inbound::Inbound;
use crate::relay::isolate;
use crate::relay::pair::blocks::Blocks;
use crate::relay::pair::leg::{Errand, Leg};
use crate::relay::place::{self, Attempt, Failed, Opening, watched};
use crate::relay::places::{Place, Work};
use crate::relay::state::Admitted;
use crate::relay::stop::Stop;
use crate::relay::trip::{Claim, Trip};
use crate::route::pair::{Course, Terms, course};
use crate::runtime::clock::{self, Instant};
use crate::runtime::wheel::Due;
use crate::telemetry::endpoint::Failure;
use crate::upstream::error::AttemptError;
use crate::upstream::lease::Lease;

/// What is done for a request that is split.
pub struct Pairing {
    asked: Asked,
    /// When both servers must have led to the beginning of an answer.
    until: Instant,
    /// The servers that prefill, best first.
    prefill: Order,
    /// How many of them were tried.
    tried: usize,
    /// How long either half may take.
    half: Duration,
    /// The place at the server that is to decode, taken before the other one begins, and its tokens there.
    seat: Option<Lease>,
    tokens: Option<Claim<KvTokens>>,
    /// The place at the server that is to prefill.
    place: Option<Box<Place>>,
    work: Work,
    /// What the first server keeps.
    kept: Option<Kept>,
    /// The attempt under way is one of two.
    split: bool,
    /// One server does it now, because one of two failed.
    fell_back: bool,
}

/// A computed prompt.
struct Kept {
    by: EndpointId,
    place: Vec<u8>,
    blocks: Blocks,
    /// An attempt got the place, and may have read it.
    told: bool,
}

/// What one attempt is given.
pub struct Share {
    pub edits: Edits,
    /// Who computes the prompt.
    by: EndpointId,
    /// The other leg, if both go at once.
    beside: Option<Box<Leg>>,
    until: Instant,
}

/// Whether requests of this model may be split.
pub fn is_paired(exit: &Exit, admitted: &Admitted) -> bool {
    exit.epoch.plan().models[usize::from(admitted.model.0)].pair.is_some()
}

/// Decides whether the request is split, and does what must come before its attempts. Where to try it.
///
/// # Errors
/// The client left, or nobody can serve it.
pub async fn prepare<X: Exchange>(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    x: &mut X,
    admitted: &Admitted,
    (order, work): (Order, Work),
) -> Result<Order, Stop> {
    let epoch = exit.epoch.clone();
    let model = &epoch.plan().models[usize::from(admitted.model.0)];
    let Some(pair) = &model.pair else { return Ok(order) };
    let Some(asked) = splits(exit, inbound, admitted, pair)? else {
        return Ok(whole(core, exit, pair, &model.endpoints, order));
    };
    let trip = enter(core, exit, inbound, admitted, (pair, asked, order, work))?;
    let computed = match pair.protocol {
        PairProtocol::Nixl => prefill_first(core, exit, inbound, x, admitted, pair, trip).await?,
        PairProtocol::Sglang => true,
    };
    Ok(match computed {
        true => fall_back(exit, pair, &model.endpoints, &order),
        false => whole(core, exit, pair, &model.endpoints, order),
    })
}

/// The body of a request that is split.
fn splits(
    exit: &mut Exit,
    inbound: &Inbound,
    admitted: &Admitted,
    pair: &Pair,
) -> Result<Option<Asked>, Fault> {
    if !pair.prefill.iter().chain(&pair.whole).any(|id| isolate::allows(exit, *id)) {
        return Err(Fault::Unsupported("isolated tenants"));
    }
    let bounds = Bounds { depth_max: exit.epoch.plan().limits.json_depth_max };
    let asked = dialect::read(admitted.ask.op, inbound.body(), &bounds)?;
    let terms = terms(exit, pair, &asked);
    let course = course(&terms);
    explain::tell_course(exit, &terms, course);
    exit.epoch.series().models[usize::from(admitted.model.0)].paired(course);
    match course {
        Course::Split => Ok(Some(asked)),
        Course::Refused => Err(Fault::Unsupported("a request of this kind")),
        _ => Ok(None),
    }
}

/// Takes both servers' places: that of the one that decodes, and the way to those that prefill.
fn enter(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    admitted: &Admitted,
    (pair, asked, order, work): (&Pair, Asked, Order, Work),
) -> Result<Option<Box<Trip>>, Fault> {
    let epoch = exit.epoch.clone();
    let able = able(exit, pair);
    let trip = exit.trip.as_ref().and_then(|trip| trip.prefill(&able, exit.mark()));
    if trip.is_some() {
        explain::tell_prefill(core, exit);
    }
    let prefill = match &trip {
        Some(trip) => Order::of(trip.decision.picks().map(|pick| pick.endpoint)),
        None => Order::of(able.into_iter()),
    };
    if let (Some(trip), Some(first)) = (&trip, prefill.endpoints().first()) {
        choose::offer(core, exit, admitted, *first, inbound, trip.chain());
    }
    let place = prefill.endpoints().iter().find_map(|id| Place::take(core, &epoch, *id, work).ok());
    let place = place.ok_or(Fault::Saturated { retry_after_s: 1 })?;
    let seat = order.endpoints().first();
    let tokens = seat.zip(exit.trip.as_ref()).filter(|_| epoch.seating().kv_bounded);
    let tokens = tokens.and_then(|(id, trip)| Claim::take(core, &epoch, *id, trip.kv_tokens()));
    exit.pair = Some(Box::new(Pairing {
        asked,
        until: exit.mark().after(place::patience(exit, admitted)),
        prefill,
        tried: 0,
        half: pair.prefill_timeout,
        seat: seat.and_then(|id| Lease::reserve(&core.kit, epoch.series(), *id)),
        tokens,
        place,
        work,
        kept: None,
        split: false,
        fell_back: false,
    }));
    Ok(trip)
}

/// The servers that may prefill: those with room, or all where none has.
fn able(exit: &Exit, pair: &Pair) -> Vec<EndpointId> {
    let free: Vec<_> = free(exit, pair).collect();
    if !free.is_empty() {
        return free;
    }
    pair.prefill.iter().filter(|id| isolate::allows(exit, **id)).copied().collect()
}

/// Those with room that keep the request apart, if that must be.
fn free<'a>(exit: &'a Exit, pair: &'a Pair) -> impl Iterator<Item = EndpointId> + 'a {
    let allowed = pair.prefill.iter().filter(|id| isolate::allows(exit, **id));
    let kv_tokens = exit.trip.as_ref().map_or(0, |trip| trip.kv_tokens());
    room::free(&exit.epoch, allowed, kv_tokens)
}

fn terms(exit: &Exit, pair: &Pair, asked: &Asked) -> Terms {
    let first = exit.trip.as_ref().and_then(|trip| trip.decision.picks().next());
    Terms {
        uncached_tokens: first.map_or(u32::MAX, |pick| pick.prefill_tokens),
        uncached_tokens_min: pair.uncached_tokens_min,
        splittable: asked.splittable,
        prefill_up: free(exit, pair).any(|id| exit.epoch.is_up(id)),
        whole: pair.whole.iter().any(|id| isolate::allows(exit, *id)),
    }
}

/// Where a request goes that one server does alone.
fn whole(core: &Core, exit: &mut Exit, pair: &Pair, decode: &[EndpointId], order: Order) -> Order {
    if pair.whole == decode {
        return order;
    }
    let allowed = pair.whole.iter().filter(|id| isolate::allows(exit, **id));
    let listed = Order::of(allowed.copied());
    instead(core, exit, pair).unwrap_or(listed)
}

/// The servers that can do all of it, best first. The request's trip is one among them from here on; `None`
/// where it has none, or there are none.
fn instead(core: &Core, exit: &mut Exit, pair: &Pair) -> Option<Order> {
    let allowed = pair.whole.iter().filter(|id| isolate::allows(exit, **id));
    let allowed: Vec<EndpointId> = allowed.copied().collect();
    let trip = exit.trip.as_ref()?.instead(&allowed, exit.mark())?;
    let order = Order::of(trip.decision.picks().map(|pick| pick.endpoint));
    explain::tell_instead(core, exit, trip.decision.reason);
    exit.trip = Some(trip);
    Some(order)
}

/// Where a split request is tried: its own server, then those that can do all of it, or else another pair.
fn fall_back(exit: &Exit, pair: &Pair, decode: &[EndpointId], order: &Order) -> Order {
    let decoding = order.endpoints();
    let mut whole = pair.whole.iter().filter(|id| isolate::allows(exit, **id)).peekable();
    if whole.peek().is_none() || pair.whole == decode {
        // Where there is but one, it gets another chance.
        return Order::of(decoding.iter().cycle().take(decoding.len().max(2)).copied());
    }
    Order::of(decoding.iter().take(1).chain(whole).copied())
}

/// vLLM's first leg; whether it bore fruit.
async fn prefill_first<X: Exchange>(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    x: &mut X,
    admitted: &Admitted,
    pair: &Pair,
    mut trip: Option<Box<Trip>>,
) -> Result<bool, Stop> {
    let epoch = exit.epoch.clone();
    let mut taken = exit.pair.as_mut().and_then(|pairing| pairing.place.take());
    let Some(pairing) = &exit.pair else { return Ok(false) };
    let (work, order) = (pairing.work, pairing.prefill);
    let until = pairing.until.min(exit.mark().after(pair.prefill_timeout));
    let mut edits = place::named(exit, admitted)?;
    pairing.asked.prefill(&mut edits).map_err(internal)?;
    for (at, id) in order.endpoints().iter().enumerate() {
        let errand = Errand::of(exit, inbound, &admitted.ask, &edits, until);
        let Ok(place) = room::take(core, &epoch, &mut taken, *id, work) else { continue };
        let Some(mut leg) = Leg::begin(core, &epoch, *id, (trip.take(), place), None) else {
            break;
        };
        let done = watched(x, leg.run(&errand)).await?;
        exit.woke();
        let Err(error) = done else { return Ok(keep(core, exit, pair, leg)) };
        epoch.series().endpoints[usize::from(id.0)].failed(error.failure());
        trip = leg.give_up();
        if at + 1 == order.endpoints().len() || !error.elsewhere_helps() || !core.may_retry() {
            break;
        }
        core.spend_retry();
    }
    Ok(false)
}

/// Keeps what the first server said of its blocks; whether it said anything.
fn keep(core: &Rc<Core>, exit: &mut Exit, pair: &Pair, leg: Leg) -> bool {
    let bounds = Bounds { depth_max: exit.epoch.plan().limits.json_depth_max };
    let by = leg.endpoint();
    let (answer, claim) = leg.close();
    let place = dialect::handoff(&answer, &bounds).map(|span| answer[span].to_vec());
    let (Some(place), Some(pairing)) = (place, &mut exit.pair) else { return false };
    let blocks = Blocks::kept(core, claim, pair.lease);
    pairing.kept = Some(Kept { by, place, blocks, told: false });
    true
}

/// What the attempt at `endpoint` is given by its pair; `None`: it does all by itself.
///
/// # Errors
/// The shard is at a limit.
pub fn share(
    core: &Rc<Core>,
    exit: &mut Exit,
    admitted: &Admitted,
    endpoint: EndpointId,
    edits: &Edits,
) -> Result<Option<Box<Share>>, Fault> {
    match exit.pair.take() {
        Some(pairing) => divide(core, exit, admitted, (endpoint, edits), pairing),
        None => Ok(None),
    }
}

fn divide(
    core: &Rc<Core>,
    exit: &mut Exit,
    admitted: &Admitted,
    (endpoint, edits): (EndpointId, &Edits),
    mut pairing: Box<Pairing>,
) -> Result<Option<Box<Share>>, Fault> {
    let epoch = exit.epoch.clone();
    let model = &epoch.plan().models[usize::from(admitted.model.0)];
    let Some(pair) = &model.pair else { return Ok(None) };
    let share = match pair.protocol {
        PairProtocol::Nixl if model.endpoints.contains(&endpoint) => pairing.fetch(edits)?,
        PairProtocol::Sglang if !pair.whole.contains(&endpoint) => {
            Some(pairing.meet(core, exit, admitted, pair, edits)?)
        }
        _ => None,
    };
    pairing.split = share.is_some();
    if share.is_none() {
        pairing.alone(exit);
    }
    explain::tell_share(exit, share.as_ref().map(|share| share.by));
    if let Some(trip) = &mut exit.trip {
        trip.carried = share.is_some();
    }
    exit.pair = Some(pairing);
    Ok(share.map(Box::new))
}

impl Pairing {
    /// The place at `endpoint` that was taken beforehand.
    pub fn seat(&mut self, endpoint: EndpointId) -> Option<Lease> {
        // Its attempt has claimed them by now.
        self.tokens = None;
        let seat = self.seat.take()?;
        if seat.endpoint != endpoint {
            return None;
        }
        seat.attempted();
        Some(seat)
    }

    /// When the attempt under way, begun at `now`, must have an answer, if it is one of two.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        let fetches = self.kept.is_some();
        let until = if fetches { self.until.min(now.after(self.half)) } else { self.until };
        self.split.then_some(until)
    }

    /// Its next attempt is one server's.
    fn alone(&mut self, exit: &Exit) {
        let before = std::mem::replace(&mut self.fell_back, true);
        if let Some(model) = exit.row.model.filter(|_| !before) {
            exit.epoch.series().models[usize::from(model.0)].paired(Course::FellBack);
        }
    }

    /// vLLM's second leg.
    fn fetch(&mut self, edits: &Edits) -> Result<Option<Share>, Fault> {
        let Some(kept) = self.kept.as_mut().filter(|kept| !kept.told) else { return Ok(None) };
        let mut edits = edits.clone();
        self.asked.decode(&mut edits, &kept.place).map_err(internal)?;
        kept.told = true;
        Ok(Some(Share { edits, by: kept.by, beside: None, until: self.until }))
    }

    /// Both of SGLang's legs.
    fn meet(
        &mut self,
        core: &Rc<Core>,
        exit: &Exit,
        admitted: &Admitted,
        pair: &Pair,
        edits: &Edits,
    ) -> Result<Share, Fault> {
        let epoch = &exit.epoch;
        let (id, place) = self.next_place(core, epoch)?;
        let endpoint = &epoch.plan().endpoints[usize::from(id.0)];
        let host = match &endpoint.authority {
            Authority::Address(address) => address.ip().to_string(),
            Authority::Name { host, .. } => host.to_string(),
        };
        let room = core.kit.random() >> 1;
        let meeting = Meeting { host: &host, port: endpoint.traits.bootstrap_port, room };
        let mut edits = edits.clone();
        self.asked.meet(&mut edits, &meeting).map_err(internal)?;
        let trip = exit.trip.as_ref().and_then(|trip| trip.prefill(&[id], exit.mark()));
        let streamed = admitted.ask.stream.then_some(admitted.ask.op);
        let leg = Leg::begin(core, epoch, id, (trip, place), streamed);
        let until = self.until.min(exit.mark().after(pair.prefill_timeout));
        let leg = leg.ok_or(Fault::Overloaded { retry_after_s: 1 })?;
        Ok(Share { edits, by: id, beside: Some(Box::new(leg)), until })
    }
}

impl Pairing {
    /// The next server that prefills and has a place.
    fn next_place(
        &mut self,
        core: &Rc<Core>,
        epoch: &Rc<Epoch>,
    ) -> Result<(EndpointId, Option<Box<Place>>), Fault> {
        let all = self.prefill;
        for _ in all.endpoints() {
            let id = all.endpoints()[self.tried % all.endpoints().len()];
            self.tried += 1;
            if let Ok(place) = room::take(core, epoch, &mut self.place, id, self.work) {
                return Ok((id, place));
            }
        }
        Err(Fault::Saturated { retry_after_s: 1 })
    }
}

/// The answer has begun: whatever the pair still held for it goes its own way.
pub fn opened(exit: &mut Exit, share: Option<Box<Share>>) {
    if let Some(share) = share {
        exit.row.prefill_endpoint = Some(share.by);
        share.beside.into_iter().for_each(|leg| leg.let_go());
    }
    let Some(pairing) = exit.pair.take() else { return };
    if pairing.split
        && exit.row.status < 400
        && let Some(kept) = pairing.kept
    {
        kept.blocks.fetched();
    }
}

/// The attempt under way came to nothing. Who was never reached, has read nothing.
pub fn failed(exit: &mut Exit, error: &AttemptError) {
    let unread = matches!(error.failure(), None | Some(Failure::Connect | Failure::Tls));
    if let Some(kept) = exit.pair.as_mut().and_then(|pairing| pairing.kept.as_mut()) {
        kept.told &= !unread;
    }
}

/// Where a split request is tried after the `tried` first of `order` failed: where other servers do all of it,
/// it is routed among them, and counts there as any other request.
pub fn rank_rest(
    core: &Core,
    exit: &mut Exit,
    admitted: &Admitted,
    order: Order,
    tried: usize,
) -> Order {
    let epoch = exit.epoch.clone();
    let model = &epoch.plan().models[usize::from(admitted.model.0)];
    let Some(pair) = model.pair.as_ref().filter(|pair| pair.whole != model.endpoints) else {
        return order;
    };
    let Some(rest) = instead(core, exit, pair) else { return order };
    Order::of(order.endpoints()[..tried].iter().chain(rest.endpoints()).copied())
}

/// Runs an attempt with its share, beside the other leg if both go at once: whichever fails ends both.
pub async fn beside<X: Exchange>(
    attempt: Attempt<'_>,
    share: &mut Share,
    x: &mut X,
    last: bool,
) -> Result<(Lease, Opening), Failed> {
    let epoch = attempt.exit.epoch.clone();
    let edits = &share.edits;
    let (core, mut late) = (attempt.core, None);
    let half = attempt.exit.pair.as_ref().map(|pairing| pairing.half);
    let ask = &attempt.admitted.ask;
    let errand = Errand::of(attempt.exit, attempt.inbound, ask, edits, share.until);
    let mut other = share.beside.as_deref_mut().map(|leg| Box::pin(compute(&epoch, leg, errand)));
    let mut attempt = Attempt { edits, ..attempt };
    let mut attempt = pin!(attempt.run(x, last));
    poll_fn(|cx| {
        if let Poll::Ready(done) = attempt.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        match other.as_mut().map(|other| other.as_mut().poll(cx)) {
            Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(Failed::Partner(error))),
            Some(Poll::Ready(Ok(()))) => {
                other = None;
                // Its blocks have as long again to lead to an answer.
                let deadline = late.insert(core.kit.wheel.deadline(None));
                deadline.set(Due::FirstByte, clock::now(), half.unwrap_or_default());
            }
            Some(Poll::Pending) | None => {}
        }
        match &late {
            Some(late) if late.poll_fired(cx).is_ready() => {
                Poll::Ready(Err(Failed::Attempt(AttemptError::FirstByteTimeout)))
            }
            _ => Poll::Pending,
        }
    })
    .await
}

/// The other leg; its failure is its own server's.
async fn compute(epoch: &Epoch, leg: &mut Leg, errand: Errand<'_>) -> Result<(), AttemptError> {
    let done = leg.run(&errand).await;
    if let Err(error) = &done {
        let series = &epoch.series().endpoints[usize::from(leg.endpoint().0)];
        series.failed(error.failure());
    }
    done
}

fn internal(_: EditError) -> Fault {
    Fault::Internal
}
