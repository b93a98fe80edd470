//! The table: medians with their ranges, and Sluice over the floor by paired rounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::ROUNDS;
use super::line::Line;
use super::range::{Range, range};
use crate::Failure;
use crate::compare::{self, ROWS};
use crate::foundation::{aim, shows};

/// Values of one target in one measurement, by round.
type Rounds = BTreeMap<u32, f64>;

/// Prints the tables of a directory of rounds, comparisons first, and keeps them there as `summary.md`.
///
/// # Errors
/// There are no rounds, or they cannot be read.
pub fn print(dir: &Path) -> Result<(), Failure> {
    let mut parts = Vec::new();
    if dir.join(ROWS).exists() {
        parts.push(compare::tables(dir)?);
    }
    if dir.join(ROUNDS).exists() {
        let text = fs::read_to_string(dir.join(ROUNDS))?;
        let lines =
            text.lines().map(serde_json::from_str::<Line>).collect::<Result<Vec<_>, _>>()?;
        parts.push(table(&lines));
    }
    if parts.is_empty() {
        return Err(format!("{} holds neither {ROWS} nor {ROUNDS}", dir.display()).into());
    }
    let text = parts.join("\n");
    fs::write(dir.join("summary.md"), &text)?;
    println!("{text}");
    Ok(())
}

fn table(lines: &[Line]) -> String {
    let mut groups: BTreeMap<(String, String, String, String), BTreeMap<String, Rounds>> =
        BTreeMap::new();
    let disturbed = |line: &&Line| line.detail.get("disturbed").is_some_and(|is| is == true);
    for line in lines.iter().filter(|line| !disturbed(line)) {
        let key =
            (line.measure.clone(), line.scenario.clone(), line.driver.clone(), line.unit.clone());
        let rounds = groups.entry(key).or_default().entry(line.target.clone()).or_default();
        // A round that was measured again replaces the earlier one.
        rounds.insert(line.round, line.value);
    }
    let left_out = lines.iter().filter(disturbed).count();
    let mut out = format!(
        "Medians [least..most]. Ratios are of the same round; \"noise\" = some rounds say more, some less.\n\
         {left_out} disturbed measurements are left out.\n\n",
    );
    out += "| measure | scenario | driver | unit | floor | sluice | sluice / floor, by round | aim |\n\
         |---|---|---|---|---|---|---|---|\n";
    for ((measure, scenario, driver, unit), targets) in &groups {
        let cells = row(measure, scenario, targets);
        out += &format!("| {measure} | {scenario} | {driver} | {unit} | {} |\n", cells.join(" | "));
    }
    let measured = |name: &str| lines.iter().any(|line| line.scenario == name);
    out += "\n";
    let mut said = Vec::new();
    for (name, what) in shows().into_iter().filter(|(name, _)| measured(name)) {
        if !said.contains(&name) {
            out += &format!("- {name}: {what}\n");
            said.push(name);
        }
    }
    out
}

fn row(measure: &str, scenario: &str, targets: &BTreeMap<String, Rounds>) -> [String; 4] {
    let none = Rounds::new();
    let floor = targets.get("floor").unwrap_or(&none);
    let sluice = targets.get("sluice").unwrap_or(&none);
    let paired = |combine: fn(f64, f64) -> f64| {
        let pairs =
            sluice.iter().filter_map(|(round, value)| Some(combine(*value, *floor.get(round)?)));
        range(pairs.collect())
    };
    let (ratio, above) = (paired(|a, b| a / b), paired(|a, b| a - b));
    let value = range(sluice.values().copied().collect());
    let verdict = verdict(measure, scenario, value, ratio, above);
    let ratio = ratio.map_or("-".into(), |r| format!("{}{}", show(Some(r)), r.noise_around(1.0)));
    [show(range(floor.values().copied().collect())), show(value), ratio, verdict]
}

fn verdict(
    measure: &str,
    scenario: &str,
    value: Option<Range>,
    ratio: Option<Range>,
    above: Option<Range>,
) -> String {
    let aim = aim(measure, scenario);
    let judged = [
        ("", aim.value_max, value),
        ("ratio ", aim.ratio_max, ratio),
        ("floor + ", aim.above_floor_max, above),
    ];
    let words: Vec<String> = judged
        .into_iter()
        .filter_map(|(what, most, got)| Some((what, most?, got?)))
        .map(|(what, most, got)| {
            let met = if got.median <= most { "met" } else { "missed" };
            format!("{what}<= {most}: {met}")
        })
        .collect();
    if words.is_empty() { "-".into() } else { words.join("; ") }
}

fn show(range: Option<Range>) -> String {
    let Some(Range { median, min, max, count }) = range else { return "-".into() };
    let digits = if median >= 100.0 { 0 } else { 2 };
    format!("{median:.digits$} [{min:.digits$}..{max:.digits$}] n={count}")
}
