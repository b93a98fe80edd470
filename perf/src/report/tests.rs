//! A page from invented rounds, which have everything that rounds can have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{input, page};
use crate::load::outcome::{Bucket, GAP, Outcome, TOTAL, TTFT, encode};

/// What somebody might try to put into a page.
const HOSTILE: &str = "\"><script>alert(1)</script>";
const ROUNDS: u32 = 3;
/// Peers with how many microseconds each adds, its CPU time for each request, and its memory in KiB.
const PEERS: [(&str, f64, f64, f64); 10] = [
    ("direct", 0.0, 0.0, 0.0),
    ("floor", 14.0, 12.6, 2_300.0),
    ("sluice@uring", 22.0, 14.1, 9_800.0),
    ("sluice@epoll", 24.0, 15.0, 9_100.0),
    ("haproxy", 26.0, 14.2, 12_400.0),
    ("nginx", 28.0, 18.7, 6_900.0),
    ("envoy", 70.0, 61.0, 41_000.0),
    ("sglang-router", 90.0, 66.0, 52_000.0),
    ("vllm-router", 95.0, 71.0, 60_000.0),
    ("litellm", 19_000.0, 17_217.0, 640_000.0),
];

/// The same numbers every time.
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn roll(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Around `middle`, with a tail.
    fn time(&mut self, middle: f64) -> u64 {
        let tail = 1.0 / (1.0 - self.roll() * 0.999_99).powf(0.25);
        (middle * (0.9 + 0.2 * self.roll()) * tail).max(1.0) as u64
    }
}

fn histogram(dice: &mut Dice, samples: u32, middle: f64) -> String {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    (0..samples).for_each(|_| histogram.record(dice.time(middle)).unwrap());
    encode(&histogram).unwrap()
}

fn timeline(dice: &mut Dice, rate: f64, fault: bool, slow: bool) -> Vec<Bucket> {
    let bucket = |at: u64| {
        let struck = fault && (40..70).contains(&at);
        let ok = rate / 10.0 * (0.95 + 0.1 * dice.roll()) * if struck { 0.5 } else { 1.0 };
        let errors = if struck && (slow || at < 44) { (rate / 40.0) as u64 } else { 0 };
        Bucket {
            at_ms: at * 100,
            ok: ok as u64,
            events: ok as u64 * 3,
            errors,
            ..Bucket::default()
        }
    };
    (0..100).map(bucket).collect()
}

fn outcome(dice: &mut Dice, scenario: &str, added: f64, slow: bool) -> Outcome {
    let (streams, fault) = (scenario.starts_with("sse"), scenario.contains("killed"));
    let middle = 180.0 + added;
    let mut hist = BTreeMap::from([(TOTAL.to_owned(), histogram(dice, 20_000, middle))]);
    if streams {
        hist.insert(TTFT.to_owned(), histogram(dice, 3_000, 21_000.0 + added));
        hist.insert(GAP.to_owned(), histogram(dice, 30_000, 25_000.0 + added / 4.0));
    }
    let timeline = timeline(dice, 2_000.0, fault, slow);
    let failed: u64 = timeline.iter().map(|bucket| bucket.errors).sum();
    let errors =
        if failed > 0 { BTreeMap::from([("http 502".into(), failed)]) } else { BTreeMap::new() };
    let ok = timeline.iter().map(|bucket| bucket.ok).sum();
    let events = timeline.iter().map(|bucket| bucket.events).sum();
    Outcome {
        seconds: 10.0,
        sent: ok + failed,
        ok,
        completed: ok,
        events,
        errors,
        hist,
        timeline,
        ..Outcome::default()
    }
}

fn whole(value: f64) -> u64 {
    value as u64
}

fn proxy(dice: &mut Dice, scenario: &str, cpu: f64, kib: f64) -> Value {
    let mut near = |value: f64| value * (0.97 + 0.06 * dice.roll());
    let growth = |at: f64| kib * (0.6 + 0.4 * (1.0 - (-at / 20.0).exp()));
    let rss: Vec<_> = (0..50).map(|at| (at * 200, whole(growth(f64::from(at))))).collect();
    json!({
        "cpu_us": near(cpu) * 20_000.0, "cpus": 1,
        "cpu_us_per_request": near(cpu),
        "cpu_us_per_event": scenario.starts_with("sse").then(|| near(cpu * 0.8)),
        "floor_ratio": near(cpu / 12.6),
        "rss_idle_kib": whole(kib * 0.6), "rss_loaded_kib": whole(near(kib)), "rss_after_kib": whole(kib * 0.9),
        "pss_idle_kib": whole(kib * 0.5), "pss_loaded_kib": whole(kib * 0.9), "pss_after_kib": whole(kib * 0.8),
        "fds_idle": 20, "fds_loaded": 148, "fds_after": 84,
        "rss_timeline": rss,
    })
}

