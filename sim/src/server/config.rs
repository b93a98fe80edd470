//! What a simulated server is told at its start.

use super::pairs::PairConfig;
use crate::api::{Dialect, Limits};
use crate::engine::EngineConfig;
use crate::fault::Faults;
use std::time::Duration;

/// Which requests a default fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// Requests for tokens.
    #[default]
    Inference,
    /// Those, and `/health`, `/metrics`, `/v1/models` and the like.
    All,
}

/// A fault for requests that bring none of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultFault {
    /// As it was written.
    pub text: String,
    /// As it was read.
    pub faults: Faults,
    /// Share of requests it strikes, 0 to 1.
    pub probability: f64,
    /// Requests it still strikes; `None` is no end.
    pub times: Option<u64>,
    pub scope: Scope,
}

/// One simulated server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub dialect: Dialect,
    pub engine: EngineConfig,
    /// Names it serves.
    pub models: Vec<String>,
    /// Decides the text and every other choice.
    pub seed: u64,
    /// How long an idle connection stays open (uvicorn: 5 s).
    pub keep_alive: Duration,
    /// No pacing: steps take no time.
    pub instant: bool,
    /// Tokens of prompt and output together; never more than the KV pool holds.
    pub context_tokens_max: u32,
    /// Output where the client set no limit.
    pub output_tokens_default: u32,
    /// Length at which the model has said all; `None` lets it talk up to the client's limit.
    pub eos_tokens: Option<u32>,
    /// Bytes of one request body.
    pub body_bytes_max: usize,
    pub embedding_dimensions: usize,
    pub fault: Option<DefaultFault>,
    pub pair: PairConfig,
    /// Where it tells of its cache; `None`: nowhere.
    pub kv_events: Option<KvEvents>,
}

/// Where KV events are published (ZMQ, as vLLM's publisher does it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvents {
    /// `tcp://*:PORT` or an address with a port: bound. `connect:tcp://…`: connected to.
    pub publish: String,
    /// Where what was missed can be asked for, bound.
    pub replay: Option<String>,
    pub topic: String,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            engine: EngineConfig::default(),
            models: vec!["mock-model".to_string()],
            seed: 0,
            keep_alive: Duration::from_secs(5),
            instant: false,
            context_tokens_max: 1 << 20,
            output_tokens_default: 64,
            eos_tokens: None,
            body_bytes_max: 64 << 20,
            embedding_dimensions: 16,
            fault: None,
            pair: PairConfig::default(),
            kv_events: None,
        }
    }
}

impl ServerConfig {
    /// The part that plans need.
    pub fn limits(&self) -> Limits {
        let capacity = u32::try_from(self.engine.capacity_tokens()).unwrap_or(u32::MAX);
        Limits {
            dialect: self.dialect,
            models: self.models.clone(),
            seed: self.seed,
            context_tokens_max: self.context_tokens_max.min(capacity),
            output_tokens_default: self.output_tokens_default,
            eos_tokens: self.eos_tokens,
            block_size: self.engine.block_size,
            tells_ids: self.kv_events.is_some(),
            embedding_dimensions: self.embedding_dimensions,
        }
    }

    /// The engine to build.
    pub fn engine(&self) -> EngineConfig {
        let engine = self.engine.clone();
        if self.instant { engine.instant() } else { engine }
    }
}
