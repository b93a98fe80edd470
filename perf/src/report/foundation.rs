//! The foundation's figures: Sluice beside the floor.

use std::collections::BTreeMap;

use super::chart::dots::{self, Row};
use super::gallery;
use super::html::Html;
use super::spread::{Spread, Standing};
use super::unit;
use crate::Failure;
use crate::record::line::Line;

/// Values of one target by round.
type Rounds = BTreeMap<u32, f64>;
/// (measure, scenario, driver, unit).
type Key<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Writes the section; nothing without lines.
///
/// # Errors
/// The chart library's.
pub fn write(lines: &[Line]) -> Result<Html, Failure> {
    let mut html = Html::new();
    let groups = group(lines);
    if groups.is_empty() {
        return Ok(html);
    }
    html.raw("<section id=\"foundation\">\n<h2>Foundation: Sluice beside the floor</h2>\n");
    html.raw(
        "<p>One shard on one CPU against a raw byte relay on the same runtime, in the same rounds. \
              Disturbed measurements are left out.</p>\n<div class=\"charts\">\n",
    );
    for unit in ["CPU us/request", "CPU us/event"] {
        picture(&mut html, &groups, unit)?;
    }
    html.raw("</div>\n<table>\n<thead><tr>");
    for name in ["Figure", "Unit", "Floor", "Sluice", "Sluice over floor"] {
        html.element("th", name);
    }
    html.raw("</tr></thead>\n<tbody>\n");
    for (key, targets) in &groups {
        row(&mut html, key, targets);
    }
    html.raw("</tbody></table>\n</section>\n");
    Ok(html)
}

fn group(lines: &[Line]) -> BTreeMap<Key<'_>, BTreeMap<&str, Rounds>> {
    let mut groups: BTreeMap<Key<'_>, BTreeMap<&str, Rounds>> = BTreeMap::new();
    let disturbed = |line: &&Line| line.detail.get("disturbed").is_some_and(|is| is == true);
    for line in lines.iter().filter(|line| !disturbed(line)) {
        let key: Key<'_> = (&line.measure, &line.scenario, &line.driver, &line.unit);
        let rounds = groups.entry(key).or_default().entry(&line.target).or_default();
        // A round that was measured again replaces the earlier one.
        rounds.insert(line.round, line.value);
    }
    groups
}

fn picture(
    html: &mut Html,
    groups: &BTreeMap<Key<'_>, BTreeMap<&str, Rounds>>,
    unit: &str,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for ((_, scenario, driver, _), targets) in groups.iter().filter(|(key, _)| key.3 == unit) {
        for (target, rounds) in targets {
            if let Some(spread) = Spread::of(rounds.values().copied()) {
                let name = format!("{scenario} {driver}");
                rows.push(Row { peer: target, name, spread });
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let title = if unit.ends_with("event") { "CPU per event" } else { "CPU per request" };
    let caption = "Grey: the floor. Red: Sluice. Dot: median; whiskers: least and most.";
    gallery::figure(html, title, caption, &dots::draw(&rows)?);
    Ok(())
}

fn row(html: &mut Html, key: &Key<'_>, targets: &BTreeMap<&str, Rounds>) {
    let (measure, scenario, driver, unit) = key;
    let none = Rounds::new();
    let rounds = |target: &str| targets.get(target).unwrap_or(&none);
    let (floor, sluice) = (rounds("floor"), rounds("sluice"));
    let pairs: Vec<(f64, f64)> =
        sluice.iter().filter_map(|(round, value)| Some((*value, *floor.get(round)?))).collect();
    html.raw("<tr><th scope=\"row\">").text(format!("{scenario}, {driver}, {measure}"));
    html.raw("</th>").open("td", &[("data-name", &"Unit")]).text(unit.replace("us/", "µs/"));
    html.raw("</td>");
    for (name, rounds) in [("Floor", floor), ("Sluice", sluice)] {
        match Spread::of(rounds.values().copied()) {
            Some(spread) => {
                html.open("td", &[("data-name", &name)]).text(spread.show(show)).raw("</td>")
            }
            None => html.raw("<td></td>"),
        };
    }
    match Spread::of(pairs.iter().map(|(sluice, floor)| sluice / floor)) {
        Some(spread) => {
            html.open("td", &[("data-name", &"Sluice over floor")]).text(spread.show(unit::digits));
            if Standing::of(&pairs) == Some(Standing::Noise) {
                html.raw(", noise");
            }
            html.raw("</td></tr>\n")
        }
        None => html.raw("<td></td></tr>\n"),
    };
}

fn show(value: f64) -> String {
    if value >= 1_000.0 { unit::count(value.round()) } else { unit::digits(value) }
}
