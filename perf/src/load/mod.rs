//! The load generator: sends what a [`Spec`] says to anything that speaks OpenAI's API, and says in an
//! [`Outcome`] what came of it. It knows no target in particular and stands on nothing that does.

mod answer;
pub mod command;
mod connection;
mod events;
mod generator;
mod meter;
pub mod outcome;
mod prompts;
mod schedule;
pub mod spec;
mod summary;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use crate::{Failure, record};
pub use generator::{Phase, Progress};
use outcome::Outcome;
use spec::Spec;

/// Runs a load on this thread, and tells `progress` at each change of phase and ten times a second how it
/// goes. When that breaks, the run ends, and what was measured is kept.
///
/// # Errors
/// The spec is impossible, its target unknown, or the kernel refuses; failing requests are no error.
pub fn run(
    spec: &Spec,
    progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome, Failure> {
    record::machine::ready_process()?;
    generator::Generator::new(spec)?.run(progress)
}
