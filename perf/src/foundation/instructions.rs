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

use super::scenario::Scenario;
use crate::Failure;
use crate::target::{self, Bench, Driver, Start, Target};
use crate::traffic::field::Field;

/// Requests or events that pass before the count.
const WARM: u64 = 800;

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
    /// The profile, for `callgrind_annotate`.
    pub profile: String,
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
    count(&profile, counts.answers + counts.events, counts.reads)
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

fn count(profile: &Path, units: u64, reads: u64) -> Result<Count, Failure> {
    let mut threads = BTreeMap::new();
    let mut busiest = (0, String::new());
    for file in dumps(profile) {
        let text = fs::read_to_string(&file)?;
        let total =
            text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        let thread = text.lines().find_map(|line| line.strip_prefix("thread: "));
        let (Some(total), Some(thread)) = (total, thread) else { continue };
        threads.insert(thread.trim().to_owned(), total);
        if total > busiest.0 {
            busiest = (total, file.display().to_string());
        }
    }
    if busiest.0 == 0 {
        return Err("callgrind wrote no counts".into());
    }
    let each = |total: u64| total as f64 / units.max(1) as f64;
    Ok(Count { each: each(busiest.0), units, threads, reads_each: each(reads), profile: busiest.1 })
}
