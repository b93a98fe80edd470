//! Medians as dots with whiskers from least to most: one row for each peer.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::palette::look;
use super::{INK, Svg, TEXT, UNIT, WIDTH, decades, grid, picture, stroke, text, text_at};
use crate::Failure;
use crate::report::spread::Spread;

/// A row: whose look it has, what it is called, what was measured.
pub struct Row<'a> {
    pub peer: &'a str,
    pub name: String,
    pub spread: Spread,
}

/// Height of a row, and of what stands below them, CSS pixels.
const ROW: u32 = 26;
const BELOW: u32 = 34;
/// Width of the names, CSS pixels.
const NAMES: u32 = 108;

/// Draws rows from the top down, over a logarithmic axis; `show` writes a value.
///
/// # Errors
/// The library's.
pub fn draw(rows: &[Row<'_>], show: &dyn Fn(f64) -> String) -> Result<Svg, Failure> {
    let least = rows.iter().map(|row| row.spread.min).fold(f64::MAX, f64::min);
    let most = rows.iter().map(|row| row.spread.max).fold(least, f64::max);
    let (x, ticks) = decades(least, most);
    let height = rows.len() as u32 * ROW + BELOW;
    picture(height, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(4 * UNIT)
            .margin_right(64 * UNIT)
            .x_label_area_size(22 * UNIT)
            .y_label_area_size(NAMES * UNIT)
            .build_cartesian_2d(
                x.clone().with_key_points(ticks),
                (rows.len() as f64)..0.0,
            )?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(grid())
            .axis_style(stroke(INK, 10))
            .label_style(text(TEXT))
            .x_label_formatter(&|value| crate::report::unit::axis(10f64.powf(*value)))
            .draw()?;
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
            area.draw_text(&show(row.spread.median), &label, (right + 8 * UNIT as i32, middle))?;
            let name = text_at(TEXT, HPos::Right, VPos::Center);
            area.draw_text(&row.name, &name, ((NAMES as i32 - 8) * UNIT as i32, middle))?;
        }
        debug_assert!(NAMES < WIDTH);
        Ok(())
    })
}
