//! What a directory of rounds holds, as far as it can be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;
use crate::load::outcome::Outcome;
use crate::record::line::Line;

/// One peer in one round of one scenario, as `compare.jsonl` keeps it.
#[derive(Clone, Debug, Deserialize)]
pub struct Round {
    pub scenario: String,
    pub peer: String,
    pub round: u32,
    /// The command that makes this line again.
    #[serde(default)]
    pub command: String,
    pub outcome: Outcome,
    /// The peer of the same round that had no proxy between, if there was one.
    #[serde(default)]
    pub direct: Option<String>,
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// Who was at its limit before the proxy: `load` or `server`.
    #[serde(default)]
    pub bound: Option<String>,
    #[serde(default)]
    pub fault: Option<Fault>,
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What the proxy itself used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Proxy {
    pub cpu_us_per_request: Option<f64>,
    pub cpu_us_per_event: Option<f64>,
    /// Its CPU time over that of the floor in the same round.
    pub floor_ratio: Option<f64>,
    pub rss_idle_kib: Option<f64>,
    pub rss_loaded_kib: Option<f64>,
    pub rss_after_kib: Option<f64>,
    pub pss_idle_kib: Option<f64>,
    pub pss_loaded_kib: Option<f64>,
    pub pss_after_kib: Option<f64>,
    pub fds_idle: Option<f64>,
    pub fds_loaded: Option<f64>,
    pub fds_after: Option<f64>,
    /// (milliseconds, KiB).
    pub rss_timeline: Vec<(f64, f64)>,
}

/// Something that was done on purpose while the load ran.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    pub kind: String,
    pub at_ms: f64,
    /// `None` where it lasts.
    #[serde(default)]
    pub until_ms: Option<f64>,
}

/// Who was compared, as `peers.jsonl` keeps it.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    pub peer: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    pub install: String,
}

/// A directory of rounds.
#[derive(Debug, Default)]
pub struct Kept {
    pub rounds: Vec<Round>,
    /// By name; the last word counts.
    pub peers: BTreeMap<String, Peer>,
    /// Machine, versions and command of each run.
    pub runs: Vec<Value>,
    /// The foundation's figures.
    pub foundation: Vec<Line>,
    /// Lines that could not be read: file, number, why.
    pub unreadable: Vec<String>,
}

/// Reads what is there. A line that was cut off when its run was interrupted does not hide the others.
///
/// # Errors
/// There is nothing.
pub fn read(dir: &Path) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    kept.rounds = lines(dir, "compare.jsonl", &mut kept.unreadable);
    kept.runs = lines(dir, "runs.jsonl", &mut kept.unreadable);
    kept.foundation = lines(dir, crate::record::ROUNDS, &mut kept.unreadable);
    let peers: Vec<Peer> = lines(dir, "peers.jsonl", &mut kept.unreadable);
    kept.peers = peers.into_iter().map(|peer| (peer.peer.clone(), peer)).collect();
    match kept.rounds.is_empty() && kept.foundation.is_empty() {
        true => Err(format!("no rounds in {}: {}", dir.display(), kept.why_none()).into()),
        false => Ok(kept),
    }
}

impl Kept {
    fn why_none(&self) -> String {
        match self.unreadable.first() {
            Some(first) => first.clone(),
            None => "neither compare.jsonl nor rounds.jsonl is there".into(),
        }
    }
}

fn lines<T: DeserializeOwned>(dir: &Path, name: &str, unreadable: &mut Vec<String>) -> Vec<T> {
    let Ok(text) = fs::read_to_string(dir.join(name)) else { return Vec::new() };
    let mut read = Vec::new();
    for (at, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(value) => read.push(value),
            Err(error) => unreadable.push(format!("{name}, line {at}: {error}")),
        }
    }
    read
}
