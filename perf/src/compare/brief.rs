//! The short table: one line for each peer in each scenario, and the commands that measure them again.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::row::{self, Row};
use super::table::{self, ByPeer};
use super::{figure, scenario};
use crate::Failure;
use crate::load::outcome::{GAP, TOTAL};
use crate::names::{all_known, unknown};

/// Print a comparison as a short table.
#[derive(Args)]
pub struct Brief {
    /// A directory that `compare` wrote.
    dir: PathBuf,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
}

/// Prints it.
///
/// # Errors
/// There are no rounds.
pub fn print(wanted: &Brief) -> Result<(), Failure> {
    let rows = row::read(&wanted.dir)?;
    let kept: Vec<&str> = table::by_scenario(&rows).into_iter().map(|(name, _)| name).collect();
    all_known([unknown("scenario", wanted.scenario.iter().map(String::as_str), &kept)])?;
    println!("{}", markdown(&rows, &wanted.scenario));
    Ok(())
}

fn markdown(rows: &[Row], wanted: &[String]) -> String {
    let mut out = "| scenario | peer | a second | CPU µs each | × floor | p99 added µs | lost |\n\
        |---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut commands = String::new();
    for (name, rows) in table::by_scenario(rows) {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let all = table::grouped(&rows);
        for peer in table::ordered(&all) {
            let cells = cells(name, peer, &all);
            let _ = writeln!(out, "| {name} | {peer} | {} |", cells.join(" | "));
        }
        let command = rows.last().map_or("", |row| row.command.as_str());
        let _ = writeln!(commands, "- {name}: `{}`", table::every_peer(command));
    }
    format!("{out}\nAgain (one peer: add `--peer direct,floor,NAME`):\n{commands}")
}

fn cells(name: &str, peer: &str, all: &ByPeer<'_>) -> [String; 5] {
    let known = scenario::named(name).ok();
    let streams = known.as_ref().is_some_and(|it| it.load.request.streams());
    let flat_out = known.as_ref().is_some_and(scenario::Scenario::is_flat_out);
    let (rate, of): (fn(&Row) -> f64, _) = match streams {
        true => (figure::events_per_second, GAP),
        false => (figure::answers_per_second, TOTAL),
    };
    let rate = match table::has_knee(peer, all) {
        true => table::knee(peer, all),
        false => table::bounded(peer, all, rate),
    };
    let added = if flat_out { "-".into() } else { table::added(peer, all, of, 0.99) };
    [
        rate,
        table::proxy(peer, all, table::each),
        table::proxy(peer, all, table::ratio),
        added,
        table::lost(peer, all),
    ]
}
