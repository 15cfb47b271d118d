//! Two runs side by side: medians, 99th percentiles and their ratios, per method.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::LabError;
use crate::record::{Method, Record, Spread};

/// Below it a time is not known well enough to be divided by: a tenth of a millisecond.
const SMALLEST_MS: f64 = 0.1;

/// What two runs have in common, and in what they differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first run.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Methods of either, in order of name.
    pub methods: Vec<Compared>,
}

/// One run, in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// The lab's name.
    pub lab: String,
    /// Where its nodes lived.
    pub runtime: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// How often the fault was repeated.
    pub repeat: u32,
}

/// A method in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its id.
    pub method: String,
    /// What was measured: `outage_ms` first, then phases, then `failed` and `wrong_site`.
    pub rows: Vec<Row>,
}

/// One figure in both runs; `null` where a run has not measured it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// As in `result.json`.
    pub name: String,
    /// Of the first run.
    pub a: Option<Pair>,
    /// Of the second.
    pub b: Option<Pair>,
    /// Median of the second as a multiple of the first's; `null` below 0.1, where no ratio means anything.
    pub ratio_median: Option<f64>,
    /// The same of the 99th percentile.
    pub ratio_p99: Option<f64>,
}

/// Over the repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pair {
    /// The middle one.
    pub median: f64,
    /// 99 of a hundred are not above it.
    pub p99: f64,
}

/// Compares two results; each is a `result.json` or the folder that holds one.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, LabError> {
    Ok(of(&Record::read(a)?, &Record::read(b)?))
}

fn of(a: &Record, b: &Record) -> Comparison {
    let names: BTreeSet<&String> = a.methods.keys().chain(b.methods.keys()).collect();
    let methods = names.into_iter().map(|name| Compared {
        method: name.clone(),
        rows: rows(a.methods.get(name), b.methods.get(name)),
    });
    Comparison {
        a: side(a),
        b: side(b),
        methods: methods.collect(),
    }
}

fn side(record: &Record) -> Side {
    Side {
        lab: record.lab.clone(),
        runtime: if record.runtime.is_empty() {
            "netns".to_owned()
        } else {
            record.runtime.clone()
        },
        started: record.started,
        repeat: record.repeat,
    }
}

fn rows(a: Option<&Method>, b: Option<&Method>) -> Vec<Row> {
    let mut rows = vec![row(
        "outage_ms",
        a.and_then(|a| a.outage_ms),
        b.and_then(|b| b.outage_ms),
    )];
    let mut names: Vec<&str> = Vec::new();
    for phase in [a, b].into_iter().flatten().flat_map(|method| &method.phases) {
        if !names.contains(&phase.name.as_str()) {
            names.push(&phase.name);
        }
    }
    for name in names {
        let of = |method: Option<&Method>| method.and_then(|method| method.phase(name));
        rows.push(row(name, of(a), of(b)));
    }
    rows.push(row("failed", a.and_then(|a| a.failed), b.and_then(|b| b.failed)));
    rows.push(row(
        "wrong_site",
        a.and_then(|a| a.wrong_site),
        b.and_then(|b| b.wrong_site),
    ));
    rows.retain(|row| row.a.is_some() || row.b.is_some());
    rows
}

