//! Figures out of rows, and how they are shown.

use super::row::{Bound, Row};
use crate::load::outcome;

/// Median, least, most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub count: usize,
}

impl Range {
    /// When some rounds say more and some say less, nothing is established.
    pub fn noise_around(&self, centre: f64) -> &'static str {
        if self.min < centre && self.max > centre { ", noise" } else { "" }
    }
}

/// The range of some values, if there are any.
pub fn range(mut values: Vec<f64>) -> Option<Range> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    };
    Some(Range { median, min, max, count: values.len() })
}

/// A range in a cell; a single value has no range.
pub fn show(range: Option<Range>) -> String {
    let Some(Range { median, min, max, count }) = range else { return "-".into() };
    let digits = match median.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    match count {
        1 => format!("{median:.digits$}"),
        _ => format!("{median:.digits$} [{min:.digits$}..{max:.digits$}]"),
    }
}

/// Whole good answers a second.
pub fn answers_per_second(row: &Row) -> f64 {
    row.outcome.completed as f64 / row.outcome.seconds.max(f64::MIN_POSITIVE)
}

/// Events a second.
pub fn events_per_second(row: &Row) -> f64 {
    row.outcome.events as f64 / row.outcome.seconds.max(f64::MIN_POSITIVE)
}

/// Requests that failed or could not be sent.
pub fn lost(row: &Row) -> u64 {
    row.outcome.failed() + row.outcome.unsent
}

/// Who it was, in words.
pub fn name(bound: Bound) -> &'static str {
    match bound {
        Bound::Load => "load",
        Bound::Server => "server",
    }
}

/// What a percentile grew by, over the samples of all rounds together: for where one round has too few.
pub fn merged_difference(rows: &[(&Row, &Row)], histogram: &str, share: f64) -> Option<f64> {
    let of = |rows: Vec<&Row>| {
        let mut found = rows.iter().filter_map(|row| row.outcome.histogram(histogram));
        let mut sum = found.next()?;
        found.try_for_each(|more| sum.add(more)).ok()?;
        Some(outcome::percentile(&sum, share)? as f64)
    };
    let own = of(rows.iter().map(|(own, _)| *own).collect())?;
    Some(own - of(rows.iter().map(|(_, direct)| *direct).collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(range(vec![3.0, 1.0, 2.0]).map(|it| it.median), Some(2.0));
        assert_eq!(range(vec![4.0, 1.0, 2.0, 3.0]).map(|it| it.median), Some(2.5));
        assert_eq!(range(Vec::new()), None);
    }

    #[test]
    fn both_sides_are_noise() {
        let of = |min, max| Range { median: 0.0, min, max, count: 3 };
        assert_eq!(of(-1.0, 1.0).noise_around(0.0), ", noise");
        assert_eq!(of(0.5, 1.0).noise_around(0.0), "");
        assert_eq!(of(0.9, 1.1).noise_around(1.0), ", noise");
    }

    #[test]
    fn one_value_has_no_range() {
        assert_eq!(show(range(vec![12.345])), "12.3");
        assert_eq!(show(range(vec![1.0, 3.0])), "2.00 [1.00..3.00]");
        assert_eq!(show(None), "-");
    }
}
