//! What an engine says of itself: the metrics of vLLM, SGLang, TensorRT-LLM and llama.cpp, under the names of
//! their present and their earlier releases, as one [`Reading`].
//!
//! Invariant: what a page does not say is unknown, never zero; of several engines behind one address
//! (data-parallel ranks), counts add up and shares of use are averaged.

use super::sample::{Sample, samples};

/// Adapters that are remembered of one endpoint, at most.
const ADAPTERS_MAX: usize = 256;

/// One look at an engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Requests in a batch.
    pub running: Option<u32>,
    /// Requests in its queue.
    pub waiting: Option<u32>,
    /// Share of its KV cache in use, 0 to 1.
    pub kv_use: Option<f32>,
    /// Tokens its KV cache holds.
    pub kv_tokens: Option<u64>,
    /// Tokens of one KV block.
    pub block_tokens: Option<u32>,
    /// Prompt tokens looked up in its prefix cache, and found there, since it started.
    pub prefix_queries: Option<f64>,
    pub prefix_hits: Option<f64>,
    /// LoRA adapters that it has work for.
    pub adapters: Option<Vec<Box<str>>>,
    /// When its process started, seconds since 1970.
    pub started: Option<f64>,
    /// Prompt tokens it has read since it started: falls only with a restart.
    pub prompt_tokens: Option<f64>,
}

/// Reads a page; `None` if nothing on it is known.
pub fn read(page: &str) -> Option<Reading> {
    if page.trim_start().starts_with(['[', '{']) {
        return super::iteration::read(page);
    }
    let mut gathered = Gathered::default();
    samples(page)
        .filter(|sample| sample.value.is_finite())
        .for_each(|sample| gathered.take(&sample));
    let reading = gathered.reading();
    let known = Reading { started: None, ..reading.clone() } != Reading::default();
    known.then_some(reading)
}

#[derive(Default)]
struct Gathered {
    reading: Reading,
    /// Sum and number of the shares of use.
    kv_use: (f64, u32),
    blocks: Option<f64>,
}

impl Gathered {
    fn take(&mut self, sample: &Sample<'_>) {
        let value = sample.value;
        let reading = &mut self.reading;
        match sample.name {
            "vllm:num_requests_running"
            | "sglang:num_running_reqs"
            | "llamacpp:requests_processing" => add(&mut reading.running, value),
            "vllm:num_requests_waiting"
            | "sglang:num_queue_reqs"
            | "llamacpp:requests_deferred" => add(&mut reading.waiting, value),
            "vllm:kv_cache_usage_perc"
            | "vllm:gpu_cache_usage_perc"
            | "sglang:token_usage"
            | "trtllm_kv_cache_utilization"
            | "trtllm:kv_cache_utilization"
            | "kv_cache_utilization"
            | "llamacpp:kv_cache_usage_ratio" => {
                self.kv_use = (self.kv_use.0 + value, self.kv_use.1 + 1);
            }
            "vllm:prefix_cache_queries_total"
            | "vllm:prefix_cache_queries"
            | "vllm:gpu_prefix_cache_queries_total"
            | "vllm:gpu_prefix_cache_queries" => sum(&mut reading.prefix_queries, value),
            "vllm:prefix_cache_hits_total"
            | "vllm:prefix_cache_hits"
            | "vllm:gpu_prefix_cache_hits_total"
            | "vllm:gpu_prefix_cache_hits"
            | "llamacpp:prompt_tokens_cached_total" => sum(&mut reading.prefix_hits, value),
            // By source where the engine has tiers of cache.
            "sglang:cached_tokens_total" => sum(&mut reading.prefix_hits, value),
            "vllm:prompt_tokens_total"
            | "sglang:prompt_tokens_total"
            | "llamacpp:prompt_tokens_total" => sum(&mut reading.prompt_tokens, value),
            "vllm:cache_config_info" | "sglang:cache_config_info" => self.geometry(sample),
            "sglang:max_total_num_tokens" => {
                reading.kv_tokens =
                    Some(reading.kv_tokens.unwrap_or(0).saturating_add(value as u64));
            }
            "vllm:lora_requests_info" => self.adapters(sample),
            "nv_trt_llm_request_metrics" => self.triton_requests(sample),
            "nv_trt_llm_kv_cache_block_metrics" => self.triton_blocks(sample),
            "process_start_time_seconds" => reading.started = Some(value),
            _ => {}
        }
    }

    /// The cache's shape, written as labels of a sample that is always 1.
    fn geometry(&mut self, sample: &Sample<'_>) {
        let number = |key| sample.label(key).and_then(|text| text.parse::<u64>().ok());
        let block = number("block_size").or_else(|| number("page_size"));
        let blocks = number("num_gpu_blocks").or_else(|| number("num_pages"));
        let tokens = number("kv_cache_size_tokens")
            .or_else(|| Some(block?.saturating_mul(blocks?)))
            .filter(|tokens| *tokens > 0);
        let reading = &mut self.reading;
        reading.block_tokens = block.and_then(|n| u32::try_from(n).ok()).or(reading.block_tokens);
        if let Some(tokens) = tokens {
            reading.kv_tokens = Some(reading.kv_tokens.unwrap_or(0).saturating_add(tokens));
        }
    }

    fn adapters(&mut self, sample: &Sample<'_>) {
        let names = sample.label("running_lora_adapters").into_iter();
        let names = names.chain(sample.label("waiting_lora_adapters"));
        let adapters = self.reading.adapters.get_or_insert_default();
        for name in names.flat_map(|list| list.split(',')).map(str::trim) {
            let known = adapters.iter().any(|adapter| **adapter == *name);
            if !name.is_empty() && !known && adapters.len() < ADAPTERS_MAX {
                adapters.push(name.into());
            }
        }
    }

    fn triton_requests(&mut self, sample: &Sample<'_>) {
        match sample.label("request_type") {
            Some("scheduled") => add(&mut self.reading.running, sample.value),
            Some("waiting") => add(&mut self.reading.waiting, sample.value),
            _ => {}
        }
    }

    fn triton_blocks(&mut self, sample: &Sample<'_>) {
        match sample.label("kv_cache_block_type") {
            Some("fraction") => self.kv_use = (self.kv_use.0 + sample.value, self.kv_use.1 + 1),
            Some("max") => self.blocks = Some(sample.value),
            Some("tokens_per") => self.reading.block_tokens = Some(sample.value as u32),
            _ => {}
        }
    }

    fn reading(mut self) -> Reading {
        let (sum, count) = self.kv_use;
        if count > 0 {
            self.reading.kv_use = Some((sum / f64::from(count)).clamp(0.0, 1.0) as f32);
        }
        if let (Some(blocks), Some(tokens)) = (self.blocks, self.reading.block_tokens) {
            self.reading.kv_tokens = Some((blocks * f64::from(tokens)) as u64);
        }
        self.reading
    }
}

fn add(count: &mut Option<u32>, value: f64) {
    *count = Some(count.unwrap_or(0).saturating_add(value as u32));
}

fn sum(total: &mut Option<f64>, value: f64) {
    *total = Some(total.unwrap_or(0.0) + value);
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
