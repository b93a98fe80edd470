//! The compiled plan in words.

use super::plan::Plan;

/// The plan for people to read.
pub fn describe(plan: &Plan) -> String {
    format!("generation {}\n", plan.generation)
}

/// Settings that differ and take effect only in a new process.
pub fn restart_needed(_old: &Plan, _new: &Plan) -> Vec<String> {
    Vec::new()
}