fn row(name: &str, a: Option<Spread>, b: Option<Spread>) -> Row {
    let pair = |spread: Spread| Pair {
        median: spread.median,
        p99: spread.p99,
    };
    let ratio = |of: fn(Spread) -> f64| {
        let (a, b) = (of(a?), of(b?));
        (a >= SMALLEST_MS).then_some(b / a)
    };
    Row {
        name: name.to_owned(),
        a: a.map(pair),
        b: b.map(pair),
        ratio_median: ratio(|spread| spread.median),
        ratio_p99: ratio(|spread| spread.p99),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, side) in [("A", &self.a), ("B", &self.b)] {
            let Side {
                lab,
                runtime,
                started,
                repeat,
            } = side;
            let started = started.strftime("%Y-%m-%d %H:%M UTC");
            writeln!(f, "{letter}: {lab}, {repeat} repetitions, {runtime}, {started}")?;
        }
        let rows = self.methods.iter().flat_map(|method| &method.rows);
        let names = rows
            .map(|row| &row.name)
            .chain(self.methods.iter().map(|method| &method.method));
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0).max(16);
        let heads = ["A median", "B median", "B / A", "A p99", "B p99", "B / A"];
        for Compared { method, rows } in &self.methods {
            writeln!(f, "{}", rule(width, '┌', '┬', '┐'))?;
            write!(f, "│ {method:<width$} │")?;
            for head in heads {
                write!(f, " {head:>9} │")?;
            }
            writeln!(f, "\n{}", rule(width, '├', '┼', '┤'))?;
            for row in rows {
                let (median, p99) = (|pair: Pair| pair.median, |pair: Pair| pair.p99);
                write!(f, "│ {:<width$} │", row.name)?;
                for cell in [
                    number(row.a.map(median)),
                    number(row.b.map(median)),
                    times(row.ratio_median),
                    number(row.a.map(p99)),
                    number(row.b.map(p99)),
                    times(row.ratio_p99),
                ] {
                    write!(f, " {cell:>9} │")?;
                }
                writeln!(f)?;
            }
            writeln!(f, "{}", rule(width, '└', '┴', '┘'))?;
        }
        write!(
            f,
            "times in milliseconds; a ratio above 1: B takes longer, or loses more"
        )
    }
}

fn rule(width: usize, left: char, middle: char, right: char) -> String {
    let cell = "─".repeat(11);
    let cells = vec![cell; 6].join(&middle.to_string());
    format!("{left}{}{middle}{cells}{right}", "─".repeat(width + 2))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

fn times(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}×"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(median: f64, phase: &str) -> Record {
        let spread =
            |median: f64| serde_json::json!({"min": 0.0, "median": median, "p99": median * 2.0, "max": 99.0});
        let text = serde_json::json!({
            "schema": 1, "lab": "t", "started": "2026-11-28T00:00:00Z", "repeat": 3, "runtime": "netns",
            "clock": {"source": "x", "largest_step_us": 0.0},
            "methods": {"dns": {"outage_ms": spread(median), "failed": spread(0.0), "wrong_site": null,
                "phases": [{"name": phase, "title": "t", "ms": spread(4.0)}]}},
        });
        Record::parse(Path::new("result.json"), &text.to_string()).unwrap()
    }

    #[test]
    fn what_both_have_gets_a_ratio_and_what_one_has_stands_alone() {
        let compared = of(&record(10.0, "detected"), &record(15.0, "routed"));
        let rows = &compared.methods[0].rows;
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["outage_ms", "detected", "routed", "failed"]);
        assert_eq!((rows[0].ratio_median, rows[0].ratio_p99), (Some(1.5), Some(1.5)));
        assert!(rows[1].a.is_some() && rows[1].b.is_none() && rows[1].ratio_median.is_none());
        assert_eq!(rows[3].ratio_median, None, "nothing can be divided by 0");
    }

    #[test]
    fn the_table_is_as_wide_in_every_line() {
        let text = of(&record(10.0, "detected"), &record(15.0, "detected")).to_string();
        let widths: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with(['│', '┌', '├', '└']))
            .map(|line| line.chars().count())
            .collect();
        assert!(
            widths.len() > 4 && widths.iter().all(|width| *width == widths[0]),
            "{text}"
        );
        assert!(text.contains("1.50×"), "{text}");
    }

    #[test]
    fn a_result_of_another_shape_is_refused_with_its_file() {
        let error = Record::parse(Path::new("x/result.json"), "{\"schema\": 1}")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("x/result.json") && error.contains("steer lab run"),
            "{error}"
        );
    }
}
