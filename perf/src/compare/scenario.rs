//! Scenarios: what traffic, before which servers, with which mishap; one TOML file each in `perf/scenarios`.

use std::path::Path;

use serde::Deserialize;

use crate::Failure;
use crate::load::spec::{Arrivals, Prompts, Reader, Shape};
use crate::names::unknown;

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its file's name.
    #[serde(skip)]
    pub name: String,
    /// What it shows, in a sentence.
    pub shows: String,
    #[serde(default)]
    pub goal: Goal,
    #[serde(default)]
    pub peers: Who,
    pub servers: Servers,
    pub load: Load,
    pub fault: Option<Fault>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// What the given load costs, in CPU and in latency.
    #[default]
    Cost,
    /// How much goes through, and at what CPU; latency then says nothing but how many wait.
    Capacity,
    /// The highest rate that still goes well.
    Knee,
    /// The cost with one worker, two, and so on up to all CPUs.
    Shards,
}

/// Who takes part, of those that are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    #[default]
    All,
    /// Those that stand before several servers, and `direct` to the one that stays well.
    Balancing,
}

/// The servers behind the peers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    pub kind: ServerKind,
    #[serde(default = "one")]
    pub count: usize,
    /// Arguments of the simulated server.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Of the fixed server: it streams so many events a second on each stream, without end.
    pub events_per_second: Option<u32>,
    /// So many streams, whose events are spread evenly in time.
    pub streams: Option<usize>,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// One fixed answer, as cheaply as can be: where the servers must not be the limit.
    Fixed,
    /// The simulated GPU server.
    Sim,
}

/// The traffic.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub arrivals: When,
    pub request: Shape,
    #[serde(default)]
    pub prompts: Prompts,
    pub connections: usize,
    #[serde(default = "default_warmup")]
    pub warmup_seconds: f64,
    pub seconds: f64,
    #[serde(default = "default_patience")]
    pub patience_seconds: f64,
    #[serde(default)]
    pub abort_share: f64,
    #[serde(default)]
    pub readers: Reader,
}

/// When requests come.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum When {
    /// At random, at this share of the peer's own knee.
    Share { knee_share: f64 },
    /// As the load generator has it.
    Given(Arrivals),
}

/// Something that goes wrong, or is done, while the load runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// After the start of the measurement.
    pub at_seconds: f64,
    /// When it is over; without it, it lasts.
    pub until_seconds: Option<f64>,
}

/// What befalls the second server, or the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Its process dies; afterwards another one stands in its place.
    Kill,
    /// It accepts and says nothing, to health probes neither.
    Hang,
    /// Its engine takes ten times as long.
    Slow,
    /// The peer reads its configuration again, once a second.
    Reload,
}

impl FaultKind {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Reload => "reload",
        }
    }
}

fn one() -> usize {
    1
}

fn default_warmup() -> f64 {
    1.0
}

fn default_patience() -> f64 {
    10.0
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),+]
    };
}

/// The scenarios that come with the harness, in the order of tables.
const FILES: &[(&str, &str)] = files![
    "unary-1k",
    "unary-8k",
    "unary-64k",
    "unary-1m",
    "steady-1k",
    "steady-8k",
    "sse-paced",
    "first-tokens",
    "sse-flat-out",
    "events-64x250",
    "events-200x20",
    "knee",
    "open-loop-50",
    "open-loop-80",
    "overload-4x",
    "idle-1000",
    "drift-1000",
    "cancel-storm",
    "slow-readers",
    "backend-killed",
    "backend-hung",
    "backend-slowed",
    "reload",
    "shards",
    "agent",
];

/// The three that `--quick` runs.
pub const QUICK: [&str; 3] = ["unary-1k", "sse-paced", "steady-1k"];

/// Names of the scenarios that come with the harness.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The scenario of that name, or in the file of that name.
///
/// # Errors
/// There is none, or it cannot be understood.
pub fn named(name: &str) -> Result<Scenario, Failure> {
    if let Some((name, text)) = FILES.iter().find(|(known, _)| *known == name) {
        return parse(name, text);
    }
    if is_file(name) {
        let file = Path::new(name);
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        return parse(&stem, &text);
    }
    let known: Vec<&str> = names().collect();
    Err(unknown("scenario", [name], &known).unwrap_or_default().into())
}

/// Whether the name is a file's.
pub fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|kind| kind == "toml")
}

fn parse(name: &str, text: &str) -> Result<Scenario, Failure> {
    let read: Scenario = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
    if read.fault.is_some() && read.load.seconds <= read.fault_end() {
        return Err(format!("{name}: the load ends before its fault does").into());
    }
    Ok(Scenario { name: name.to_owned(), ..read })
}

impl Scenario {
    /// When the last thing befalls, seconds after the start of the measurement.
    fn fault_end(&self) -> f64 {
        self.fault.as_ref().map_or(0.0, |fault| fault.until_seconds.unwrap_or(fault.at_seconds))
    }

    /// The share of the knee that its rate is.
    pub fn knee_share(&self) -> Option<f64> {
        match self.load.arrivals {
            When::Share { knee_share } => Some(knee_share),
            When::Given(_) => None,
        }
    }

    /// Requests that a closed loop keeps open.
    pub fn open(&self) -> Option<usize> {
        match self.load.arrivals {
            When::Given(Arrivals::Closed { concurrency }) => Some(concurrency),
            _ => None,
        }
    }

    /// Whether who is slowest decides the rate.
    pub fn is_flat_out(&self) -> bool {
        matches!(self.goal, Goal::Capacity | Goal::Shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_reads_and_says_what_it_shows() -> Result<(), Failure> {
        for name in names() {
            let scenario = named(name)?;
            assert!(scenario.shows.ends_with('.'), "{name}: a sentence");
            assert!(scenario.servers.count > 0, "{name}");
            assert!(
                scenario.open().is_some() || !scenario.is_flat_out(),
                "{name}: only a closed loop is flat out"
            );
            let streams = match scenario.servers.kind {
                ServerKind::Fixed => scenario.servers.events_per_second.is_some(),
                ServerKind::Sim => true,
            };
            assert!(!scenario.load.request.streams() || streams, "{name}: nothing to stream");
        }
        Ok(())
    }

    #[test]
    fn every_file_is_known() -> Result<(), Failure> {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))? {
            let path = entry?.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            assert!(names().any(|name| name == stem), "{stem} is not listed");
        }
        Ok(())
    }

    #[test]
    fn the_quick_ones_exist() {
        assert!(QUICK.iter().all(|name| named(name).is_ok()));
        assert!(named("nonesuch").is_err());
    }
}
