//! The figures of a round that are held against each other, each with its unit. Less is better in all of
//! them.

use super::latency;
use super::spread::{Spread, Standing};
use super::study::{Contender, Sample};
use super::unit;
use crate::compare::row::Proxy;
use crate::target::tree::Holds;

/// One figure.
#[derive(Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    /// Of one round; `None` where it was not measured, or would mean nothing.
    pub value: fn(&Sample<'_>) -> Option<f64>,
    pub show: fn(f64) -> String,
    apart: Apart,
}

/// How a difference is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apart {
    /// As a factor.
    Times,
    /// As a difference, for values that may be zero or less.
    By,
}

/// One peer held against another.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub standing: Standing,
    /// By how much: "× 0.74", "− 4.1 µs", "+ 3". Means nothing where the standing is noise.
    pub gap: String,
}

const fn times(
    name: &'static str,
    value: fn(&Sample<'_>) -> Option<f64>,
    show: fn(f64) -> String,
) -> Figure {
    Figure { name, value, show, apart: Apart::Times }
}

const fn by(
    name: &'static str,
    value: fn(&Sample<'_>) -> Option<f64>,
    show: fn(f64) -> String,
) -> Figure {
    Figure { name, value, show, apart: Apart::By }
}

/// CPU time of the proxy for each request.
pub const CPU_REQUEST: Figure =
    times("CPU per request", |sample| positive(proxy(sample)?.cpu_us_per_request), unit::micros);
/// CPU time of the proxy for each event of a stream.
pub const CPU_EVENT: Figure =
    times("CPU per event", |sample| positive(proxy(sample)?.cpu_us_per_event), unit::micros);

/// All figures, in the order of the table.
pub const ALL: [Figure; 10] = [
    CPU_REQUEST,
    CPU_EVENT,
    by("Added p50", |sample| added(sample, 0.5), unit::micros),
    by("Added p99", |sample| added(sample, 0.99), unit::micros),
    by("Added p99.9", |sample| added(sample, 0.999), unit::micros),
    by("Token gap p99", |sample| latency::at(timed(sample)?.gap.as_ref()?, 0.99), unit::micros),
    times("RSS, loaded", |sample| loaded(sample, |holds| holds.rss_kib), unit::kib),
    times("PSS, loaded", |sample| loaded(sample, |holds| holds.pss_kib), unit::kib),
    times("Descriptors, loaded", |sample| loaded(sample, |holds| holds.fds), unit::count),
    by("Errors", |sample| Some(sample.round.outcome.failed() as f64), unit::count),
];

fn proxy<'a>(sample: &'a Sample<'_>) -> Option<&'a Proxy> {
    sample.round.proxy.as_ref()
}

fn loaded(sample: &Sample<'_>, of: fn(&Holds) -> u64) -> Option<f64> {
    positive(Some(of(&proxy(sample)?.holds.loaded) as f64))
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0)
}

/// The latencies of a round, unless somebody else was at his limit: then they are his.
fn timed<'a>(sample: &'a Sample<'_>) -> Option<&'a super::study::Latency> {
    sample.round.bound.is_none().then_some(&*sample.latency)
}

fn added(sample: &Sample<'_>, q: f64) -> Option<f64> {
    latency::added(timed(sample)?.wait()?, sample.direct.as_ref()?.wait()?, q)
}

impl Figure {
    /// What the rounds of a peer say.
    pub fn of(&self, peer: &Contender<'_>) -> Option<Spread> {
        Spread::of(peer.samples.values().filter_map(self.value))
    }

    /// How `one` stands to `other` in the rounds that both were in.
    pub fn verdict(&self, one: &Contender<'_>, other: &Contender<'_>) -> Option<Verdict> {
        let pairs: Vec<(f64, f64)> = one
            .samples
            .iter()
            .filter_map(|(round, own)| {
                Some(((self.value)(own)?, (self.value)(other.samples.get(round)?)?))
            })
            .collect();
        let standing = Standing::of(&pairs)?;
        let apart = pairs.iter().map(|(one, other)| match self.apart {
            Apart::Times => one / other,
            Apart::By => one - other,
        });
        let apart = Spread::of(apart)?.median;
        let gap = match self.apart {
            Apart::Times => format!("× {}", unit::factor(apart)),
            Apart::By if apart < 0.0 => format!("− {}", (self.show)(-apart)),
            Apart::By => format!("+ {}", (self.show)(apart)),
        };
        Some(Verdict { standing, gap })
    }
}
