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

    /// "17.9 [17.1–18.4]", each value by `show`; the range only if there was more than one round.
    pub fn show(&self, show: impl Fn(f64) -> String) -> String {
        match self.rounds {
            1 => show(self.median),
            _ => format!("{} [{} – {}]", show(self.median), show(self.min), show(self.max)),
        }
    }
}

/// How one thing stands to another, by the rounds that both were in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Less in every round.
    Less(Spread),
    /// More in every round.
    More(Spread),
    /// More in some rounds and less in others: nothing is established.
    Noise,
    /// One round establishes nothing either.
    Once(Spread),
}

impl Standing {
    /// From the ratios of the rounds; 1 is equal.
    pub fn of(ratios: impl IntoIterator<Item = f64>) -> Option<Self> {
        let spread = Spread::of(ratios)?;
        Some(match spread {
            Spread { rounds: 1, .. } => Self::Once(spread),
            Spread { max, .. } if max < 1.0 => Self::Less(spread),
            Spread { min, .. } if min > 1.0 => Self::More(spread),
            _ => Self::Noise,
        })
    }

    /// The median ratio, unless it means nothing.
    pub fn ratio(self) -> Option<f64> {
        match self {
            Self::Less(spread) | Self::More(spread) | Self::Once(spread) => Some(spread.median),
            Self::Noise => None,
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
        assert_eq!(Standing::of([0.9, 1.1, 0.8]), Some(Standing::Noise));
        assert!(matches!(Standing::of([0.9, 0.99]), Some(Standing::Less(_))));
        assert!(matches!(Standing::of([1.01, 1.5]), Some(Standing::More(_))));
        assert!(matches!(Standing::of([0.5]), Some(Standing::Once(_))));
        assert_eq!(Standing::of([]), None);
    }
}
