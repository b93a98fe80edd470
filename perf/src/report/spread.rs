//! What several rounds say: a median, its range, and whether two of them differ at all.

/// Median, least and most of the rounds of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
}

impl Spread {
    /// `None` without a value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max, rounds) = (*values.first()?, *values.last()?, values.len());
        let middle = rounds / 2;
        let median = match rounds.is_multiple_of(2) {
            true => (values[middle - 1] + values[middle]) / 2.0,
            false => values[middle],
        };
        Some(Self { median, min, max, rounds })
    }

    /// "17.9 [17.1 – 18.4]", each value by `show`; the range only where there is one.
    pub fn show(&self, show: impl Fn(f64) -> String) -> String {
        match self.range(&show) {
            Some(range) => format!("{} [{range}]", show(self.median)),
            None => show(self.median),
        }
    }

    /// "17.1 – 18.4 µs": the unit once, if it is the same.
    pub fn range(&self, show: impl Fn(f64) -> String) -> Option<String> {
        let (least, most) = (show(self.min), show(self.max));
        let unit = |text: &str| text.split_once(' ').map(|(_, unit)| unit.to_owned());
        let least = match least.split_once(' ') {
            Some((number, own)) if unit(&most).as_deref() == Some(own) => number,
            _ => &least,
        };
        (self.min < self.max).then(|| format!("{least} – {most}"))
    }
}

/// How one thing stands to another, by the rounds that both were in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Less in every round.
    Less,
    /// More in every round.
    More,
    /// More in some rounds and not in others: nothing is established.
    Noise,
    /// The same in every round.
    Equal,
    /// One round establishes nothing either.
    Once,
}

impl Standing {
    /// From pairs of values, one for each round; `None` without any.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let all = |holds: fn(&(f64, f64)) -> bool| pairs.iter().all(holds);
        match pairs.len() {
            0 => None,
            _ if all(|(one, other)| one == other) => Some(Self::Equal),
            1 => Some(Self::Once),
            _ if all(|(one, other)| one < other) => Some(Self::Less),
            _ if all(|(one, other)| one > other) => Some(Self::More),
            _ => Some(Self::Noise),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_even_and_odd_counts() {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|s| s.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN]), None);
    }

    #[test]
    fn only_what_every_round_says_is_said() {
        let of = |pairs: &[(f64, f64)]| Standing::of(pairs);
        assert_eq!(of(&[(0.9, 1.0), (1.1, 1.0)]), Some(Standing::Noise));
        assert_eq!(of(&[(0.9, 1.0), (1.0, 1.0)]), Some(Standing::Noise));
        assert_eq!(of(&[(0.9, 1.0), (0.99, 1.0)]), Some(Standing::Less));
        assert_eq!(of(&[(-1.0, -2.0), (3.0, 2.0)]), Some(Standing::More));
        assert_eq!(of(&[(0.0, 0.0), (0.0, 0.0)]), Some(Standing::Equal));
        assert_eq!(of(&[(0.5, 1.0)]), Some(Standing::Once));
        assert_eq!(of(&[]), None);
    }
}
