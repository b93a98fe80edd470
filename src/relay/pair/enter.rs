//! Taking both servers' places, and vLLM's first leg, which comes before the attempts.

use std::rc::Rc;

use crate::api::fault::Fault;
use crate::config::plan::{EndpointId, Pair};
use crate::dialect::pair::{self as dialect, Asked};
use crate::json::Bounds;
use crate::relay::choose::{self, Order};
use crate::relay::core::Core;
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::inbound::Inbound;
use crate::relay::pair::blocks::Blocks;
use crate::relay::pair::leg::{Errand, Leg};
use crate::relay::pair::{Kept, Pairing, internal, room, way};
use crate::relay::place::{self, watched};
use crate::relay::places::{Place, Work};
use crate::relay::state::Admitted;
use crate::relay::stop::Stop;
use crate::relay::trip::{Claim, Trip};
use crate::upstream::lease::Lease;

/// Takes both servers' places: that of the one that decodes, and the way to those that prefill.
pub(super) fn enter(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    admitted: &Admitted,
    (pair, asked, order, work): (&Pair, Asked, Order, Work),
) -> Result<Option<Box<Trip>>, Fault> {
    let epoch = exit.epoch.clone();
    let able = prefillers(exit, pair);
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

/// The servers that may prefill: those with room, or all that can where none has.
fn prefillers(exit: &Exit, pair: &Pair) -> Vec<EndpointId> {
    let burden = way::burden(exit);
    let able = room::able(&exit.epoch, &pair.prefill, &burden.needs);
    let free: Vec<_> = room::free(&exit.epoch, able.clone(), burden.kv_tokens).collect();
    if free.is_empty() { able.copied().collect() } else { free }
}

/// vLLM's first leg; whether it bore fruit.
pub(super) async fn prefill_first<X: Exchange>(
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
