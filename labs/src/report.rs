//! What a lab measured, for people and for machines.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::scenario::{Bound, Ratio, Scenario};

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
    /// By method, or by variant where the lab has variants.
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
    /// In order of the chain from fault to recovery, then what the clients paid.
    pub phases: Vec<Phase>,
    /// What the router's table went through, per repetition, where a lab follows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Vec<Step>>,
}

/// A change of the near edge's route in the router's table.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// After the fault, milliseconds.
    pub at_ms: f64,
    /// The route as it is from then on.
    pub what: String,
}

/// One row: the time from one event to another, or a count.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// For machines and bounds, such as `verdict_to_wire`.
    pub id: String,
    /// For people; names the unit unless it is the millisecond.
    pub title: String,
    /// One per repetition in which it was seen, in order.
    pub samples: Vec<f64>,
    /// Over the samples.
    pub min: f64,
    /// Over the samples.
    pub median: f64,
    /// Over the samples.
    pub max: f64,
    /// Digits behind the point: none for a count.
    #[serde(skip)]
    digits: usize,
}

/// A bound of the scenario beside the measured value.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// What was asked for, in words.
    pub what: String,
    /// Largest value.
    pub limit: f64,
    /// What was measured; absent when nothing was.
    pub got: Option<f64>,
    /// Whether it held.
    pub held: bool,
}

impl Report {
    /// Whether every bound held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.bounds.iter().all(|checked| checked.held)
    }

    /// Compares what was measured with the bounds; a bound on what was not seen is broken. Bounds on variants that
    /// were not asked for are left out.
    pub(crate) fn check(&mut self, scenario: &Scenario, measured: &[&str]) {
        let asked = |name: &String| !scenario.has_variant(name) || measured.contains(&name.as_str());
        let bounds = scenario.bounds.iter().filter(|bound| asked(&bound.method));
        let ratios = scenario
            .ratios
            .iter()
            .filter(|ratio| asked(&ratio.of) && asked(&ratio.to));
        self.bounds = bounds
            .flat_map(|bound| self.check_bound(bound))
            .chain(ratios.map(|ratio| self.check_ratio(ratio)))
            .collect();
    }

    fn check_bound(&self, bound: &Bound) -> Vec<Checked> {
        let phase = self.phase(&bound.method, &bound.phase);
        let what = |which: &str| format!("{} {}: {which}", bound.method, bound.phase);
        let median = bound
            .median_ms
            .map(|limit| Checked::new(what("median, ms"), limit, phase.map(|phase| phase.median)));
        let most = bound
            .most
            .map(|limit| Checked::new(what("largest"), limit, phase.map(|phase| phase.max)));
        median.into_iter().chain(most).collect()
    }

    fn check_ratio(&self, ratio: &Ratio) -> Checked {
        let median = |method: &str| self.phase(method, &ratio.phase).map(|phase| phase.median);
        let got = median(&ratio.of).zip(median(&ratio.to)).map(|(of, to)| of / to);
        let what = format!(
            "{} of {}, median as a multiple of {}",
            ratio.phase, ratio.of, ratio.to
        );
        Checked::new(what, ratio.most, got)
    }

    fn phase(&self, method: &str, phase: &str) -> Option<&Phase> {
        self.methods.get(method).and_then(|method| method.phase(phase))
    }
}

impl Checked {
    fn new(what: String, limit: f64, got: Option<f64>) -> Self {
        let held = got.is_some_and(|got| got <= limit);
        Self {
            what,
            limit,
            got,
            held,
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            limit,
            got,
            held,
        } = self;
        let mark = if *held { "ok    " } else { "BROKEN" };
        match got {
            Some(got) => write!(f, "{mark} {what}: {got:.2}, bound {limit}"),
            None => write!(f, "{mark} {what}: not measured, bound {limit}"),
        }
    }
}

impl Method {
    /// The phase with this id.
    #[must_use]
    pub fn phase(&self, id: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.id == id)
    }

    /// Adds a time; the first of a phase makes its row.
    pub(crate) fn add(&mut self, id: &str, title: &str, milliseconds: f64) {
        self.row(id, title, 2).add(milliseconds);
    }

    /// Adds a count, or a share in percent.
    pub(crate) fn count(&mut self, id: &str, title: &str, count: f64) {
        let digits = usize::from(title.ends_with("(%)"));
        self.row(id, title, digits).add(count);
    }

    fn row(&mut self, id: &str, title: &str, digits: usize) -> &mut Phase {
        let index = self.phases.iter().position(|phase| phase.id == id);
        let index = index.unwrap_or_else(|| {
            self.phases.push(Phase::new(id, title, digits));
            self.phases.len() - 1
        });
        &mut self.phases[index]
    }
}

