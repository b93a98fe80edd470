//! A tree of processes as one thing: its members, CPU time, memory, descriptors.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::process::{self, CpuTimes};

/// What a tree holds at a moment; kibibytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Holds {
    pub rss_kib: u64,
    pub pss_kib: u64,
    /// Open descriptors.
    pub fds: u64,
}

/// The living descendants of `root`, itself not among them; parents come before their children.
pub fn below(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, parent) in processes() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Every process that is not a zombie, with its parent.
fn processes() -> impl Iterator<Item = (u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent(&stat)?))
    })
}

/// The parent in a line of `stat`, unless it is a zombie's. The name may hold spaces and parentheses.
fn parent(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.next()?.parse().ok(),
    }
}

/// CPU time of a tree, which never goes back: what a thread had used when it was last seen stays counted
/// after its end.
#[derive(Debug, Default)]
pub struct Meter(BTreeMap<u32, CpuTimes>);

impl Meter {
    /// Looks for processes below `keeper` that are new.
    pub fn search(&mut self, keeper: u32) {
        for pid in below(keeper) {
            self.0.entry(pid).or_default();
        }
    }

    /// The processes that were ever found.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// Microseconds that all threads ever seen have used by now.
    pub fn read_us(&mut self) -> u64 {
        for (pid, times) in &mut self.0 {
            times.join(process::cpu_times(*pid));
        }
        self.0.values().map(CpuTimes::total_nanos).sum::<u64>() / 1_000
    }
}

/// Memory and descriptors of the tree below `keeper`.
pub fn holds(keeper: u32) -> Holds {
    let mut all = Holds::default();
    for pid in below(keeper) {
        let memory = process::memory(pid);
        all.rss_kib += memory.rss_bytes / 1024;
        all.pss_kib += memory.pss_bytes.unwrap_or(0) / 1024;
        all.fds += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
    }
    all
}

/// Resident memory of these processes, KiB: cheap enough to be read often.
pub fn rss_kib(pids: impl Iterator<Item = u32>) -> u64 {
    pids.map(|pid| process::rss_bytes(pid) / 1024).sum()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn parents_are_read_past_odd_names() {
        assert_eq!(parent("7 (a) b) S 3 7"), Some(3));
        assert_eq!(parent("7 (gone) Z 3 7"), None);
        assert_eq!(parent("nothing"), None);
    }

    #[test]
    fn a_child_is_below_us_and_holds_memory() -> Result<(), std::io::Error> {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn()?;
        let own = std::process::id();
        let (found, held) = (below(own), holds(own));
        child.kill()?;
        child.wait()?;
        assert!(found.contains(&child.id()));
        assert!(held.rss_kib > 0 && held.fds > 0);
        assert!(!below(own).contains(&child.id()));
        Ok(())
    }
}
