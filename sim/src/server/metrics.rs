//! What the metrics page says, with vLLM's names, labels and bucket bounds.

use super::config::ServerConfig;
use super::llama;
use crate::api::{Dialect, Finish, Quoted};
use crate::engine::{Output, SECOND, Stats, Time};
use std::fmt::Write;

const TTFT: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const PER_TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const WHOLE: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

/// A histogram with fixed bounds.
struct Histogram {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self { name, help, bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn record(&mut self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&mut self, value: f64, times: u32) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += u64::from(times);
        self.sum += value * f64::from(times);
    }
}

/// Everything that the engine's own counters do not hold.
pub struct Metrics {
    model: String,
    ttft: Histogram,
    inter_token: Histogram,
    per_output_token: Histogram,
    whole: Histogram,
    queue: Histogram,
    inference: Histogram,
    prefill: Histogram,
    decode: Histogram,
    prompt_tokens: Histogram,
    generation_tokens: Histogram,
    /// By reason: stop, length, abort, error, repetition.
    finished: [u64; REASONS.len()],
    cached_tokens: u64,
    tokens_max: u64,
}

const REASONS: [&str; 5] = ["stop", "length", "abort", "error", "repetition"];

/// Where a sequence's first token stands in time.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    pub prompt_tokens: u32,
    pub first_token: Time,
}

impl Metrics {
    pub fn new(model: &str) -> Self {
        let tokens = |name, help| Histogram::new(name, help, TOKENS);
        let whole = |name, help| Histogram::new(name, help, WHOLE);
        Self {
            model: Quoted(model).to_string(),
            ttft: Histogram::new("time_to_first_token_seconds", "Time to first token.", TTFT),
            inter_token: Histogram::new(
                "inter_token_latency_seconds",
                "Time between the tokens of a request.",
                PER_TOKEN,
            ),
            per_output_token: Histogram::new(
                "request_time_per_output_token_seconds",
                "Mean time per output token of each request.",
                PER_TOKEN,
            ),
            whole: whole("e2e_request_latency_seconds", "Time of whole requests."),
            queue: whole("request_queue_time_seconds", "Time in the waiting queue."),
            inference: whole("request_inference_time_seconds", "Time in the batch."),
            prefill: whole("request_prefill_time_seconds", "Time of prefill."),
            decode: whole("request_decode_time_seconds", "Time of decoding."),
            prompt_tokens: tokens("request_prompt_tokens", "Prompt tokens of each request."),
            generation_tokens: tokens("request_generation_tokens", "Output of each request."),
            finished: [0; REASONS.len()],
            cached_tokens: 0,
            tokens_max: 0,
        }
    }

    /// Books an output whose sequence last had one at `last_at` (before its first: 0).
    pub fn output(&mut self, output: &Output, last_at: Time) {
        if output.first == 0 {
            self.ttft.record(seconds(output.at - output.arrived));
            self.queue.record(seconds(output.scheduled - output.arrived));
            self.prefill.record(seconds(output.at - output.scheduled));
            self.cached_tokens += u64::from(output.cached);
        } else if output.count > 0 {
            let gap = seconds(output.at - last_at) / f64::from(output.count);
            self.inter_token.record_many(gap, output.count);
        }
    }

    /// Books a sequence that came to its own end.
    pub fn finish(&mut self, output: &Output, track: Track, finish: Option<Finish>) {
        let generated = output.first + output.count;
        let decode = seconds(output.at - track.first_token);
        self.tokens_max = self.tokens_max.max(u64::from(track.prompt_tokens + generated));
        self.whole.record(seconds(output.at - output.arrived));
        self.inference.record(seconds(output.at - output.scheduled));
        self.decode.record(decode);
        self.prompt_tokens.record(f64::from(track.prompt_tokens));
        self.generation_tokens.record(f64::from(generated));
        if generated > 1 {
            self.per_output_token.record(decode / f64::from(generated - 1));
        }
        self.finished[usize::from(finish == Some(Finish::Length))] += 1;
    }

    /// Books a sequence that was aborted.
    pub fn abort(&mut self) {
        self.finished[2] += 1;
    }

    /// The page.
    pub fn page(&self, stats: &Stats, config: &ServerConfig) -> String {
        match config.dialect {
            Dialect::Vllm => self.vllm(stats, config),
            Dialect::LlamaCpp => llama::metrics(
                stats,
                llama::Told {
                    cached_tokens: self.cached_tokens,
                    prefill_seconds: self.prefill.sum,
                    decode_seconds: self.decode.sum,
                    tokens_max: self.tokens_max,
                },
            ),
        }
    }

