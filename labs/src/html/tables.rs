//! The table of methods, the bounds, and every figure of every method.

use std::collections::BTreeSet;

use super::scale::Log;
use super::{count, escape, hue, put, time};
use crate::record::{Method, Record, Spread};

/// The chain from fault to recovery: names as in `result.json`, and what stands at the head of a column.
const CHAIN: [(&str, &str); 8] = [
    ("detected", "detected"),
    ("decided", "decided"),
    ("on_the_wire", "on the wire"),
    ("routed", "routed"),
    ("routers_converged", "routers converged"),
    ("answer_changed", "answer changed"),
    ("first_good_reply", "first good reply"),
    ("clients_99", "99 % of clients"),
];

/// Drills put it before the names of these phases.
const FROM: &str = "fault_to_";

fn short(name: &str) -> &str {
    name.strip_prefix(FROM).unwrap_or(name)
}

/// Size of the little pictures in the table.
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 18.0;

pub(super) fn methods(out: &mut String, record: &Record) {
    if record.methods.is_empty() {
        return;
    }
    let seen: BTreeSet<&str> = record
        .methods
        .values()
        .flat_map(|method| method.phases.iter().filter(|phase| phase.ms.is_some()))
        .map(|phase| short(&phase.name))
        .collect();
    let chain: Vec<_> = CHAIN.iter().filter(|(name, _)| seen.contains(name)).collect();
    let spreads = record.methods.values().filter_map(|method| method.outage_ms);
    let ends: Vec<f64> = spreads.flat_map(|spread| [spread.min, spread.max]).collect();
    let scale = Log::around(&ends, 5.0, WIDTH - 5.0);
    put(
        out,
        "<section><h2>Methods</h2><p class=\"note\">Outage: from the fault until a client is served for good, over all clients \
        and repetitions; shortest median first. Phases: median time from the fault.</p>",
    );
    put(
        out,
        "<div class=\"scroll\"><table class=\"methods\"><thead><tr><th rowspan=\"2\">method</th>",
    );
    put(
        out,
        "<th colspan=\"4\" class=\"group\">outage</th><th colspan=\"2\" class=\"group\">requests</th>",
    );
    if !chain.is_empty() {
        put(
            out,
            &format!("<th colspan=\"{}\" class=\"group\">fault →</th>", chain.len()),
        );
    }
    put(
        out,
        "</tr><tr><th>median</th><th>p99</th><th>max</th><th class=\"left\">log scale</th>",
    );
    put(out, "<th>failed</th><th>wrong site</th>");
    for (_, title) in &chain {
        put(out, &format!("<th>{title}</th>"));
    }
    put(out, "</tr></thead><tbody>");
    for (index, (id, method)) in record.ranked().into_iter().enumerate() {
        let name = escape(id);
        let title = escape(if method.title.is_empty() {
            id
        } else {
            &method.title
        });
        put(
            out,
            &format!(
                "<tr data-method=\"{name}\" class=\"{}\"><th><div><i></i><span>{name}",
                hue(index)
            ),
        );
        if title != name {
            put(out, &format!("<small>{title}</small>"));
        }
        put(out, "</span></div></th>");
        for (key, of) in [("median", 0), ("p99", 1), ("max", 2)] {
            let value = method
                .outage_ms
                .map(|spread| [spread.median, spread.p99, spread.max][of]);
            let class = if key == "median" { "main" } else { "" };
            cell(out, &format!("outage_ms.{key}"), class, value, time);
        }
        put(
            out,
            &format!("<td class=\"left\">{}</td>", whiskers(method.outage_ms, scale)),
        );
        cell(
            out,
            "failed.median",
            "",
            method.failed.map(|spread| spread.median),
            count,
        );
        cell(
            out,
            "wrong_site.median",
            "",
            method.wrong_site.map(|spread| spread.median),
            count,
        );
        for (name, _) in &chain {
            let long = format!("{FROM}{name}");
            let spread = method.phase(name).or_else(|| method.phase(&long));
            let median = spread.map(|spread| spread.median);
            cell(out, &format!("phases.{name}"), "", median, time);
        }
        put(out, "</tr>");
    }
    put(out, "</tbody></table></div></section>");
}

