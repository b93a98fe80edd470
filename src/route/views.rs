//! What shards know of endpoints, and of the plan it belongs to. Published whole, never changed.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::plan::{Authority, Plan};
use crate::telemetry::Series;

/// One endpoint as the control plane sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointView {
    /// Where to connect; empty while a name has never been resolved.
    pub addresses: Vec<SocketAddr>,
    /// False once probes failed; true before the first probe.
    pub healthy: bool,
    /// Counts the times that it came back after probes had failed: its cache may be gone.
    pub returns: u32,
    /// What its engine says of itself, while that is fresh.
    pub engine: Option<EngineView>,
}

/// What an engine says of itself. Unknown is never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineView {
    /// Requests in its batch, whoever sent them.
    pub running: Option<u32>,
    /// Requests in its queue.
    pub waiting: Option<u32>,
    /// Share of its KV cache in use, 0 to 1.
    pub kv_use: Option<f32>,
    /// Tokens that its KV cache holds.
    pub kv_tokens: Option<u32>,
    /// Tokens of one of its blocks.
    pub block_tokens: Option<u32>,
}

/// All endpoints of one plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Views {
    /// Of the plan whose endpoint ids these are.
    pub generation: u64,
    /// By `EndpointId`.
    pub endpoints: Vec<EndpointView>,
}

impl Views {
    /// What is known without asking anybody: literal addresses.
    pub fn unprobed(plan: &Plan) -> Self {
        let view = |authority: &Authority| {
            let addresses = match authority {
                Authority::Address(address) => vec![*address],
                Authority::Name { .. } => Vec::new(),
            };
            EndpointView { addresses, healthy: true, returns: 0, engine: None }
        };
        let endpoints = plan.endpoints.iter().map(|endpoint| view(&endpoint.authority)).collect();
        Self { generation: plan.generation, endpoints }
    }
}

/// A plan with everything whose ids belong to it.
#[derive(Debug)]
pub struct Bound {
    pub plan: Arc<Plan>,
    /// This shard's own.
    pub series: Arc<Series>,
    /// As they were when the plan was published.
    pub views: Arc<Views>,
}
