//! Where a request goes that one server does alone, from the beginning or after a pair has failed.

use crate::config::plan::{EndpointId, Pair};
use crate::relay::choose::Order;
use crate::relay::core::Core;
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::pair::{room, way};
use crate::relay::state::Admitted;

/// Where a request goes that one server does alone.
pub(super) fn whole(
    core: &Core,
    exit: &mut Exit,
    pair: &Pair,
    decode: &[EndpointId],
    order: Order,
) -> Order {
    if pair.whole == decode {
        return order;
    }
    let listed = Order::of(room::able(&exit.epoch, &pair.whole, &way::needs(exit)).copied());
    instead(core, exit, pair).unwrap_or(listed)
}

/// The servers that can do all of it, best first. The request's trip is one among them from here on; `None`
/// where it has none, or there are none.
fn instead(core: &Core, exit: &mut Exit, pair: &Pair) -> Option<Order> {
    let trip = exit.trip.as_ref()?.instead(&pair.whole, exit.mark())?;
    let order = Order::of(trip.decision.picks().map(|pick| pick.endpoint));
    explain::tell_instead(core, exit, trip.decision.reason);
    exit.trip = Some(trip);
    Some(order)
}

/// Where a split request is tried: its own server, then those that can do all of it, or else another pair.
pub(super) fn fall_back(exit: &Exit, pair: &Pair, decode: &[EndpointId], order: &Order) -> Order {
    let decoding = order.endpoints();
    let mut whole = room::able(&exit.epoch, &pair.whole, &way::needs(exit)).peekable();
    if whole.peek().is_none() || pair.whole == decode {
        // Where there is but one, it gets another chance.
        return Order::of(decoding.iter().cycle().take(decoding.len().max(2)).copied());
    }
    Order::of(decoding.iter().take(1).chain(whole).copied())
}

/// Where a split request is tried after the `tried` first of `order` failed: where other servers do all of
/// it, it is routed among them, and counts there as any other request.
pub fn rank_rest(
    core: &Core,
    exit: &mut Exit,
    admitted: &Admitted,
    order: Order,
    tried: usize,
) -> Order {
    let epoch = exit.epoch.clone();
    let model = &epoch.plan().models[usize::from(admitted.model.0)];
    let rest = room::beside(model).and_then(|pair| instead(core, exit, pair));
    let Some(rest) = rest else { return order };
    Order::of(order.endpoints()[..tried].iter().chain(rest.endpoints()).copied())
}
