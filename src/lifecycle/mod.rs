//! What a request can hold, who gives it back, and how a request can end.
//!
//! Owns the ledgers: nothing else changes a count. Three kinds of guard, by how they end:
//! [`permit::Permit`] (returnable: drop gives it back), [`hold::Hold`] (tokens: drop books what was
//! observed, never less than the floor) and the upstream's lease (remote: drop signals the abort at once;
//! it lives with the connection it guards, in `upstream`).
//!
//! Invariant, asserted every epoch for every kind: issued = returned + outstanding, and after a drain
//! outstanding is zero.

pub mod hold;
pub mod inject;
pub mod kind;
pub mod ledger;
pub mod outcome;
pub mod permit;
