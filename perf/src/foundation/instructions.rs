//! User instructions per request and per event, counted by callgrind.
//!
//! The proxy is warmed up, the counters are set to zero, a known number of requests or events passes, and
//! the counters are written out: what was counted between is theirs alone, the shard's ticks included.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::profile::{self, Profile};
use super::scenario::Scenario;
use crate::Failure;
use crate::target::{self, Bench, Driver, Start, Target};
use crate::traffic::field::Field;

/// Requests or events that pass before the count.
const WARM: u64 = 800;

/// Functions that are recorded with a count.
const FUNCTIONS: usize = 40;

/// One count.
#[derive(Debug, Serialize)]
pub struct Count {
    /// User instructions per request or event, on the thread that serves.
    #[serde(skip)]
    pub each: f64,
    pub units: u64,
    /// Instructions by thread number; the busiest one serves.
    pub threads: BTreeMap<String, u64>,
    pub reads_each: f64,
    /// The functions that execute most themselves, with their instructions per request or event.
    pub functions: Vec<(String, f64)>,
}

/// Counts over `units` requests or events.
///
/// # Errors
/// valgrind is missing, or the proxy does not run under it.
pub fn measure(
    bench: &Bench,
    scenario: &Scenario,
    target: Target,
    driver: Driver,
    units: u64,
) -> Result<Count, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let upstream = listener.local_addr()?;
    let name = format!("callgrind-{}-{}-{}", scenario.name, target.name(), driver.name());
    let profile = bench.scratch.join(name);
    clear(&profile)?;
    let wanted = Start { target, driver, upstream, tls: false, profile: Some(profile.clone()) };
    let running = target::start(bench, &wanted)?;
    let pid = running.child.pid();
    let mut field = Field::new(listener, scenario.answer())?;
    field.connect(running.address, scenario.requests())?;
    field.run_until(WARM)?;
    tell(pid, "zero")?;
    let before = field.counts;
    field.run_until(units)?;
    tell(pid, "dump")?;
    let counts = field.counts.since(before);
    field.run_for(Duration::from_millis(100))?;
    if field.counts.errors > 0 {
        return Err(format!("{} clients failed", field.counts.errors).into());
    }
    let files = dumps(&profile);
    if let Some(dir) = &bench.profiles {
        keep(&files, dir)?;
    }
    count(&files, counts.answers + counts.events, counts.reads)
}

fn tell(pid: u32, what: &str) -> Result<(), Failure> {
    let done = Command::new("vgdb").arg(format!("--pid={pid}")).arg(what).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("vgdb {what}: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// Profiles of one run: `NAME.1-01` is the first dump of thread 1.
fn dumps(profile: &Path) -> Vec<PathBuf> {
    let name = profile.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files =
        profile.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let mut found: Vec<_> = files
        .filter(|file| {
            file.file_name().to_string_lossy().strip_prefix(&name).is_some_and(|rest| {
                rest.starts_with('.') || rest.starts_with('-') || rest.is_empty()
            })
        })
        .map(|file| file.path())
        .collect();
    found.sort();
    found
}

fn clear(profile: &Path) -> Result<(), Failure> {
    for file in dumps(profile) {
        fs::remove_file(file)?;
    }
    Ok(())
}

fn count(files: &[PathBuf], units: u64, reads: u64) -> Result<Count, Failure> {
    let each = |total: u64| total as f64 / units.max(1) as f64;
    let texts = files.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
    let profiles: Vec<Profile> = texts.iter().map(|text| profile::read(text)).collect();
    let busiest = profiles.iter().max_by_key(|profile| profile.total);
    let busiest = busiest.filter(|it| it.total > 0).ok_or("callgrind wrote no counts")?;
    let share = |(name, cost): &(String, u64)| (name.clone(), each(*cost).round());
    Ok(Count {
        each: each(busiest.total),
        units,
        reads_each: each(reads),
        functions: busiest.functions.iter().take(FUNCTIONS).map(share).collect(),
        threads: profiles.iter().map(|it| (it.thread.clone(), it.total)).collect(),
    })
}

/// Copies the profiles to where they are wanted, for `callgrind_annotate`.
fn keep(files: &[PathBuf], dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir)?;
    for file in files {
        fs::copy(file, dir.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
