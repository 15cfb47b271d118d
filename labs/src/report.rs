//! What a lab measured, for people and for machines.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::scenario::Bound;

/// One run of a lab: every method, every phase, and whether the bounds held.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The lab's name.
    pub lab: String,
    /// What the lab does, in one line.
    pub summary: String,
    /// The fault, in words.
    pub fault: String,
    /// When the run began.
    pub started: jiff::Timestamp,
    /// How often the fault was repeated.
    pub repeat: u32,
    /// Which clock, and how exact each kind of time is.
    pub clock: Clock,
    /// The settings under which it was measured: name and value.
    pub settings: Vec<(String, String)>,
    /// By method.
    pub methods: BTreeMap<String, Method>,
    /// What was asked for, and what came out.
    pub bounds: Vec<Checked>,
}

/// Where the times come from.
#[derive(Debug, Clone, Serialize)]
pub struct Clock {
    /// In words.
    pub source: String,
    /// The largest difference between wall clock and monotonic clock seen within one repetition, microseconds.
    pub largest_step_us: f64,
}

/// One way to bring the client back.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Method {
    /// In order of the chain from fault to recovery.
    pub phases: Vec<Phase>,
    /// Requests that were due after the fault and failed, per repetition.
    pub failed: Vec<u64>,
}

/// One row: the time from one event to another.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// For machines and bounds, such as `verdict_to_wire`.
    pub id: String,
    /// For people.
    pub title: String,
    /// One per repetition, in order, milliseconds.
    pub samples_ms: Vec<f64>,
    /// Over the samples, milliseconds.
    pub min: f64,
    /// Over the samples, milliseconds.
    pub median: f64,
    /// Over the samples, milliseconds.
    pub max: f64,
}

/// A bound of the scenario beside the measured value.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// What was asked for.
    pub bound: Bound,
    /// What was measured; absent when nothing was.
    pub median_ms: Option<f64>,
    /// Whether it held.
    pub held: bool,
}

impl Report {
    /// Whether every bound held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.bounds.iter().all(|checked| checked.held)
    }

    /// Compares the measured medians with the bounds; a bound on what was not measured is broken.
    pub(crate) fn check(&mut self, bounds: &[Bound]) {
        self.bounds = bounds
            .iter()
            .map(|bound| {
                let phase = self
                    .methods
                    .get(&bound.method)
                    .and_then(|method| method.phase(&bound.phase));
                let median_ms = phase.map(|phase| phase.median);
                let held = median_ms.is_some_and(|median| median <= bound.median_ms);
                Checked {
                    bound: bound.clone(),
                    median_ms,
                    held,
                }
            })
            .collect();
    }
}

impl Method {
    /// The phase with this id.
    #[must_use]
    pub fn phase(&self, id: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.id == id)
    }

    /// Adds one sample; the first of a phase makes its row.
    pub(crate) fn add(&mut self, id: &str, title: &str, milliseconds: f64) {
        let phase = match self.phases.iter().position(|phase| phase.id == id) {
            Some(index) => &mut self.phases[index],
            None => {
                self.phases.push(Phase::new(id, title));
                let last = self.phases.len() - 1;
                &mut self.phases[last]
            }
        };
        phase.add(milliseconds);
    }
}

impl Phase {
    fn new(id: &str, title: &str) -> Self {
        let samples_ms = Vec::new();
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            samples_ms,
            min: 0.0,
            median: 0.0,
            max: 0.0,
        }
    }

    fn add(&mut self, milliseconds: f64) {
        self.samples_ms.push(milliseconds);
        let mut sorted = self.samples_ms.clone();
        sorted.sort_by(f64::total_cmp);
        self.min = sorted[0];
        self.max = sorted[sorted.len() - 1];
        // The mean of the middle two where there are two.
        self.median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    }
}

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
        let width = self.widest_title();
        for (name, method) in &self.methods {
            table(f, name, method, width)?;
        }
        for checked in &self.bounds {
            let Bound {
                method,
                phase,
                median_ms,
            } = &checked.bound;
            let mark = if checked.held { "ok    " } else { "BROKEN" };
            match checked.median_ms {
                Some(got) => writeln!(
                    f,
                    "{mark} {method} {phase}: median {got:.2} ms, bound {median_ms} ms"
                )?,
                None => writeln!(f, "{mark} {method} {phase}: not measured, bound {median_ms} ms")?,
            }
        }
        writeln!(f)?;
        write!(
            f,
            "clock: {}; largest step within a repetition {:.0} µs",
            self.clock.source, self.clock.largest_step_us
        )
    }
}

