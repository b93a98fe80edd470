//! TensorRT-LLM's own page: a JSON list of what its last iterations did (trtllm-serve, `/metrics`).

use serde::Deserialize;

use super::reading::Reading;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iteration {
    num_active_requests: Option<u32>,
    num_queued_requests: Option<u32>,
    kv_cache_stats: Option<KvCache>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KvCache {
    max_num_blocks: Option<u64>,
    used_num_blocks: Option<u64>,
    tokens_per_block: Option<u32>,
}

/// Reads the last iteration. The page tells each of them once: where there was none since it was last read,
/// nothing runs.
pub fn read(page: &str) -> Option<Reading> {
    let iterations: Vec<Iteration> = serde_json::from_str(page).ok()?;
    let Some(last) = iterations.into_iter().next_back() else { return Some(idle()) };
    let cache = last.kv_cache_stats;
    let blocks = cache.as_ref().and_then(|cache| cache.max_num_blocks).filter(|n| *n > 0);
    let used = cache.as_ref().and_then(|cache| cache.used_num_blocks);
    let block_tokens = cache.as_ref().and_then(|cache| cache.tokens_per_block);
    Some(Reading {
        running: last.num_active_requests,
        waiting: last.num_queued_requests,
        kv_use: used.zip(blocks).map(|(used, all)| (used as f32 / all as f32).min(1.0)),
        kv_tokens: blocks.zip(block_tokens).map(|(n, tokens)| n.saturating_mul(tokens.into())),
        block_tokens,
        ..Reading::default()
    })
}

fn idle() -> Reading {
    Reading { running: Some(0), waiting: Some(0), kv_use: Some(0.0), ..Reading::default() }
}
