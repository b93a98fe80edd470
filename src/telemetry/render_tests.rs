//! The exposition, read back by a small parser of the text format.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::histogram::{Histogram, TOKENS};
use super::ledger::{Entry, KINDS};
use super::metrics;
use super::registry::Registry;
use super::render::{Text, Type};
use super::shard::Stage;
use crate::lifecycle::outcome::Outcome;

type Labels = BTreeMap<String, String>;

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// Reads one exposition; panics where the format does not allow something.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            samples.push(sample(line));
        }
    }
    (types, samples)
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let lawful = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(name.chars().all(lawful) && !name.starts_with(|c: char| c.is_ascii_digit()), "{name}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none());
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap();
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample { name: name.to_owned(), labels, value }
}

fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                c => c,
            }),
            c => value.push(c),
        }
    }
    panic!("no closing quote");
}

fn find<'a>(samples: &'a [Sample], name: &str, labels: &[(&str, &str)]) -> &'a Sample {
    let has = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|got| got == v))
    };
    let found: Vec<_> = samples.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}");
    found[0]
}

#[test]
fn label_values_survive() {
    for odd in ["a\"b", "a\\b", "a\nb", "a,b}= c", "é", ""] {
        let mut text = Text::default();
        text.family("f", Type::Gauge, "help");
        text.sample(&[("x", odd), ("y", "1")], 5);
        let (_, samples) = parse(&text.finish());
        assert_eq!(samples[0].labels["x"], odd);
        assert_eq!(samples[0].value, 5.0);
    }
}

#[test]
fn histograms_are_cumulative() {
    let tokens = Histogram::new(&TOKENS);
    [1, 3, 3, 70, 9_000_000].into_iter().for_each(|n| tokens.record_ticks(n));
    let mut text = Text::default();
    text.family("h", Type::Histogram, "help");
    text.histogram(&[("m", "x")], &tokens.read());
    let (_, samples) = parse(&text.finish());
    let buckets: Vec<_> = samples.iter().filter(|s| s.name == "h_bucket").collect();
    assert!(buckets.is_sorted_by_key(|s| s.value));
    for (le, count) in [("1", 1.0), ("4", 3.0), ("256", 4.0), ("4194304", 4.0), ("+Inf", 5.0)] {
        assert_eq!(find(&samples, "h_bucket", &[("le", le)]).value, count, "{le}");
    }
    assert_eq!(find(&samples, "h_count", &[]).value, 5.0);
    assert_eq!(find(&samples, "h_sum", &[]).value, 9_000_077.0);
}

fn traffic() -> Registry {
    let mut registry = Registry::new(2, 4);
    let models = registry.model_for_test("m");
    let endpoints = registry.endpoint_for_test("e");
    for (model, endpoint) in models.iter().zip(endpoints.iter()) {
        model.ended(Outcome::Completed, Duration::from_millis(20));
        model.output_tokens.record_ticks(10);
        endpoint.attempts.inc();
        endpoint.pool_open.set(3);
        endpoint.pool_idle.set(1);
    }
    let shard = &registry.shards[1];
    shard.ended_unrouted(Outcome::Refused);
    shard.stage(Stage::Scan, Duration::from_micros(2));
    shard.overhead.record(Duration::from_micros(40));
    shard.busy_micros.add(1_500_000);
    shard.ledgers.publish(&[Entry { issued: 5, returned: 3, outstanding: 2 }; KINDS]);
    registry
}

#[test]
fn everything_counted_is_shown() {
    let mut text = Text::default();
    metrics::write(&mut text, &traffic());
    let (types, samples) = parse(&text.finish());
    for (name, labels, value) in [
        ("sluice_requests_total", &[("model", "m"), ("outcome", "completed")][..], 2.0),
        ("sluice_requests_total", &[("model", ""), ("outcome", "refused")], 1.0),
        ("gen_ai_client_token_usage_sum", &[("gen_ai_token_type", "output")], 20.0),
        ("gen_ai_server_request_duration_seconds_count", &[("gen_ai_request_model", "m")], 2.0),
        ("gen_ai_server_request_duration_seconds_sum", &[], 0.04),
        ("sluice_endpoint_attempts_total", &[("endpoint", "e")], 2.0),
        ("sluice_pool_connections", &[("endpoint", "e"), ("state", "busy")], 4.0),
        ("sluice_shard_busy_seconds_total", &[("shard", "1")], 1.5),
        ("sluice_stage_seconds_count", &[("stage", "scan")], 1.0),
        ("sluice_stage_seconds_sum", &[("stage", "scan")], 0.000_002),
        ("sluice_overhead_seconds_bucket", &[("shard", "1"), ("le", "0.00005")], 1.0),
        ("sluice_ledger_outstanding", &[("shard", "1"), ("kind", "turn")], 2.0),
        ("sluice_shard_state", &[("shard", "0"), ("state", "starting")], 1.0),
        ("sluice_usage_places", &[], 8.0),
    ] {
        assert_eq!(find(&samples, name, labels).value, value, "{name} {labels:?}");
    }
    assert_eq!(types["sluice_requests_total"], "counter");
}

#[test]
fn every_sample_belongs_to_a_family_and_stands_once() {
    let mut text = Text::default();
    metrics::write(&mut text, &traffic());
    let (types, samples) = parse(&text.finish());
    let mut seen = BTreeSet::new();
    for Sample { name, labels, .. } in &samples {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = base.filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"));
        let family = family.unwrap_or(name);
        assert!(types.contains_key(family), "{name}");
        assert_eq!(types[family] == "counter", name.ends_with("_total"), "{name}");
        assert!(seen.insert((name, labels)), "{name} {labels:?} twice");
    }
}
