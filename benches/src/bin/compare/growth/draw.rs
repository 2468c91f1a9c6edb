//! The curves as SVG, a panel each.

use std::fmt::Write as _;

use super::{Curve, SIZES, short};
use crate::table::{median, number};

const COLUMNS: usize = 2;
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
/// Of the field within a panel.
const LEFT: f64 = 24.0;
const RIGHT: f64 = 336.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 156.0;

/// Sizes from left to right at the same distance, as each is a multiple of the one before; upwards from 0.
pub(super) fn svg(curves: &[Curve]) -> String {
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * curves.len().div_ceil(COLUMNS) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (number, curve) in curves.iter().enumerate() {
        let (x, y) = (WIDTH * (number % COLUMNS) as f64, HEIGHT * (number / COLUMNS) as f64);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        panel(&mut svg, curve);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, curve: &Curve) {
    text(svg, LEFT, 24.0, "#000", "start", curve.unit);
    text(svg, LEFT, 40.0, "#555", "start", &format!("by {}", curve.axis));
    let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\" stroke=\"#000\"/>");
    let most = curve.values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / most;
    let mut path = String::new();
    for (nth, (size, values)) in curve.sizes.iter().zip(&curve.values).enumerate() {
        let x = LEFT + 24.0 + (RIGHT - LEFT - 48.0) * nth as f64 / (SIZES - 1) as f64;
        let (middle, least, most) = (median(values), y(values[0]), y(values[values.len() - 1]));
        let _ = write!(path, "{}{x:.1} {:.1}", if nth == 0 { "M" } else { "L" }, y(middle));
        let _ = writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{least:.1}\" x2=\"{x:.1}\" y2=\"{most:.1}\" stroke=\"#69c\"/>");
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#69c\"/>", y(middle));
        text(svg, x, y(middle) - 7.0, "#c33", "middle", &number(middle));
        text(svg, x, BOTTOM + 16.0, "#555", "middle", &short(*size));
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"#69c\"/>");
}

fn text(svg: &mut String, x: f64, y: f64, fill: &str, anchor: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\" text-anchor=\"{anchor}\">{escaped}</text>");
}
