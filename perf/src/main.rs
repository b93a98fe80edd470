//! The command line of the harness that measures Sluice end to end.
//!
//! Everything runs on loopback. Every child is killed by the kernel when the harness goes, however it goes.

mod compare;
mod floor;
mod foundation;
mod load;
mod names;
mod peers;
mod record;
mod replay;
mod report;
mod target;
mod traffic;
mod tune;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sluice_sim::options::{read_own, within};

use traffic::CLIENTS_MAX;

/// Whatever keeps a measurement from being made, with its cause in words.
pub type Failure = Box<dyn std::error::Error>;

/// Measures Sluice end to end.
#[derive(Parser)]
#[command(name = "sluice-perf", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Relay bytes and do nothing else: what the driver and the kernel cost.
    Floor(floor::Floor),
    /// Measure Sluice against the floor: CPU, memory, instructions.
    Foundation(foundation::Foundation),
    Gate(foundation::Gate),
    /// Compare Sluice with other proxies on this machine, round by round.
    Compare(compare::Compare),
    /// Print a comparison as the short table that a README can carry.
    Table(compare::Brief),
    /// Put load on anything that speaks the OpenAI API, and measure its answers.
    Load(Box<load::command::Load>),
    /// Play a trace over a simulated fleet and compare routing policies.
    Replay(replay::Replay),
    /// Summarise the rounds kept in a directory again.
    Summary {
        /// A directory that an earlier measurement wrote.
        dir: PathBuf,
    },
    Report(report::Report),
    Tune(tune::Tune),
    /// Answer every request with one fixed answer, for looking at a proxy by hand.
    Mock(Mock),
    /// Become another program, pinned, and die with the parent.
    #[command(hide = true)]
    Launch(target::launch::Launch),
    /// Start a program pinned, and end its whole tree of processes with the standard input.
    #[command(hide = true)]
    Keep(target::keep::Keep),
}

#[derive(Args)]
struct Mock {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Stream events, this many a second on each stream; without it, one whole answer.
    #[arg(long, value_name = "N", value_parser = within::<u32>(1, 1_000_000))]
    events_per_second: Option<u32>,
    /// So many streams are expected: their events are spread evenly in time.
    #[arg(long, value_name = "N", default_value_t = CLIENTS_MAX,
        value_parser = within::<usize>(1, CLIENTS_MAX))]
    streams: usize,
}

fn main() -> ExitCode {
    let cli: Cli = read_own();
    let done = match cli.command {
        Command::Floor(floor) => floor::run(&floor),
        Command::Foundation(foundation) => foundation::run(&foundation),
        Command::Gate(gate) => foundation::gate(&gate),
        Command::Compare(compare) => compare::run(&compare),
        Command::Table(brief) => compare::print_brief(&brief),
        Command::Load(load) => load::command::command(&load),
        Command::Replay(replay) => replay::run(&replay),
        Command::Summary { dir } => record::summary::print(&dir),
        Command::Report(report) => report::run(&report),
        Command::Tune(tune) => tune::run(&tune),
        Command::Mock(mock) => traffic::serve(mock.listen, mock.events_per_second, mock.streams),
        Command::Launch(launch) => target::launch::run(&launch),
        Command::Keep(keep) => target::keep::run(&keep),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sluice-perf: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use clap::CommandFactory;
    use sluice_sim::options::read;

    use super::*;

    fn refusal(words: &[&str]) -> String {
        let words = ["sluice-perf"].iter().chain(words).map(Into::into);
        read::<Cli>(words).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_their_range() {
        for (words, range) in [
            ("compare --rounds 0", "0 is not in 1..=10000"),
            ("foundation --seconds 0", "0 is not in 0.1..=3600"),
            ("load --rate NaN", "NaN is not in 0.001..=10000000"),
            ("load --rate -3", "-3 is not in 0.001..=10000000"),
            ("load --abort-share 1.5", "1.5 is not in 0..=1"),
            ("load --body 0", "0 is not in 1..=67108864 bytes,"),
            ("replay --loss 2", "2 is not in 0..=1"),
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            let said = refusal(&words);
            assert!(said.contains(&format!("'{} <", words[1])) && said.contains(range), "{said}");
        }
    }

    #[test]
    fn every_number_has_a_range() {
        let mut numbers = 0;
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            for option in command.get_arguments().filter(|it| it.get_action().takes_values()) {
                let kind = option.get_value_parser().type_id();
                let number = [
                    TypeId::of::<u32>(),
                    TypeId::of::<u64>(),
                    TypeId::of::<usize>(),
                    TypeId::of::<f64>(),
                ];
                let (Some(long), true) = (option.get_long(), number.iter().any(|id| kind == *id))
                else {
                    continue;
                };
                let long = format!("--{long}");
                for wrong in ["NaN", "-1", "1e300", "many"] {
                    let said = refusal(&[command.get_name(), &long, wrong]);
                    assert!(
                        said.contains(&format!("{wrong} is not in ")),
                        "{long} {wrong}: {said}"
                    );
                }
                numbers += 1;
            }
        }
        assert!(numbers > 40, "{numbers} numbers");
    }
}
