//! The house rules that no compiler checks: sizes, who may use whom, what may stand in the text, and
//! documents that say what the code says.
//!
//! Every exception is listed here by name with its reason; one that is no longer needed is a fault too.

mod documents;
mod headers;
mod modules;
mod sizes;
mod text;
mod tree;

/// Fails with every fault at once.
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} fault(s):\n{}", faults.len(), faults.join("\n"));
}
