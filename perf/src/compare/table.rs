//! The comparison as a table, scenario by scenario: medians with least and most over the rounds.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::figure::{self, show};
use super::row::{Moments, Row};
use super::scenario;
use crate::load::outcome::{GAP, TOTAL, TTFT};
use crate::peers::{self, DIRECT};
use crate::record::range::{Range, range};
use crate::target::tree::Holds;

/// How the tables are read.
const LEGEND: &str = concat!(
    "Medians [least..most] over the rounds. Added latency is over no proxy at all in the same ",
    "round; \"noise\": some rounds say more, some less. \"≥\": load or servers were at their ",
    "limit before the peer, so no latency is told. A percentile has at least 10 samples beyond ",
    "it, or is not told. \"× sluice@uring\": CPU over Sluice's in the same rounds; below 1 the ",
    "peer is cheaper.\n",
);

/// Share of a CPU that others may take before it is told.
const OTHERS_MAX: f64 = 0.05;

/// Rows of one peer in one scenario, by round.
pub type Rounds<'a> = BTreeMap<u32, &'a Row>;

/// One measurement in a line, for whoever waits.
pub fn line(row: &Row) -> String {
    let cells = [
        row.knee.map(|knee| {
            let least = if knee.at_least { "at least " } else { "" };
            format!("knee {least}{:.0}/s", knee.per_second)
        }),
        Some(format!("{:.0} answers/s", figure::answers_per_second(row))),
        (row.outcome.events > 0).then(|| format!("{:.0} events/s", figure::events_per_second(row))),
        row.each_us().map(|us| format!("{us:.1} us each")),
        row.bound.map(|bound| format!("at least: {} at its limit", figure::name(bound))),
        Some(figure::lost(row)).filter(|lost| *lost > 0).map(|lost| format!("{lost} lost")),
    ];
    let cells: Vec<String> = cells.into_iter().flatten().collect();
    format!("{:18} {}", row.peer, cells.join(", "))
}

/// The tables of all scenarios that were measured.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = LEGEND.to_owned();
    for (name, of) in by_scenario(rows) {
        out += &section(name, &of);
    }
    out
}

/// The scenarios that were measured, as the harness lists them, with their rows.
pub fn by_scenario(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let mut names: Vec<&str> = scenario::names().collect();
    for row in rows {
        if !names.contains(&row.scenario.as_str()) {
            names.push(&row.scenario);
        }
    }
    let of = |name: &str| rows.iter().filter(|row| row.scenario == name).collect::<Vec<_>>();
    names.into_iter().map(|name| (name, of(name))).filter(|(_, of)| !of.is_empty()).collect()
}

fn section(name: &str, rows: &[&Row]) -> String {
    let known = scenario::named(name).ok();
    let shows = known.as_ref().map_or("", |scenario| &scenario.shows);
    let latency = known.as_ref().is_none_or(|scenario| !scenario.is_flat_out());
    let by_event = |row: &&Row| row.proxy.as_ref().is_some_and(|it| it.cpu_us_per_event.is_some());
    let streams = rows.iter().any(by_event);
    let by_peer = grouped(rows);
    let columns = columns(rows, streams, latency);
    let heads: Vec<&str> = columns.iter().map(|column| column.head).collect();
    let mut out = format!("\n## {name}\n{shows}\n\n| peer | {} |\n", heads.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(columns.len() + 1));
    for peer in ordered(&by_peer) {
        let cells: Vec<String> =
            columns.iter().map(|column| (column.cell)(peer, &by_peer)).collect();
        let _ = writeln!(out, "| {peer} | {} |", cells.join(" | "));
    }
    let command = rows.last().map_or("", |row| row.command.as_str());
    let _ = writeln!(out, "\n`{}`", every_peer(command));
    out
}

/// The rows of a scenario by peer and round; a round that was measured again replaces the earlier one.
pub fn grouped<'a>(rows: &[&'a Row]) -> ByPeer<'a> {
    let mut by_peer = ByPeer::new();
    for row in rows {
        by_peer.entry(&row.peer).or_default().insert(row.round, row);
    }
    by_peer
}

/// The command of a whole scenario: without its choice of peers.
pub fn every_peer(command: &str) -> String {
    let mut words = command.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--peer" => drop(words.next()),
            word => kept.push(word),
        }
    }
    kept.join(" ")
}

