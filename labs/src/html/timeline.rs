//! Who answered whom, over time: a row per client, coloured by site, failures in red.

use std::collections::BTreeSet;

use super::scale::Linear;
use super::{escape, hue, put, style, time};
use crate::record::{Method, Moment, Record, Run};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = WIDTH - 26.0;
const ROW: f64 = 18.0;
const BAR: f64 = 12.0;
const TOP: f64 = 6.0;
const AXIS: f64 = 24.0;

/// More clients are not drawn; the page says so.
const CLIENTS_MAX: usize = 40;

/// A stretch of time in which requests went the same way.
#[derive(Debug, PartialEq)]
struct Stretch<'r> {
    from: f64,
    to: f64,
    /// Whoever answered well; `None` where requests failed.
    site: Option<&'r str>,
}

pub(super) fn section(out: &mut String, record: &Record) {
    let methods: Vec<_> = record
        .ranked()
        .into_iter()
        .enumerate()
        .filter_map(|(index, (id, method))| Some((index, id, typical(method)?)))
        .collect();
    if methods.is_empty() {
        return;
    }
    let moments = record
        .methods
        .values()
        .flat_map(|method| &method.runs)
        .flat_map(|run| &run.timeline);
    let sites: BTreeSet<&str> = moments.filter_map(|moment| moment.site.as_deref()).collect();
    let sites: Vec<&str> = sites.into_iter().collect();
    put(
        out,
        "<section><h2>Who answered</h2><p class=\"note\">A row per client, in the repetition whose outage is the median one. \
        The fault is at 0; each method has its own time axis.</p><ul class=\"legend sites\">",
    );
    for (index, site) in sites.iter().enumerate() {
        put(
            out,
            &format!(
                "<li class=\"s{}\"><i></i>{}</li>",
                index % style::SITES,
                escape(site)
            ),
        );
    }
    put(
        out,
        "<li class=\"failed\"><i></i>failed</li></ul><div class=\"timelines\">",
    );
    for (index, id, (number, run)) in methods {
        put(
            out,
            &format!(
                "<figure data-method=\"{name}\"><figcaption class=\"{}\"><i></i>{name} <small>repetition {}</small></figcaption>",
                hue(index),
                number + 1,
                name = escape(id)
            ),
        );
        picture(out, run, &sites);
        put(out, "</figure>");
    }
    put(out, "</div></section>");
}

/// The repetition whose longest outage is the middle one of all.
fn typical(method: &Method) -> Option<(usize, &Run)> {
    let longest = |run: &Run| run.outage_ms.iter().copied().fold(0.0, f64::max);
    let mut runs: Vec<_> = method
        .runs
        .iter()
        .enumerate()
        .filter(|(_, run)| !run.timeline.is_empty())
        .collect();
    runs.sort_by(|(_, a), (_, b)| longest(a).total_cmp(&longest(b)));
    runs.get(runs.len().saturating_sub(1) / 2).copied()
}

fn picture(out: &mut String, run: &Run, sites: &[&str]) {
    let mut clients: Vec<&str> = Vec::new();
    for moment in &run.timeline {
        if !clients.contains(&moment.client.as_str()) {
            clients.push(&moment.client);
        }
    }
    let left_out = clients.len().saturating_sub(CLIENTS_MAX);
    clients.truncate(CLIENTS_MAX);
    let rows: Vec<(&str, Vec<Stretch<'_>>)> = clients
        .iter()
        .map(|client| {
            (
                *client,
                stretches(run.timeline.iter().filter(|moment| moment.client == *client)),
            )
        })
        .collect();
    let scale = window(&rows);
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + AXIS;
    put(
        out,
        &format!(
            "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"who answered over time\">"
        ),
    );
    for (index, (client, row)) in rows.iter().enumerate() {
        let y = TOP + ROW * index as f64 + (ROW - BAR) / 2.0;
        let shown: String = client.chars().take(16).collect();
        put(
            out,
            &format!(
                "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + BAR - 2.0,
                escape(&shown)
            ),
        );
        for stretch in row {
            bar(out, stretch, scale, y, sites);
        }
    }
    for (x, words) in scale.ticks() {
        put(
            out,
            &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{words}</text>",
                bottom + 4.0,
                bottom + 17.0
            ),
        );
    }
    let fault = scale.x(0.0);
    put(
        out,
        &format!(
            "<line class=\"fault\" x1=\"{fault:.1}\" x2=\"{fault:.1}\" y1=\"0\" y2=\"{bottom}\"/></svg></div>"
        ),
    );
    if left_out > 0 {
        put(
            out,
            &format!("<p class=\"note\">{left_out} more clients are not drawn.</p>"),
        );
    }
}

