//! One measurement as it is kept: a line of `compare.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Failure;
use crate::load::outcome::Outcome;
use crate::record::machine;
use crate::target::tree::Holds;

/// The file of the rounds.
pub const ROWS: &str = "compare.jsonl";

/// One peer in one round of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub scenario: String,
    pub peer: String,
    pub round: u32,
    /// Seconds since 1970.
    pub at: u64,
    /// Measures it again.
    pub command: String,
    /// The `at` of the run's line in `runs.jsonl`.
    pub machine_ref: u64,
    pub outcome: Outcome,
    /// The peer without a proxy that was measured in the same round.
    pub direct: Option<String>,
    /// `None` where there is no proxy.
    pub proxy: Option<Proxy>,
    /// Requests that a closed loop keeps open.
    pub open: Option<usize>,
    /// CPU microseconds of all servers together during the measurement.
    pub servers_cpu_us: f64,
    /// Share of the peers' CPU and of the load's that neither peer nor load nor servers used, but others.
    pub others: [f64; 2],
    /// Who was at its limit before the peer.
    pub bound: Option<Bound>,
    pub fault: Option<Struck>,
    pub knee: Option<Knee>,
    pub notes: Vec<String>,
}

/// Who can be at its limit before a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Load,
    Server,
}

/// What the proxy used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Proxy {
    pub cpu_us: f64,
    /// CPUs that it had.
    pub cpus: usize,
    pub cpu_us_per_request: Option<f64>,
    pub cpu_us_per_event: Option<f64>,
    /// Its CPU per request or event over the floor's in the same round.
    pub floor_ratio: Option<f64>,
    #[serde(flatten)]
    pub holds: Moments,
    /// (milliseconds since the start of the load, KiB).
    pub rss_timeline: Vec<(u64, u64)>,
}

/// What it held before, during and after the load.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct Moments {
    pub idle: Holds,
    pub loaded: Holds,
    pub after: Holds,
}

/// [`Moments`] as they are written.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Flat {
    rss_idle_kib: u64,
    rss_loaded_kib: u64,
    rss_after_kib: u64,
    pss_idle_kib: u64,
    pss_loaded_kib: u64,
    pss_after_kib: u64,
    fds_idle: u64,
    fds_loaded: u64,
    fds_after: u64,
}

impl From<Moments> for Flat {
    fn from(Moments { idle, loaded, after }: Moments) -> Self {
        Self {
            rss_idle_kib: idle.rss_kib,
            rss_loaded_kib: loaded.rss_kib,
            rss_after_kib: after.rss_kib,
            pss_idle_kib: idle.pss_kib,
            pss_loaded_kib: loaded.pss_kib,
            pss_after_kib: after.pss_kib,
            fds_idle: idle.fds,
            fds_loaded: loaded.fds,
            fds_after: after.fds,
        }
    }
}

impl From<Flat> for Moments {
    fn from(flat: Flat) -> Self {
        let holds = |rss_kib, pss_kib, fds| Holds { rss_kib, pss_kib, fds };
        Self {
            idle: holds(flat.rss_idle_kib, flat.pss_idle_kib, flat.fds_idle),
            loaded: holds(flat.rss_loaded_kib, flat.pss_loaded_kib, flat.fds_loaded),
            after: holds(flat.rss_after_kib, flat.pss_after_kib, flat.fds_after),
        }
    }
}

/// When something befell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Struck {
    pub kind: String,
    /// Since the start of the measurement.
    pub at_ms: u64,
    pub until_ms: Option<u64>,
}

/// The highest rate that went well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    pub per_second: f64,
    /// It adds less than 2 ms there; else it never does, and this is where its own latency doubles.
    pub within_limit: bool,
    /// Load or servers ended the search, not the peer.
    pub at_least: bool,
}

impl Row {
    /// CPU per unit that ratios compare: per event where answers are streams.
    pub fn each_us(&self) -> Option<f64> {
        let proxy = self.proxy.as_ref()?;
        proxy.cpu_us_per_event.or(proxy.cpu_us_per_request)
    }
}

/// A directory of rounds, open for more.
pub struct Book {
    dir: PathBuf,
    rows: File,
    /// When this run began, as in `runs.jsonl`.
    pub machine_ref: u64,
}

impl Book {
    /// Opens (or begins) a directory and notes this run's machine, versions and command in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(dir: &Path, sluice: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let facts = machine::facts(sluice);
        let machine_ref = facts.get("at").and_then(Value::as_u64).unwrap_or(0);
        writeln!(append(dir, "runs.jsonl")?, "{facts}")?;
        Ok(Self { dir: dir.to_owned(), rows: append(dir, ROWS)?, machine_ref })
    }

    /// Notes how a peer was configured in this run.
    ///
    /// # Errors
    /// The disk's.
    pub fn meet(
        &self,
        peer: &str,
        version: &str,
        config: &str,
        install: &str,
    ) -> Result<(), Failure> {
        let line = json!({ "peer": peer, "version": version, "config": config,
            "install": install, "machine_ref": self.machine_ref });
        writeln!(append(&self.dir, "peers.jsonl")?, "{line}")?;
        Ok(())
    }

    /// Keeps a round.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let mut text = String::new();
        for row in rows {
            text += &serde_json::to_string(row)?;
            text.push('\n');
        }
        // One write, so that an interrupt leaves the round whole or not there.
        self.rows.write_all(text.as_bytes())?;
        self.rows.flush()?;
        Ok(())
    }
}

fn append(dir: &Path, name: &str) -> Result<File, Failure> {
    Ok(OpenOptions::new().create(true).append(true).open(dir.join(name))?)
}

/// The rounds of a directory; a line that an interrupt cut short is left out.
///
/// # Errors
/// There are none.
pub fn read(dir: &Path) -> Result<Vec<Row>, Failure> {
    let text = fs::read_to_string(dir.join(ROWS))
        .map_err(|error| format!("{}: {error}", dir.join(ROWS).display()))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_being_written_down() -> Result<(), Failure> {
        let holds = Holds { rss_kib: 1, pss_kib: 2, fds: 3 };
        let proxy =
            Proxy { holds: Moments { loaded: holds, ..Moments::default() }, ..Proxy::default() };
        let row = Row { proxy: Some(proxy), bound: Some(Bound::Load), ..Row::default() };
        let text = serde_json::to_string(&row)?;
        assert!(text.contains(r#""rss_loaded_kib":1"#) && text.contains(r#""bound":"load""#));
        let read: Row = serde_json::from_str(&text)?;
        assert_eq!(read.proxy.map(|proxy| proxy.holds.loaded), Some(holds));
        Ok(())
    }
}
