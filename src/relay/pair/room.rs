//! Room at the servers that compute prompts for others.
//!
//! Invariant: a request that no server can do alone waits for a place at both, and holds neither meanwhile.

use std::rc::Rc;

use crate::config::plan::{EndpointId, Model};
use crate::relay::core::{Core, Epoch};
use crate::relay::places::{self, Full, Place, Work};

/// Of these servers, those that are thought to be up, or all where none is; of them, those with room for so
/// many tokens.
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
pub fn needed(model: &Model) -> impl Iterator<Item = &EndpointId> + Clone {
    let pair = model.pair.as_deref().filter(|pair| pair.whole.is_empty());
    pair.map_or(&[][..], |pair| &pair.prefill).iter()
}

/// The place that was taken beforehand, if it is there, or another.
///
/// # Errors
/// There is none.
pub fn take(
    core: &Rc<Core>,
    epoch: &Rc<Epoch>,
    taken: &mut Option<Place>,
    id: EndpointId,
    work: Work,
) -> Result<Option<Place>, Full> {
    match taken.take_if(|place| place.endpoint == id) {
        Some(place) => Ok(Some(place)),
        None => Place::take(core, epoch, id, work),
    }
}

/// Whether there is room at one of them, if one is needed.
pub fn suffices(epoch: &Epoch, model: &Model, kv_tokens: u64) -> bool {
    let mut needed = needed(model).peekable();
    needed.peek().is_none() || free(epoch, needed, kv_tokens).next().is_some()
}
