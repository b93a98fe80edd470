//! Rows as JSON lines.
//!
//! Fields without a value are left out. Names are stable: people parse these files.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

use super::clock::Rfc3339;
use super::row::{Foreseen, Row};

/// Appends an access row and its line feed.
pub fn access(out: &mut Vec<u8>, row: &Row) {
    let line = Access {
        at: Shown(Rfc3339(row.began_unix_micros)),
        request_id: text(row.request_id.as_str()),
        trace_id: trace_id(row),
        client: row.client.map(Shown),
        method: text(row.method),
        status: row.status,
        route: text(row.route),
        error: text(row.error),
        attempts: row.attempts,
        foreseen: row.foreseen.map(expected),
        output_events: row.output_events,
        request_bytes: row.request_bytes,
        response_bytes: row.response_bytes,
        consulted_ms: row.consulted_micros.map(millis),
        queued_ms: row.queued_micros.map(millis),
        first_token_ms: row.first_token_micros.map(millis),
        overhead_us: row.overhead_micros,
        shard: row.shard,
        common: common(row),
    };
    push(out, &line);
}

/// Appends a usage row and its line feed.
pub fn usage(out: &mut Vec<u8>, row: &Row) {
    let line = Usage {
        at: Shown(Rfc3339(row.began_unix_micros)),
        request_id: text(row.request_id.as_str()),
        trace_id: trace_id(row),
        common: common(row),
    };
    push(out, &line);
}

fn push(out: &mut Vec<u8>, line: &impl Serialize) {
    // Writing plain structs into a Vec cannot fail.
    let _ = serde_json::to_writer(&mut *out, line);
    out.push(b'\n');
}

#[derive(Serialize)]
struct Access<'a> {
    at: Shown<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Shown<Hex>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Shown<std::net::IpAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    attempts: u16,
    #[serde(flatten)]
    foreseen: Option<Expected>,
    output_events: u64,
    request_bytes: u64,
    response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    consulted_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<f64>,
    overhead_us: u64,
    shard: u16,
    #[serde(flatten)]
    common: Common<'a>,
}

#[derive(Serialize)]
struct Usage<'a> {
    at: Shown<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Shown<Hex>>,
    #[serde(flatten)]
    common: Common<'a>,
}

/// What the router expected.
#[derive(Serialize)]
struct Expected {
    expected_input_tokens: u32,
    expected_output_tokens: u32,
    expected_cached_tokens: u32,
    expected_first_token_ms: f64,
    expected_gpu_ms: f64,
}

fn expected(seen: Foreseen) -> Expected {
    Expected {
        expected_input_tokens: seen.input_tokens,
        expected_output_tokens: seen.output_tokens,
        expected_cached_tokens: seen.cached_tokens,
        expected_first_token_ms: millis(seen.first_token_micros),
        expected_gpu_ms: millis(seen.gpu_micros),
    }
}

/// What both kinds of row say.
#[derive(Serialize)]
struct Common<'a> {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_endpoint: Option<&'a str>,
    streamed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    duration_ms: f64,
    generation: u64,
}

fn common(row: &Row) -> Common<'_> {
    let names = &row.names;
    Common {
        outcome: row.outcome.name(),
        operation: text(row.operation),
        key: row.key.map(|id| names.key(id)),
        model: row.model.map(|id| names.model(id)),
        asked_model: row.asked.map(|id| names.other(id)),
        endpoint: row.endpoint.map(|id| names.endpoint(id)),
        prefill_endpoint: row.prefill_endpoint.map(|id| names.endpoint(id)),
        streamed: row.streamed,
        finish: text(row.finish),
        input_tokens: row.tokens.input,
        output_tokens: row.tokens.output,
        cached_tokens: row.tokens.cached,
        cache_write_tokens: row.tokens.cache_write,
        reasoning_tokens: row.tokens.reasoning,
        duration_ms: millis(row.duration_micros),
        generation: names.generation,
    }
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

fn trace_id(row: &Row) -> Option<Shown<Hex>> {
    (row.trace_id != [0; 16]).then_some(Shown(Hex(row.trace_id)))
}

/// Sixteen bytes in lower-case hexadecimal.
struct Hex([u8; 16]);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Serialises as the string that `Display` writes.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::ModelId;
    use crate::lifecycle::outcome::Outcome;
    use crate::telemetry::registry::Names;
    use crate::telemetry::row::Inline;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn sample() -> Row {
        let names = Names { generation: 3, models: vec!["a\"b".into()], ..Names::default() };
        let mut row = Row::new(Arc::new(names), 1);
        row.request_id = Inline::new("r-1");
        row.client = Some("::1".parse().unwrap());
        row.method = "POST";
        row.model = Some(ModelId(0));
        row.status = 200;
        row.outcome = Outcome::Completed;
        row.tokens.output = Some(7);
        row.duration_micros = 1_500;
        row.trace_id[15] = 0xab;
        row
    }

    fn parsed(write: fn(&mut Vec<u8>, &Row), row: &Row) -> Value {
        let mut out = Vec::new();
        write(&mut out, row);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_access_row_is_one_line_of_json() {
        let line = parsed(access, &sample());
        for (key, value) in [
            ("at", json!("1970-01-01T00:00:00.000Z")),
            ("request_id", json!("r-1")),
            ("client", json!("::1")),
            ("model", json!("a\"b")),
            ("status", json!(200)),
            ("outcome", json!("completed")),
            ("output_tokens", json!(7)),
            ("duration_ms", json!(1.5)),
            ("generation", json!(3)),
            ("trace_id", json!("000000000000000000000000000000ab")),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert!(line.get("input_tokens").is_none(), "unknown is not zero");
        assert!(line.get("endpoint").is_none());
    }

    #[test]
    fn a_usage_row_says_who_pays_for_what() {
        let line = parsed(usage, &sample());
        assert_eq!(line["request_id"], json!("r-1"));
        assert_eq!(line["output_tokens"], json!(7));
        assert!(line.get("client").is_none());
    }
}
