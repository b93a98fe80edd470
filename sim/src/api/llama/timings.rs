//! How long prompt and answer took, as llama.cpp says it in its own member.

use crate::api::encode::{Step, Usage};
use crate::engine::{MILLISECOND, SECOND, Time};

/// The `timings` object after a step of a choice.
pub fn timings(step: &Step<'_>) -> String {
    object(step.usage, step.prompt_time, step.tokens, step.decode_time)
}

/// The same, once the prompt is computed and before anything is said.
pub fn after_prompt(step: &Step<'_>) -> String {
    object(step.usage, step.prompt_time, 0, 0)
}

/// The same, before anything is computed.
pub fn before(usage: Usage) -> String {
    object(Usage { prompt: usage.cached, ..usage }, 0, 0, 0)
}

/// `prompt_progress`: tokens of the prompt that are computed, and since when.
pub fn progress(usage: Usage, processed: u32, time: Time) -> String {
    format!(
        r#"{{"total":{},"cache":{},"processed":{processed},"time_ms":{}}}"#,
        usage.prompt,
        usage.cached,
        time / MILLISECOND
    )
}

fn object(usage: Usage, prompt: Time, predicted: u32, decode: Time) -> String {
    let computed = usage.prompt - usage.cached;
    format!(
        r#"{{"cache_n":{},"prompt_n":{computed},{},"predicted_n":{predicted},{}}}"#,
        usage.cached,
        paces("prompt", prompt, computed),
        paces("predicted", decode, predicted.saturating_sub(1)),
    )
}

/// A time, and what follows from it for so many tokens.
fn paces(of: &str, time: Time, tokens: u32) -> String {
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let (ms, tokens) = (time as f64 / MILLISECOND as f64, f64::from(tokens));
    let per_second = ratio(tokens * SECOND as f64, time as f64);
    format!(
        r#""{of}_ms":{ms:?},"{of}_per_token_ms":{:?},"{of}_per_second":{per_second:?}"#,
        ratio(ms, tokens)
    )
}
