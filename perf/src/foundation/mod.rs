//! The foundation's figures: Sluice and the floor in the same round, round after round.

mod aims;
mod cpu;
mod gate;
mod instructions;
mod memory;
mod profile;
mod scenario;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use scenario::Scenario;
use sluice_sim::options::within;

use crate::names::{all_known, unmatched};
use crate::record::Book;
use crate::record::line::Line;
use crate::target::{Bench, Driver, Target, launch};
use crate::{Failure, record};

pub use aims::aim;
pub use gate::{Gate, run as gate};

/// What the scenarios show, by name.
pub fn shows() -> Vec<(&'static str, &'static str)> {
    let idle = [
        ("idle", "memory of a stream that is open and silent, both its connections included"),
        ("idle-tls", "the same with TLS on the client's side"),
    ];
    let all = scenario::TIMED.iter().chain(&scenario::COUNTED);
    all.map(|scenario| (scenario.name, scenario.shows)).chain(idle).collect()
}

/// Measure Sluice against the floor: CPU, memory, instructions.
#[derive(Args)]
pub struct Foundation {
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 9, value_parser = within::<u32>(1, 10_000))]
    rounds: u32,
    /// Three rounds of a second each, fewer idle streams.
    #[arg(long)]
    quick: bool,
    /// One driver; both without it.
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// Only these kinds of measurement.
    #[arg(long, value_enum, value_delimiter = ',')]
    measure: Vec<Measure>,
    /// Only scenarios whose name contains one of these.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    scenario: Vec<String>,
    /// Seconds of each timed measurement, after half as long to warm up.
    #[arg(long, default_value_t = 2.0, value_parser = within(0.1, 3_600.0))]
    seconds: f64,
    /// Where the rounds are kept; `perf/runs/<date>-<machine>` without it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The gateway's program; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// Put proxies and load before everything else on their CPUs by the real-time scheduler (as root, with
    /// `chrt`): for machines with other work, which stands still meanwhile.
    #[arg(long)]
    realtime: bool,
    /// Let the load sleep while it waits: a proxy that is slower than it then pays for waking it.
    #[arg(long)]
    load_sleeps: bool,
    /// Keep callgrind's profiles in this directory.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// The CPU of the proxies.
    #[arg(long, default_value_t = 0, value_parser = within::<usize>(0, launch::CPU_MAX))]
    proxy_cpu: usize,
    /// The CPU of load and upstream.
    #[arg(long, default_value_t = 1, value_parser = within::<usize>(0, launch::CPU_MAX))]
    load_cpu: usize,
}

/// Kinds of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    Cpu,
    Memory,
    Instructions,
}

/// Requests or events that callgrind counts.
const COUNTED_UNITS: u64 = 4_000;
/// How often a disturbed measurement is made at most.
const TRIES: u32 = 4;
/// Rounds of a count: it hardly varies.
const COUNTED_ROUNDS: u32 = 3;
/// Rounds of the idle streams.
const MEMORY_ROUNDS: u32 = 3;

/// Measures, keeps every round, prints the table.
///
/// # Errors
/// Something does not run; the rounds that were finished are kept.
pub fn run(wanted: &Foundation) -> Result<(), Failure> {
    let all = scenario::TIMED.iter().chain(&scenario::COUNTED);
    let mut names: Vec<&str> = all.map(|scenario| scenario.name).collect();
    names.sort_unstable();
    names.dedup();
    all_known([unmatched(&wanted.scenario, &names)])?;
    let out = wanted.out.clone().unwrap_or_else(record::machine::default_dir);
    let bench = Bench {
        profiles: wanted.profiles.clone(),
        realtime: wanted.realtime,
        spin: !wanted.load_sleeps,
        ..bench(wanted.sluice.as_deref(), (wanted.proxy_cpu, wanted.load_cpu))?
    };
    launch::pin(&[wanted.load_cpu])?;
    launch::prefer();
    if wanted.realtime {
        launch::become_realtime()?;
    }
    let mut book = Book::open(&out, &bench.sluice)?;
    record::machine::ready_process()?;
    for measure in [Measure::Instructions, Measure::Memory, Measure::Cpu] {
        if !wanted.measure.is_empty() && !wanted.measure.contains(&measure) {
            continue;
        }
        match measure {
            Measure::Instructions => instructions(wanted, &bench, &mut book)?,
            Measure::Memory => memory(wanted, &bench, &mut book)?,
            Measure::Cpu => cpu(wanted, &bench, &mut book)?,
        }
    }
    // Kept after a failure: the proxies' logs are there.
    std::fs::remove_dir_all(&bench.scratch)?;
    record::summary::print(&out)
}

/// Counts instructions only, beside the rounds that `out` has already, and prints all of them.
///
/// # Errors
/// As [`run`].
pub fn count(
    sluice: &Path,
    out: &Path,
    (proxy_cpu, load_cpu): (usize, usize),
) -> Result<(), Failure> {
    run(&Foundation {
        rounds: COUNTED_ROUNDS,
        quick: false,
        driver: None,
        measure: vec![Measure::Instructions],
        scenario: Vec::new(),
        seconds: 1.0,
        out: Some(out.to_owned()),
        sluice: Some(sluice.to_owned()),
        realtime: false,
        load_sleeps: false,
        profiles: None,
        proxy_cpu,
        load_cpu,
    })
}

