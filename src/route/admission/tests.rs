//! The order, the bounds, the protocol and the arithmetic of waiting.

mod drains;
mod fairness;
mod orders;
mod shares;
