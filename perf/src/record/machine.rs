//! Where and with what a run was made.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::Failure;

/// Machine, kernel, versions, command.
pub fn facts(sluice: &Path) -> Value {
    let uname = rustix::system::uname();
    let command: Vec<String> = std::env::args().skip(1).collect();
    json!({
        "date": date(unix_seconds()),
        "at": unix_seconds(),
        "cpu": cpu_model(),
        "cpus": cpus(),
        "memory": fs::read_to_string("/proc/meminfo").ok().and_then(|t| Some(t.lines().next()?.to_owned())),
        "kernel": uname.release().to_string_lossy(),
        "niceness": rustix::process::getpriority_process(None).unwrap_or(0),
        "load_average": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "sluice": said(sluice, &["--version"]),
        "commit": said(Path::new("git"), &["describe", "--always", "--dirty"]),
        "rustc": said(Path::new("rustc"), &["--version"]),
        "valgrind": said(Path::new("valgrind"), &["--version"]),
        "command": format!("sluice-perf {}", command.join(" ")),
    })
}

fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    let out = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned()
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `perf/runs/<date>-<machine>`.
pub fn default_dir() -> PathBuf {
    let model: String = cpu_model().to_lowercase();
    let words = model.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let machine: Vec<&str> = words.take(3).collect();
    let name = format!("{}-{}-{}cpu", date(unix_seconds()), machine.join("-"), cpus());
    Path::new("perf").join("runs").join(name)
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The day as `YYYY-MM-DD`, UTC (civil calendar from a count of days, by eras of 400 years).
pub fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Descriptors for thousands of connections, and timers that fire when they should.
///
/// # Errors
/// The kernel's.
pub fn ready_process() -> Result<(), Failure> {
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_132_800), "2026-11-20");
    }
}
