//! What the configuration promises, by files: good ones, bad ones, any bytes at all.

mod annotated;
mod arbitrary;
mod bad_files;
mod good_files;
mod noted_files;
mod tls_files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::secret::Secret;
use super::*;

/// The least that must work, as the README shows it.
const LEAST: &str = r#"
[server]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:9090"
[runtime]
shards = 1            # or "auto": one for each CPU the process may use (cgroup set and quota)
driver = "auto"       # "uring" | "epoll"
[[endpoints]]
name = "gpu-0"
url = "http://127.0.0.1:9001"
engine = "vllm"
[[models]]
name = "mock-model"
endpoints = ["gpu-0"]
policy = "round-robin"
"#;

/// An environment in which `GOOD` is a secret, `EMPTY` is empty and `BROKEN` holds a line break.
fn env(name: &str) -> Option<String> {
    match name {
        "GOOD" => Some("sk-good".to_owned()),
        "OTHER" => Some("sk-other".to_owned()),
        "EMPTY" => Some(String::new()),
        "BROKEN" => Some("a\r\nb: c".to_owned()),
        "LONG" => Some("k".repeat(513)),
        _ => None,
    }
}

fn parse_here(text: &str) -> Result<Plan, Errors> {
    parse(text, "f", Path::new("/nonexistent"), &env, 1)
}

/// A server, `middle`, one endpoint and one model.
fn around(middle: &str) -> String {
    format!("[server]\nlisten = \"127.0.0.1:80\"\n{middle}\n{GPU}{MODEL}")
}

const GPU: &str = "[[endpoints]]\nname = \"gpu\"\nurl = \"http://gpu:8000\"\nengine = \"vllm\"\n";
const MODEL: &str = "[[models]]\nname = \"m\"\nendpoints = [\"gpu\"]\n";

/// The least file with `lines` added to its only endpoint.
fn with_endpoint(lines: &str) -> String {
    format!("[server]\nlisten = \"127.0.0.1:80\"\n{GPU}{lines}\n{MODEL}")
}

/// A fresh directory; its user removes it.
fn tempdir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("sluice-config-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}