impl Report {
    fn widest_title(&self) -> usize {
        let phases = self.methods.values().flat_map(|method| &method.phases);
        phases
            .map(|phase| phase.title.chars().count())
            .max()
            .unwrap_or(0)
            .max(30)
    }
}

fn table(f: &mut fmt::Formatter<'_>, name: &str, method: &Method, width: usize) -> fmt::Result {
    let line = |left, middle, right| {
        let cell = "─".repeat(11);
        format!(
            "{left}{}{middle}{cell}{middle}{cell}{middle}{cell}{right}",
            "─".repeat(width + 2)
        )
    };
    writeln!(f, "{}", line('┌', '┬', '┐'))?;
    writeln!(
        f,
        "│ {name:<width$} │ {:>9} │ {:>9} │ {:>9} │",
        "min", "median", "max"
    )?;
    writeln!(f, "{}", line('├', '┼', '┤'))?;
    for phase in &method.phases {
        let Phase {
            title,
            min,
            median,
            max,
            ..
        } = phase;
        writeln!(f, "│ {title:<width$} │ {min:>9.2} │ {median:>9.2} │ {max:>9.2} │")?;
    }
    let mut failed = method.failed.clone();
    failed.sort_unstable();
    if let (Some(least), Some(middle), Some(most)) =
        (failed.first(), failed.get(failed.len() / 2), failed.last())
    {
        writeln!(
            f,
            "│ {:<width$} │ {least:>9} │ {middle:>9} │ {most:>9} │",
            "requests that failed (count)"
        )?;
    }
    writeln!(f, "{}", line('└', '┴', '┘'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut anycast = Method::default();
        for sample in [3.0, 1.0, 2.0, 10.0] {
            anycast.add("verdict_to_wire", "verdict to UPDATE on the wire", sample);
        }
        anycast.failed = vec![30, 28, 41, 35];
        Report {
            lab: "test".to_owned(),
            summary: "a test".to_owned(),
            fault: "none".to_owned(),
            started: jiff::Timestamp::UNIX_EPOCH,
            repeat: 4,
            clock: Clock {
                source: "made up".to_owned(),
                largest_step_us: 3.0,
            },
            settings: vec![("check".to_owned(), "every 100 ms".to_owned())],
            methods: BTreeMap::from([("anycast".to_owned(), anycast)]),
            bounds: Vec::new(),
        }
    }

    fn bound(phase: &str, median_ms: f64) -> Bound {
        Bound {
            method: "anycast".to_owned(),
            phase: phase.to_owned(),
            median_ms,
        }
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        let report = report();
        let phase = report.methods["anycast"].phase("verdict_to_wire").unwrap();
        assert_eq!((phase.min, phase.median, phase.max), (1.0, 2.5, 10.0));
    }

    #[test]
    fn a_bound_on_what_was_not_measured_is_broken() {
        let mut report = report();
        report.check(&[bound("verdict_to_wire", 2.5)]);
        assert!(report.passed());
        report.check(&[bound("verdict_to_wire", 2.4)]);
        assert!(!report.passed());
        report.check(&[bound("no_such_phase", 100.0)]);
        assert!(!report.passed());
    }

    #[test]
    fn the_table_is_as_wide_in_every_line() {
        let mut report = report();
        report.check(&[bound("verdict_to_wire", 5.0)]);
        let text = report.to_string();
        let widths: Vec<_> = text
            .lines()
            .filter(|l| l.starts_with(['│', '┌', '├', '└']))
            .map(|l| l.chars().count())
            .collect();
        assert!(
            widths.len() > 4 && widths.iter().all(|width| *width == widths[0]),
            "{text}"
        );
        assert!(
            text.contains("ok     anycast verdict_to_wire: median 2.50 ms, bound 5 ms"),
            "{text}"
        );
    }
}
