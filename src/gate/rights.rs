//! Which models a request may use: for now every configured one.

use crate::api::fault::Fault;
use crate::config::plan::{Named, Plan};

/// What a public name stands for: the one place where names that clients give are looked up.
///
/// # Errors
/// There is none of that name, as far as this client may know.
pub fn model(plan: &Plan, name: &str) -> Result<Named, Fault> {
    plan.model_index.get(name).copied().ok_or_else(|| Fault::UnknownModel(name.into()))
}