fn bar(out: &mut String, stretch: &Stretch<'_>, scale: Linear, y: f64, sites: &[&str]) {
    let (from, to) = (scale.x(stretch.from), scale.x(stretch.to));
    if to - from <= 0.0 {
        return; // outside of the window
    }
    let (class, words) = match stretch.site {
        Some(site) => {
            let index = sites.iter().position(|known| *known == site).unwrap_or(0);
            (format!("s{}", index % style::SITES), site)
        }
        None => ("failed".to_owned(), "failed"),
    };
    // What lasts a moment is still to be seen.
    let width = (to - from).max(1.0);
    put(
        out,
        &format!(
            "<rect class=\"{class}\" x=\"{from:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{BAR}\"><title>{} from {} to {}</title></rect>",
            escape(words),
            time(stretch.from),
            time(stretch.to)
        ),
    );
}

/// Neighbours that went the same way, joined. The last one ends with its last request.
fn stretches<'r>(moments: impl Iterator<Item = &'r Moment>) -> Vec<Stretch<'r>> {
    let mut moments: Vec<&Moment> = moments.collect();
    moments.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let mut all: Vec<Stretch<'r>> = Vec::new();
    for moment in moments {
        let site = moment.site.as_deref().filter(|_| moment.ok);
        if let Some(last) = all.last_mut() {
            last.to = moment.at_ms;
            if last.site == site {
                continue;
            }
        }
        let at = moment.at_ms;
        all.push(Stretch {
            from: at,
            to: at,
            site,
        });
    }
    all
}

/// From a little before the fault to a little after the last change.
fn window(rows: &[(&str, Vec<Stretch<'_>>)]) -> Linear {
    let stretches = || rows.iter().flat_map(|(_, row)| row);
    let changes = rows
        .iter()
        .flat_map(|(_, row)| row.iter().skip(1))
        .map(|stretch| stretch.from);
    let end = stretches().map(|stretch| stretch.to).fold(1.0, f64::max);
    let last = changes.fold(0.0, f64::max);
    let to = if last > 0.0 {
        (last * 1.3 + 2.0).min(end)
    } else {
        end
    };
    let begin = stretches().map(|stretch| stretch.from).fold(0.0, f64::min);
    Linear {
        from: begin.max(-to * 0.2),
        to: to.max(1.0),
        left: LEFT,
        right: RIGHT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at_ms: f64, site: Option<&str>) -> Moment {
        Moment {
            client: "a".to_owned(),
            at_ms,
            site: site.map(str::to_owned),
            ok: site.is_some(),
        }
    }

    #[test]
    fn neighbours_that_went_the_same_way_are_one_stretch() {
        let moments = [
            moment(-5.0, Some("fra")),
            moment(0.0, Some("fra")),
            moment(5.0, None),
            moment(20.0, Some("nrt")),
            moment(400.0, Some("nrt")),
        ];
        let all = stretches(moments.iter());
        let shape: Vec<_> = all.iter().map(|one| (one.from, one.to, one.site)).collect();
        assert_eq!(
            shape,
            [
                (-5.0, 5.0, Some("fra")),
                (5.0, 20.0, None),
                (20.0, 400.0, Some("nrt"))
            ]
        );
        let scale = window(&[("a", all)]);
        assert_eq!((scale.from, scale.to), (-5.0, 28.0));
    }

    #[test]
    fn an_answer_that_was_no_good_is_a_failure() {
        let mut wrong = moment(1.0, Some("fra"));
        wrong.ok = false;
        assert_eq!(stretches([wrong].iter())[0].site, None);
    }
}
