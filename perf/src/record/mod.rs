//! Rounds on disk: one JSON line each, written as soon as it is measured, never rewritten.

pub mod line;
pub mod machine;
pub mod range;
pub mod summary;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use line::Line;

use crate::Failure;

/// The file of the rounds.
pub const ROUNDS: &str = "rounds.jsonl";

/// A directory of rounds, open for more.
pub struct Book {
    rounds: File,
}

impl Book {
    /// Opens (or begins) a directory and notes this run's machine, versions and command in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(dir: &Path, sluice: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let append = |name: &str| OpenOptions::new().create(true).append(true).open(dir.join(name));
        writeln!(append("runs.jsonl")?, "{}", serde_json::to_string(&machine::facts(sluice))?)?;
        Ok(Self { rounds: append(ROUNDS)? })
    }

    /// Keeps a round and says it.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&mut self, line: &Line) -> Result<(), Failure> {
        writeln!(self.rounds, "{}", serde_json::to_string(line)?)?;
        eprintln!("{line}");
        Ok(())
    }
}
