//! What engines can do that a setting rests on. `isolation` knows who honours salts.
//!
//! Invariant: what no release of an engine does is a fault; what may depend on its release or its flags is
//! said by `sluice check` (`notes`), and refused to nobody.

use super::plan::{Engine, PairProtocol, Traits};
use super::reader::Section;

/// Whether an engine does something, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Can {
    Surely,
    Perhaps,
    Never,
}

/// Telling how large its KV cache is.
pub fn tells_cache_size(engine: Engine, has_metrics: bool) -> Can {
    match engine {
        _ if !has_metrics => Can::Never,
        Engine::Vllm => Can::Surely,
        // Their metrics are off unless a flag is set; of others nothing is known.
        Engine::Sglang | Engine::TrtLlm => Can::Perhaps,
        Engine::OpenAi | Engine::Anthropic | Engine::Generic => Can::Perhaps,
        // Slots are all that it tells of.
        Engine::LlamaCpp => Can::Never,
    }
}

/// Publishing KV events by ZMQ.
pub fn publishes_events(engine: Engine) -> Can {
    match engine {
        Engine::Vllm | Engine::Sglang => Can::Surely,
        Engine::TrtLlm | Engine::Generic => Can::Perhaps,
        Engine::LlamaCpp | Engine::OpenAi | Engine::Anthropic => Can::Never,
    }
}

/// Doing half of a request.
pub fn pairs_up(engine: Engine, protocol: PairProtocol) -> Can {
    match (engine, protocol) {
        (Engine::Vllm, PairProtocol::Nixl) | (Engine::Sglang, PairProtocol::Sglang) => Can::Surely,
        (Engine::Generic, _) => Can::Perhaps,
        _ => Can::Never,
    }
}

/// What an endpoint's settings need its engine to tell.
pub fn check(s: &Section<'_>, engine: Engine, has_metrics: bool, traits: &Traits) {
    if let Some(at) = s.given("kv_events").filter(|_| publishes_events(engine) == Can::Never) {
        let what = "`kv_events` needs an engine that publishes its cache's events, and this one never does";
        s.fault(at, what, "remove it, or correct `engine` (vllm and sglang do)");
    }
    let sized = traits.kv_tokens > 0 || s.is_faulty("kv_tokens");
    let bounded = traits.kv_percent_max > 0 && !sized;
    if bounded && tells_cache_size(engine, has_metrics) == Can::Never {
        let at = s.given("kv_percent_max").unwrap_or(s.at);
        let what = "`kv_percent_max` bounds nothing, for nobody tells how large the KV cache is";
        s.fault(at, what, "add kv_tokens, its size in tokens, or remove it");
    }
}
