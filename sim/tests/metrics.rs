//! The metrics page against those of real servers: names, types, label keys, bucket bounds. What is missing
//! stands in a table, with the reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::{ask, chat, get, instant, post, start};
use std::collections::{BTreeMap, BTreeSet};

/// What a page says of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    /// Per sample name: its label keys.
    samples: BTreeMap<String, BTreeSet<String>>,
    /// Bucket bounds in their order.
    bounds: Vec<String>,
}

/// A page's families by name.
fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_string();
            families.entry(current.clone()).or_default().kind = kind.to_string();
        } else if !line.starts_with('#') {
            sample(line, &current, &mut families);
        }
    }
    families
}

fn sample(line: &str, family: &str, families: &mut BTreeMap<String, Family>) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    assert!(value.parse::<f64>().is_ok(), "{line}");
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    assert!(name.starts_with(family), "{line} stands below {family}");
    let labels = labels.strip_suffix('}').unwrap();
    let found = families.get_mut(family).unwrap();
    let keys = found.samples.entry(name.to_string()).or_default();
    for (key, value) in labels.split("\",").filter_map(|pair| pair.split_once("=\"")) {
        keys.insert(key.to_string());
        let bound = value.trim_end_matches('"').to_string();
        if key == "le" && !found.bounds.contains(&bound) {
            found.bounds.push(bound);
        }
    }
}

/// The simulated server's page after some work.
fn ours() -> BTreeMap<String, Family> {
    let server = start(instant());
    for _ in 0..3 {
        ask(server.addr, &post("/v1/chat/completions", "", &chat(5, "")));
    }
    families(&get(server.addr, "/metrics").body)
}

fn vllm() -> BTreeMap<String, Family> {
    families(include_str!("data/vllm.metrics.txt"))
}

/// What vLLM's page has and ours has not; a trailing `*` stands for whatever begins so, a leading one for
/// whatever ends so. Every row must be needed.
const MISSING: &[(&str, &str)] = &[
    ("*_created", "when a series began; nobody routes by it"),
    ("python_*", "there is no Python"),
    ("process_*", "the process is not an engine's"),
    ("http_*", "the web framework's own, beside the engine's"),
    ("vllm:estimated_*", "there is no GPU to estimate for"),
    ("vllm:mm_cache_*", "no images are read"),
    ("vllm:external_prefix_cache_*", "there is no second tier of the cache"),
    ("vllm:prompt_tokens_cached_by_source_total", "there is one tier"),
    ("vllm:engine_sleep_state", "it never sleeps"),
    ("vllm:admission_rejections_total", "the queue has no bound"),
    ("vllm:num_requests_waiting_by_reason", "they all wait for room in the batch"),
    ("vllm:iteration_tokens_total", "of interest to who tunes the engine"),
    ("vllm:request_max_num_generation_tokens", "of interest to who tunes the engine"),
    ("vllm:request_num_preemptions", "the total is there"),
    ("vllm:request_params_*", "what clients asked for, which the tests know"),
    ("vllm:request_prefill_kv_computed_tokens", "prompt tokens less cached ones, which are there"),
];

/// Labels of vLLM's cache settings that the model has.
const CACHE_LABELS: [&str; 7] = [
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
    "engine",
    "gpu_memory_utilization",
    "kv_cache_size_tokens",
    "num_gpu_blocks",
];

fn covers(row: &str, name: &str) -> bool {
    match (row.strip_suffix('*'), row.strip_prefix('*')) {
        (Some(beginning), _) => name.starts_with(beginning),
        (_, Some(end)) => name.ends_with(end),
        _ => row == name,
    }
}

#[test]
fn every_family_is_as_vllm_has_it() {
    let (ours, theirs) = (ours(), vllm());
    assert!(ours.len() >= 20);
    for (name, family) in &ours {
        let recorded = theirs.get(name).unwrap_or_else(|| panic!("vLLM has no {name}"));
        if name == "vllm:cache_config_info" {
            let expected: BTreeSet<String> = CACHE_LABELS.map(String::from).into();
            assert_eq!(family.samples[name], expected);
            assert!(family.samples[name].is_subset(&recorded.samples[name]));
        } else {
            assert_eq!(family, recorded, "{name}");
        }
    }
}

#[test]
fn what_is_missing_is_known() {
    let (ours, theirs) = (ours(), vllm());
    let missing: Vec<&String> = theirs.keys().filter(|name| !ours.contains_key(*name)).collect();
    let known = |name: &str| MISSING.iter().any(|(row, _)| covers(row, name));
    let unknown: Vec<_> = missing.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for (row, why) in MISSING {
        assert!(missing.iter().any(|name| covers(row, name)), "{row} is there ({why})");
    }
}
