//! Medians as dots with whiskers from least to most: one row for each peer.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::palette::look;
use super::{Svg, TEXT, UNIT, mesh, picture, stroke, text_at};
use crate::Failure;
use crate::report::spread::Spread;
use crate::report::unit;

/// A row: whose look it has, what it is called, what was measured.
pub struct Row<'a> {
    pub peer: &'a str,
    pub name: String,
    pub spread: Spread,
}

/// Height of a row, and of what stands below them, CSS pixels.
const ROW: u32 = 26;
const BELOW: u32 = 40;
/// Width of the names, CSS pixels.
const NAMES: u32 = 108;

/// Draws rows of microseconds from the top down, over a logarithmic axis.
///
/// # Errors
/// The library's.
pub fn draw(rows: &[Row<'_>]) -> Result<Svg, Failure> {
    let least = rows.iter().map(|row| row.spread.min).fold(f64::MAX, f64::min);
    let most = rows.iter().map(|row| row.spread.max).fold(least, f64::max);
    let height = rows.len() as u32 * ROW + BELOW;
    picture(height, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(4 * UNIT)
            .margin_right(64 * UNIT)
            .x_label_area_size(28 * UNIT)
            .y_label_area_size(NAMES * UNIT)
            .build_cartesian_2d(Axis::decades(least, most), Axis::plain(rows.len() as f64, 0.0))?;
        mesh(&mut chart, &|value| unit::micros_tick(10f64.powf(*value)), &|_| String::new())?;
        for (at, row) in rows.iter().enumerate() {
            let y = at as f64 + 0.5;
            let Spread { median, min, max, .. } = row.spread;
            let [median, min, max] = [median, min, max].map(|value| value.max(1e-3).log10());
            let colour = look(row.peer).colour;
            let whisker = stroke(colour, 16);
            chart.draw_series([
                PathElement::new(vec![(min, y), (max, y)], whisker),
                PathElement::new(vec![(min, y - 0.2), (min, y + 0.2)], whisker),
                PathElement::new(vec![(max, y - 0.2), (max, y + 0.2)], whisker),
            ])?;
            chart.draw_series([Circle::new((median, y), 4 * UNIT, colour.filled())])?;
            let (right, middle) = chart.backend_coord(&(max, y));
            let label = text_at(TEXT, HPos::Left, VPos::Center);
            area.draw_text(
                &unit::micros(row.spread.median),
                &label,
                (right + 8 * UNIT as i32, middle),
            )?;
            let name = text_at(TEXT, HPos::Right, VPos::Center);
            area.draw_text(&row.name, &name, ((NAMES as i32 - 8) * UNIT as i32, middle))?;
        }
        Ok(())
    })
}
