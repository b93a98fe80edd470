//! Pictures: SVG by the `plotters` crate, in sizes that read on a phone.
//!
//! A picture is [`WIDTH`] CSS pixels wide and scales with the page; its library knows whole units only, so
//! each pixel is drawn as [`UNIT`] of them. Colours are those of [`palette`]; the page's style sheet puts
//! others in their place where the page is dark.

mod axis;
pub mod curve;
pub mod dots;
pub mod palette;
pub mod time;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Failure;
use axis::Axis;
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

/// Two axes on an area.
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

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

/// Draws a line through `points`, dashed if its look says so.
fn line(chart: &mut Chart<'_, '_>, points: Vec<(f64, f64)>, look: Look) -> Result<(), Failure> {
    let style = stroke(look.colour, look.tenths);
    match look.dash {
        None => chart.draw_series([PathElement::new(points, style)])?,
        Some((on, off)) => {
            let dash = DashedPathElement::new(points, on * UNIT, off * UNIT, style);
            chart.draw_series([dash])?
        }
    };
    Ok(())
}

/// Draws axes and the lines behind the data.
fn mesh(
    chart: &mut Chart<'_, '_>,
    x: &dyn Fn(&f64) -> String,
    y: &dyn Fn(&f64) -> String,
) -> Result<(), Failure> {
    chart
        .configure_mesh()
        // Room between the marks of both axes where they meet.
        .set_tick_mark_size(LabelAreaPosition::Bottom, 7 * UNIT)
        .set_tick_mark_size(LabelAreaPosition::Left, 5 * UNIT)
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(GRID, 8))
        .axis_style(stroke(INK, 10))
        .label_style(text(TEXT))
        .x_label_formatter(x)
        .y_label_formatter(y)
        .draw()?;
    Ok(())
}
