//! A report as people read it: one table per method, or all methods side by side.

use std::fmt;

use super::{Method, Report, Spread, Step};

/// The phases that are shown side by side: name, and head of the column.
const COLUMNS: [(&str, &str); 6] = [
    ("fault_to_detected", "detected"),
    ("fault_to_decided", "decided"),
    ("fault_to_on_the_wire", "on wire"),
    ("fault_to_routers_converged", "routers"),
    ("fault_to_first_good_reply", "1st good"),
    ("fault_to_clients_99", "99 % back"),
];

/// Width of a number, and of a method's name.
const CELL: usize = 9;
const NAME: usize = 21;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.lab, self.summary)?;
        writeln!(
            f,
            "fault: {}; {} repetitions; milliseconds",
            self.fault, self.repeat
        )?;
        for (name, value) in &self.settings {
            writeln!(f, "  {name}: {value}")?;
        }
        writeln!(f)?;
        if self.side_by_side.is_empty() {
            let width = self.widest_title();
            for (name, method) in &self.methods {
                one(f, name, method, width)?;
            }
        } else {
            self.all(f)?;
        }
        for checked in &self.bounds {
            writeln!(f, "{checked}")?;
        }
        writeln!(f)?;
        write!(
            f,
            "clock: {}; largest step within a repetition {:.0} µs",
            self.clock.source, self.clock.largest_step_us
        )?;
        // Last, as the last line of a verdict is what scripts look for.
        for judged in &self.verdicts {
            write!(f, "\n\n{}", judged.said)?;
        }
        Ok(())
    }
}

impl Report {
    fn widest_title(&self) -> usize {
        let methods = self.methods.values();
        let phases = methods
            .clone()
            .flat_map(|method| method.phases.iter().map(|phase| &phase.title));
        let counts = methods.flat_map(|method| method.counts.iter().map(|count| &count.title));
        phases
            .chain(counts)
            .chain(self.methods.keys())
            .map(|title| title.chars().count())
            .max()
            .unwrap_or(0)
            .max(30)
    }

    /// A line of medians for each method; with several repetitions, the least and the most below it.
    fn all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = |left: char, middle: char, right: char| {
            let cells = COLUMNS.len() + 2;
            let cell = format!("{middle}{}", "─".repeat(CELL + 1));
            format!("{left}{}{}{right}", "─".repeat(NAME + 2), cell.repeat(cells))
        };
        writeln!(f, "{}", rule('┌', '┬', '┐'))?;
        let heads = COLUMNS.iter().map(|(_, head)| *head);
        let heads = heads.chain(["failed", "wrong"]).map(str::to_owned);
        writeln!(f, "{}", line("from the fault to", heads))?;
        writeln!(f, "{}", rule('├', '┼', '┤'))?;
        for name in &self.side_by_side {
            let Some(method) = self.methods.get(name) else {
                continue;
            };
            let row = |of: fn(Spread) -> f64| cells(method).into_iter().map(move |cell| short(cell.map(of)));
            writeln!(f, "{}", line(name, row(|spread| spread.median)))?;
            if self.repeat > 1 {
                writeln!(f, "{}", line("  min", row(|spread| spread.min)))?;
                writeln!(f, "{}", line("  max", row(|spread| spread.max)))?;
            }
        }
        writeln!(f, "{}", rule('└', '┴', '┘'))
    }
}

fn cells(method: &Method) -> Vec<Option<Spread>> {
    let phases = COLUMNS.iter().map(|(name, _)| method.spread(name));
    phases.chain([method.failed, method.wrong_site]).collect()
}

fn line(name: &str, cells: impl Iterator<Item = String>) -> String {
    let mut line = format!("│ {name:<NAME$} ");
    for cell in cells {
        line.push_str(&format!("│{cell:>CELL$} "));
    }
    line.push('│');
    line
}

/// One digit behind the point where it says something.
fn short(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() < 1000.0 && value.fract() != 0.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn one(f: &mut fmt::Formatter<'_>, name: &str, method: &Method, width: usize) -> fmt::Result {
    let rule = |left, middle, right| {
        let cell = "─".repeat(11);
        format!(
            "{left}{}{middle}{cell}{middle}{cell}{middle}{cell}{right}",
            "─".repeat(width + 2)
        )
    };
    writeln!(f, "{}", rule('┌', '┬', '┐'))?;
    writeln!(
        f,
        "│ {name:<width$} │ {:>9} │ {:>9} │ {:>9} │",
        "min", "median", "max"
    )?;
    writeln!(f, "{}", rule('├', '┼', '┤'))?;
    let phases = method.phases.iter().map(|phase| (&phase.title, phase.ms, 2));
    let counts = method.counts.iter().map(|count| {
        let digits = usize::from(count.title.ends_with("(%)"));
        (&count.title, count.count, digits)
    });
    for (title, spread, digits) in phases.chain(counts) {
        let Some(Spread { min, median, max, .. }) = spread else {
            continue;
        };
        writeln!(
            f,
            "│ {title:<width$} │ {min:>9.digits$} │ {median:>9.digits$} │ {max:>9.digits$} │"
        )?;
    }
    writeln!(f, "{}", rule('└', '┴', '┘'))?;
    // The steps of the last repetition: they are the same each time but for milliseconds.
    for Step { at_ms, what } in method.steps.last().into_iter().flatten() {
        writeln!(f, "  {at_ms:>9.1} ms  {what}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Clock, Run};
    use super::*;

    #[test]
    fn side_by_side_every_line_fits_into_120_columns() {
        let mut method = Method::default();
        method.phase("fault_to_detected", "", Some(123_456.7));
        method.phase("fault_to_decided", "", None);
        method.run(Run {
            outage_ms: vec![100.0, 2.0],
            failed: 123_456,
            ..Run::default()
        });
        let report = Report {
            schema: 1,
            lab: "test".to_owned(),
            summary: "a test".to_owned(),
            fault: "none".to_owned(),
            started: jiff::Timestamp::UNIX_EPOCH,
            repeat: 2,
            runtime: "netns".to_owned(),
            clock: Clock {
                source: "made up".to_owned(),
                largest_step_us: 3.0,
            },
            settings: Vec::new(),
            methods: BTreeMap::from([("anycast-speaker-crash".to_owned(), method)]),
            bounds: Vec::new(),
            verdicts: Vec::new(),
            side_by_side: vec!["anycast-speaker-crash".to_owned()],
        };
        let text = report.to_string();
        let widths: Vec<usize> = text
            .lines()
            .filter(|line| line.starts_with(['│', '┌', '├', '└']))
            .map(|line| line.chars().count())
            .collect();
        assert_eq!(widths.len(), 7, "{text}");
        assert!(
            widths.iter().all(|width| *width == widths[0] && *width <= 120),
            "{text}"
        );
        assert!(text.contains("   123457 │        – │"), "{text}");
    }
}
