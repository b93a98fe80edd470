//! Latency by percentile: each further nine has the same room, as HdrHistogram's plots have it.

use plotters::prelude::*;

use super::axis::Axis;
use super::palette::look;
use super::{Svg, UNIT, line, mesh, picture};
use crate::Failure;
use crate::report::unit;

/// A peer's curve: (nines, microseconds).
pub struct Curve<'a> {
    pub peer: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// Height, CSS pixels.
const HEIGHT: u32 = 250;

/// Draws curves over a logarithmic axis of time that begins at `least_us` or above; what lies below it is
/// drawn at its edge.
///
/// # Errors
/// The library's.
pub fn draw(curves: &[Curve<'_>], least_us: f64) -> Result<Svg, Failure> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|point| point.1).fold(least_us * 10.0, f64::max);
    let least = points().map(|point| point.1).fold(most, f64::min).max(least_us);
    let nines = points().map(|point| point.0).fold(1.0, f64::max);
    let marks = (0..=nines.floor() as u32).map(f64::from).collect();
    let x = Axis { marks, ..Axis::plain(0.0, nines * 1.02) };
    picture(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12 * UNIT)
            .x_label_area_size(28 * UNIT)
            .y_label_area_size(48 * UNIT)
            .build_cartesian_2d(x, Axis::decades(least, most))?;
        let time = |value: &f64| unit::micros_tick(10f64.powf(*value));
        mesh(&mut chart, &|nines| percent(*nines), &time)?;
        // Sluice last, so that nothing hides it.
        let mut order: Vec<&Curve<'_>> = curves.iter().collect();
        order.sort_by_key(|curve| curve.peer.starts_with("sluice"));
        for curve in order {
            let place = |(x, value): &(f64, f64)| (*x, value.max(least_us).log10());
            line(&mut chart, curve.points.iter().map(place).collect(), look(curve.peer))?;
        }
        Ok(())
    })
}

/// "0 %", "90 %", "99 %", "99.9 %".
fn percent(nines: f64) -> String {
    match nines.round() as usize {
        0 => "0 %".into(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}
