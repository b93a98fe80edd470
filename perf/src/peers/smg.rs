//! The routers that serve SGLang and vLLM: one code base, twice grown apart. The policy is the default of
//! both, cache-aware; requests are not logged.

use std::path::PathBuf;

use super::{Peer, Places, Plan, Version, Wanted, command, on_path, pip, said};
use crate::Failure;
use crate::target::free_beside;

pub const SGLANG: Peer = Peer {
    name: "sglang-router",
    install: pip!("sglang-router"),
    find: sglang,
    version: Version::Package("sglang_router"),
    plan: |wanted| plan(wanted, "warn", &["launch"]),
    balances: true,
};

pub const VLLM: Peer = Peer {
    name: "vllm-router",
    install: pip!("vllm-router"),
    find: vllm,
    version: Version::Package("vllm_router"),
    plan: |wanted| plan(wanted, "warning", &[]),
    balances: true,
};

fn sglang(places: &Places) -> Option<PathBuf> {
    on_path("sglang-router", places)
}

fn vllm(places: &Places) -> Option<PathBuf> {
    on_path("vllm-router", places)
}

fn plan(wanted: &Wanted<'_>, log_level: &str, verb: &[&str]) -> Result<Plan, Failure> {
    let (ip, port) = (wanted.listen.ip().to_string(), wanted.listen.port().to_string());
    let metrics_port = free_beside(wanted.listen)?.port().to_string();
    let urls: Vec<String> = wanted.upstreams.iter().map(|at| format!("http://{at}")).collect();
    let mut words = verb.to_vec();
    words.extend(["--host", &ip, "--port", &port, "--log-level", log_level]);
    words.extend(["--prometheus-host", "127.0.0.1", "--prometheus-port", &metrics_port]);
    // A dead server is noticed as soon as with the others: their default asks once a minute.
    words.extend(["--health-check-interval-secs", "1", "--health-check-timeout-secs", "1"]);
    words.extend(["--max-concurrent-requests", "32768", "--request-timeout-secs", "600"]);
    words.push("--worker-startup-check-interval");
    words.push("1");
    words.push("--worker-urls");
    words.extend(urls.iter().map(String::as_str));
    let command = command(wanted.program, &words);
    Ok(Plan { config: said(&command), command, ..Plan::default() })
}
