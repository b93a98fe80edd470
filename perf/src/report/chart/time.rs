//! Things over time: memory of all peers, and one peer around a fault.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::palette::{BAND, ERROR, GOOD, Look, look};
use super::{Area, INK, Svg, TEXT, UNIT, decades, even, grid, line, picture, stroke, text, text_at};
use crate::Failure;
use crate::report::unit;

/// A peer's memory in one round: (seconds, KiB).
pub struct Memory<'a> {
    pub peer: &'a str,
    pub points: Vec<(f64, f64)>,
}

const HEIGHT: u32 = 230;
/// Height of one of the panels around a fault, CSS pixels.
const PANEL: u32 = 110;

/// Draws memory over time, on a logarithmic axis: peers differ by factors.
///
/// # Errors
/// The library's.
pub fn memory(lines: &[Memory<'_>]) -> Result<Svg, Failure> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let seconds = points().map(|point| point.0).fold(1.0, f64::max);
    let most = points().map(|point| point.1).fold(1.0, f64::max) / 1_024.0;
    let least = points().map(|point| point.1).fold(f64::MAX, f64::min) / 1_024.0;
    let (x, marks) = even(seconds);
    let (y, ticks) = decades(least, most);
    picture(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12 * UNIT)
            .x_label_area_size(22 * UNIT)
            .y_label_area_size(52 * UNIT)
            .build_cartesian_2d(x.with_key_points(marks), y.with_key_points(ticks))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(grid())
            .axis_style(stroke(INK, 10))
            .label_style(text(TEXT))
            .x_label_formatter(&seconds_label)
            .y_label_formatter(&|mib| format!("{} MiB", unit::trimmed(10f64.powf(*mib))))
            .draw()?;
        for memory in lines {
            let place = |(x, kib): &(f64, f64)| (*x, (kib / 1_024.0).max(1e-3).log10());
            let points = memory.points.iter().map(place).collect();
            chart.draw_series(line(points, look(memory.peer)))?;
        }
        Ok(())
    })
}

/// One peer around a fault: each round's rates over time.
pub struct Fault {
    /// Seconds from which to which the fault lasted.
    pub from: f64,
    pub until: f64,
    /// Per round: (seconds, things done per second).
    pub done: Vec<Vec<(f64, f64)>>,
    /// Per round: (seconds, errors per second).
    pub errors: Vec<Vec<(f64, f64)>>,
    /// The largest rates of all peers, so that their pictures compare.
    pub done_most: f64,
    pub errors_most: f64,
    /// What is done: "answers", "events".
    pub what: &'static str,
}

/// Draws throughput above, errors below, the fault as a band behind both.
///
/// # Errors
/// The library's.
pub fn fault(fault: &Fault) -> Result<Svg, Failure> {
    picture(2 * PANEL, |area| {
        let (above, below) = area.split_vertically((PANEL * UNIT) as i32);
        let good = Look { colour: GOOD, tenths: 14, dash: None };
        let bad = Look { colour: ERROR, tenths: 14, dash: None };
        panel(&above, fault, (&fault.done, fault.done_most), good, fault.what)?;
        panel(&below, fault, (&fault.errors, fault.errors_most), bad, "errors")
    })
}

fn panel(
    area: &Area<'_>,
    fault: &Fault,
    (rounds, most): (&[Vec<(f64, f64)>], f64),
    look: Look,
    what: &str,
) -> Result<(), Failure> {
    let last = rounds.iter().flatten().map(|point| point.0).fold(1.0, f64::max);
    let (x, marks) = even(last);
    let (y, ticks) = even(most);
    let (end, top) = (x.end, y.end);
    let mut chart = ChartBuilder::on(area)
        .margin_top(18 * UNIT)
        .margin_right(12 * UNIT)
        .x_label_area_size(18 * UNIT)
        .y_label_area_size(44 * UNIT)
        .build_cartesian_2d(x.with_key_points(marks), y.with_key_points(ticks))?;
    let band = [(fault.from, top), (fault.until.min(end), 0.0)];
    chart.draw_series([Rectangle::new(band, BAND.filled())])?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(grid())
        .axis_style(stroke(INK, 10))
        .label_style(text(TEXT - 1))
        .x_label_formatter(&seconds_label)
        .y_label_formatter(&|rate| unit::count(*rate))
        .draw()?;
    for points in rounds {
        chart.draw_series(line(points.clone(), look))?;
    }
    let title = text_at(TEXT, HPos::Left, VPos::Top);
    area.draw_text(&format!("{what} per second"), &title, (44 * UNIT as i32, 2 * UNIT as i32))?;
    Ok(())
}

fn seconds_label(seconds: &f64) -> String {
    format!("{} s", unit::trimmed(*seconds))
}
