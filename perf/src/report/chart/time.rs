//! Things over time: memory of all peers, and one peer around a fault.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::palette::{BAND, ERROR, GOOD, Look, look};
use super::{Area, Svg, TEXT, UNIT, line, mesh, picture, text_at};
use crate::Failure;
use crate::report::unit;

/// A peer's memory in one round: (seconds, KiB).
pub struct Memory<'a> {
    pub peer: &'a str,
    pub points: Vec<(f64, f64)>,
}

const HEIGHT: u32 = 230;
/// Height of one of the panels around a fault, CSS pixels.
const PANEL: u32 = 120;

/// Draws memory over time, on a logarithmic axis: peers differ by factors.
///
/// # Errors
/// The library's.
pub fn memory(lines: &[Memory<'_>]) -> Result<Svg, Failure> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let seconds = points().map(|point| point.0).fold(1.0, f64::max);
    let most = points().map(|point| point.1).fold(1.0, f64::max) / 1_024.0;
    let least = points().map(|point| point.1).fold(f64::MAX, f64::min) / 1_024.0;
    picture(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12 * UNIT)
            .x_label_area_size(28 * UNIT)
            .y_label_area_size(52 * UNIT)
            .build_cartesian_2d(Axis::even(seconds), Axis::decades(least, most))?;
        let mib = |value: &f64| format!("{} MiB", unit::trimmed(10f64.powf(*value)));
        mesh(&mut chart, &seconds_label, &mib)?;
        for memory in lines {
            let place = |(x, kib): &(f64, f64)| (*x, (kib / 1_024.0).max(1e-3).log10());
            let points = memory.points.iter().map(place).collect();
            line(&mut chart, points, look(memory.peer))?;
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
    /// The end of the longest run of all peers, seconds.
    pub seconds: f64,
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
    let (x, y) = (Axis::even(fault.seconds), Axis::even(most));
    let (end, top) = (x.to, y.to);
    let mut chart = ChartBuilder::on(area)
        .margin_top(22 * UNIT)
        .margin_right(12 * UNIT)
        .x_label_area_size(28 * UNIT)
        .y_label_area_size(56 * UNIT)
        .build_cartesian_2d(x, y)?;
    let band = [(fault.from, top), (fault.until.min(end), 0.0)];
    chart.draw_series([Rectangle::new(band, BAND.filled())])?;
    mesh(&mut chart, &seconds_label, &|rate| unit::count(*rate))?;
    for points in rounds {
        line(&mut chart, points.clone(), look)?;
    }
    let title = text_at(TEXT, HPos::Left, VPos::Top);
    area.draw_text(&format!("{what} per second"), &title, (56 * UNIT as i32, 4 * UNIT as i32))?;
    Ok(())
}

fn seconds_label(seconds: &f64) -> String {
    format!("{} s", unit::trimmed(*seconds))
}
