//! Tries settings of a configuration on this machine, and says which lines to change.
//!
//! Every setting is tried in every round, in an order that turns from round to round. What is better beyond
//! the noise is put together, and believed only if fresh rounds confirm it. Each trial is written down as
//! soon as it is made; all processes die with this one.

mod knob;
mod site;
mod trial;
mod verdict;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use knob::Change;
use site::Site;
use sluice_sim::options::within;
use toml::Table;
use trial::{Bench, Trial};
use verdict::{AS_IT_IS, Verdict};

use crate::compare::measure::Stage;
use crate::compare::scenario::{self, Scenario};
use crate::compare::servers::Place;
use crate::record::machine;
use crate::target::launch;
use crate::{Failure, record};

/// Find the settings of a configuration that suit this machine.
#[derive(Args)]
pub struct Tune {
    /// The configuration. Simulated servers stand in for its endpoints; it is not changed, and its secrets
    /// are not read.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What traffic to tune for: a scenario of `compare --list` whose rate is given, or a TOML file.
    #[arg(long, value_name = "NAME", default_value = "steady-1k")]
    scenario: String,
    /// Rounds, and again so many to confirm.
    #[arg(long, default_value_t = 5, value_parser = within::<u32>(2, 10_000))]
    rounds: u32,
    /// Makes every trial, and its warm-up, so many times as long.
    #[arg(long, default_value_t = 1.0, value_parser = within(0.01, 1_000.0))]
    stretch: f64,
    /// Where the trials are kept, in tune.jsonl; `perf/runs/<date>-<machine>` without it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The gateway's program; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
}

/// A configuration to try, and its name.
type Setting = (String, Table);

/// Tries, keeps every trial, prints the table and the lines to use.
///
/// # Errors
/// Nothing can be tried; the trials that were finished are kept.
pub fn run(wanted: &Tune) -> Result<(), Failure> {
    let text = fs::read_to_string(&wanted.config)
        .map_err(|error| format!("{}: {error}", wanted.config.display()))?;
    let site = Site::read(&text)?;
    let scenario = scenario::named(&wanted.scenario)?;
    let out = wanted.out.clone().unwrap_or_else(record::machine::default_dir);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let bench = bench(wanted, &scenario, &site, cpus)?;
    let changes = knob::changes(&site.config, cpus);
    let mut session = Session::open(&out, bench, wanted.rounds)?;
    // After the machine was described and counted: from here on it looks as if it had one CPU.
    launch::pin(&[cpus - 1])?;
    launch::prefer();
    session.search(&changes)?;
    let scratch = session.bench.stage.scratch.clone();
    fs::remove_dir_all(scratch)?;
    Ok(())
}

fn bench<'a>(
    wanted: &Tune,
    scenario: &'a Scenario,
    site: &'a Site,
    cpus: usize,
) -> Result<Bench<'a>, Failure> {
    let beside = |name: &str| -> Result<PathBuf, Failure> {
        let path = std::env::current_exe()?.with_file_name(name);
        match path.exists() {
            true => Ok(path),
            false => Err(format!("no {name} at {}: build it", path.display()).into()),
        }
    };
    let sluice = wanted.sluice.clone().map_or_else(|| beside("sluice"), Ok)?;
    let scratch = std::env::temp_dir().join(format!("sluice-perf-tune-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let place = Place { sim: beside("sluice-sim")?, cpu: cpus - 1, dir: scratch.clone() };
    let stage = Stage { place, proxy_cpu: 0, scratch, cpus, stretch: wanted.stretch };
    Ok(Bench { stage, scenario, site, sluice, cpus: (0..cpus).collect() })
}

/// A search under way.
struct Session<'a> {
    bench: Bench<'a>,
    kept: File,
    rounds: u32,
    trials: Vec<Trial>,
    /// Settings that do not work here, and why; they are not tried again.
    failed: BTreeMap<String, String>,
}

impl<'a> Session<'a> {
    fn open(out: &Path, bench: Bench<'a>, rounds: u32) -> Result<Self, Failure> {
        fs::create_dir_all(out)?;
        let append = |name: &str| OpenOptions::new().create(true).append(true).open(out.join(name));
        writeln!(append("runs.jsonl")?, "{}", machine::facts(&bench.sluice))?;
        let kept = append("tune.jsonl")?;
        Ok(Self { bench, kept, rounds, trials: Vec::new(), failed: BTreeMap::new() })
    }

