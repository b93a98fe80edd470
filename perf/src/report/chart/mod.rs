//! Pictures: SVG by the `plotters` crate, in sizes that read on a phone.
//!
//! A picture is [`WIDTH`] CSS pixels wide and scales with the page; its library knows whole units only, so
//! each pixel is drawn as [`UNIT`] of them. Colours are those of [`palette`]; the page's style sheet puts
//! others in their place where the page is dark.

pub mod curve;
pub mod dots;
pub mod palette;
pub mod time;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Failure;
use palette::{GRID, INK, Look};

/// Width of a picture, CSS pixels: that of a phone.
pub const WIDTH: u32 = 380;
/// Units of the drawing for each of them.
pub const UNIT: u32 = 4;
/// Height of a line of text, CSS pixels.
const TEXT: u32 = 12;

/// A drawn picture.
#[derive(Clone, Debug)]
pub struct Svg(String);

impl Svg {
    /// The `svg` element.
    pub fn markup(&self) -> &str {
        &self.0
    }
}

/// What is drawn on.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a picture of so many CSS pixels' height.
fn picture(
    height: u32,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<Svg, Failure> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH * UNIT, height * UNIT));
        let area = area.into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    // Beside its text, which its caption tells again, a picture is one thing.
    Ok(Svg(text.replacen("<svg ", "<svg class=\"chart\" aria-hidden=\"true\" ", 1)))
}

/// Text of `pixels` CSS pixels.
fn text(pixels: u32) -> TextStyle<'static> {
    // The library gives out 1/1.24 of the size it is asked for.
    let size = f64::from(pixels * UNIT) * 1.24;
    ("sans-serif", size).into_text_style(&(WIDTH, WIDTH)).color(&INK)
}

/// The same, hung up elsewhere.
fn text_at(pixels: u32, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    text(pixels).pos(Pos::new(h_pos, v_pos))
}

/// A line of so many tenths of a CSS pixel.
fn stroke(colour: RGBColor, tenths: u32) -> ShapeStyle {
    colour.stroke_width(tenths * UNIT / 10)
}

fn grid() -> ShapeStyle {
    stroke(GRID, 8)
}

/// A line through `points`, dashed if its look says so.
fn line<X, Y>(points: Vec<(X, Y)>, look: Look) -> Vec<DynElement<'static, SVGBackend<'static>, (X, Y)>>
where
    X: Clone + 'static,
    Y: Clone + 'static,
{
    let style = stroke(look.colour, look.tenths);
    match look.dash {
        None => vec![PathElement::new(points, style).into_dyn()],
        Some((on, off)) => {
            let dash = DashedPathElement::new(points, on * UNIT, off * UNIT, style);
            vec![dash.into_dyn()]
        }
    }
}

/// Places of an axis of powers of ten from `min` to `max`, as logarithms, and the range they span.
fn decades(min: f64, max: f64) -> (std::ops::Range<f64>, Vec<f64>) {
    let (min, max) = (min.max(1e-3), max.max(min.max(1e-3) * 1.01));
    let wide = (max / min).log10() > 2.2;
    let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let below = min.log10().floor() as i32;
    let above = max.log10().ceil() as i32;
    let all = (below..=above).flat_map(|power| steps.iter().map(move |s| s * 10f64.powi(power)));
    let all: Vec<f64> = all.collect();
    let first = all.iter().rposition(|tick| *tick <= min * 1.000_001).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= max * 0.999_999).unwrap_or(all.len() - 1);
    let ticks: Vec<f64> = all[first..=last.max(first + 1).min(all.len() - 1)].to_vec();
    let (low, high) = (ticks[0].log10(), ticks[ticks.len() - 1].log10());
    (low..high, ticks.iter().map(|tick| tick.log10()).collect())
}

/// Places of an even axis from 0 to at least `max`.
fn even(max: f64) -> (std::ops::Range<f64>, Vec<f64>) {
    let max = if max > 0.0 { max } else { 1.0 };
    let raw = max / 4.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| *s >= raw);
    let step = step.unwrap_or(raw);
    let count = (max / step).ceil() as u32;
    (0.0..f64::from(count) * step, (0..=count).map(|n| f64::from(n) * step).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_is_drawn() {
        for (min, max) in [(12.0, 17_217.0), (3.0, 4.0), (1.0, 1.0), (0.0, 5.0), (950.0, 1_050.0)] {
            let (range, ticks) = decades(min, max);
            assert!(range.start <= min.max(1e-3).log10() + 1e-6, "{min} {max} {range:?}");
            assert!(range.end + 1e-6 >= max.log10(), "{min} {max} {range:?}");
            assert!((2..=8).contains(&ticks.len()), "{min} {max} {ticks:?}");
        }
        for max in [0.0, 0.3, 7.0, 100.0, 123_456.0] {
            let (range, ticks) = even(max);
            assert!(range.end >= max && (2..=6).contains(&ticks.len()), "{max} {ticks:?}");
        }
    }
}
