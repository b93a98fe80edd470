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

mod beside;
pub mod blocks;
mod divide;
mod elsewhere;
mod enter;
pub mod leg;
pub mod room;
pub mod way;

use std::rc::Rc;
use std::time::Duration;

use crate::api::fault::Fault;
use crate::config::plan::{EndpointId, PairProtocol};
use crate::dialect::pair::Asked;
use crate::json::{EditError, Edits};
use crate::lifecycle::permit::KvTokens;
use crate::relay::choose::Order;
use crate::relay::core::Core;
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::inbound::Inbound;
use crate::relay::places::{Place, Work};
use crate::relay::state::Admitted;
use crate::relay::stop::Stop;
use crate::relay::trip::Claim;
use crate::route::pair::Course;
use crate::runtime::clock::Instant;
use crate::telemetry::endpoint::Failure;
use crate::upstream::error::AttemptError;
use crate::upstream::lease::Lease;
pub use beside::beside;
use blocks::Blocks;
pub use divide::share;
pub use elsewhere::rank_rest;
use leg::Leg;
use way::Way;

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

/// Decides whether the request is split, unless that was decided with its first choice, and does what must
/// come before its attempts. Where to try it.
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
    let decided = exit.trip.as_mut().and_then(|trip| trip.way.take());
    let placed = decided.is_some();
    let way = match decided {
        Some(way) => *way,
        None => {
            let asked = way::read(&epoch, inbound, admitted)?;
            Way::of(&epoch, model, pair, asked, &way::burden(exit))
        }
    };
    way.tell(exit, admitted.model);
    match way.course {
        Course::Split => {}
        Course::Refused => Err(way.fault(&epoch, model, pair, &way::needs(exit)))?,
        _ if placed => return Ok(order),
        _ => return Ok(elsewhere::whole(core, exit, pair, &model.endpoints, order)),
    }
    let trip = enter::enter(core, exit, inbound, admitted, (pair, way.asked, order, work))?;
    let computed = match pair.protocol {
        PairProtocol::Nixl => {
            enter::prefill_first(core, exit, inbound, x, admitted, pair, trip).await?
        }
        PairProtocol::Sglang => true,
    };
    Ok(match computed {
        true => elsewhere::fall_back(exit, pair, &model.endpoints, &order),
        false => elsewhere::whole(core, exit, pair, &model.endpoints, order),
    })
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

fn internal(_: EditError) -> Fault {
    Fault::Internal
}
