//! Which share of the clients was back after how long, per method.

use super::scale::Log;
use super::{escape, hue, put, style, time};
use crate::record::Record;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = WIDTH - 26.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 44.0;

/// Rank, name, and outages in order of their length.
type Ranked<'r> = Vec<(usize, &'r str, Vec<f64>)>;

fn ranked(record: &Record) -> Ranked<'_> {
    let methods = record.ranked().into_iter().enumerate();
    methods
        .map(|(index, (id, method))| (index, id, method.outages()))
        .filter(|(_, _, outages)| !outages.is_empty())
        .collect()
}

pub(super) fn section(out: &mut String, record: &Record) {
    let methods = ranked(record);
    if methods.is_empty() {
        return;
    }
    put(
        out,
        "<section><h2>How soon are clients back?</h2><p class=\"note\">Share of clients whose outage was no longer than \
        this, over all repetitions. Logarithmic: each line to the right is ten times as long; what is shorter than the first, none at all too, stands there.</p>",
    );
    legend(out, &methods);
    put(
        out,
        &format!(
            "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"share of clients by outage\">"
        ),
    );
    curves(out, &methods);
    put(out, "</svg></div></section>");
}

/// The same as a picture of its own, for a page elsewhere; nothing where no client was seen.
pub(super) fn picture(record: &Record) -> Option<String> {
    let methods = ranked(record);
    if methods.is_empty() {
        return None;
    }
    let rows = methods.len().div_ceil(COLUMNS) as f64;
    let height = HEIGHT + LEGEND_TOP + rows * ROW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\"><title>{}: share of clients by outage</title><style>{}</style>\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n",
        escape(&record.lab),
        style::CSS
    );
    curves(&mut out, &methods);
    for (place, (index, id, _)) in methods.iter().enumerate() {
        let x = LEFT + (place % COLUMNS) as f64 * (RIGHT - LEFT) / COLUMNS as f64;
        let y = HEIGHT + LEGEND_TOP + (place / COLUMNS) as f64 * ROW;
        put(
            &mut out,
            &format!(
                "<path class=\"line {}{}\" d=\"M{x:.1} {y:.1}h22\"/><text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                hue(*index),
                dashed(*index),
                x + 29.0,
                y + 4.0,
                escape(id)
            ),
        );
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// Of the legend below the picture.
const COLUMNS: usize = 4;
const ROW: f64 = 20.0;
const LEGEND_TOP: f64 = 16.0;

fn dashed(index: usize) -> &'static str {
    if index >= style::HUES { " dashed" } else { "" }
}

/// Axes and a line per method.
fn curves(out: &mut String, methods: &Ranked<'_>) {
    let all = methods.iter().flat_map(|(_, _, outages)| outages);
    let scale = Log::around(&all.copied().collect::<Vec<_>>(), LEFT, RIGHT);
    axes(out, scale);
    for (index, id, outages) in methods {
        let dashed = dashed(*index);
        put(
            out,
            &format!(
                "<path class=\"line {}{dashed}\" data-method=\"{}\" d=\"{}\"><title>{}: half within {}, all within {}</title></path>",
                hue(*index),
                escape(id),
                steps(outages, scale),
                escape(id),
                time(outages.get(outages.len() / 2).copied().unwrap_or_default()),
                time(outages.last().copied().unwrap_or_default())
            ),
        );
    }
}

fn legend(out: &mut String, methods: &Ranked<'_>) {
    put(out, "<ul class=\"legend\">");
    for (index, id, _) in methods {
        let dashed = dashed(*index);
        let id = escape(id);
        put(
            out,
            &format!(
                "<li class=\"{}{dashed}\" data-method=\"{id}\"><i></i>{id}</li>",
                hue(*index)
            ),
        );
    }
    put(out, "</ul>");
}

fn axes(out: &mut String, scale: Log) {
    for share in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let y = height(share / 100.0);
        put(
            out,
            &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{share} %</text>",
                LEFT - 8.0,
                y + 4.0
            ),
        );
    }
    for (x, words) in scale.ticks() {
        put(
            out,
            &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{words}</text>",
                BOTTOM + 18.0
            ),
        );
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    let y = HEIGHT - 6.0;
    put(
        out,
        &format!("<text class=\"tick middle\" x=\"{middle}\" y=\"{y}\">outage of a client</text>"),
    );
}

fn height(share: f64) -> f64 {
    BOTTOM - share * (BOTTOM - TOP)
}

/// A step up at each client; equal ones in one. `outages` is in order.
fn steps(outages: &[f64], scale: Log) -> String {
    let mut path = format!("M{LEFT} {BOTTOM}");
    let count = outages.len() as f64;
    for (index, ms) in outages.iter().enumerate() {
        if outages.get(index + 1) == Some(ms) {
            continue;
        }
        path += &format!("H{:.1}V{:.1}", scale.x(*ms), height((index + 1) as f64 / count));
    }
    path + &format!("H{RIGHT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_a_step_and_the_last_reaches_the_top() {
        let scale = Log::around(&[1.0, 100.0], LEFT, RIGHT);
        let path = steps(&[1.0, 1.0, 10.0, 100.0], scale);
        assert_eq!(path.matches('V').count(), 3);
        assert!(
            path.starts_with(&format!("M{LEFT} {BOTTOM}H46.0V165.0")),
            "{path}"
        );
        assert!(path.ends_with(&format!("V{TOP:.1}H{RIGHT}")), "{path}");
    }
}
