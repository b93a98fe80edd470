//! What llama.cpp's server says besides answers: its head lines, its pages, what is not there.

use super::Shared;
use crate::api::Quoted;
use crate::engine::Stats;
use std::fmt::Write;

/// Answers that its HTTP library gives on one connection.
pub const ANSWERS_MAX: u32 = 100;

/// Of any path that it does not know, and of any other method.
pub const NOTHING: &str =
    r#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#;

/// `/health`.
pub const HEALTHY: &str = r#"{"status":"ok"}"#;

/// Its name for a type of content.
pub fn content_type(kind: &'static str) -> &'static str {
    match kind {
        super::head::JSON => "application/json; charset=utf-8",
        super::head::EVENTS => "text/event-stream",
        super::head::METRICS => "text/plain; version=0.0.4",
        other => other,
    }
}

/// `/v1/models`, without what its own web page reads.
pub fn models(shared: &Shared) -> String {
    let (created, length) = (super::head::unix_now().as_secs(), shared.limits.context_tokens_max);
    let cards = shared.limits.models.iter().map(|name| {
        let name = Quoted(name);
        format!(
            r#"{{"id":{name},"aliases":[{name}],"tags":[],"object":"model","architecture":{{"input_modalities":["text"],"output_modalities":["text"]}},"created":{created},"owned_by":"llamacpp","meta":{{"n_ctx":{length},"n_ctx_train":{length}}}}}"#
        )
    });
    format!(r#"{{"object":"list","data":[{}]}}"#, cards.collect::<Vec<_>>().join(","))
}

/// What its metrics say that the engine's own counters do not.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub cached_tokens: u64,
    pub prefill_seconds: f64,
    pub decode_seconds: f64,
    /// Longest prompt with its output.
    pub tokens_max: u64,
}

/// The metrics page. Drafts are not counted.
pub fn metrics(stats: &Stats, told: Told) -> String {
    let computed = stats.prompt_tokens.saturating_sub(told.cached_tokens);
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let pace = |tokens: u64, seconds: f64| ratio(tokens as f64, seconds).to_string();
    let mut page = String::with_capacity(4 << 10);
    let mut put = |name: &str, kind: &str, help: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "# HELP llamacpp:{name} {help}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
        );
    };
    let counters = [
        ("prompt_tokens_total", "Prompt tokens without cached ones.", computed.to_string()),
        ("prompt_tokens_cached_total", "Cached prompt tokens.", told.cached_tokens.to_string()),
        ("prompt_seconds_total", "Time on prompts.", told.prefill_seconds.to_string()),
        ("tokens_predicted_total", "Tokens generated.", stats.generation_tokens.to_string()),
        ("tokens_predicted_seconds_total", "Time of generating.", told.decode_seconds.to_string()),
        ("n_decode_total", "Steps.", stats.steps.to_string()),
        ("n_tokens_max", "Longest sequence.", told.tokens_max.to_string()),
        ("spec_decode_num_draft_tokens_total", "Drafted tokens.", "0".into()),
        ("spec_decode_num_accepted_tokens_total", "Accepted ones.", "0".into()),
        ("spec_decode_num_drafts_total", "Drafts.", "0".into()),
    ];
    let busy = ratio(stats.generation_tokens as f64, stats.steps as f64);
    let gauges = [
        ("prompt_tokens_seconds", "Prompt tokens/s.", pace(computed, told.prefill_seconds)),
        (
            "predicted_tokens_seconds",
            "Generated tokens/s.",
            pace(stats.generation_tokens, told.decode_seconds),
        ),
        ("requests_processing", "Requests in the batch.", stats.running.to_string()),
        ("requests_deferred", "Requests in the queue.", stats.waiting.to_string()),
        ("n_busy_slots_per_decode", "Tokens of a step.", busy.to_string()),
    ];
    for (name, help, value) in counters {
        put(name, "counter", help, value);
    }
    for (name, help, value) in gauges {
        put(name, "gauge", help, value);
    }
    page
}
