//! The APIs the server speaks: a request body becomes a [`Plan`], steps of the engine become bytes.
//!
//! Pure: no sockets, no engine. Shapes follow recordings of vLLM 0.32 (the key order too); fields
//! it leaves null are null here. [`Dialect::LlamaCpp`] has the shapes of llama.cpp's server in their place.

mod body;
mod chat;
mod completions;
mod encode;
mod error;
mod json;
mod llama;
mod messages;
mod plan;
mod pooling;
mod prompt;
mod responses;
mod tool;
mod whole;

pub use body::Body;
pub use encode::{Encoder, Finish, Meta, Sink, Step, Usage};
pub use error::{ApiError, Family};
pub use json::Quoted;
pub use plan::{Context, Generation, Limits, Plan, Script, SequencePlan, plan};
pub use tool::ToolCall;

/// Whose server it is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Vllm,
    LlamaCpp,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Chat,
    Completions,
    Embeddings,
    Rerank,
    Responses,
    Messages,
    CountTokens,
    Tokenize,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 8] = [
        Op::Chat,
        Op::Completions,
        Op::Embeddings,
        Op::Rerank,
        Op::Responses,
        Op::Messages,
        Op::CountTokens,
        Op::Tokenize,
    ];

    /// The operation behind a path, if there is one.
    pub fn of_path(path: &str) -> Option<Op> {
        Some(match path {
            "/v1/chat/completions" => Op::Chat,
            "/v1/completions" => Op::Completions,
            "/v1/embeddings" => Op::Embeddings,
            "/v1/rerank" | "/rerank" | "/v2/rerank" => Op::Rerank,
            "/v1/responses" => Op::Responses,
            "/v1/messages" => Op::Messages,
            "/v1/messages/count_tokens" => Op::CountTokens,
            "/tokenize" => Op::Tokenize,
            _ => return None,
        })
    }

    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Op::Chat => "chat",
            Op::Completions => "completions",
            Op::Embeddings => "embeddings",
            Op::Rerank => "rerank",
            Op::Responses => "responses",
            Op::Messages => "messages",
            Op::CountTokens => "count_tokens",
            Op::Tokenize => "tokenize",
        }
    }

    /// Whose error shape it uses.
    pub fn family(self) -> Family {
        match self {
            Op::Messages | Op::CountTokens => Family::Anthropic,
            _ => Family::OpenAi,
        }
    }
}
