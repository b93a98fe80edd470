//! One trial: servers and gateway are started, the load runs, all is stopped.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

use super::site::Site;
use crate::Failure;
use crate::compare::measure::Stage;
use crate::compare::scenario::Scenario;
use crate::compare::servers;
use crate::load::outcome::{Outcome, TOTAL, TTFT};
use crate::load::{self, Phase};
use crate::peers::API_KEY;
use crate::target::child::Child;
use crate::target::{free_address, free_beside, process};

/// What one trial gave; a line of `tune.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub scenario: String,
    /// The changed lines, or that there are none.
    pub setting: String,
    pub round: u32,
    /// Whether this round confirms what earlier ones found.
    pub confirms: bool,
    /// Seconds since 1970.
    pub at: u64,
    /// CPU microseconds of the gateway, all threads, for each answer (for each event of a stream).
    pub cpu_us_each: f64,
    pub outcome: Outcome,
}

impl Trial {
    /// 99 % of the answers (of streams: their first events) come within so many microseconds.
    pub fn p99_us(&self) -> Option<f64> {
        let name = if self.outcome.hist.contains_key(TTFT) { TTFT } else { TOTAL };
        self.outcome.percentile(name, 0.99).map(|value| value as f64)
    }
}

/// Where trials are made.
pub struct Bench<'a> {
    pub stage: Stage,
    pub scenario: &'a Scenario,
    pub site: &'a Site,
    pub sluice: PathBuf,
    /// All CPUs: the gateway may use them as it would in service.
    pub cpus: Vec<usize>,
}

impl Bench<'_> {
    /// Tries a configuration: CPU time for each answer or event, and what clients saw.
    ///
    /// # Errors
    /// Something does not start, or requests fail.
    pub fn measure(&self, config: &Table) -> Result<(f64, Outcome), Failure> {
        let servers = servers::Running::start(&self.scenario.servers, &self.stage.place)?;
        let dir = self.stage.scratch.as_path();
        let listen = free_address()?;
        let admin = free_beside(listen)?;
        let text = self.site.place(config, dir, [listen, admin], &servers.addresses)?;
        let gateway = self.gateway(&text, dir, listen)?;
        let mut spec = self.stage.spec(self.scenario, listen, None)?;
        spec.model = self.site.model.clone();
        spec.api_key = self.site.keyed.then(|| API_KEY.to_owned());
        let mut readings = [None, None];
        let outcome = load::run(&spec, |progress| {
            let reading = match progress.phase {
                Phase::WarmUp => return ControlFlow::Continue(()),
                Phase::Measuring => &mut readings[0],
                Phase::Draining => &mut readings[1],
            };
            reading.get_or_insert_with(|| process::cpu_times(gateway.pid()));
            ControlFlow::Continue(())
        })?;
        let [Some(before), after] = readings else { return Err("the load did not begin".into()) };
        let after = after.unwrap_or_else(|| process::cpu_times(gateway.pid()));
        let cpu_us: f64 = after.since(&before).values().sum();
        let streams = self.scenario.load.request.streams();
        let units = if streams { outcome.events } else { outcome.completed };
        match outcome.failed() {
            0 if units > 0 => Ok((cpu_us / units as f64, outcome)),
            0 => Err("nothing was answered".into()),
            failed => Err(format!("{failed} requests failed: {:?}", outcome.errors).into()),
        }
    }

    fn gateway(
        &self,
        text: &str,
        dir: &Path,
        listen: std::net::SocketAddr,
    ) -> Result<Child, Failure> {
        let file = dir.join("sluice.toml");
        fs::write(&file, text)?;
        let words = [&self.sluice, Path::new("serve"), Path::new("--config"), &file];
        let command = words.map(|word: &Path| word.display().to_string());
        let log = dir.join("sluice.log");
        let mut child = Child::spawn_on(&command, &self.cpus, &log)?;
        let started = child.wait_until_listening(listen);
        started.map_err(|failure| format!("{failure}: {}", last_words(&log)))?;
        Ok(child)
    }
}

/// The end of what the gateway said.
fn last_words(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}
