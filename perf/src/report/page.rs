//! The page: what it comes to, each scenario, the foundation, peers, machine, and how to read it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::html::Html;
use super::input::Kept;
use super::study::{Scenario, scenarios};
use super::{foundation, gallery, summary, table};
use crate::Failure;

const STYLE: &str = include_str!("style.css");

/// Writes the page of a directory called `name`.
///
/// # Errors
/// The chart library's.
pub fn write(name: &str, kept: &Kept) -> Result<String, Failure> {
    let mut sections = Html::new();
    let mut outlooks = Vec::new();
    let names = scenarios(&kept.rounds);
    // One at a time: a scenario's histograms are large once they are read.
    for name in &names {
        let scenario = Scenario::read(name, &kept.rounds);
        outlooks.extend(summary::outlooks(&scenario));
        sections.put(&section(&scenario)?);
    }
    let mut html = Html::new();
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.element("title", format!("Sluice, measured: {name}"));
    html.raw("<style>\n").raw(STYLE).raw("</style>\n</head>\n<body>\n");
    header(&mut html, name, kept, &names);
    html.put(&summary::write(&outlooks)).put(&sections);
    html.put(&foundation::write(&kept.foundation)?);
    peers(&mut html, kept);
    runs(&mut html, kept);
    reading(&mut html);
    html.raw("</body>\n</html>\n");
    Ok(html.into_string())
}

fn header(html: &mut Html, name: &str, kept: &Kept, scenarios: &[&str]) {
    html.raw("<header>\n<h1>Sluice, measured</h1>\n<p class=\"soft\">").text(name);
    if let Some(run) = kept.runs.last() {
        let fact = |key: &str| run.get(key).map(show).unwrap_or_default();
        let (cpu, cpus, kernel) = (fact("cpu"), fact("cpus"), fact("kernel"));
        html.text(format!(
            " · {} · {cpu}, Linux {kernel}, {cpus} CPU of the harness",
            fact("date")
        ));
        html.text(format!(" · {}", fact("sluice")));
    }
    html.raw("</p>\n");
    if !kept.unreadable.is_empty() {
        html.raw("<p class=\"behind\">").text(kept.unreadable.len());
        html.raw(" lines could not be read and are left out:</p>\n<pre>");
        html.text(kept.unreadable.join("\n")).raw("</pre>\n");
    }
    html.raw("<nav><ul>\n");
    for scenario in scenarios {
        html.raw("<li>").open("a", &[("href", &format!("#{}", anchor(scenario)))]).text(scenario);
        html.raw("</a></li>\n");
    }
    let rest: [(&str, &str, bool); 4] = [
        ("#foundation", "Foundation", !kept.foundation.is_empty()),
        ("#peers", "Peers", !kept.peers.is_empty()),
        ("#machine", "Machine and commands", !kept.runs.is_empty()),
        ("#reading", "How to read this", true),
    ];
    for (target, words, there) in rest {
        if there {
            html.raw("<li>").open("a", &[("href", &target)]).text(words).raw("</a></li>\n");
        }
    }
    html.raw("</ul></nav>\n</header>\n");
}

/// An id that no name can break.
fn anchor(scenario: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("s-{}", scenario.chars().map(plain).collect::<String>())
}

fn section(scenario: &Scenario<'_>) -> Result<Html, Failure> {
    let mut html = Html::new();
    html.open("section", &[("id", &anchor(scenario.name))]);
    html.element("h2", scenario.name);
    if let Ok(known) = crate::compare::scenario::named(scenario.name) {
        html.element("p", known.shows);
    }
    html.put(&gallery::write(scenario)?).put(&table::write(scenario));
    commands(&mut html, scenario);
    raw(&mut html, scenario)?;
    html.raw("</section>\n");
    Ok(html)
}

