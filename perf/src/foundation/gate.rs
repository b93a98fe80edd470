//! The gate against regressions: Sluice's instructions, held against the limits of a file.
//!
//! Counts hardly vary, but the shard's ticks are in them, and a busy machine has more ticks for each request.
//! So a limit is made of the most of several counts, and a count above its limit is made again: what costs
//! more costs more each time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::scenario::{self, Scenario};
use super::{COUNTED_UNITS, instructions};
use crate::names::{all_known, unmatched};
use crate::target::{Bench, Driver, Target, launch};
use crate::{Failure, record};

/// Count Sluice's instructions per request and event by callgrind; fail where they are above their limits.
#[derive(Args)]
pub struct Gate {
    /// The limits, a TOML file.
    limits: PathBuf,
    /// Write the file: what is counted now, and a margin on it.
    #[arg(long)]
    record: bool,
    /// One driver; both without it.
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// Only scenarios whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// The gateway's program; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
}

/// What a limit is above the counts that it was made of.
const MARGIN: f64 = 1.03;
/// How often a count is made at most.
const TRIES: usize = 3;

/// Most instructions for each request or event, by driver and scenario.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Limits(BTreeMap<String, BTreeMap<String, u64>>);

/// Counts, prints each count beside its limit.
///
/// # Errors
/// A count is above its limit or has none, or cannot be made.
pub fn run(wanted: &Gate) -> Result<(), Failure> {
    all_known([unmatched(&wanted.scenario, &scenario::COUNTED.map(|scenario| scenario.name))])?;
    let mut limits = match fs::read_to_string(&wanted.limits) {
        Err(_) if wanted.record => Limits::default(),
        Err(error) => return Err(format!("{}: {error}", wanted.limits.display()).into()),
        Ok(text) => Limits::read(&wanted.limits, &text)?,
    };
    let cpus = launch::allowed()?;
    let (Some(first), Some(last)) = (cpus.first(), cpus.last()) else {
        return Err("no CPU".into());
    };
    let bench = super::bench(wanted.sluice.as_deref(), (*first, *last))?;
    launch::pin(&[*last])?;
    record::machine::ready_process()?;
    let failed = judge_all(wanted, &bench, &mut limits)?;
    std::fs::remove_dir_all(&bench.scratch)?;
    if wanted.record {
        fs::write(&wanted.limits, limits.text()?)?;
    }
    match failed {
        0 => Ok(()),
        count => Err(format!("{count} above {}", wanted.limits.display()).into()),
    }
}

/// How many are above their limits; with `--record` the limits are set instead.
fn judge_all(wanted: &Gate, bench: &Bench, limits: &mut Limits) -> Result<usize, Failure> {
    let mut failed = 0;
    for driver in super::drivers(wanted.driver) {
        for scenario in super::chosen(&scenario::COUNTED, &wanted.scenario) {
            let name = scenario.name;
            if wanted.record {
                let counted = most(bench, scenario, driver)?;
                println!("{} {name}: {counted:.0}", driver.name());
                limits.set(driver.name(), name, counted);
                continue;
            }
            let limit = limits.of(driver.name(), name).ok_or_else(|| {
                format!("{} has no {} {name}", wanted.limits.display(), driver.name())
            })?;
            let counted = least(bench, scenario, driver, limit)?;
            println!("{} {name}: {}", driver.name(), told(counted, limit, scenario.unit()));
            failed += usize::from(counted > limit as f64);
        }
    }
    Ok(failed)
}

fn one(bench: &Bench, scenario: &Scenario, driver: Driver) -> Result<f64, Failure> {
    let one = instructions::measure(bench, scenario, Target::Sluice, driver, COUNTED_UNITS)?;
    Ok(one.each)
}

/// The most of several counts.
fn most(bench: &Bench, scenario: &Scenario, driver: Driver) -> Result<f64, Failure> {
    (0..TRIES).try_fold(0.0, |most, _| Ok(one(bench, scenario, driver)?.max(most)))
}

/// The least of several counts, of the first one that is within the limit.
fn least(bench: &Bench, scenario: &Scenario, driver: Driver, limit: u64) -> Result<f64, Failure> {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        least = one(bench, scenario, driver)?.min(least);
        if least <= limit as f64 {
            break;
        }
    }
    Ok(least)
}

fn told(counted: f64, limit: u64, unit: &str) -> String {
    let apart = 100.0 * (counted / limit as f64 - 1.0);
    let verdict = if counted > limit as f64 { "ABOVE ITS LIMIT" } else { "within" };
    format!("{counted:.0} instructions/{unit}, limit {limit} ({apart:+.1} %): {verdict}")
}

impl Limits {
    fn read(file: &Path, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    fn of(&self, driver: &str, scenario: &str) -> Option<u64> {
        self.0.get(driver)?.get(scenario).copied()
    }

    fn set(&mut self, driver: &str, scenario: &str, counted: f64) {
        let limit = (counted * MARGIN).ceil() as u64;
        self.0.entry(driver.to_owned()).or_default().insert(scenario.to_owned(), limit);
    }

    fn text(&self) -> Result<String, Failure> {
        Ok(format!(
            "# Most user instructions of Sluice for each request or event: the most of {TRIES} counts and {:.0} %.\n\
             # `sluice-perf gate FILE --record` writes it anew, with programs built in the file's profile.\n\n{}",
            100.0 * (MARGIN - 1.0),
            toml::to_string(self)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_being_written_down() -> Result<(), Failure> {
        let mut limits = Limits::default();
        limits.set("epoll", "event-alone", 1_000.2);
        let read = Limits::read(Path::new("x"), &limits.text()?)?;
        assert_eq!(read, limits);
        assert_eq!(read.of("epoll", "event-alone"), Some(1_031));
        assert_eq!(read.of("uring", "event-alone"), None);
        Ok(())
    }

    #[test]
    fn what_is_above_is_told_so() {
        assert!(told(1_001.0, 1_000, "event").ends_with("(+0.1 %): ABOVE ITS LIMIT"));
        assert!(told(1_000.0, 1_000, "event").ends_with("(+0.0 %): within"));
    }
}
