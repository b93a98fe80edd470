//! Who can take a request of a model with pairs, and room at the servers that compute prompts for others.
//!
//! Invariants: whoever gets a leg can take the request as any endpoint must; a request that no server can do
//! alone waits for a place at both, and holds neither meanwhile.

use std::rc::Rc;

use crate::config::plan::{EndpointId, Model, Pair};
use crate::relay::core::{Core, Epoch};
use crate::relay::places::{self, Full, Place, Work};
use crate::route::eligible::{Needs, Nobody};

/// Among which of a model's servers a request goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// Its endpoints.
    #[default]
    Own,
    /// Those that do all of it by themselves, where these are others.
    Whole,
}

impl Pool {
    /// Its servers.
    pub fn of(self, model: &Model) -> &[EndpointId] {
        match (self, &model.pair) {
            (Pool::Whole, Some(pair)) => &pair.whole,
            _ => &model.endpoints,
        }
    }
}

/// The pair of a model that has servers beside its own which do all of a request.
pub fn beside(model: &Model) -> Option<&Pair> {
    let pair = model.pair.as_deref()?;
    (!pair.whole.is_empty() && pair.whole != model.endpoints).then_some(pair)
}

/// Whether one of `ids` can take it for sure, whatever they have to do.
pub fn fits(epoch: &Epoch, ids: &[EndpointId], needs: &Needs) -> bool {
    let traits = |id: &EndpointId| &epoch.plan().endpoints[usize::from(id.0)].traits;
    ids.iter().any(|id| needs.fit(traits(id), false).is_ok())
}

/// Those of `ids` that can take it, or may after all where it seems too long for all of them.
pub fn able<'a>(
    epoch: &'a Epoch,
    ids: &'a [EndpointId],
    needs: &Needs,
) -> impl Iterator<Item = &'a EndpointId> + Clone + use<'a> {
    let traits = |id: &EndpointId| &epoch.plan().endpoints[usize::from(id.0)].traits;
    let gate = needs.gate(ids.iter().map(|id| (traits(id), false))).ok();
    ids.iter().filter(move |id| gate.is_some_and(|gate| gate.lets(traits(id), false)))
}

/// Why none of `ids` can take it; `None` where some can, and of nobody.
pub fn lack(epoch: &Epoch, ids: &[EndpointId], needs: &Needs) -> Option<Nobody> {
    let traits = |id: &EndpointId| &epoch.plan().endpoints[usize::from(id.0)].traits;
    needs.gate(ids.iter().map(|id| (traits(id), false))).err().filter(|_| !ids.is_empty())
}

/// Of these servers, those that are thought to be up, or all where none is; and of them, those with room for
/// so many tokens.
pub fn free<'a>(
    epoch: &'a Epoch,
    all: impl Iterator<Item = &'a EndpointId> + Clone + 'a,
    kv_tokens: u64,
) -> impl Iterator<Item = EndpointId> + 'a {
    let any_up = all.clone().any(|id| epoch.is_up(*id));
    let hopeful = all.copied().filter(move |id| !any_up || epoch.is_up(*id));
    hopeful.filter(move |id| places::takes(epoch, *id, kv_tokens))
}

/// The servers of which a request for `model` needs one beside its own: where nobody can do all of it alone.
pub fn needed<'a>(
    epoch: &'a Epoch,
    model: &'a Model,
    needs: &Needs,
) -> impl Iterator<Item = &'a EndpointId> + Clone + use<'a> {
    let alone = |whole: &[EndpointId]| {
        let surer = fits(epoch, &model.endpoints, needs) && !fits(epoch, whole, needs);
        !surer && able(epoch, whole, needs).next().is_some()
    };
    let pair = model.pair.as_deref().filter(|pair| !alone(&pair.whole));
    able(epoch, pair.map_or(&[], |pair| &pair.prefill), needs)
}

/// The place that was taken beforehand, if it is there, or another.
///
/// # Errors
/// There is none.
pub fn take(
    core: &Rc<Core>,
    epoch: &Rc<Epoch>,
    taken: &mut Option<Box<Place>>,
    id: EndpointId,
    work: Work,
) -> Result<Option<Box<Place>>, Full> {
    match taken.take_if(|place| place.endpoint == id) {
        Some(place) => Ok(Some(place)),
        None => Place::take(core, epoch, id, work),
    }
}

/// Whether there is room at one of them, if one is needed.
pub fn suffices(epoch: &Epoch, model: &Model, needs: &Needs, kv_tokens: u64) -> bool {
    let mut needed = needed(epoch, model, needs).peekable();
    needed.peek().is_none() || free(epoch, needed, kv_tokens).next().is_some()
}
