//! An outcome in words for people.

use std::fmt::Write;

use super::outcome::{CONNECT, GAP, Outcome, SEND_ERROR, TOTAL, TTFT};
use super::spec::Spec;

/// The percentiles shown.
const SHOWN: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// A few lines, ended by a line end.
pub fn summary(spec: &Spec, outcome: &Outcome) -> String {
    let mut text = format!("{} for {:.1} s", spec.target, outcome.seconds);
    text += if outcome.interrupted { " (interrupted)\n" } else { "\n" };
    counts(&mut text, outcome);
    for (why, count) in &outcome.errors {
        line(&mut text, why, &count.to_string());
    }
    histograms(&mut text, outcome);
    line(&mut text, "generator", &cost(outcome));
    if outcome.saturated {
        text += "The generator could not keep up: read all of this as \"at least\".\n";
    }
    text
}

fn cost(outcome: &Outcome) -> String {
    let (done, unit) = match outcome {
        _ if outcome.events > outcome.completed => (outcome.events, "event"),
        _ if outcome.completed > 0 => (outcome.completed, "answer"),
        _ => (outcome.sent, "request"),
    };
    let busy = outcome.cpu_us as f64 / 1e4 / outcome.seconds.max(1e-9);
    let each = outcome.cpu_us as f64 / done.max(1) as f64;
    format!("{each:.1} us CPU/{unit}, {busy:.0} % of a CPU")
}

fn counts(text: &mut String, outcome: &Outcome) {
    let each_second = |count: u64| count as f64 / outcome.seconds.max(1e-9);
    let answers = format!("{} ({:.1}/s)", outcome.completed, each_second(outcome.completed));
    line(text, "answers", &answers);
    if outcome.events > 0 {
        let reads = outcome.reads as f64 / outcome.events as f64;
        let rate = each_second(outcome.events);
        line(text, "events", &format!("{} ({rate:.1}/s, {reads:.2} reads each)", outcome.events));
    }
    let (sent, ok) = (outcome.sent, outcome.ok);
    line(text, "requests", &format!("{sent} sent: {ok} ok, {} failed", outcome.failed()));
    for (name, count) in [
        ("given up", outcome.aborted),
        ("unfinished", outcome.unfinished),
        ("never sent", outcome.unsent),
    ] {
        if count > 0 {
            line(text, name, &count.to_string());
        }
    }
    let megabytes = |bytes: u64| each_second(bytes) / 1e6;
    let (came, went) = (megabytes(outcome.bytes_in), megabytes(outcome.bytes_out));
    line(text, "traffic", &format!("{went:.2} MB/s out, {came:.2} MB/s in"));
}

fn histograms(text: &mut String, outcome: &Outcome) {
    for (name, title) in [
        (TOTAL, "latency"),
        (TTFT, "first token"),
        (GAP, "token gap"),
        (CONNECT, "connect"),
        (SEND_ERROR, "sent late by"),
    ] {
        let Some(histogram) = outcome.histogram(name) else { continue };
        let unit_us = if name == SEND_ERROR { 1e-3 } else { 1.0 };
        let shown = SHOWN.iter().filter_map(|(q, label)| {
            Some(format!("{label} {}", time(outcome.percentile(name, *q)? as f64 * unit_us)))
        });
        let most = format!("max {}", time(histogram.max() as f64 * unit_us));
        line(text, title, &shown.chain([most]).collect::<Vec<_>>().join("  "));
    }
}

fn line(text: &mut String, name: &str, said: &str) {
    // A String takes everything.
    let _ = writeln!(text, "  {name:<13} {said}");
}

/// Microseconds, as people read them.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::load::outcome::encode;
    use crate::load::spec::{Arrivals, Shape};
    use crate::traffic::payload::Text;

    #[test]
    fn percentiles_with_few_samples_beyond_are_left_out() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=200).for_each(|value| histogram.record(value * 100).unwrap());
        let hist = [(TOTAL.to_owned(), encode(&histogram).unwrap())].into();
        let outcome = Outcome { hist, seconds: 1.0, saturated: true, ..Outcome::default() };
        let shape = Shape::Unary { body_bytes: 1, text: Text::Plain, output_tokens: 1 };
        let target = "http://h".parse().unwrap();
        let spec = Spec::new(target, Arrivals::Closed { concurrency: 1 }, shape, 1);
        let text = summary(&spec, &outcome);
        assert!(text.contains("p90 18.02 ms") && !text.contains("p99"), "{text}");
        assert!(text.contains("max 20.02 ms") && text.contains("at least"), "{text}");
    }
}
