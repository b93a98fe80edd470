//! The routes over a real socket.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::listener::Listener;
use super::routes::router;
use super::state::{EndpointState, Shared};
use crate::config::secret::Secret;
use crate::config::{self, Plan};
use crate::telemetry::ledger::{Entry, KINDS};
use crate::telemetry::{Registry, ShardState};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:9090"
[[endpoints]]
name = "gpu-0"
url = "http://127.0.0.1:9001"
engine = "vllm"
[[endpoints]]
name = "gpu-1"
url = "http://127.0.0.1:9002"
engine = "vllm"
[[models]]
name = "org/model"
endpoints = ["gpu-0"]
[[models]]
name = "other"
endpoints = ["gpu-1"]
"#;

fn plan(token: Option<&str>) -> Plan {
    let mut plan = config::parse(CONFIG, "test", Path::new("/"), &|_| None, 4).unwrap();
    plan.admin.as_mut().unwrap().token = token.map(Secret::new);
    plan
}

struct Running {
    shared: Shared,
    port: u16,
}

/// Serves on a free port: two shards that serve, one endpoint up.
async fn start(token: Option<&str>) -> Running {
    let plan = Arc::new(plan(token));
    let mut registry = Registry::new(2, 8);
    registry.bind(&plan);
    for shard in registry.shards.iter() {
        shard.set_state(ShardState::Serving);
        shard.ledgers.publish(&[Entry { issued: 3, returned: 1, outstanding: 2 }; KINDS]);
    }
    let shared = Shared::new(plan, registry);
    shared.with(|state| state.endpoints = vec![EndpointState::Up, EndpointState::Down]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let listener = Listener::new(socket).unwrap();
    let app = router(shared.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Running { shared, port }
}

impl Running {
    async fn ask(&self, request_line: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let host = if headers.contains("Host:") { "" } else { "Host: 127.0.0.1\r\n" };
        let head = format!("{request_line} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn json(&self, target: &str) -> (u16, Value) {
        let (status, body) = self.ask(&format!("GET {target}"), "").await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn readyz_follows_the_state() {
    let running = start(None).await;
    let (status, body) = running.json("/readyz").await;
    assert_eq!((status, &body["ready"], &body["generation"]), (200, &true.into(), &4.into()));
    assert_eq!(body["models"]["org/model"]["state"], "servable");
    assert_eq!(body["models"]["other"]["endpoints"]["gpu-1"], "down");
    for (target, wanted) in [
        ("/readyz?model=org/model", 200),
        ("/readyz?model=org%2Fmodel", 200),
        ("/readyz?model=other", 503),
        ("/readyz?model=nobody", 404),
        ("/readyz?model=other&model=org/model", 400),
    ] {
        assert_eq!(running.json(target).await.0, wanted, "{target}");
    }
    running.shared.with(|state| state.draining = true);
    let (status, body) = running.json("/readyz").await;
    assert_eq!((status, &body["conditions"]["not_draining"]), (503, &false.into()));
    assert_eq!(running.json("/healthz").await.0, 200, "draining is healthy");
}

#[tokio::test]
async fn healthz_names_stuck_shards() {
    let running = start(None).await;
    assert_eq!(running.json("/healthz").await, (200, serde_json::json!({"status": "ok"})));
    running.shared.with(|state| state.stuck = vec![1]);
    let (status, body) = running.json("/healthz").await;
    assert_eq!((status, &body["shards"]), (503, &serde_json::json!([1])));
}

#[tokio::test]
async fn metrics_and_ledgers_are_shown() {
    let running = start(None).await;
    let (status, text) = running.ask("GET /metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "sluice_config_generation 4",
        "sluice_endpoint_state{endpoint=\"gpu-0\",state=\"up\"} 1",
        "sluice_requests_total{model=\"org/model\",outcome=\"completed\"} 0",
        "sluice_ledger_outstanding{shard=\"1\",kind=\"connection\"} 2",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}");
    }
    let (status, body) = running.json("/debug/lifecycle").await;
    assert_eq!((status, &body["balanced"], &body["clear"]), (200, &true.into(), &false.into()));
    assert_eq!(body["sum"]["turn"]["issued"], 6);
    assert_eq!(body["shards"][1]["kinds"]["spend"]["outstanding"], 2);
    running.shared.with(|state| {
        let lost = Entry { issued: 3, returned: 1, outstanding: 1 };
        state.registry.shards[0].ledgers.publish(&[lost; KINDS]);
    });
    assert_eq!(running.json("/debug/lifecycle").await.1["balanced"], false);
}

#[tokio::test]
async fn other_paths_and_methods_get_json() {
    let running = start(None).await;
    assert_eq!(running.json("/nothing").await.0, 404);
    let (status, body) = running.ask("POST /readyz", "Content-Length: 0\r\n").await;
    assert_eq!(status, 405);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string());
    assert_eq!(running.ask("HEAD /healthz", "").await, (200, String::new()));
}

#[tokio::test]
async fn a_token_is_needed_where_there_is_one() {
    let running = start(Some("s3cret")).await;
    for target in ["/healthz", "/readyz", "/metrics", "/debug/lifecycle", "/nothing"] {
        let line = format!("GET {target}");
        assert_eq!(running.ask(&line, "").await.0, 401, "{target}");
        assert_eq!(running.ask(&line, "Authorization: Bearer wrong\r\n").await.0, 401);
        let (status, _) = running.ask(&line, "Authorization: Bearer s3cret\r\n").await;
        assert_eq!(status, if target == "/nothing" { 404 } else { 200 });
    }
}

#[tokio::test]
async fn without_a_token_foreign_names_are_refused() {
    let running = start(None).await;
    assert_eq!(running.ask("GET /metrics", "Host: evil.example\r\n").await.0, 403);
    assert_eq!(running.ask("GET /metrics", "Host: localhost:9090\r\n").await.0, 200);
}

#[tokio::test]
async fn who_has_no_request_gives_way() {
    let running = start(None).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ").await.unwrap();
        held.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(running.ask("GET /healthz", "").await.0, 200);
    }
    let end = held[0].read(&mut [0]).await;
    assert!(!matches!(end, Ok(1..)), "the oldest is gone: {end:?}");
    // The youngest is not.
    let youngest = held.last_mut().unwrap();
    youngest.write_all(b"y\r\n\r\n").await.unwrap();
    assert_eq!(youngest.read(&mut [0]).await.unwrap(), 1);
}
