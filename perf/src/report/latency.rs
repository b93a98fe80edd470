//! Latency histograms: merged over rounds, read only where enough samples stand behind a percentile.

use hdrhistogram::Histogram;

use crate::load::outcome::percentile;

/// All samples of several rounds; `None` without any.
pub fn merge(histograms: impl IntoIterator<Item = Histogram<u64>>) -> Option<Histogram<u64>> {
    let mut all = Histogram::<u64>::new(3).ok()?;
    for histogram in histograms {
        all.add(histogram).ok()?;
    }
    (!all.is_empty()).then_some(all)
}

/// The value at quantile `q` of 0..1, if enough samples lie beyond it.
pub fn at(histogram: &Histogram<u64>, q: f64) -> Option<f64> {
    percentile(histogram, q).map(|value| value as f64)
}

/// The same quantile of a peer less that of no peer at all: what it added. May be below zero.
pub fn added(peer: &Histogram<u64>, direct: &Histogram<u64>, q: f64) -> Option<f64> {
    Some(at(peer, q)? - at(direct, q)?)
}

/// The quantile at a place on the axis: so many nines, so that each has the same room.
fn quantile(nines: f64) -> f64 {
    1.0 - 10f64.powf(-nines)
}

/// Points of a curve for each nine.
const POINTS_PER_NINE: u32 = 24;
/// Nines at most; no run has the samples for more.
const NINES_MAX: u32 = 7;

/// The curve of `value` over the quantiles, (nines, value), as far as it is known.
pub fn curve(value: impl Fn(f64) -> Option<f64>) -> Vec<(f64, f64)> {
    let places =
        (0..=NINES_MAX * POINTS_PER_NINE).map(|step| f64::from(step) / f64::from(POINTS_PER_NINE));
    places.map_while(|x| Some((x, value(quantile(x))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand() -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1_000u64).for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let histogram = thousand();
        assert_eq!(at(&histogram, 0.99), Some(990.0));
        assert_eq!(at(&histogram, 0.995), None);
        assert_eq!(added(&histogram, &histogram, 0.5), Some(0.0));
    }

    #[test]
    fn a_curve_ends_where_samples_do() {
        let histogram = thousand();
        let curve = curve(|q| at(&histogram, q));
        let (nines, value) = curve.last().copied().unwrap();
        assert!((1.99..=2.0).contains(&nines) && value <= 991.0, "{nines} {value}");
        assert_eq!(curve[0].0, 0.0);
        assert!((quantile(3.0) - 0.999).abs() < 1e-9);
    }
}
