//! Deciding whether two servers share a request, or one does all of it.

use crate::api::fault::Fault;
use crate::config::plan::{Capabilities, EndpointId, Model, ModelId, Pair};
use crate::dialect::pair::{self as dialect, Asked};
use crate::json::Bounds;
use crate::relay::asking;
use crate::relay::core::Epoch;
use crate::relay::exit::Exit;
use crate::relay::explain;
use crate::relay::inbound::Inbound;
use crate::relay::pair::room;
use crate::relay::state::Admitted;
use crate::route::eligible::Needs;
use crate::route::pair::{Course, Terms, course};

/// How a request is served, and what that rests on.
pub struct Way {
    pub asked: Asked,
    pub terms: Terms,
    pub course: Course,
}

/// What a request is to its servers.
#[derive(Clone, Copy)]
pub struct Burden {
    pub needs: Needs,
    /// What it takes of a cache.
    pub kv_tokens: u64,
    /// Tokens of its prompt that the server which would answer does not have.
    pub uncached_tokens: u32,
}

/// What the body says of being split.
///
/// # Errors
/// It says what only servers may say to each other.
pub fn read(epoch: &Epoch, inbound: &Inbound, admitted: &Admitted) -> Result<Asked, Fault> {
    let bounds = Bounds { depth_max: epoch.plan().limits.json_depth_max };
    dialect::read(admitted.ask.op, inbound.body(), &bounds)
}

impl Way {
    /// Decides.
    pub fn of(epoch: &Epoch, model: &Model, pair: &Pair, asked: Asked, burden: &Burden) -> Self {
        let fits = |ids: &[EndpointId]| room::fits(epoch, ids, &burden.needs);
        let able = |ids: &[EndpointId]| room::able(epoch, ids, &burden.needs).next().is_some();
        let (two, one) = (fits(&model.endpoints) && fits(&pair.prefill), fits(&pair.whole));
        let (two, one) = match asked.splittable && two || one {
            true => (two, one),
            false => (able(&model.endpoints) && able(&pair.prefill), able(&pair.whole)),
        };
        let prefill = room::able(epoch, &pair.prefill, &burden.needs);
        let terms = Terms {
            uncached_tokens: burden.uncached_tokens,
            uncached_tokens_min: pair.uncached_tokens_min,
            splittable: asked.splittable && two,
            prefill_up: room::free(epoch, prefill, burden.kv_tokens).any(|id| epoch.is_up(id)),
            whole: one,
        };
        Self { asked, terms, course: course(&terms) }
    }

    /// Why nobody can serve it.
    pub fn fault(&self, epoch: &Epoch, model: &Model, pair: &Pair, needs: &Needs) -> Fault {
        let nobody = match !self.asked.splittable && pair.whole.is_empty() {
            true => None,
            false => [&pair.whole, &pair.prefill, &model.endpoints]
                .into_iter()
                .find_map(|ids| room::lack(epoch, ids, needs)),
        };
        nobody.map_or(Fault::Unsupported("a request of this kind"), asking::fault)
    }

    /// Counts it, and notes it for people who ask.
    pub fn tell(&self, exit: &mut Exit, model: ModelId) {
        explain::tell_course(exit, &self.terms, self.course);
        exit.epoch.series().models[usize::from(model.0)].paired(self.course);
    }
}

/// What the request of `exit` is, where it was routed.
pub fn burden(exit: &Exit) -> Burden {
    let Some(trip) = &exit.trip else {
        return Burden { needs: needs(exit), kv_tokens: 0, uncached_tokens: u32::MAX };
    };
    let first = trip.decision.picks().next();
    let uncached_tokens = first.map_or(u32::MAX, |pick| pick.prefill_tokens);
    Burden { needs: trip.needs, kv_tokens: trip.kv_tokens(), uncached_tokens }
}

/// What its servers must be able to do.
pub fn needs(exit: &Exit) -> Needs {
    let apart = exit.salt.as_ref().map(|salt| salt.needs);
    let capabilities = apart.unwrap_or(Capabilities::NONE);
    let unrouted = Needs { capabilities, input_tokens: 0, output_tokens_max: None };
    exit.trip.as_ref().map_or(unrouted, |trip| trip.needs)
}
