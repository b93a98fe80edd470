//! Axes whose marks stand where people expect them.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// Positions from one end to the other, and where marks stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub from: f64,
    pub to: f64,
    pub marks: Vec<f64>,
}

impl Axis {
    /// From and to as they are, without marks.
    pub fn plain(from: f64, to: f64) -> Self {
        Self { from, to, marks: Vec::new() }
    }

    /// Values from `min` to `max` as logarithms, marked at powers of ten or, where those are few, at 1, 2, 5.
    /// There are two marks at least, and a little room at both ends.
    pub fn decades(min: f64, max: f64) -> Self {
        let (low, high) = (min.max(1e-3).log10(), max.max(min.max(1e-3)).log10());
        let room = (high - low).max(0.2) * 0.04;
        let within: &[f64] = if high - low > 2.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = (low.floor() as i32)..=(high.ceil() as i32);
        let all: Vec<f64> = powers
            .flat_map(|power| within.iter().map(move |digit| digit.log10() + f64::from(power)))
            .collect();
        let (mut from, mut to) = (low - room, high + room);
        if all.iter().filter(|mark| (from..=to).contains(*mark)).count() < 2 {
            from =
                all.iter().copied().filter(|mark| *mark <= from).fold(low.floor() - 1.0, f64::max);
            to = all.iter().copied().filter(|mark| *mark >= to).fold(high.ceil() + 1.0, f64::min);
        }
        let mut marks = all;
        marks.retain(|mark| (from - 1e-9..=to + 1e-9).contains(mark));
        Self { from, to, marks }
    }

    /// Values from 0 to at least `max`, marked at four to six round ones.
    pub fn even(max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let raw = max / 4.0;
        let power = 10f64.powf(raw.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| *step >= raw * 0.999_999).unwrap_or(raw);
        let count = (max / step * 0.999_999).ceil() as u32;
        let marks: Vec<f64> = (0..=count).map(|n| f64::from(n) * step).collect();
        Self { from: 0.0, to: marks[marks.len() - 1], marks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_is_drawn() {
        for (min, max) in [(12.0, 17_217.0), (3.0, 4.0), (1.0, 1.0), (0.0, 5.0), (950.0, 1_050.0)] {
            let axis = Axis::decades(min, max);
            assert!(axis.from <= min.max(1e-3).log10(), "{min} {max} {axis:?}");
            assert!(axis.to >= max.log10(), "{min} {max} {axis:?}");
            assert!((2..=8).contains(&axis.marks.len()), "{min} {max} {axis:?}");
        }
        for max in [0.0, 0.3, 7.0, 100.0, 123_456.0] {
            let axis = Axis::even(max);
            assert!(axis.to >= max && (2..=6).contains(&axis.marks.len()), "{axis:?}");
        }
        assert_eq!(Axis::even(10.0).marks, [0.0, 2.5, 5.0, 7.5, 10.0]);
    }
}