/// The peers as the harness lists them; what is only there to be compared with is left out.
pub fn ordered<'a>(by_peer: &BTreeMap<&'a str, Rounds<'a>>) -> Vec<&'a str> {
    let place = |name: &str| {
        let base = name.split(' ').next().unwrap_or(name);
        peers::ALL.iter().position(|peer| peer.name == base).unwrap_or(usize::MAX)
    };
    let mut names: Vec<&str> =
        by_peer.keys().copied().filter(|name| !name.starts_with("direct@")).collect();
    names.sort_by_key(|name| (place(name), name.len(), *name));
    names
}

/// Rows of one scenario, by peer.
pub type ByPeer<'a> = BTreeMap<&'a str, Rounds<'a>>;

/// One column: its head, and its cell for a peer.
struct Column {
    head: &'static str,
    cell: fn(&str, &ByPeer<'_>) -> String,
}

fn columns(rows: &[&Row], streams: bool, latency: bool) -> Vec<Column> {
    let mut columns = Vec::new();
    if rows.iter().any(|row| row.knee.is_some()) {
        columns.push(Column { head: "knee, req/s", cell: knee });
    }
    columns.push(Column {
        head: "answers/s",
        cell: |peer, all| bounded(peer, all, figure::answers_per_second),
    });
    if streams {
        columns.extend([
            Column {
                head: "events/s",
                cell: |peer, all| bounded(peer, all, figure::events_per_second),
            },
            Column { head: "CPU µs/event", cell: |peer, all| proxy(peer, all, each) },
        ]);
    } else {
        columns.push(Column { head: "CPU µs/request", cell: |peer, all| proxy(peer, all, each) });
    }
    columns.push(Column { head: "× floor", cell: |peer, all| proxy(peer, all, ratio) });
    columns.push(Column { head: "× sluice@uring", cell: beside_sluice });
    if latency {
        columns.extend(latencies(streams));
    }
    columns.push(Column { head: "lost", cell: lost });
    columns.extend([
        Column {
            head: "RSS MiB idle/loaded/after",
            cell: |peer, all| held(peer, all, |it| it.rss_kib as f64 / 1024.0, 1),
        },
        Column {
            head: "PSS MiB idle/loaded/after",
            cell: |peer, all| held(peer, all, |it| it.pss_kib as f64 / 1024.0, 1),
        },
        Column {
            head: "descriptors idle/loaded/after",
            cell: |peer, all| held(peer, all, |it| it.fds as f64, 0),
        },
    ]);
    if rows.iter().all(|row| row.outcome.completed == 0 && row.open.is_some()) {
        columns.push(Column { head: "RSS KiB each", cell: memory_each });
    }
    columns.push(Column { head: "notes", cell: notes });
    columns
}

fn latencies(streams: bool) -> [Column; 3] {
    if streams {
        [
            Column { head: "TTFT +p50 µs", cell: |peer, all| added(peer, all, TTFT, 0.5) },
            Column { head: "TTFT +p99 µs", cell: |peer, all| added(peer, all, TTFT, 0.99) },
            Column { head: "gap +p99 µs", cell: |peer, all| added(peer, all, GAP, 0.99) },
        ]
    } else {
        [
            Column { head: "+p50 µs", cell: |peer, all| added(peer, all, TOTAL, 0.5) },
            Column { head: "+p99 µs", cell: |peer, all| added(peer, all, TOTAL, 0.99) },
            Column { head: "+p99.9 µs", cell: |peer, all| added(peer, all, TOTAL, 0.999) },
        ]
    }
}

fn rounds<'r, 'a>(peer: &str, all: &'r ByPeer<'a>) -> impl Iterator<Item = &'r &'a Row> {
    all.get(peer).into_iter().flat_map(BTreeMap::values)
}

pub fn bounded(peer: &str, all: &ByPeer<'_>, of: fn(&Row) -> f64) -> String {
    let least = rounds(peer, all).any(|row| row.bound.is_some() && row.peer != DIRECT);
    let values = range(rounds(peer, all).map(|row| of(row)).collect());
    format!("{}{}", if least { "≥ " } else { "" }, show(values))
}

pub fn proxy(peer: &str, all: &ByPeer<'_>, of: fn(&Row) -> Option<f64>) -> String {
    show(range(rounds(peer, all).filter_map(|row| of(row)).collect()))
}

pub fn each(row: &Row) -> Option<f64> {
    row.each_us()
}

pub fn ratio(row: &Row) -> Option<f64> {
    row.proxy.as_ref()?.floor_ratio
}

/// Whether the peer's knee was what was looked for.
pub fn has_knee(peer: &str, all: &ByPeer<'_>) -> bool {
    rounds(peer, all).any(|row| row.scenario == "knee")
}

pub fn knee(peer: &str, all: &ByPeer<'_>) -> String {
    let found: Vec<_> = rounds(peer, all).filter_map(|row| row.knee).collect();
    let values = range(found.iter().map(|knee| knee.per_second).collect());
    let least = if found.iter().any(|knee| knee.at_least) { "≥ " } else { "" };
    let own = if found.iter().all(|knee| knee.within_limit) { "" } else { " (adds over 2 ms)" };
    format!("{least}{}{own}", show(values))
}

/// CPU for each unit over Sluice's, in the same rounds.
fn beside_sluice(peer: &str, all: &ByPeer<'_>) -> String {
    let Some(sluice) = all.get("sluice@uring").filter(|_| peer != "sluice@uring") else {
        return "-".into();
    };
    let pairs = rounds(peer, all)
        .filter_map(|row| Some(row.each_us()? / sluice.get(&row.round)?.each_us()?));
    let found = range(pairs.collect());
    format!("{}{}", show(found), found.map_or("", |it| it.noise_around(1.0)))
}

/// What a peer adds to a percentile; not told where load or servers were at their limit, with the peer or
/// without it.
pub fn added(peer: &str, all: &ByPeer<'_>, histogram: &str, share: f64) -> String {
    let rows: Vec<(&Row, &Row)> = rounds(peer, all)
        .filter_map(|row| {
            let direct = all.get(row.direct.as_deref()?)?.get(&row.round)?;
            let clean = row.bound.is_none() && direct.bound.is_none();
            clean.then_some((*row, *direct))
        })
        .collect();
    let found = range(
        rows.iter()
            .filter_map(|(own, direct)| {
                let of = |row: &Row| Some(row.outcome.percentile(histogram, share)? as f64);
                Some(of(own)? - of(direct)?)
            })
            .collect(),
    );
    match found {
        Some(found) => format!("{}{}", show(Some(found)), found.noise_around(0.0)),
        None => figure::merged_difference(&rows, histogram, share)
            .map_or("-".into(), |us| format!("{us:.0} (all rounds as one)")),
    }
}

pub fn lost(peer: &str, all: &ByPeer<'_>) -> String {
    let sent = |row: &Row| row.outcome.sent + row.outcome.unsent;
    let share = |row: &&&Row| 100.0 * figure::lost(row) as f64 / sent(row).max(1) as f64;
    match range(rounds(peer, all).map(|row| share(&row)).collect()) {
        Some(Range { max: 0.0, .. }) => "0".into(),
        found => format!("{} %", show(found)),
    }
}

/// The middle of what it held before, during and after the load.
fn held(peer: &str, all: &ByPeer<'_>, of: fn(&Holds) -> f64, digits: usize) -> String {
    let middle = |pick: fn(&Moments) -> Holds| {
        let values = rounds(peer, all).filter_map(|row| Some(pick(&row.proxy.as_ref()?.holds)));
        range(values.map(|holds| of(&holds)).collect()).map(|it| it.median)
    };
    let moments = [middle(|it| it.idle), middle(|it| it.loaded), middle(|it| it.after)];
    // Nothing to tell where there is no proxy, or where it could not be looked into.
    if moments.iter().all(|it| it.is_none_or(|value| value == 0.0)) {
        return "-".into();
    }
    moments.map(|it| format!("{:.digits$}", it.unwrap_or(0.0))).join("/")
}

/// Growth of resident memory over the requests that were open, where none came to its end.
fn memory_each(peer: &str, all: &ByPeer<'_>) -> String {
    let grown = rounds(peer, all).filter_map(|row| {
        let holds = row.proxy.as_ref()?.holds;
        let open = row.open?;
        Some((holds.loaded.rss_kib as f64 - holds.idle.rss_kib as f64) / open as f64)
    });
    show(range(grown.collect()))
}

/// What was noted, once each, and who was at its limit.
fn notes(peer: &str, all: &ByPeer<'_>) -> String {
    let mut said: Vec<String> = Vec::new();
    for row in rounds(peer, all) {
        let bound = row.bound.map(|bound| format!("{} at its limit", figure::name(bound)));
        let most = row.others.into_iter().fold(0.0, f64::max);
        let others = (most > OTHERS_MAX)
            .then(|| format!("other work on the CPUs: up to {:.0} %", 100.0 * most));
        let own = bound.into_iter().chain(others);
        for note in own.chain(row.notes.iter().cloned()) {
            let known = said.iter().any(|old| old.split(':').next() == note.split(':').next());
            if !known {
                said.push(note);
            }
        }
    }
    said.join("; ")
}
