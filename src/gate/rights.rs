//! Which models a request may use: for now every configured one.

use crate::api::fault::Fault;
use crate::config::plan::{ModelId, Plan};

/// The model of that public name.
///
/// # Errors
/// There is none, as far as this client may know.
pub fn model(plan: &Plan, name: &str) -> Result<ModelId, Fault> {
    plan.model_index.get(name).copied().ok_or_else(|| Fault::UnknownModel(name.into()))
}
