use std::path::Path;

use super::*;

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

#[test]
fn the_least_file_is_enough() {
    let plan = parse(LEAST, "sluice.toml", Path::new("/"), &|_| None, 1).expect("valid");
    assert_eq!(plan.endpoints.len(), 1);
}
