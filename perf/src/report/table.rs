//! The table of a scenario: every peer, every figure, whatever it says.

use super::figure::{ALL, Figure};
use super::html::Html;
use super::spread::{Spread, Standing};
use super::study::{Contender, Scenario};
use super::unit;
use crate::compare::row::{Bound, Moments};
use crate::target::tree::Holds;

/// Writes the table of one scenario. Figures that no peer has get no column.
pub fn write(scenario: &Scenario<'_>) -> Html {
    let shown = |figure: &&Figure| scenario.peers.iter().any(|peer| figure.of(peer).is_some());
    let figures: Vec<&Figure> = ALL.iter().filter(shown).collect();
    let mut html = Html::new();
    html.raw("<table class=\"figures\">\n<thead><tr>")
        .element("th", "Peer")
        .element("th", rate_name(scenario));
    for figure in &figures {
        html.element("th", figure.name);
    }
    html.element("th", "Remarks").raw("</tr></thead>\n<tbody>\n");
    for peer in &scenario.peers {
        html.put(&row(scenario, peer, &figures));
    }
    html.raw("</tbody></table>\n");
    html
}

fn rate_name(scenario: &Scenario<'_>) -> &'static str {
    if scenario.streams { "Events per second" } else { "Answers per second" }
}

fn row(scenario: &Scenario<'_>, peer: &Contender<'_>, figures: &[&Figure]) -> Html {
    let mut html = Html::new();
    html.raw(if peer.is_sluice() { "<tr class=\"ours\">" } else { "<tr>" });
    html.raw("<th scope=\"row\">").text(peer.name).raw("</th>");
    html.open("td", &[("data-name", &rate_name(scenario))]).put(&rate(scenario, peer));
    html.raw("</td>");
    for figure in figures {
        let Some(spread) = figure.of(peer) else {
            html.raw("<td></td>");
            continue;
        };
        html.open("td", &[("data-name", &figure.name)]).put(&cell(scenario, peer, figure, spread));
        html.raw("</td>");
    }
    html.raw("<td class=\"wide\">").put(&remarks(peer)).raw("</td></tr>\n");
    html
}

/// Median, range, and how Sluice stands to it.
fn cell(scenario: &Scenario<'_>, peer: &Contender<'_>, figure: &Figure, spread: Spread) -> Html {
    let mut html = Html::new();
    html.text((figure.show)(spread.median)).put(&range(spread, figure.show));
    let sluice = scenario.sluice().filter(|sluice| sluice.name != peer.name);
    let Some(verdict) = sluice.and_then(|sluice| figure.verdict(sluice, peer)) else { return html };
    let (class, words) = match verdict.standing {
        Standing::Equal => return html,
        Standing::Noise => ("", "noise".into()),
        Standing::Less => ("ahead", format!("Sluice {}", verdict.gap)),
        Standing::More => ("behind", format!("Sluice {}", verdict.gap)),
        Standing::Once => ("", format!("Sluice {}, once", verdict.gap)),
    };
    html.open("small", &[("class", &class)]).text(words).raw("</small>");
    html
}

fn range(spread: Spread, show: fn(f64) -> String) -> Html {
    let mut html = Html::new();
    if let Some(range) = spread.range(show) {
        html.raw("<small>").text(range).raw("</small>");
    }
    html
}

/// What came through; "at least" where the proxy was not the one at its limit.
fn rate(scenario: &Scenario<'_>, peer: &Contender<'_>) -> Html {
    let mut html = Html::new();
    let rates = peer.samples.values().filter(|sample| sample.round.outcome.seconds > 0.0);
    let spread = Spread::of(rates.map(|sample| {
        let outcome = &sample.round.outcome;
        let done = if scenario.streams { outcome.events } else { outcome.completed };
        (done as f64 / outcome.seconds).round()
    }));
    let Some(spread) = spread else { return html };
    if peer.bound().is_some() {
        html.raw("at least ");
    }
    html.text(unit::count(spread.median)).put(&range(spread, unit::count));
    html
}

fn remarks(peer: &Contender<'_>) -> Html {
    let mut words: Vec<String> = vec![match peer.samples.len() {
        1 => "1 round".into(),
        rounds => format!("{rounds} rounds"),
    }];
    let ratios = peer.samples.values().filter_map(|s| s.round.proxy.as_ref()?.floor_ratio);
    if let Some(spread) = Spread::of(ratios) {
        words.push(format!("floor × {}", spread.show(unit::factor)));
    }
    match peer.bound() {
        Some(Bound::Load) => {
            words.push("the load generator was at its limit first: no latency".into())
        }
        Some(Bound::Server) => {
            words.push("the servers were at their limit first: no latency".into())
        }
        None => {}
    }
    words.extend(knee(peer));
    words.extend(others(peer));
    let errors = peer.samples.values().flat_map(|sample| &sample.round.outcome.errors);
    let mut kinds: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    errors.for_each(|(kind, count)| *kinds.entry(kind).or_default() += count);
    words.extend(
        kinds.iter().map(|(kind, count)| format!("{kind}: {}", unit::count(*count as f64))),
    );
    words.extend(memory(peer));
    for sample in peer.samples.values() {
        for note in &sample.round.notes {
            if !words.contains(note) {
                words.push(note.clone());
            }
        }
    }
    let mut html = Html::new();
    html.raw("<small>").text(words.join("; ")).raw("</small>");
    html
}

/// The highest rate that went well, where it was looked for.
fn knee(peer: &Contender<'_>) -> Option<String> {
    let knees = || peer.samples.values().filter_map(|sample| sample.round.knee);
    let spread = Spread::of(knees().map(|knee| knee.per_second.round()))?;
    let least = if knees().any(|knee| knee.at_least) { "at least " } else { "" };
    let limit = if knees().all(|knee| knee.within_limit) { "" } else { " (where latency doubles)" };
    Some(format!("knee {least}{} a second{limit}", spread.show(unit::count)))
}

/// What others took of the CPUs meanwhile, where that is worth a word.
fn others(peer: &Contender<'_>) -> Option<String> {
    let shares = peer.samples.values().flat_map(|sample| sample.round.others);
    let most = shares.fold(0.0, f64::max);
    (most > 0.05).then(|| format!("others took up to {:.0} % of a CPU", most * 100.0))
}

/// Memory and descriptors before, under load, and after, as far as they could be read.
fn memory(peer: &Contender<'_>) -> Vec<String> {
    let proxies = || peer.samples.values().filter_map(|sample| sample.round.proxy.as_ref());
    let three = |what: &str, read: fn(&Holds) -> u64, show: fn(f64) -> String| {
        let moment = |of: fn(&Moments) -> Holds| {
            let values = proxies().map(|proxy| read(&of(&proxy.holds)) as f64);
            Spread::of(values).map_or(0.0, |spread| spread.median)
        };
        let values = [moment(|m| m.idle), moment(|m| m.loaded), moment(|m| m.after)];
        let [idle, loaded, after] = values.map(show);
        let known = values.iter().any(|value| *value > 0.0);
        known.then(|| format!("{what} {idle} → {loaded} → {after}"))
    };
    [
        three("RSS", |holds| holds.rss_kib, unit::kib),
        three("PSS", |holds| holds.pss_kib, unit::kib),
        three("files", |holds| holds.fds, unit::count),
    ]
    .into_iter()
    .flatten()
    .collect()
}
