//! Histograms with fixed bounds.
//!
//! A value is held as a whole number of ticks (a microsecond, a nanosecond, a token), so sums are
//! exact. Buckets are counted apart and made cumulative only when they are rendered.

use std::time::Duration;

use super::cell::{Counter, Gauge};

/// Inclusive upper bounds of a histogram's buckets, in ticks, ascending; one more bucket (+Inf)
/// follows them.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds {
    pub edges: &'static [u64],
    /// Ticks in one exported unit: 1 000 000 for microseconds shown in seconds, 1 for tokens.
    pub ticks_per_unit: u64,
}

impl Bounds {
    /// Whether a value belongs to this bucket.
    #[inline]
    fn holds(&self, bucket: usize, ticks: u64) -> bool {
        let below = self.edges.get(bucket.wrapping_sub(1));
        let above = self.edges.get(bucket);
        below.is_none_or(|edge| *edge < ticks) && above.is_none_or(|edge| ticks <= *edge)
    }
}

const MICROS: u64 = 1_000_000;
const NANOS: u64 = 1_000_000_000;

/// Request duration and time to first token: 1 ms to 10 minutes.
pub static WAIT: Bounds = Bounds {
    edges: &[
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        30_000_000,
        60_000_000,
        120_000_000,
        300_000_000,
        600_000_000,
    ],
    ticks_per_unit: MICROS,
};

/// Gaps between events and time per output token: 0.5 ms to 10 s.
pub static GAP: Bounds = Bounds {
    edges: &[
        500, 1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 30_000, 50_000, 75_000, 100_000, 250_000,
        500_000, 1_000_000, 2_500_000, 10_000_000,
    ],
    ticks_per_unit: MICROS,
};

/// What Sluice itself spends: 1 µs to 100 ms.
pub static WORK: Bounds = Bounds {
    edges: &[
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        5_000_000,
        25_000_000,
        100_000_000,
    ],
    ticks_per_unit: NANOS,
};

/// Token counts, in the steps that OpenTelemetry's GenAI conventions advise.
pub static TOKENS: Bounds = Bounds {
    edges: &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304],
    ticks_per_unit: 1,
};

/// Counts of values per bucket and their sum. One thread writes it.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// Not cumulative; one more than `bounds.edges`.
    buckets: Box<[Counter]>,
    sum: Counter,
    /// The last value's bucket: the next one's is likely the same.
    last: Gauge,
}

/// A histogram's numbers at one moment, or several histograms' added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub bounds: &'static Bounds,
    /// Not cumulative; one more than `bounds.edges`.
    pub buckets: Vec<u64>,
    /// In ticks.
    pub sum: u64,
}

impl Histogram {
    /// An empty histogram: the only allocation it ever makes.
    pub fn new(bounds: &'static Bounds) -> Self {
        let buckets = (0..=bounds.edges.len()).map(|_| Counter::default()).collect();
        Self { bounds, buckets, sum: Counter::default(), last: Gauge::default() }
    }

    /// Counts one value given in ticks.
    #[inline]
    pub fn record_ticks(&self, ticks: u64) {
        let mut at = self.last.get() as usize;
        if !self.bounds.holds(at, ticks) {
            at = self.bounds.edges.partition_point(|edge| *edge < ticks);
            self.last.set(at as u64);
        }
        self.buckets[at].inc();
        self.sum.add(ticks);
    }

    /// Counts one duration; for histograms of time only.
    #[inline]
    pub fn record(&self, span: Duration) {
        let per_tick = NANOS / self.bounds.ticks_per_unit;
        let nanos =
            span.as_secs().saturating_mul(NANOS).saturating_add(u64::from(span.subsec_nanos()));
        self.record_ticks(nanos / per_tick);
    }

    /// Its buckets' bounds.
    pub fn bounds(&self) -> &'static Bounds {
        self.bounds
    }

    /// What has been counted so far.
    pub fn read(&self) -> Reading {
        let mut reading = Reading::empty(self.bounds);
        reading.add(self);
        reading
    }
}

impl Reading {
    /// Nothing counted yet.
    pub fn empty(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: vec![0; bounds.edges.len() + 1], sum: 0 }
    }

    /// Adds another histogram of the same bounds.
    pub fn add(&mut self, other: &Histogram) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (total, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *total = total.wrapping_add(bucket.get());
        }
        self.sum = self.sum.wrapping_add(other.sum.get());
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |total, n| total.wrapping_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_an_edge_belongs_to_that_edges_bucket() {
        let tokens = Histogram::new(&TOKENS);
        for n in [0, 1, 2, 4, 4_194_305] {
            tokens.record_ticks(n);
        }
        let reading = tokens.read();
        assert_eq!(reading.buckets[..2], [2, 2]);
        assert_eq!(reading.buckets.last(), Some(&1));
        assert_eq!((reading.count(), reading.sum), (5, 4_194_312));
    }

    #[test]
    fn the_last_value_does_not_matter() {
        let gaps = Histogram::new(&GAP);
        let values =
            || GAP.edges.iter().flat_map(|edge| [0, *edge, *edge + 1, 600, u64::MAX >> 32]);
        values().for_each(|ticks| gaps.record_ticks(ticks));
        let mut expected = vec![0; GAP.edges.len() + 1];
        values().for_each(|ticks| expected[GAP.edges.partition_point(|edge| *edge < ticks)] += 1);
        assert_eq!(gaps.read().buckets, expected);
    }

    #[test]
    fn durations_become_ticks() {
        let (wait, work) = (Histogram::new(&WAIT), Histogram::new(&WORK));
        wait.record(Duration::from_millis(3));
        work.record(Duration::from_nanos(900));
        assert_eq!((wait.read().sum, work.read().sum), (3_000, 900));
    }

    #[test]
    fn edges_ascend() {
        for bounds in [&WAIT, &GAP, &WORK, &TOKENS] {
            assert!(bounds.edges.is_sorted_by(|a, b| a < b));
        }
    }
}
