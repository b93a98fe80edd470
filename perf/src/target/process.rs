//! What the kernel says of a process: CPU time by thread, memory, context switches.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// CPU time of each thread so far, nanoseconds on a CPU, by thread id.
#[derive(Clone, Debug, Default)]
pub struct CpuTimes(BTreeMap<u32, (String, u64)>);

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    pub rss_bytes: u64,
    /// `None` where the process may not be looked into.
    pub pss_bytes: Option<u64>,
}

/// Reads `/proc/PID/task/*/schedstat`.
pub fn cpu_times(pid: u32) -> CpuTimes {
    let mut times = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|text| text.parse().ok());
        if let (Some(id), Some(nanos)) =
            (task.file_name().to_str().and_then(|id| id.parse().ok()), nanos)
        {
            times.insert(id, (read("comm").trim().to_owned(), nanos));
        }
    }
    CpuTimes(times)
}

impl CpuTimes {
    /// Takes a later reading of the same process; threads that are gone keep what they had.
    pub fn join(&mut self, later: CpuTimes) {
        self.0.extend(later.0);
    }

    /// Nanoseconds of all threads.
    pub fn total_nanos(&self) -> u64 {
        self.0.values().map(|(_, nanos)| nanos).sum()
    }

    /// Microseconds used since `before`, by thread name; threads of one name are added up.
    pub fn since(&self, before: &CpuTimes) -> BTreeMap<String, f64> {
        let mut spent = BTreeMap::new();
        for (id, (name, nanos)) in &self.0 {
            let earlier = before.0.get(id).map_or(0, |(_, nanos)| *nanos);
            *spent.entry(name.clone()).or_default() +=
                nanos.saturating_sub(earlier) as f64 / 1_000.0;
        }
        spent
    }
}

/// Resident memory of a process, bytes, by the kernel's cheapest account.
pub fn rss_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// CPU time of this thread so far, nanoseconds.
pub fn own_cpu_nanos() -> u64 {
    own_times_nanos().0
}

/// Of this thread so far, nanoseconds: on a CPU, and ready to run but waiting for one.
pub fn own_times_nanos() -> (u64, u64) {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut fields = text.split(' ').map_while(|field| field.parse().ok());
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// Reads a process's memory.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let rss_bytes = kilobytes(&status, "VmRSS:").unwrap_or(0);
    Memory { rss_bytes, pss_bytes: kilobytes(&rollup, "Pss:") }
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Jiffies of one CPU so far: (busy, all, stolen by the hypervisor).
pub fn cpu_jiffies(cpu: usize) -> (u64, u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{cpu} ");
    let line = text.lines().find(|line| line.starts_with(&name)).unwrap_or_default();
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).take(8).collect();
    let all: u64 = fields.iter().sum();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (all - idle, all, fields.get(7).copied().unwrap_or(0))
}

/// Ticks that found the process in user code and in the kernel so far: a sample, not a sum.
pub fn ticks(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces; what follows its parenthesis does not.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split(' ').skip(11).map_while(|field| field.parse().ok());
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// Times the process was switched out so far: (waiting, preempted), over all its threads.
pub fn switches(pid: u32) -> (u64, u64) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut total = (0, 0);
    for task in tasks {
        let text = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let count = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
        };
        total.0 += count("voluntary_ctxt_switches:");
        total.1 += count("nonvoluntary_ctxt_switches:");
    }
    total
}