/// A figure, with its exact value for whoever reads the page by program.
fn cell(out: &mut String, key: &str, class: &str, value: Option<f64>, words: fn(f64) -> String) {
    match value {
        Some(value) => {
            let text = words(value);
            put(
                out,
                &format!("<td class=\"{class}\" data-key=\"{key}\" data-value=\"{value}\">{text}</td>"),
            );
        }
        None => put(out, &format!("<td class=\"nothing\" data-key=\"{key}\">–</td>")),
    }
}

/// A line from the smallest to the largest with a mark at the median.
fn whiskers(spread: Option<Spread>, scale: Log) -> String {
    let Some(spread) = spread else {
        return String::new();
    };
    let (from, middle, to) = (scale.x(spread.min), scale.x(spread.median), scale.x(spread.max));
    let y = HEIGHT / 2.0;
    format!(
        "<svg class=\"whiskers\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\
         <title>{} – {} – {}</title><line class=\"track\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/>\
         <line class=\"span\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\"/>\
         <circle cx=\"{middle:.1}\" cy=\"{y}\" r=\"4.5\"/></svg>",
        time(spread.min),
        time(spread.median),
        time(spread.max)
    )
}

pub(super) fn bounds(out: &mut String, record: &Record) {
    if record.bounds.is_empty() {
        return;
    }
    put(out, "<section><h2>Bounds</h2><ul class=\"bounds\">");
    for bound in &record.bounds {
        let (class, mark) = if bound.held {
            ("held", "held")
        } else {
            ("broken", "broken")
        };
        let got = bound
            .got
            .map_or_else(|| "not measured".to_owned(), |got| format!("{got:.2}"));
        put(
            out,
            &format!(
                "<li class=\"{class}\"><b>{mark}</b><span>{}</span><span class=\"got\">{got} <small>of at most {}</small></span></li>",
                escape(&bound.what),
                bound.limit
            ),
        );
    }
    put(out, "</ul></section>");
}

/// What programs of the lab's own said in the end.
pub(super) fn verdicts(out: &mut String, record: &Record) {
    for verdict in &record.verdicts {
        let (class, mark) = if verdict.held {
            ("held", "held")
        } else {
            ("broken", "broken")
        };
        put(
            out,
            &format!(
                "<section><h2>Verdict on {}</h2><ul class=\"bounds\"><li class=\"{class}\"><b>{mark}</b></li></ul>\
                <div class=\"scroll\"><pre>{}</pre></div></section>",
                escape(&verdict.stage),
                escape(&verdict.said)
            ),
        );
    }
}

/// Everything that was measured, folded away.
pub(super) fn details(out: &mut String, record: &Record) {
    if record.methods.is_empty() {
        return;
    }
    put(out, "<section><h2>Every figure</h2>");
    for (index, (id, method)) in record.ranked().into_iter().enumerate() {
        put(
            out,
            &format!(
                "<details class=\"{}\"><summary><i></i>{}</summary>",
                hue(index),
                escape(id)
            ),
        );
        put(
            out,
            "<div class=\"scroll\"><table><thead><tr><th class=\"left\">what</th><th>min</th><th>median</th><th>p99</th>\
            <th>max</th></tr></thead><tbody>",
        );
        figures(out, method);
        put(out, "</tbody></table></div></details>");
    }
    put(out, "</section>");
}

fn figures(out: &mut String, method: &Method) {
    row(out, "outage of a client", method.outage_ms, time);
    for phase in &method.phases {
        let title = if phase.title.is_empty() {
            &phase.name
        } else {
            &phase.title
        };
        row(out, title, phase.ms, time);
    }
    row(out, "requests that failed, per repetition", method.failed, count);
    row(
        out,
        "replies from a wrong site, per repetition",
        method.wrong_site,
        count,
    );
    for figure in &method.counts {
        row(out, &figure.title, figure.count, count);
    }
}

fn row(out: &mut String, title: &str, spread: Option<Spread>, words: fn(f64) -> String) {
    let Some(spread) = spread else { return };
    put(out, &format!("<tr><th class=\"left\">{}</th>", escape(title)));
    for value in [spread.min, spread.median, spread.p99, spread.max] {
        put(out, &format!("<td>{}</td>", words(value)));
    }
    put(out, "</tr>");
}
