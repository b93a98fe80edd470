//! Sluice: an inference gateway between applications and the machines that run language models.
//!
//! Dependencies point one way: `config, lifecycle, runtime ← http, json, sse ← api ← dialect, gate,
//! route ← upstream ← relay ← shard ← main`. ARCHITECTURE.md has the map and the invariants.

pub mod admin;
pub mod api;
pub mod boot;
pub mod config;
pub mod control;
pub mod foretell;
pub mod gate;
pub mod http;
pub mod json;
pub mod lifecycle;
pub mod quickstart;
pub mod relay;
pub mod route;
pub mod runtime;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod sse;
pub mod telemetry;
pub mod upstream;
