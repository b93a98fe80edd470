//! The table of a scenario: every peer, every figure, whatever it says.

use super::figure::{ALL, Figure};
use super::html::Html;
use super::spread::{Spread, Standing};
use super::study::{Contender, Scenario};
use super::unit;

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
        Some("load") => words.push("the load generator was at its limit first: no latency".into()),
        Some("server") => words.push("the servers were at their limit first: no latency".into()),
        Some(other) => words.push(format!("{other} was at its limit first: no latency")),
        None => {}
    }
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

/// Memory and descriptors before, under load, and after.
fn memory(peer: &Contender<'_>) -> Vec<String> {
    let proxies = || peer.samples.values().filter_map(|sample| sample.round.proxy.as_ref());
    let median = |read: fn(&super::input::Proxy) -> Option<f64>| {
        Spread::of(proxies().filter_map(read)).map(|spread| spread.median)
    };
    let three = |what: &str, values: [Option<f64>; 3], show: fn(f64) -> String| {
        let [idle, loaded, after] = values.map(|value| value.map_or("?".into(), show));
        values.iter().any(Option::is_some).then(|| format!("{what} {idle} → {loaded} → {after}"))
    };
    let rss =
        [median(|p| p.rss_idle_kib), median(|p| p.rss_loaded_kib), median(|p| p.rss_after_kib)];
    let pss =
        [median(|p| p.pss_idle_kib), median(|p| p.pss_loaded_kib), median(|p| p.pss_after_kib)];
    let fds = [median(|p| p.fds_idle), median(|p| p.fds_loaded), median(|p| p.fds_after)];
    [three("RSS", rss, unit::kib), three("PSS", pss, unit::kib), three("files", fds, unit::count)]
        .into_iter()
        .flatten()
        .collect()
}
