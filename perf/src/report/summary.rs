//! What it comes to: against whom Sluice is behind, ahead, or neither, in every scenario and figure.

use super::figure::{ALL, Figure};
use super::html::Html;
use super::spread::Standing;
use super::study::Scenario;

/// One line: a scenario, a figure, and the rivals by how Sluice stands to them.
#[derive(Debug, Default)]
pub struct Outlook {
    scenario: String,
    figure: &'static str,
    behind: Vec<String>,
    noise: Vec<String>,
    once: Vec<String>,
    ahead: Vec<String>,
}

/// The lines of a scenario; figures in which all are equal give none.
pub fn outlooks(scenario: &Scenario<'_>) -> Vec<Outlook> {
    ALL.iter().filter_map(|figure| outlook(scenario, figure)).collect()
}

fn outlook(scenario: &Scenario<'_>, figure: &Figure) -> Option<Outlook> {
    let sluice = scenario.sluice()?;
    let mut line =
        Outlook { scenario: scenario.name.to_owned(), figure: figure.name, ..Outlook::default() };
    let rivals = scenario.peers.iter().filter(|peer| !peer.is_sluice() && !peer.is_baseline());
    for rival in rivals {
        let Some(verdict) = figure.verdict(sluice, rival) else { continue };
        let named = format!("{} {}", rival.name, verdict.gap);
        match verdict.standing {
            Standing::More => line.behind.push(named),
            Standing::Less => line.ahead.push(named),
            Standing::Noise => line.noise.push(rival.name.to_owned()),
            Standing::Once => line.once.push(named),
            Standing::Equal => {}
        }
    }
    let said = [&line.behind, &line.noise, &line.once, &line.ahead];
    said.iter().any(|peers| !peers.is_empty()).then_some(line)
}

/// Writes where Sluice is behind, and folded up all the rest.
pub fn write(lines: &[Outlook]) -> Html {
    let mut html = Html::new();
    if lines.is_empty() {
        return html;
    }
    let (behind, rest): (Vec<_>, Vec<_>) = lines.iter().partition(|line| !line.behind.is_empty());
    html.raw(
        "<h2>What it comes to</h2>\n<p>What Sluice costs against each peer, in the rounds that ",
    );
    html.raw("both were in; less is better in every figure. A peer stands under <em>behind</em> ");
    html.raw("or <em>ahead</em> only if every round says so; otherwise the difference is noise, ");
    html.raw("and one round alone establishes nothing. Sluice is behind somebody in ");
    html.text(format!("{} of {} figures.", behind.len(), lines.len())).raw("</p>\n");
    table(&mut html, &behind);
    if !rest.is_empty() {
        html.raw("<details><summary>The other ").text(rest.len()).raw(" figures</summary>\n");
        table(&mut html, &rest);
        html.raw("</details>\n");
    }
    html
}

fn table(html: &mut Html, lines: &[&Outlook]) {
    if lines.is_empty() {
        return;
    }
    html.raw("<table>\n<thead><tr>");
    for name in
        ["Scenario", "Figure", "Sluice is behind", "Noise", "One round only", "Sluice is ahead"]
    {
        html.element("th", name);
    }
    html.raw("</tr></thead>\n<tbody>\n");
    for line in lines {
        html.raw("<tr><th scope=\"row\">").text(&line.scenario).raw("</th><td class=\"wide\">");
        html.text(line.figure).raw("</td>");
        cell(html, "Sluice is behind", "behind", &line.behind);
        cell(html, "Noise", "", &line.noise);
        cell(html, "One round only", "", &line.once);
        cell(html, "Sluice is ahead", "ahead", &line.ahead);
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table>\n");
}

fn cell(html: &mut Html, name: &'static str, class: &'static str, peers: &[String]) {
    if peers.is_empty() {
        html.raw("<td></td>");
        return;
    }
    html.open("td", &[("class", &format!("{class} wide")), ("data-name", &name)]);
    html.text(peers.join(", ")).raw("</td>");
}