/// The command that makes each row again; peers that share one share a line.
fn commands(html: &mut Html, scenario: &Scenario<'_>) {
    let mut commands: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for peer in &scenario.peers {
        for sample in peer.samples.values().filter(|sample| !sample.round.command.is_empty()) {
            let peers = commands.entry(&sample.round.command).or_default();
            if !peers.contains(&peer.name) {
                peers.push(peer.name);
            }
        }
    }
    if commands.is_empty() {
        return;
    }
    html.raw("<details><summary>Commands</summary>\n<pre>");
    for (command, peers) in commands {
        html.text(format!("# {}\n{command}\n", peers.join(", ")));
    }
    html.raw("</pre></details>\n");
}

/// The histograms of every round, as they were kept, in the page itself.
fn raw(html: &mut Html, scenario: &Scenario<'_>) -> Result<(), Failure> {
    let mut lines = String::new();
    for sample in scenario.samples() {
        let round = sample.round;
        let kept = json!({
            "scenario": round.scenario, "peer": round.peer, "round": round.round, "hist": round.outcome.hist,
        });
        lines += &serde_json::to_string(&kept)?;
        lines.push('\n');
    }
    let link = format!("data:application/x-ndjson;base64,{}", STANDARD.encode(&lines));
    let file = format!("{}-histograms.jsonl", &anchor(scenario.name)[2..]);
    html.raw("<p class=\"screen soft\">");
    html.open("a", &[("download", &file), ("href", &link)])
        .raw("Raw histograms of every round</a>");
    html.raw(
        " (JSON lines; each histogram in base64, HdrHistogram V2 with deflate; microseconds, ",
    );
    html.raw("send_error nanoseconds)</p>\n");
    Ok(())
}

fn peers(html: &mut Html, kept: &Kept) {
    if kept.peers.is_empty() {
        return;
    }
    html.raw("<section id=\"peers\">\n<h2>Peers</h2>\n");
    for peer in kept.peers.values() {
        html.raw("<details><summary><strong>").text(&peer.peer).raw("</strong> ");
        html.text(&peer.version).raw("</summary>\n");
        if !peer.install.is_empty() {
            html.raw("<p>Installed by <code>").text(&peer.install).raw("</code></p>\n");
        }
        if !peer.config.is_empty() {
            html.raw("<pre>").text(&peer.config).raw("</pre>\n");
        }
        html.raw("</details>\n");
    }
    html.raw("</section>\n");
}

fn runs(html: &mut Html, kept: &Kept) {
    if kept.runs.is_empty() {
        return;
    }
    html.raw("<section id=\"machine\">\n<h2>Machine and commands</h2>\n");
    for run in &kept.runs {
        let command = run.get("command").map(show).unwrap_or_default();
        html.raw("<details open><summary><code>")
            .text(command)
            .raw("</code></summary>\n<table><tbody>\n");
        for (key, value) in run.as_object().into_iter().flatten() {
            if key != "command" && !value.is_null() {
                html.raw("<tr><th scope=\"row\">").text(key.replace('_', " "));
                html.raw("</th><td class=\"wide\">").text(show(value)).raw("</td></tr>\n");
            }
        }
        html.raw("</tbody></table></details>\n");
    }
    html.raw("</section>\n");
}

fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What a reader has to know, a sentence or two each.
const READING: [&str; 6] = [
    "A figure is the median of its rounds, with the least and the most below it. Curves hold all \
     rounds together.",
    "Two peers are compared in the rounds that both were in. Where some rounds say more and some \
     less, the difference is noise.",
    "No percentile is shown with fewer than ten samples beyond it; a curve ends there.",
    "Where the load generator or the servers were at their limit before the proxy, the rate says \
     “at least” and there is no latency.",
    "“Added” is a percentile less the same percentile without a proxy, in the same round. In open \
     loop latency counts from the moment at which a request was to be sent.",
    "“Floor” relays bytes and knows no HTTP; “floor ×” is a proxy’s CPU time over the floor’s in \
     the same round.",
];

fn reading(html: &mut Html) {
    html.raw("<section id=\"reading\">\n<h2>How to read this</h2>\n<ul>\n");
    for sentence in READING {
        html.element("li", sentence);
    }
    html.raw("</ul>\n</section>\n");
}
