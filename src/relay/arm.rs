//! From the name that a request asks for to the model that serves it.

use xxhash_rust::xxh3::xxh3_64;

use crate::api::fault::Fault;
use crate::config::plan::{ArmId, ModelId, Named, OtherNameId, Plan, Split, Stick, Target};
use crate::relay::exit::Exit;
use crate::relay::inbound::Inbound;
use crate::relay::session;
use crate::route::split;
use crate::runtime::kit::Kit;
use crate::telemetry::explain::Drawn;

/// A model, and how a request came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    pub model: ModelId,
    /// The name it was asked for by, where that is not the model's own.
    pub asked: Option<OtherNameId>,
    pub arm: Option<ArmId>,
}

/// Draws an arm if the name stands for a split.
///
/// # Errors
/// The split has no arm with a weight, which no plan has.
pub fn serve(exit: &Exit, kit: &Kit, inbound: &Inbound, named: Named) -> Result<Served, Fault> {
    let plan = exit.epoch.plan();
    let asked = named.other;
    match named.target {
        Target::Model(model) => Ok(Served { model, asked, arm: None }),
        Target::Split(id) => {
            let split = &plan.splits[usize::from(id.0)];
            let key = what_sticks(plan, split, exit, inbound).unwrap_or_else(|| kit.random());
            let arm = split::arm(&split.arms, key).ok_or(Fault::Internal)?;
            Ok(Served { model: arm.model, asked, arm: Some(arm.id) })
        }
    }
}

/// What the request has in common with those that must go where it goes.
fn what_sticks(plan: &Plan, split: &Split, exit: &Exit, inbound: &Inbound) -> Option<u64> {
    let client = client(plan, exit);
    match split.stick {
        Stick::Session => {
            let configured = plan.routing.session_header.as_deref();
            session::find(inbound, configured, client.unwrap_or(0))
        }
        Stick::Key => client,
        Stick::Request => None,
    }
}

/// How the request's arm was drawn, for people who ask; `None`: of no split.
pub fn drawn(exit: &Exit, inbound: &Inbound) -> Option<Drawn> {
    let (plan, arm) = (exit.epoch.plan(), exit.arm()?);
    let split = plan.splits.iter().find(|split| split.arms.iter().any(|one| one.id == arm))?;
    drawn_of(plan, split, what_sticks(plan, split, exit, inbound).is_some())
}

/// How an arm of `split` was drawn, for a request that has what `sticks` to one, or has not.
pub fn drawn_of(plan: &Plan, split: &Split, sticks: bool) -> Option<Drawn> {
    let by = match (sticks, split.stick) {
        (true, Stick::Session) => "session",
        (true, Stick::Key) => "key",
        _ => "chance",
    };
    let name = plan.model_index.get(&split.name)?.other?;
    let arms = split.arms.iter().map(|arm| (arm.model, arm.weight)).collect();
    Some(Drawn { split: name, by, arms })
}

/// The hash of the client's key's name, if it has one.
pub fn client(plan: &Plan, exit: &Exit) -> Option<u64> {
    let key = exit.row.key.and_then(|key| plan.keys.get(usize::from(key.0)));
    key.map(|key| xxh3_64(key.name.as_bytes()))
}
