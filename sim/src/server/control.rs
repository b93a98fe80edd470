//! Everything that is not inference: health, models, metrics, and the tests' own `/sim/` paths.

use super::Shared;
use super::config::{DefaultFault, Scope};
use super::head::{JSON, METRICS};
use super::llama;
use super::publisher::Order;
use super::request::Request;
use crate::api::{ApiError, Dialect, Family, Op, Quoted};
use crate::fault::Faults;
use serde::Deserialize;

/// A short answer.
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// Header lines, CRLF included.
    pub extra: String,
}

impl Answer {
    fn ok(body: String) -> Self {
        Self { status: 200, content_type: JSON, body, extra: String::new() }
    }

    fn empty() -> Self {
        Self { content_type: "", ..Self::ok(String::new()) }
    }

    /// llama.cpp's 404.
    fn nothing() -> Self {
        Self { status: 404, ..Self::ok(llama::NOTHING.to_string()) }
    }

    fn error(error: &ApiError) -> Self {
        Self { status: error.status, ..Self::ok(error.body(Family::OpenAi)) }
    }
}

/// Answers a request that is not for tokens.
pub fn answer(shared: &Shared, request: &Request) -> Answer {
    let llama = shared.config.dialect == Dialect::LlamaCpp;
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") if llama => Answer::ok(llama::HEALTHY.to_string()),
        ("GET", "/v1/models") if llama => Answer::ok(llama::models(shared)),
        ("GET", "/version" | "/ping") if llama => Answer::nothing(),
        ("GET", "/health" | "/ping") => Answer::empty(),
        ("GET", "/version") => Answer::ok(r#"{"version":"0.32.0"}"#.to_string()),
        ("GET", "/v1/models") => Answer::ok(models(shared)),
        ("GET", "/metrics") => metrics(shared),
        ("POST", "/reset_prefix_cache") => {
            shared.core.borrow_mut().engine.clear_cache();
            shared.publish();
            Answer::empty()
        }
        ("GET", "/sim/counts") => Answer::ok(json(&shared.core.borrow().book.counts)),
        ("GET", "/sim/pairs") => Answer::ok(json(&pairs(shared))),
        ("GET", "/sim/aborts") => Answer::ok(json(&shared.core.borrow().book.aborts)),
        ("GET", "/sim/fault") => Answer::ok(fault(shared)),
        ("POST", "/sim/fault") => set_fault(shared, request.body()),
        ("POST", "/sim/slowdown") => set_slowdown(shared, request.body()),
        ("POST", "/sim/kv-events/lose") => lose(shared, request.body()),
        ("POST", "/sim/reset") => {
            shared.core.borrow_mut().book.reset();
            Answer::ok("{}".to_string())
        }
        _ if llama => Answer::nothing(),
        (_, path) => unroutable(path),
    }
}

fn unroutable(path: &str) -> Answer {
    match allowed(path) {
        Some(allow) => {
            let error = ApiError::plain(405, "Method Not Allowed", "Method Not Allowed");
            Answer { extra: format!("allow: {allow}\r\n"), ..Answer::error(&error) }
        }
        None => Answer::error(&ApiError::plain(404, "Not Found", "Not Found")),
    }
}

fn allowed(path: &str) -> Option<&'static str> {
    match path {
        "/health" | "/ping" | "/version" | "/v1/models" | "/metrics" => Some("GET"),
        path => Op::of_path(path).map(|_| "POST"),
    }
}

fn models(shared: &Shared) -> String {
    let created = super::head::unix_now().as_secs();
    let length = shared.limits.context_tokens_max;
    let cards = shared.limits.models.iter().map(|name| {
        let name = Quoted(name);
        format!(
            r#"{{"id":{name},"object":"model","created":{created},"owned_by":"vllm","root":{name},"parent":null,"max_model_len":{length},"permission":[]}}"#
        )
    });
    format!(r#"{{"object":"list","data":[{}]}}"#, cards.collect::<Vec<_>>().join(","))
}

fn metrics(shared: &Shared) -> Answer {
    let core = shared.core.borrow();
    let page = core.metrics.page(&core.engine.stats(), &shared.config);
    let extra = match shared.config.dialect {
        Dialect::Vllm => String::new(),
        Dialect::LlamaCpp => {
            let began = super::head::unix_now().saturating_sub(shared.started.elapsed());
            format!("Process-Start-Time-Unix: {}\r\n", began.as_micros())
        }
    };
    Answer { content_type: METRICS, extra, ..Answer::ok(page) }
}

fn pairs(shared: &Shared) -> super::PairCounts {
    shared.pairs.borrow_mut().sweep(std::time::Instant::now())
}

fn json(value: &impl serde::Serialize) -> String {
    // Counts and names always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

fn fault(shared: &Shared) -> String {
    match &shared.core.borrow().fault {
        None => r#"{"fault":""}"#.to_string(),
        Some(fault) => format!(
            r#"{{"fault":{},"probability":{:?},"times":{}}}"#,
            Quoted(&fault.text),
            fault.probability,
            fault.times.map_or("null".to_string(), |times| times.to_string())
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultBody {
    fault: String,
    probability: Option<f64>,
    times: Option<u64>,
    #[serde(default)]
    all: bool,
}

fn set_fault(shared: &Shared, body: &[u8]) -> Answer {
    match read_fault(body) {
        Ok(fault) => {
            shared.core.borrow_mut().fault = fault;
            Answer::ok(self::fault(shared))
        }
        Err(message) => Answer::error(&ApiError::bad_request(message, Some("fault"))),
    }
}

fn read_fault(body: &[u8]) -> Result<Option<DefaultFault>, String> {
    let body: FaultBody = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let faults = Faults::parse(&body.fault).map_err(|bad| bad.to_string())?;
    if faults == Faults::default() {
        return Ok(None);
    }
    let probability = body.probability.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&probability) {
        return Err(format!("probability: {probability} is not in 0..=1"));
    }
    Ok(Some(DefaultFault {
        text: body.fault,
        faults,
        probability,
        times: body.times,
        scope: if body.all { Scope::All } else { Scope::Inference },
    }))
}

#[derive(Deserialize)]
struct Lose {
    messages: u64,
}

fn lose(shared: &Shared, body: &[u8]) -> Answer {
    let lose = serde_json::from_slice::<Lose>(body);
    match (lose, &shared.orders) {
        (Ok(Lose { messages }), Some(orders)) => {
            // The publisher goes only with the server.
            let _ = orders.send(Order::Lose(messages));
            Answer::ok("{}".to_string())
        }
        _ => Answer::error(&ApiError::bad_request("no KV events, or no number", Some("messages"))),
    }
}

#[derive(Deserialize)]
struct Slowdown {
    factor: f64,
}

fn set_slowdown(shared: &Shared, body: &[u8]) -> Answer {
    match serde_json::from_slice::<Slowdown>(body) {
        Ok(Slowdown { factor }) if factor.is_finite() && factor >= 0.0 => {
            shared.core.borrow_mut().engine.set_slowdown(factor);
            Answer::ok("{}".to_string())
        }
        _ => Answer::error(&ApiError::bad_request("factor must be a number >= 0", Some("factor"))),
    }
}
