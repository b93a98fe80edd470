//! What each attempt is given of a request that is split.

use std::rc::Rc;

use crate::api::fault::Fault;
use crate::config::plan::{Authority, EndpointId, Pair, PairProtocol};
use crate::dialect::pair::Meeting;
use crate::json::Edits;
use crate::relay::core::{Core, Epoch};
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::pair::leg::Leg;
use crate::relay::pair::{Pairing, Share, internal, room};
use crate::relay::places::Place;
use crate::relay::state::Admitted;
use crate::route::pair::Course;

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
