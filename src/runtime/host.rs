//! What this process may use: CPUs, descriptors; and what must not leave it: core dumps.

use std::fs;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// The CPUs this process may run on, as many of them as its cgroup's quota pays for (at least one).
pub fn usable_cpus() -> Vec<core_affinity::CoreId> {
    let mut cpus = core_affinity::get_core_ids().unwrap_or_default();
    if cpus.is_empty() {
        cpus.push(core_affinity::CoreId { id: 0 });
    }
    if let Some(quota) = cgroup_quota() {
        cpus.truncate(quota.ceil().max(1.0) as usize);
    }
    cpus
}

/// CPUs per period that the cgroup grants, v2 or v1; `None` = unlimited.
fn cgroup_quota() -> Option<f64> {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| quota_v2(&text));
    v2.or_else(|| {
        let quota = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").ok()?;
        let period = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_period_us").ok()?;
        ratio(quota.trim(), period.trim())
    })
}

fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// Raises the soft limit of open descriptors to the hard one; returns what is in force.
pub fn raise_descriptor_limit() -> u64 {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    let raised = rustix::process::setrlimit(Resource::Nofile, wanted).is_ok();
    let limit = if raised { now.maximum } else { now.current };
    limit.unwrap_or(u64::MAX)
}

/// Lets memory come and go in small pages: in huge ones, a process that holds little would hold twice that.
pub fn forbid_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Keeps memory, and with it every secret, out of core files and away from other users' debuggers.
pub fn forbid_core_dumps() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::quota_v2;

    #[test]
    fn quota_is_a_ratio_or_nothing() {
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_v2("150000 100000\n"), Some(1.5));
        assert_eq!(quota_v2("nonsense"), None);
    }
}
