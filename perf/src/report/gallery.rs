//! The pictures of a scenario.

use hdrhistogram::Histogram;

use super::chart::Svg;
use super::chart::curve::{self, Curve};
use super::chart::dots::{self, Row};
use super::chart::palette::{css, look};
use super::chart::time::{self, Memory};
use super::figure::{CPU_EVENT, CPU_REQUEST, Figure};
use super::html::Html;
use super::latency;
use super::study::{Contender, Sample, Scenario};
use crate::Failure;
use crate::load::outcome::BUCKET_MS;
use crate::peers::DIRECT;

/// Least microseconds that a curve shows.
const WAIT_LEAST_US: f64 = 10.0;
const ADDED_LEAST_US: f64 = 1.0;

/// Writes all pictures that the scenario has data for.
///
/// # Errors
/// The chart library's.
pub fn write(scenario: &Scenario<'_>) -> Result<Html, Failure> {
    let mut html = Html::new();
    legend(&mut html, scenario);
    html.raw("<div class=\"charts\">\n");
    latencies(&mut html, scenario)?;
    cpu(&mut html, scenario, &CPU_REQUEST)?;
    cpu(&mut html, scenario, &CPU_EVENT)?;
    memory(&mut html, scenario)?;
    faults(&mut html, scenario)?;
    html.raw("</div>\n");
    Ok(html)
}

/// Puts a picture with its title and what there is to know about it.
pub fn figure(html: &mut Html, title: &str, caption: &str, svg: &Svg) {
    html.raw("<figure><strong>").text(title).raw("</strong>\n").picture(svg);
    html.raw("<figcaption>").text(caption).raw("</figcaption></figure>\n");
}

fn legend(html: &mut Html, scenario: &Scenario<'_>) {
    html.raw("<ul class=\"legend\">\n");
    for peer in &scenario.peers {
        let look = look(peer.name);
        let (on, off) = look.dash.unwrap_or((1, 0));
        html.raw("<li><svg class=\"swatch\" viewBox=\"0 0 28 12\" aria-hidden=\"true\">");
        html.open(
            "path",
            &[
                ("d", &"M0 6H28"),
                ("stroke", &css(look.colour)),
                ("stroke-width", &(f64::from(look.tenths) / 8.0)),
                ("stroke-dasharray", &format!("{on} {off}")),
            ],
        );
        html.raw("</path></svg>").text(peer.name).raw("</li>\n");
    }
    html.raw("</ul>\n");
}

/// A peer's histogram and that of the same rounds without a proxy.
type Pair = (Option<Histogram<u64>>, Option<Histogram<u64>>);

fn latencies(html: &mut Html, scenario: &Scenario<'_>) -> Result<(), Failure> {
    let timed = || scenario.peers.iter().filter(|peer| peer.bound().is_none());
    let waits: Vec<(&Contender<'_>, Pair)> = timed().map(|peer| (peer, peer.waits())).collect();
    let (title, what) = match scenario.streams {
        true => ("Time to first token", "first event with content"),
        false => ("Time to the whole answer", "last byte"),
    };
    let whole = waits.iter().filter_map(|(peer, (own, _))| Some((peer.name, own.as_ref()?)));
    let caption = format!(
        "By percentile, from the intended moment of sending to the {what}; all rounds together."
    );
    curves(html, title, &caption, whole, WAIT_LEAST_US)?;
    let added = waits.iter().filter(|(peer, _)| peer.name != DIRECT).filter_map(|(peer, pair)| {
        let (own, direct) = (pair.0.as_ref()?, pair.1.as_ref()?);
        let points = latency::curve(|q| latency::added(own, direct, q));
        Some(Curve { peer: peer.name, points })
    });
    let caption = "The same, less that of no proxy in the same rounds. What is below 1 µs, or below zero, is \
         drawn at the lower edge.";
    picture(html, "Added latency", caption, added.collect(), ADDED_LEAST_US)?;
    let gaps: Vec<(&str, Histogram<u64>)> =
        timed().filter_map(|peer| Some((peer.name, peer.gaps()?))).collect();
    let caption =
        "By percentile, from one event of a stream to the next; those of one read are 0 apart.";
    let gaps = gaps.iter().map(|(name, gaps)| (*name, gaps));
    curves(html, "Gap between tokens", caption, gaps, WAIT_LEAST_US)
}

fn curves<'a>(
    html: &mut Html,
    title: &str,
    caption: &str,
    peers: impl Iterator<Item = (&'a str, &'a Histogram<u64>)>,
    least_us: f64,
) -> Result<(), Failure> {
    let curves = peers.map(|(peer, histogram)| Curve {
        peer,
        points: latency::curve(|q| latency::at(histogram, q)),
    });
    picture(html, title, caption, curves.collect(), least_us)
}

