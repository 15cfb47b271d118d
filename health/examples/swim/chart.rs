//! Line charts beside each other as SVG 1.1, readable on light and dark pages.

use std::fmt::Write;

/// One chart.
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What the axes show.
    pub(crate) across: String,
    pub(crate) up: String,
    /// Places across, and what is written there.
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) lines: Vec<Line>,
}

/// One line of a chart.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 340.0;
/// Around the plot: left, right, above, below (the legend is there too).
const MARGIN: [f64; 4] = [62.0, 14.0, 34.0, 122.0];
/// Distinct for the colour blind (Okabe, Ito).
const COLORS: [&str; 4] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7"];
const STEPS: u32 = 4;
/// Between two labels across, at least; one that is nearer to the last one is left out.
const LABELS_APART: f64 = 34.0;

/// The charts as one picture.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "<g transform=\"translate({} 0)\">", WIDTH * number as f64);
        panel.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

impl Panel {
    fn draw(&self, out: &mut String) {
        let [left, right, above, below] = MARGIN;
        let (bottom, end) = (HEIGHT - below, WIDTH - right);
        let across = self.ticks.iter().map(|(place, _)| *place);
        let (from, to) = (
            across.clone().fold(f64::MAX, f64::min),
            across.fold(f64::MIN, f64::max),
        );
        let highest = self.lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
        let top = round_up(highest.fold(0.0, f64::max));
        let x = |value: f64| left + (value - from) / (to - from) * (end - left);
        let y = |value: f64| bottom - value / top * (bottom - above);
        let middle = (left + end) / 2.0;
        let _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"20\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
            self.title
        );
        for step in 0..=STEPS {
            let value = top * f64::from(step) / f64::from(STEPS);
            let at = y(value);
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        let mut last = f64::MIN;
        for (place, label) in &self.ticks {
            let at = x(*place);
            let label = if at - last < LABELS_APART { "" } else { label };
            last = if label.is_empty() { last } else { at };
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {bottom}v4\" stroke=\"#333\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            );
        }
        let _ = writeln!(
            out,
            "<path d=\"M{left} {bottom}H{end}\" stroke=\"#333\"/><text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            bottom + 36.0,
            self.across,
            (above + bottom) / 2.0,
            self.up
        );
        for (number, (line, color)) in self.lines.iter().zip(COLORS).enumerate() {
            let points: Vec<_> = line.points.iter().map(|point| (x(point.0), y(point.1))).collect();
            let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"
                );
            }
            let at = bottom + 56.0 + 16.0 * number as f64;
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at}h24\" stroke=\"{color}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{}</text>",
                left + 32.0,
                at + 4.0,
                line.label
            );
        }
    }
}

/// The next number that divides well by [`STEPS`].
fn round_up(value: f64) -> f64 {
    let mut size = 1.0;
    loop {
        for nice in [4.0, 8.0, 12.0, 20.0, 32.0] {
            if nice * size >= value {
                return nice * size;
            }
        }
        size *= 10.0;
    }
}