    fn search(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let own = (AS_IT_IS.to_owned(), self.bench.site.config.clone());
        let mut settings = vec![own.clone()];
        settings.extend(changes.iter().map(|change| self.changed(std::slice::from_ref(change))));
        self.rounds(&settings, false)?;
        println!("{}", self.told());
        let better = self.better(changes);
        if better.is_empty() {
            println!("Nothing is better beyond the noise: keep the configuration as it is.");
            return Ok(());
        }
        let together = self.changed(&better);
        eprintln!("to be confirmed: {}", together.0);
        self.trials.clear();
        self.rounds(&[own, together.clone()], true)?;
        println!("In {} fresh rounds:\n\n{}", self.rounds, self.told());
        match verdict::judge(&self.trials, &together.0) {
            Verdict::Better if !self.failed.contains_key(&together.0) => say(&better),
            _ => println!("Fresh rounds do not confirm it: keep the configuration as it is."),
        }
        Ok(())
    }

    /// The table so far.
    fn told(&self) -> String {
        let unit = if self.bench.scenario.load.request.streams() { "event" } else { "request" };
        verdict::table(&self.trials, &self.failed, unit)
    }

    fn changed(&self, changes: &[Change]) -> Setting {
        let mut config = self.bench.site.config.clone();
        changes.iter().for_each(|change| change.apply(&mut config));
        (changes.iter().map(Change::line).collect::<Vec<_>>().join(", "), config)
    }

    /// For each key, the best of the values that are better beyond the noise.
    fn better(&self, changes: &[Change]) -> Vec<Change> {
        let mut best: BTreeMap<&str, (f64, &Change)> = BTreeMap::new();
        for change in changes {
            let line = change.line();
            let won = verdict::judge(&self.trials, &line) == Verdict::Better;
            if !won || self.failed.contains_key(&line) {
                continue;
            }
            let own = self.trials.iter().filter(|trial| trial.setting == line);
            let cpu = own.clone().map(|trial| trial.cpu_us_each).sum::<f64>() / own.count() as f64;
            let entry = best.entry(change.key).or_insert((cpu, change));
            if cpu < entry.0 {
                *entry = (cpu, change);
            }
        }
        best.into_values().map(|(_, change)| change.clone()).collect()
    }

    fn rounds(&mut self, settings: &[Setting], confirms: bool) -> Result<(), Failure> {
        for round in 0..self.rounds {
            let first = round as usize % settings.len();
            for (name, config) in settings[first..].iter().chain(&settings[..first]) {
                self.one(name, config, round, confirms)?;
            }
        }
        Ok(())
    }

    /// One trial, kept and said. A setting that fails is left out from then on; the configuration as it is
    /// has to work.
    fn one(
        &mut self,
        name: &str,
        config: &Table,
        round: u32,
        confirms: bool,
    ) -> Result<(), Failure> {
        if self.failed.contains_key(name) {
            return Ok(());
        }
        let (cpu_us_each, outcome) = match self.bench.measure(config) {
            Ok(measured) => measured,
            Err(failure) if name == AS_IT_IS => return Err(failure),
            Err(failure) => {
                eprintln!("round {round}: {name}: {failure}");
                self.failed.insert(name.to_owned(), failure.to_string());
                return Ok(());
            }
        };
        let trial = Trial {
            scenario: self.bench.scenario.name.clone(),
            setting: name.to_owned(),
            round,
            confirms,
            at: machine::unix_seconds(),
            cpu_us_each,
            outcome,
        };
        writeln!(self.kept, "{}", serde_json::to_string(&trial)?)?;
        let p99 = trial.p99_us().map_or("too few".into(), crate::report::unit::micros);
        eprintln!("round {round}: {name}: CPU {cpu_us_each:.2} us, p99 {p99}");
        self.trials.push(trial);
        Ok(())
    }
}

/// The lines to use.
fn say(changes: &[Change]) {
    println!("Use these lines:\n\n[{}]", knob::TABLE);
    for change in changes {
        println!("{}", change.line());
    }
}