/// Where counts are made: `sluice`, or the program beside this one.
fn bench(sluice: Option<&Path>, (proxy_cpu, load_cpu): (usize, usize)) -> Result<Bench, Failure> {
    let beside = std::env::current_exe()?.with_file_name("sluice");
    let sluice = sluice.map_or(beside, Path::to_owned);
    if !sluice.exists() {
        return Err(
            format!("no gateway at {}: build it, or say --sluice FILE", sluice.display()).into()
        );
    }
    let scratch = std::env::temp_dir().join(format!("sluice-perf-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    Ok(Bench { sluice, scratch, profiles: None, proxy_cpu, load_cpu, realtime: false, spin: true })
}

/// The wanted driver, or both.
fn drivers(wanted: Option<Driver>) -> Vec<Driver> {
    wanted.map_or(vec![Driver::Uring, Driver::Epoll], |driver| vec![driver])
}

/// The scenarios whose names contain one of `parts`; all without any.
fn chosen<'a>(all: &'a [Scenario], parts: &'a [String]) -> impl Iterator<Item = &'a Scenario> {
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part));
    all.iter().filter(move |scenario| wanted(scenario.name))
}

impl Foundation {
    fn drivers(&self) -> Vec<Driver> {
        drivers(self.driver)
    }

    fn chosen<'a>(&'a self, all: &'a [Scenario]) -> impl Iterator<Item = &'a Scenario> {
        chosen(all, &self.scenario)
    }

    fn rounds(&self, most: u32) -> u32 {
        if self.quick { self.rounds.min(3) } else { self.rounds }.min(most)
    }

    fn times(&self) -> (Duration, Duration) {
        let seconds = if self.quick { self.seconds.min(1.0) } else { self.seconds };
        (Duration::from_secs_f64(seconds / 2.0), Duration::from_secs_f64(seconds))
    }
}

/// Who comes first changes from round to round.
fn order(round: u32) -> [Target; 2] {
    match round.is_multiple_of(2) {
        true => [Target::Floor, Target::Sluice],
        false => [Target::Sluice, Target::Floor],
    }
}

fn cpu(wanted: &Foundation, bench: &Bench, book: &mut Book) -> Result<(), Failure> {
    for round in 0..wanted.rounds(u32::MAX) {
        for scenario in wanted.chosen(&scenario::TIMED) {
            for driver in wanted.drivers() {
                for target in order(round) {
                    let cost = undisturbed(|| {
                        cpu::measure(bench, scenario, target, driver, wanted.times())
                    })?;
                    let unit = format!("CPU us/{}", scenario.unit());
                    let line = Line::new("cpu", scenario.name, driver, target, round);
                    book.keep(&line.with(cost.each_us, &unit, &cost)?)?;
                }
            }
        }
    }
    Ok(())
}

/// Measures again, a few times, while the machine's other work is in the way.
fn undisturbed(
    mut measure: impl FnMut() -> Result<cpu::Cost, Failure>,
) -> Result<cpu::Cost, Failure> {
    let mut cost = measure()?;
    for _ in 1..TRIES {
        if !cost.disturbed {
            break;
        }
        cost = measure()?;
    }
    Ok(cost)
}

fn memory(wanted: &Foundation, bench: &Bench, book: &mut Book) -> Result<(), Failure> {
    let streams = if wanted.quick { 300 } else { 1_000 };
    for round in 0..wanted.rounds(MEMORY_ROUNDS) {
        for driver in wanted.drivers() {
            for (name, target, tls) in [
                ("idle", Target::Floor, false),
                ("idle", Target::Sluice, false),
                ("idle-tls", Target::Sluice, true),
            ] {
                let idle = memory::measure(bench, target, driver, tls, streams)?;
                let line = Line::new("memory", name, driver, target, round);
                book.keep(&line.with(idle.rss_each(), "RSS bytes/stream", &idle)?)?;
            }
        }
    }
    Ok(())
}

fn instructions(wanted: &Foundation, bench: &Bench, book: &mut Book) -> Result<(), Failure> {
    let rounds = if wanted.quick { 1 } else { wanted.rounds(COUNTED_ROUNDS) };
    for round in 0..rounds {
        for scenario in wanted.chosen(&scenario::COUNTED) {
            for driver in wanted.drivers() {
                for target in order(round) {
                    let count =
                        instructions::measure(bench, scenario, target, driver, COUNTED_UNITS)?;
                    let unit = format!("instructions/{}", scenario.unit());
                    let line = Line::new("instructions", scenario.name, driver, target, round);
                    book.keep(&line.with(count.each, &unit, &count)?)?;
                }
            }
        }
    }
    Ok(())
}
