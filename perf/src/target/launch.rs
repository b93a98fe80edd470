//! The step between the harness and a proxy: pins, arranges to die with the harness, becomes the program.

use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// Become another program, pinned, and die with the parent.
#[derive(Args)]
pub struct Launch {
    /// The CPUs it may use, before the machine's other work; without them, any, like everybody else.
    #[arg(long, value_delimiter = ',')]
    cpu: Vec<usize>,
    /// The process it must not outlive.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Never returns when all goes well.
///
/// # Errors
/// The kernel refuses one of the steps.
pub fn run(launch: &Launch) -> Result<(), Failure> {
    // Survives the exec that follows.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != launch.parent) {
        return Err("the harness is gone already".into());
    }
    if !launch.cpu.is_empty() {
        pin(&launch.cpu)?;
        prefer();
    }
    let (program, arguments) = launch.program.split_first().ok_or("no program")?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("cannot start {program}: {error}").into())
}

/// The niceness of everything that is measured or measures.
pub const NICENESS: i32 = -19;

/// The real-time priority, low among those: the kernel's own threads come first.
const PRIORITY: &str = "10";

/// Puts this process before the machine's other work, where that is allowed; whether it was.
///
/// Where the kernel groups processes by session, niceness counts inside a session only, and the session has
/// one of its own.
pub fn prefer() -> bool {
    let _ = std::fs::write("/proc/self/autogroup", NICENESS.to_string());
    setpriority_process(None, NICENESS).is_ok()
}

/// The command line that starts `program` under the real-time scheduler.
pub fn realtime(program: Vec<String>) -> Vec<String> {
    ["chrt", "--rr", PRIORITY].map(str::to_owned).into_iter().chain(program).collect()
}

/// Puts this process under the real-time scheduler.
///
/// # Errors
/// It may not, or there is no `chrt`.
pub fn become_realtime() -> Result<(), Failure> {
    let own = std::process::id().to_string();
    let done = Command::new("chrt").args(["--rr", "--pid", PRIORITY, &own]).status()?;
    if done.success() { Ok(()) } else { Err("chrt may not make this a real-time process".into()) }
}

/// Keeps this thread, and what it starts, on these CPUs.
///
/// # Errors
/// There are no such CPUs, or they are not ours to use.
pub fn pin(cpus: &[usize]) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot use CPU {cpus:?}: {error}").into())
}

/// The kernel's numbers of CPUs go up to this one.
pub const CPU_MAX: usize = CpuSet::MAX_CPU - 1;

/// The CPUs that this thread may use.
///
/// # Errors
/// The kernel's.
pub fn allowed() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}
