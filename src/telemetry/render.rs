//! The Prometheus text format, version 0.0.4.
//!
//! Knows how to write families, samples and histograms; [`super::metrics`] says which.

use std::fmt::Write as _;

use super::histogram::Reading;

/// The format's media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label's name and value. Names are ours; values are escaped.
pub type Label<'a> = (&'static str, &'a str);

/// What a family's samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Histogram,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        }
    }
}

/// An exposition being written.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    family: &'static str,
}

impl Text {
    /// Begins a family: every sample up to the next family belongs to it.
    pub fn family(&mut self, name: &'static str, kind: Type, help: &str) {
        debug_assert!(!help.contains(['\n', '\\']));
        self.family = name;
        // Writing into a String cannot fail, here and below.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    /// A sample of a whole number.
    pub fn sample(&mut self, labels: &[Label<'_>], value: u64) {
        self.head("", labels, None);
        let _ = writeln!(self.out, " {value}");
    }

    /// A sample counted in ticks and shown in units.
    pub fn scaled(&mut self, labels: &[Label<'_>], ticks: u64, ticks_per_unit: u64) {
        self.head("", labels, None);
        let _ = writeln!(self.out, " {}", units(ticks, ticks_per_unit));
    }

    /// A whole histogram: cumulative buckets, sum, count.
    pub fn histogram(&mut self, labels: &[Label<'_>], reading: &Reading) {
        let per_unit = reading.bounds.ticks_per_unit;
        let mut total = 0u64;
        for (at, n) in reading.buckets.iter().enumerate() {
            total = total.wrapping_add(*n);
            let edge = reading.bounds.edges.get(at);
            let edge = edge.map_or("+Inf".to_owned(), |ticks| units(*ticks, per_unit).to_string());
            self.head("_bucket", labels, Some(&edge));
            let _ = writeln!(self.out, " {total}");
        }
        self.head("_sum", labels, None);
        let _ = writeln!(self.out, " {}", units(reading.sum, per_unit));
        self.head("_count", labels, None);
        let _ = writeln!(self.out, " {total}");
    }

    /// The exposition.
    pub fn finish(self) -> String {
        self.out
    }

    fn head(&mut self, suffix: &str, labels: &[Label<'_>], edge: Option<&str>) {
        self.out.push_str(self.family);
        self.out.push_str(suffix);
        let edge = edge.map(|edge| ("le", edge));
        let mut between = '{';
        for (name, value) in labels.iter().copied().chain(edge) {
            self.out.push(between);
            between = ',';
            let _ = write!(self.out, "{name}=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        if between == ',' {
            self.out.push('}');
        }
    }
}

/// Exact as long as the number has at most 53 bits, which is the format's own limit.
fn units(ticks: u64, ticks_per_unit: u64) -> f64 {
    ticks as f64 / ticks_per_unit as f64
}

/// Escapes what the format says a label value must not hold bare.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
