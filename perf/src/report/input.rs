//! What a directory of rounds holds, as far as it can be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;
use crate::compare::{ROWS, row::Row};
use crate::record::line::Line;

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
    pub rounds: Vec<Row>,
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
    kept.rounds = lines(dir, ROWS, &mut kept.unreadable);
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
