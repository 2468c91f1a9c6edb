//! The figures drawn, as SVG.

use std::fmt::Write as _;

use super::figures::{Rate, Times};
use super::row::{Figures, Row, Unit, time};
use crate::progress::size;

const WIDTH: f64 = 720.0;
/// Of one row's part.
const HEIGHT: f64 = 190.0;
/// Left and right of each part.
const MARGIN: f64 = 24.0;
/// Of the bars in it.
const BARS_TOP: f64 = 62.0;
const BARS_BOTTOM: f64 = 158.0;
/// Above the first part.
const HEAD: f64 = 40.0;
/// Bars of a distribution.
const BUCKETS: usize = 60;
/// What is marked in it.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")];

/// Each row below the other: rates in each tenth of the time, times by how often they came.
pub(super) fn svg(rows: &[Row], title: &str) -> String {
    let height = HEAD + HEIGHT * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, MARGIN, 26.0, "#555", "start", title);
    for (number, row) in rows.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(0 {})\">", HEAD + HEIGHT * number as f64);
        part(&mut svg, row);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn part(svg: &mut String, row: &Row) {
    let record = if row.record_bytes == 0 { String::new() } else { format!(", {}", size(row.record_bytes as f64)) };
    let (what, writers, readers) = (row.what.word(), row.writers, row.readers);
    text(svg, MARGIN, 20.0, "#000", "start", &format!("{what}: {} ({writers} to {readers}{record})", row.of));
    text(svg, MARGIN, 38.0, "#555", "start", &row.result());
    match &row.figures {
        Figures::Rate(unit, rate) => bars(svg, *unit, rate),
        Figures::Times(times) => distribution(svg, times),
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{MARGIN}\" y1=\"{BARS_BOTTOM}\" x2=\"{}\" y2=\"{BARS_BOTTOM}\" stroke=\"#000\"/>",
        WIDTH - MARGIN
    );
}

/// A bar for each part of the time, and the median.
fn bars(svg: &mut String, unit: Unit, rate: &Rate) {
    let max = rate.max();
    bar_each(svg, &rate.slices.map(|slice| share(slice, max)));
    let y = BARS_BOTTOM - (BARS_BOTTOM - BARS_TOP) * share(rate.median(), max);
    let _ =
        writeln!(svg, "<line x1=\"{MARGIN}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#c33\"/>", WIDTH - MARGIN);
    text(svg, WIDTH - MARGIN, y - 3.0, "#c33", "end", &unit.rate(rate.median()));
    text(svg, MARGIN, BARS_BOTTOM + 16.0, "#555", "start", "each tenth of the time");
}

/// How often each time came, from the shortest to the longest: each bar a constant factor from the one before.
fn distribution(svg: &mut String, times: &Times) {
    let (min, max) = (times.min().max(0.001), times.max().max(0.002));
    let step = (max / min).powf(1.0 / BUCKETS as f64).max(1.000_001);
    // The last one ends behind the longest.
    let from = |bucket: usize| min * step.powi(bucket as i32) * if bucket == BUCKETS { 1.01 } else { 1.0 };
    let counts: [u64; BUCKETS] = std::array::from_fn(|bucket| times.between(from(bucket), from(bucket + 1)));
    let most = counts.iter().copied().max().unwrap_or(0);
    bar_each(svg, &counts.map(|count| share(count as f64, most as f64)));
    for (number, (part, name)) in QUANTILES.into_iter().enumerate() {
        let value = times.quantile(part).clamp(min, max);
        let along = ((value / min).ln() / (max / min).ln()).clamp(0.0, 1.0);
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * if along.is_finite() { along } else { 0.0 };
        let y = BARS_TOP + 12.0 * number as f64;
        let _ = writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{y}\" x2=\"{x:.1}\" y2=\"{BARS_BOTTOM}\" stroke=\"#c33\"/>");
        let (anchor, x) = if x > WIDTH / 2.0 { ("end", x - 3.0) } else { ("start", x + 3.0) };
        text(svg, x, y, "#c33", anchor, &format!("{name} {}", time(times.quantile(part))));
    }
    text(svg, MARGIN, BARS_BOTTOM + 16.0, "#555", "start", &time(times.min()));
    text(svg, WIDTH / 2.0, BARS_BOTTOM + 16.0, "#555", "middle", "how often; logarithmic from left to right");
    text(svg, WIDTH - MARGIN, BARS_BOTTOM + 16.0, "#555", "end", &time(times.max()));
}

/// Bars side by side, each of them a share of the height.
fn bar_each(svg: &mut String, shares: &[f64]) {
    let width = (WIDTH - 2.0 * MARGIN) / shares.len() as f64;
    for (number, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let height = (BARS_BOTTOM - BARS_TOP) * share;
        let (x, y) = (MARGIN + width * number as f64, BARS_BOTTOM - height);
        let width = width * 0.9;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#69c\"/>"
        );
    }
}

fn share(value: f64, of: f64) -> f64 {
    if of > 0.0 { value / of } else { 0.0 }
}

fn text(svg: &mut String, x: f64, y: f64, fill: &str, anchor: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{fill}\" text-anchor=\"{anchor}\">{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::figures::SLICES;
    use super::super::row::tests::rows;
    use super::*;

    fn parsed(rows: &[Row]) -> (usize, String) {
        let svg = svg(rows, "a & b <c>");
        let document = roxmltree::Document::parse(&svg).unwrap();
        let rects = document.descendants().filter(|node| node.has_tag_name("rect")).count();
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        (rects, texts.join("\n"))
    }

    #[test]
    fn a_bar_for_each_tenth_and_for_each_time() {
        let [rate, times] = rows();
        let (rects, texts) = parsed(&[rate]);
        assert!(rects == 1 + SLICES && texts.contains("a & b <c>") && texts.contains("this & <that>"), "{texts}");
        let (rects, texts) = parsed(&[times]);
        assert_eq!(rects, 1 + 3, "three times, far from each other");
        assert!(texts.contains("p50 50.0 µs") && texts.contains("p99.9 1.20 ms"), "{texts}");
    }

    #[test]
    fn what_was_never_measured_is_drawn_as_nothing() {
        let [rate, times] = rows();
        let none = Rate { slices: [0.0; SLICES] };
        let rate = Row { figures: Figures::Rate(Unit::Bytes, none), ..rate };
        let times = Row { figures: Figures::Times(Times::new().unwrap()), ..times };
        assert_eq!(parsed(&[rate, times]).0, 1);
        assert_eq!(parsed(&[]).0, 1);
    }

    #[test]
    fn one_time_alone_is_one_bar() {
        let [_, row] = rows();
        let mut times = Times::new().unwrap();
        times.add(std::time::Duration::from_micros(50));
        assert_eq!(parsed(&[Row { figures: Figures::Times(times), ..row }]).0, 2);
    }
}