    fn vllm(&self, stats: &Stats, config: &ServerConfig) -> String {
        let mut page = Page { text: String::with_capacity(16 << 10), model: &self.model };
        let used = f64::from(stats.blocks_used) / f64::from(stats.blocks_total.max(1));
        page.gauge("num_requests_running", "Requests in the batch.", f64::from(stats.running));
        page.gauge("num_requests_waiting", "Requests in the queue.", f64::from(stats.waiting));
        page.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent.", used);
        page.counter("prefix_cache_queries", "Prompt tokens looked up.", stats.prefix_queries);
        page.counter("prefix_cache_hits", "Prompt tokens found.", stats.prefix_hits);
        page.counter("num_preemptions", "Preempted requests.", stats.preemptions);
        page.counter("prompt_tokens", "Prompt tokens processed.", stats.prompt_tokens);
        page.by_source(stats.prompt_tokens.saturating_sub(self.cached_tokens), self.cached_tokens);
        page.counter("prompt_tokens_cached", "Cached prompt tokens.", self.cached_tokens);
        page.counter("generation_tokens", "Tokens generated.", stats.generation_tokens);
        page.finished(&self.finished);
        for histogram in self.histograms() {
            page.histogram(histogram);
        }
        page.cache_config(config);
        page.text
    }

    fn histograms(&self) -> [&Histogram; 10] {
        [
            &self.ttft,
            &self.inter_token,
            &self.per_output_token,
            &self.whole,
            &self.queue,
            &self.inference,
            &self.prefill,
            &self.decode,
            &self.prompt_tokens,
            &self.generation_tokens,
        ]
    }
}

fn seconds(time: Time) -> f64 {
    time as f64 / SECOND as f64
}

struct Page<'a> {
    text: String,
    model: &'a str,
}

impl Page<'_> {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(arguments);
        self.text.push('\n');
    }

    fn describe(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP vllm:{name} {help}"));
        self.line(format_args!("# TYPE vllm:{name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let model = self.model;
        self.describe(name, help, "gauge");
        self.line(format_args!("vllm:{name}{{engine=\"0\",model_name={model}}} {value:?}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let model = self.model;
        self.describe(&format!("{name}_total"), help, "counter");
        self.line(format_args!("vllm:{name}_total{{engine=\"0\",model_name={model}}} {value}.0"));
    }

    fn by_source(&mut self, computed: u64, cached: u64) {
        let model = self.model;
        let name = "prompt_tokens_by_source_total";
        self.describe(name, "Number of prompt tokens by source.", "counter");
        for (source, value) in
            [("local_compute", computed), ("local_cache_hit", cached), ("external_kv_transfer", 0)]
        {
            self.line(format_args!(
                "vllm:{name}{{engine=\"0\",model_name={model},source=\"{source}\"}} {value}.0"
            ));
        }
    }

    fn finished(&mut self, finished: &[u64]) {
        let model = self.model;
        let name = "request_success_total";
        self.describe(name, "Count of successfully processed requests.", "counter");
        for (reason, value) in REASONS.iter().zip(finished) {
            self.line(format_args!(
                "vllm:{name}{{engine=\"0\",finished_reason=\"{reason}\",model_name={model}}} {value}.0"
            ));
        }
    }

    fn histogram(&mut self, histogram: &Histogram) {
        let (name, model) = (histogram.name, self.model);
        self.describe(name, histogram.help, "histogram");
        let mut total = 0;
        for (at, count) in histogram.counts.iter().enumerate() {
            total += count;
            let bound =
                histogram.bounds.get(at).map_or("+Inf".into(), |bound| format!("{bound:?}"));
            self.line(format_args!(
                "vllm:{name}_bucket{{engine=\"0\",le=\"{bound}\",model_name={model}}} {total}.0"
            ));
        }
        self.line(format_args!("vllm:{name}_count{{engine=\"0\",model_name={model}}} {total}.0"));
        let sum = histogram.sum;
        self.line(format_args!("vllm:{name}_sum{{engine=\"0\",model_name={model}}} {sum:?}"));
    }

    fn cache_config(&mut self, config: &ServerConfig) {
        let engine = &config.engine;
        self.describe("cache_config_info", "Information of the LLMEngine CacheConfig", "gauge");
        self.line(format_args!(
            "vllm:cache_config_info{{block_size=\"{}\",cache_dtype=\"auto\",\
             enable_prefix_caching=\"{}\",engine=\"0\",gpu_memory_utilization=\"0.92\",\
             kv_cache_size_tokens=\"{}\",num_gpu_blocks=\"{}\"}} 1.0",
            engine.block_size,
            if engine.prefix_caching { "True" } else { "False" },
            engine.capacity_tokens(),
            engine.kv_blocks
        ));
    }
}
