//! The keeper: stands between the harness and a proxy of several processes, and sees to it that none of them
//! stays behind.
//!
//! Orphans of the tree become the keeper's children. When its standard input ends (the harness stopped it,
//! or died, however it died) or the proxy itself has ended, it kills whatever is left of the tree.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, set_child_subreaper};

use super::tree;
use crate::Failure;

/// Start a program pinned, and end its whole tree of processes with the standard input.
#[derive(Args)]
pub struct Keep {
    /// The CPUs it may use.
    #[arg(long, value_delimiter = ',')]
    cpu: Vec<usize>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Returns when the program has ended.
///
/// # Errors
/// It cannot be started, or ended by itself.
pub fn run(keep: &Keep) -> Result<(), Failure> {
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut child = start(keep)?;
    std::thread::spawn(|| {
        // The harness never writes; whatever ends this read, ends the tree.
        let _ = std::io::stdin().read(&mut [0]);
        end_tree();
        std::process::exit(0);
    });
    let status = child.wait()?;
    end_tree();
    Err(told(status).into())
}

fn start(keep: &Keep) -> Result<Child, Failure> {
    let cpus = keep.cpu.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let started = Command::new(std::env::current_exe()?)
        .args(["launch", "--cpu", &cpus, "--parent", &std::process::id().to_string(), "--"])
        .args(&keep.program)
        .stdin(Stdio::null())
        .spawn()?;
    Ok(started)
}

/// Kills until nothing is left: a process may fork while its parent is being killed.
fn end_tree() {
    loop {
        let left = tree::below(std::process::id());
        if left.is_empty() {
            return;
        }
        for pid in left.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn told(status: ExitStatus) -> String {
    format!("the program ended by itself: {status}")
}
