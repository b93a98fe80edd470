//! One self-contained HTML file from a directory of rounds: no network, no scripts, whatever a round says
//! escaped.

mod chart;
mod figure;
mod foundation;
mod gallery;
mod html;
mod input;
mod latency;
mod page;
pub mod spread;
mod study;
mod summary;
mod table;
pub mod unit;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;

use crate::Failure;

/// Write a report of kept rounds: one HTML file that needs nothing else.
#[derive(Args)]
pub struct Report {
    /// A directory that `compare` or `foundation` wrote.
    dir: PathBuf,
    /// The file to write; without it, report.html in the directory.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Reads, draws, writes.
///
/// # Errors
/// There are no rounds, or the file cannot be written.
pub fn run(wanted: &Report) -> Result<(), Failure> {
    let kept = input::read(&wanted.dir)?;
    let name = wanted.dir.file_name().map_or("rounds".into(), |name| name.to_string_lossy());
    let page = page::write(&name, &kept)?;
    let out = wanted.out.clone().unwrap_or_else(|| wanted.dir.join("report.html"));
    std::fs::write(&out, &page)?;
    eprintln!("{} ({} KiB)", out.display(), page.len() / 1024);
    Ok(())
}