impl Phase {
    fn new(id: &str, title: &str, digits: usize) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            samples: Vec::new(),
            min: 0.0,
            median: 0.0,
            max: 0.0,
            digits,
        }
    }

    fn add(&mut self, sample: f64) {
        self.samples.push(sample);
        let mut sorted = self.samples.clone();
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
            writeln!(f, "{checked}")?;
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
        let titles = phases.map(|phase| &phase.title).chain(self.methods.keys());
        titles
            .map(|title| title.chars().count())
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
            digits,
            ..
        } = phase;
        writeln!(
            f,
            "│ {title:<width$} │ {min:>9.digits$} │ {median:>9.digits$} │ {max:>9.digits$} │"
        )?;
    }
    writeln!(f, "{}", line('└', '┴', '┘'))?;
    // The steps of the last repetition: they are the same each time but for milliseconds.
    for Step { at_ms, what } in method.steps.last().into_iter().flatten() {
        writeln!(f, "  {at_ms:>9.1} ms  {what}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn report() -> Report {
        let mut anycast = Method::default();
        for sample in [3.0, 1.0, 2.0, 10.0] {
            anycast.add("verdict_to_wire", "verdict to UPDATE on the wire", sample);
        }
        for failed in [30.0, 28.0, 41.0, 35.0] {
            anycast.count("failed", "requests that failed (count)", failed);
        }
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

    /// The shipped scenario with these bounds and ratios alone.
    fn scenario(bounds: &[(&str, f64)], ratios: &[(&str, &str, f64)]) -> Scenario {
        let text = include_str!("../app-death/scenario.toml");
        let mut scenario = Scenario::parse(Path::new("scenario.toml"), text).unwrap();
        let bound = |(phase, median_ms): &(&str, f64)| Bound {
            method: "anycast".to_owned(),
            phase: (*phase).to_owned(),
            median_ms: Some(*median_ms),
            most: None,
        };
        let ratio = |(of, to, most): &(&str, &str, f64)| Ratio {
            of: (*of).to_owned(),
            to: (*to).to_owned(),
            phase: "verdict_to_wire".to_owned(),
            most: *most,
        };
        scenario.bounds = bounds.iter().map(bound).collect();
        scenario.ratios = ratios.iter().map(ratio).collect();
        scenario
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
        for (phase, limit, passes) in [
            ("verdict_to_wire", 2.5, true),
            ("verdict_to_wire", 2.4, false),
            ("no_such_phase", 100.0, false),
        ] {
            report.check(&scenario(&[(phase, limit)], &[]), &[]);
            assert_eq!(report.passed(), passes, "{phase} {limit}");
        }
    }

    #[test]
    fn a_ratio_compares_medians_and_the_largest_value_can_be_bounded() {
        let mut report = report();
        let mut other = Method::default();
        other.add("verdict_to_wire", "verdict to UPDATE on the wire", 2.0);
        report.methods.insert("other".to_owned(), other);
        for (of, to, most, passes) in [
            ("anycast", "other", 1.25, true),
            ("anycast", "other", 1.2, false),
            ("other", "anycast", 0.8, true),
            ("other", "nobody", 9.0, false),
        ] {
            report.check(&scenario(&[], &[(of, to, most)]), &[]);
            assert_eq!(report.passed(), passes, "{of} {to} {most}");
        }
        let mut scenario = scenario(&[("failed", 0.0)], &[]);
        (scenario.bounds[0].median_ms, scenario.bounds[0].most) = (None, Some(41.0));
        report.check(&scenario, &[]);
        assert!(report.passed(), "{report}");
    }

    #[test]
    fn bounds_on_variants_that_were_not_asked_for_are_left_out() {
        let mut report = report();
        let mut scenario = scenario(&[("verdict_to_wire", 1.0)], &[]);
        let variant = scenario.variants[0].name.clone();
        scenario.bounds[0].method.clone_from(&variant);
        report.check(&scenario, &[]);
        assert!(report.bounds.is_empty());
        report.check(&scenario, &[variant.as_str()]);
        assert!(!report.passed());
    }

    #[test]
    fn the_table_is_as_wide_in_every_line() {
        let mut report = report();
        report.check(&scenario(&[("verdict_to_wire", 5.0)], &[]), &[]);
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
            text.contains("ok     anycast verdict_to_wire: median, ms: 2.50, bound 5"),
            "{text}"
        );
        assert!(text.contains("│        28 │        32 │        41 │"), "{text}");
    }
}
