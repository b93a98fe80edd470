//! What the admin routes show, as the control loop last knew it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Plan;
use crate::telemetry::Registry;
use crate::telemetry::explain::Kept;

/// An endpoint as the control plane knows it, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    /// Its name has never been resolved.
    Unresolved,
    /// Probes fail.
    Down,
    /// Not probed yet.
    Unknown,
    /// The last probe succeeded.
    Up,
}

impl EndpointState {
    /// Every state, from worst to best.
    pub const ALL: [EndpointState; 4] =
        [EndpointState::Unresolved, EndpointState::Down, EndpointState::Unknown, EndpointState::Up];

    /// The name in bodies and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            EndpointState::Unresolved => "unresolved",
            EndpointState::Down => "down",
            EndpointState::Unknown => "unknown",
            EndpointState::Up => "up",
        }
    }
}

/// What an engine says of itself. Unknown is never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineState {
    /// Requests in its batch, and in its queue, whoever sent them.
    pub running: Option<u32>,
    pub waiting: Option<u32>,
    /// Share of its KV cache in use, 0 to 1.
    pub kv_use: Option<f32>,
    /// Tokens that its KV cache holds, and those of one block of it.
    pub kv_tokens: Option<u32>,
    pub block_tokens: Option<u32>,
    /// Prompt tokens looked up in its prefix cache, and found there, since it started.
    pub prefix_queries: Option<u64>,
    pub prefix_hits: Option<u64>,
    /// LoRA adapters that it has work for.
    pub adapters: Option<u64>,
}

/// How reloads ended, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    pub accepted: u64,
    /// Faults in the file.
    pub invalid: u64,
    /// Changes that need a restart.
    pub restart_needed: u64,
}

/// Everything the routes read.
#[derive(Debug)]
pub struct State {
    pub plan: Arc<Plan>,
    pub registry: Registry,
    /// By `EndpointId` of `plan`.
    pub endpoints: Vec<EndpointState>,
    /// Likewise; `None`: it does not tell, or not any more.
    pub engines: Vec<Option<EngineState>>,
    pub draining: bool,
    pub reloads: Reloads,
    /// Shards that have stopped ticking, by number.
    pub stuck: Vec<usize>,
    /// The last decisions.
    pub explained: Kept,
}

/// The state, shared on the control thread. The lock is never held across an await.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// A state as it is at the start: nothing probed.
    pub fn new(plan: Arc<Plan>, registry: Registry) -> Self {
        let endpoints = vec![EndpointState::Unknown; plan.endpoints.len()];
        let engines = vec![None; plan.endpoints.len()];
        let reloads = Reloads::default();
        let (draining, stuck, explained) = (false, Vec::new(), Kept::default());
        let state =
            State { plan, registry, endpoints, engines, draining, reloads, stuck, explained };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Reads or changes it.
    pub fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        // A panic half-way leaves numbers that are at worst stale.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
