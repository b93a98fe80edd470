//! CPU time of a proxy under one scenario.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::scenario::Scenario;
use crate::Failure;
use crate::target::process::{self, CpuTimes};
use crate::target::{self, Bench, Driver, Start, Target};
use crate::traffic::Counts;
use crate::traffic::field::Field;

/// One measurement, with what is needed to judge it.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// CPU microseconds of the whole proxy per request or event.
    #[serde(skip)]
    pub each_us: f64,
    pub units: u64,
    pub seconds: f64,
    /// The proxy's CPU microseconds by thread name.
    pub threads_us: BTreeMap<String, f64>,
    /// CPU microseconds of load and upstream together, per unit.
    pub load_each_us: f64,
    /// Reads by which clients got their events or answers, per unit.
    pub reads_each: f64,
    /// Share of the proxy's time in user code, by the kernel's ticks.
    pub user_share: f64,
    pub late: u64,
    /// What the scenario promises did not happen: events that should each be read alone came together, as
    /// proxy or load did not get their CPUs in time.
    pub disturbed: bool,
    pub switches_waiting: u64,
    pub switches_preempted: u64,
    /// Share of the proxy's CPU that others took.
    pub proxy_cpu_others: f64,
    pub load_cpu_others: f64,
}

/// Fewest reads per event, where each event should be read alone.
const READS_EACH_MIN: f64 = 0.95;

/// A moment's readings.
struct Reading {
    at: Instant,
    cpu: CpuTimes,
    own_nanos: u64,
    counts: Counts,
    jiffies: [(u64, u64, u64); 2],
    switches: (u64, u64),
    ticks: (u64, u64),
}

fn read(bench: &Bench, pid: u32, counts: Counts) -> Reading {
    Reading {
        at: Instant::now(),
        cpu: process::cpu_times(pid),
        own_nanos: process::own_cpu_nanos(),
        counts,
        jiffies: [bench.proxy_cpu, bench.load_cpu].map(process::cpu_jiffies),
        switches: process::switches(pid),
        ticks: process::ticks(pid),
    }
}

/// Starts `target`, warms it up, and measures it for `time`.
///
/// # Errors
/// It does not run, or does not answer every request rightly.
pub fn measure(
    bench: &Bench,
    scenario: &Scenario,
    target: Target,
    driver: Driver,
    (warm, time): (Duration, Duration),
) -> Result<Cost, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let upstream = listener.local_addr()?;
    let running =
        target::start(bench, &Start { target, driver, upstream, tls: false, profile: None })?;
    let mut field = Field::new(listener, scenario.answer())?;
    field.spin = bench.spin;
    field.connect(running.address, scenario.requests())?;
    field.run_until(scenario.clients as u64)?;
    field.run_for(warm)?;
    let pid = running.child.pid();
    let before = read(bench, pid, field.counts);
    field.run_for(time)?;
    let after = read(bench, pid, field.counts);
    if after.counts.errors > 0 {
        return Err(format!("{} clients failed", after.counts.errors).into());
    }
    let mut cost = cost(&before, &after);
    cost.disturbed = scenario.reads_each_event() && cost.reads_each < READS_EACH_MIN;
    Ok(cost)
}

fn cost(before: &Reading, after: &Reading) -> Cost {
    let counts = after.counts.since(before.counts);
    let units = counts.answers + counts.events;
    let each = |total: f64| total / units.max(1) as f64;
    let threads_us = after.cpu.since(&before.cpu);
    let spent_us: f64 = threads_us.values().sum();
    let own_us = (after.own_nanos - before.own_nanos) as f64 / 1_000.0;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let ticks = (after.ticks.0 - before.ticks.0, after.ticks.1 - before.ticks.1);
    let others = |cpu: usize, ours_us: f64| {
        let (busy, all) = (
            after.jiffies[cpu].0 - before.jiffies[cpu].0,
            after.jiffies[cpu].1 - before.jiffies[cpu].1,
        );
        (busy as f64 / all.max(1) as f64 - ours_us / (seconds * 1e6)).max(0.0)
    };
    Cost {
        each_us: each(spent_us),
        units,
        seconds,
        load_each_us: each(own_us),
        reads_each: each(counts.reads as f64),
        user_share: ticks.0 as f64 / (ticks.0 + ticks.1).max(1) as f64,
        late: counts.late,
        disturbed: false,
        switches_waiting: after.switches.0 - before.switches.0,
        switches_preempted: after.switches.1 - before.switches.1,
        proxy_cpu_others: others(0, spent_us),
        load_cpu_others: others(1, own_us),
        threads_us,
    }
}