/// Writes a directory of rounds.
fn fixture(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let mut dice = Dice(7);
    let mut lines = String::new();
    for scenario in ["unary-1k", "sse-300-paced", "backend-killed"] {
        for round in 0..ROUNDS {
            for (peer, added, cpu, kib) in PEERS {
                let bound = peer == "floor" && scenario == "unary-1k";
                let fault = scenario
                    .contains("killed")
                    .then(|| json!({"kind": "backend killed", "at_ms": 4_000, "until_ms": 7_000}));
                let line = json!({
                    "scenario": scenario, "peer": peer, "round": round, "at": 1_795_158_931u64,
                    "command": format!("sluice-perf compare --scenario {scenario} --peer {peer}"),
                    "machine_ref": 0,
                    "outcome": outcome(&mut dice, scenario, added, peer == "litellm"),
                    "direct": (peer != "direct").then_some("direct"),
                    "proxy": (peer != "direct").then(|| proxy(&mut dice, scenario, cpu, kib)),
                    "bound": bound.then_some("load"), "fault": fault,
                    "servers_cpu_us": 1e6, "others": [0.01, 0.08],
                    "knee": (scenario == "unary-1k").then(|| json!({"per_second": 40_000.0, "within_limit": true, "at_least": bound})),
                    "notes": if peer == "litellm" { vec![HOSTILE] } else { vec![] },
                });
                lines += &format!("{line}\n");
            }
        }
    }
    lines += "{\"scenario\": \"cut off when the run was interr";
    fs::write(dir.join("compare.jsonl"), lines).unwrap();
    let peer = |(name, ..): &(&str, f64, f64, f64)| {
        let config = format!("# configuration of {name}\nlisten 127.0.0.1:1\n{HOSTILE}\n");
        json!({"peer": name, "version": "1.2.3", "config": config, "install": "apt install it"})
    };
    let peers: Vec<String> = PEERS.iter().map(|p| peer(p).to_string()).collect();
    fs::write(dir.join("peers.jsonl"), peers.join("\n")).unwrap();
    let run = json!({
        "command": format!("sluice-perf compare --quick {HOSTILE}"), "cpu": "Invented CPU", "cpus": 2,
        "date": "2026-11-20", "kernel": "6.18", "sluice": "sluice 0.1.0", "memory": "24 GB",
    });
    fs::write(dir.join("runs.jsonl"), format!("{run}\n")).unwrap();
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("sluice-perf-report-{name}-{}", std::process::id()))
}

fn page() -> &'static str {
    static PAGE: OnceLock<String> = OnceLock::new();
    PAGE.get_or_init(|| {
        let dir = scratch("page");
        fixture(&dir);
        let kept = input::read(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        page::write(HOSTILE, &kept).unwrap()
    })
}

#[test]
fn the_page_needs_nothing_else_and_runs_nothing() {
    let page = page();
    for word in ["<script", "<link", "@import", "url(", "src=", "<iframe", "onload"] {
        assert!(!page.contains(word), "{word}");
    }
    let links = page.match_indices("href=\"").map(|(at, _)| &page[at + 6..at + 11]);
    assert!(links.clone().count() > 5);
    for link in links {
        assert!(link.starts_with('#') || link == "data:", "{link}");
    }
    // The only other address is the name of SVG's namespace.
    assert_eq!(
        page.matches("http://").count(),
        page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
    );
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn every_peer_of_every_scenario_has_its_row() {
    let page = page();
    for (peer, ..) in PEERS {
        let row = format!("<th scope=\"row\">{peer}</th>");
        assert_eq!(page.matches(&row).count(), 3, "{peer}");
    }
    for title in ["Time to first token", "Added latency", "Gap between tokens", "Memory over time"]
    {
        assert!(page.contains(&format!("<strong>{title}</strong>")), "{title}");
    }
    assert_eq!(page.matches(": around the fault</strong>").count(), PEERS.len());
    assert_eq!(page.matches("download=\"").count(), 3);
}

#[test]
fn what_is_behind_is_said_and_noise_is_called_noise() {
    let page = page();
    assert!(page.contains("<small class=\"ahead\">Sluice × 0.2"), "envoy's CPU time");
    assert!(page.contains("<small class=\"\">noise</small>"));
    assert!(page.contains("at least "), "the floor was not at its limit");
    assert!(page.contains("the load generator was at its limit first"));
    assert!(page.contains("1 lines could not be read"));
}

#[test]
fn elements_are_closed() {
    let page = page();
    for name in
        ["table", "tr", "td", "th", "section", "figure", "svg", "details", "ul", "li", "div", "p"]
    {
        let opened =
            page.matches(&format!("<{name}>")).count() + page.matches(&format!("<{name} ")).count();
        assert_eq!(opened, page.matches(&format!("</{name}>")).count(), "{name}");
    }
}

#[test]
fn a_directory_without_rounds_is_an_error() {
    let dir = scratch("none");
    fs::create_dir_all(&dir).unwrap();
    assert!(input::read(&dir).is_err());
    fs::write(dir.join("compare.jsonl"), "no JSON").unwrap();
    let why = input::read(&dir).unwrap_err().to_string();
    assert!(why.contains("compare.jsonl, line 1"), "{why}");
    fs::remove_dir_all(&dir).unwrap();
}
