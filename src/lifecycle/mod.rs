//! What a request can hold, who gives it back, and how a request can end.

pub mod kind;
pub mod outcome;
