//! Figures out of rows, and how they are shown.

use super::row::{Bound, Row};
use crate::load::outcome;
use crate::record::range::Range;

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
    use super::show;
    use crate::record::range::range;

    #[test]
    fn one_value_has_no_range() {
        assert_eq!(show(range(vec![12.345])), "12.3");
        assert_eq!(show(range(vec![1.0, 3.0])), "2.00 [1.00..3.00]");
        assert_eq!(show(None), "-");
    }
}
