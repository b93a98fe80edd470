//! The admin listener: health, metrics and debug, apart from client traffic.
//!
//! Reachable on loopback only, or with a token; the configuration refuses anything else. Answers
//! are built from [`state::Shared`], which the control loop keeps up to date, and from the shards'
//! series; no handler waits for a shard.

pub mod guard;
pub mod lifecycle;
pub mod listener;
pub mod metrics;
pub mod metrics_engines;
pub mod ready;
pub mod routes;
pub mod state;

#[cfg(test)]
mod tests;

pub use state::{EndpointState, Shared, State};
