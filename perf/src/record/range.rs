//! A figure of several rounds: the middle one, with the least and the most.

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
}