fn picture(
    html: &mut Html,
    title: &str,
    caption: &str,
    mut curves: Vec<Curve<'_>>,
    least_us: f64,
) -> Result<(), Failure> {
    curves.retain(|curve| curve.points.len() > 1);
    if !curves.is_empty() {
        figure(html, title, caption, &curve::draw(&curves, least_us)?);
    }
    Ok(())
}

fn cpu(html: &mut Html, scenario: &Scenario<'_>, shown: &Figure) -> Result<(), Failure> {
    let row = |peer: &'_ Contender<'_>| shown.of(peer).map(|spread| (peer.name.to_owned(), spread));
    let mut rows: Vec<_> = scenario.peers.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
    let rows: Vec<Row<'_>> = rows
        .iter()
        .map(|(peer, spread)| Row { peer, name: peer.clone(), spread: *spread })
        .collect();
    let svg = dots::draw(&rows)?;
    let caption = "The proxy alone, all its threads. Dot: median of the rounds; whiskers: least and most. The \
         axis is logarithmic.";
    figure(html, shown.name, caption, &svg);
    Ok(())
}

fn memory(html: &mut Html, scenario: &Scenario<'_>) -> Result<(), Failure> {
    let lines: Vec<Memory<'_>> = scenario
        .peers
        .iter()
        .flat_map(|peer| peer.samples.values().map(|sample| (peer.name, sample)))
        .filter_map(|(peer, sample)| {
            let timeline = &sample.round.proxy.as_ref()?.rss_timeline;
            let points: Vec<_> =
                timeline.iter().map(|(ms, kib)| (*ms as f64 / 1e3, *kib as f64)).collect();
            (points.len() > 1).then_some(Memory { peer, points })
        })
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let caption = "Resident, a line for each round. The axis of memory is logarithmic.";
    figure(html, "Memory over time", caption, &time::memory(&lines)?);
    Ok(())
}

fn faults(html: &mut Html, scenario: &Scenario<'_>) -> Result<(), Failure> {
    let struck: Vec<(&Contender<'_>, Vec<&Sample<'_>>)> = scenario
        .peers
        .iter()
        .map(|peer| {
            let hit = |sample: &&Sample<'_>| sample.round.fault.is_some();
            (peer, peer.samples.values().filter(hit).collect())
        })
        .filter(|(_, samples): &(_, Vec<&Sample<'_>>)| !samples.is_empty())
        .collect();
    let all = || struck.iter().flat_map(|(_, samples)| samples.iter());
    let done_most = most(all().map(|sample| done(scenario, sample)));
    let errors_most = most(all().map(|sample| errors(sample)));
    let ends = all().filter_map(|sample| sample.round.outcome.timeline.last());
    let end = ends.map(|bucket| seconds(bucket.at_ms)).fold(1.0, f64::max);
    for (peer, samples) in &struck {
        let Some(fault) = samples.iter().find_map(|sample| sample.round.fault.as_ref()) else {
            continue;
        };
        let drawn = time::Fault {
            from: seconds(fault.at_ms),
            until: fault.until_ms.map_or(f64::MAX, seconds),
            done: samples.iter().map(|sample| done(scenario, sample)).collect(),
            errors: samples.iter().map(|sample| errors(sample)).collect(),
            done_most,
            errors_most,
            seconds: end,
            what: if scenario.streams { "events" } else { "answers" },
        };
        let until = fault.until_ms.map_or("the end".into(), |ms| format!("{:.1} s", seconds(ms)));
        let caption = format!(
            "{}: from {:.1} s until {until}. A line for each round.",
            fault.kind,
            seconds(fault.at_ms)
        );
        figure(html, &format!("{}: around the fault", peer.name), &caption, &time::fault(&drawn)?);
    }
    Ok(())
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn most(series: impl Iterator<Item = Vec<(f64, f64)>>) -> f64 {
    series.flatten().map(|point| point.1).fold(0.0, f64::max)
}

fn done(scenario: &Scenario<'_>, sample: &Sample<'_>) -> Vec<(f64, f64)> {
    rates(sample, |bucket| if scenario.streams { bucket.events } else { bucket.ok })
}

fn errors(sample: &Sample<'_>) -> Vec<(f64, f64)> {
    rates(sample, |bucket| bucket.errors)
}

/// Per second, by seconds; the buckets are whole but the last, which may be cut off.
fn rates(
    sample: &Sample<'_>,
    of: impl Fn(&crate::load::outcome::Bucket) -> u64,
) -> Vec<(f64, f64)> {
    let each = 1_000.0 / BUCKET_MS as f64;
    let timeline = &sample.round.outcome.timeline;
    timeline.iter().map(|bucket| (bucket.at_ms as f64 / 1e3, of(bucket) as f64 * each)).collect()
}
