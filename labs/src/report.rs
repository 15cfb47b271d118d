//! What a lab measured, for people and for machines.

mod table;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::scenario::{Bound, Ratio, Scenario};

/// Version of the shape of [`Report`].
pub(crate) const SCHEMA: u32 = 1;

/// Between two changes, one request of so many milliseconds is kept.
const THIN_MS: f64 = 1000.0;

/// One run of a lab: every method, every phase, and whether the bounds held. `result.json` is this.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this shape: 1.
    pub schema: u32,
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
    /// What the nodes were made of: `netns` or `containerlab`.
    pub runtime: String,
    /// Which clock, and how exact each kind of time is.
    pub clock: Clock,
    /// The settings under which it was measured: name and value.
    pub settings: Vec<(String, String)>,
    /// By method, or by variant where the lab has variants.
    pub methods: BTreeMap<String, Method>,
    /// What was asked for, and what came out.
    pub bounds: Vec<Checked>,
    /// What programs of the lab's own said in the end, by stage and repetition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Judged>,
    /// How it is shown: methods side by side, in this order, instead of one table for each.
    #[serde(skip)]
    pub(crate) side_by_side: Vec<String>,
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
    /// What it is, in a few words.
    pub title: String,
    /// From the fault until a client is served for good, milliseconds, over all clients of all repetitions; 0 for a
    /// client that lost nothing.
    pub outage_ms: Option<Spread>,
    /// Requests that failed, per repetition.
    pub failed: Option<Spread>,
    /// Replies from a site that serves none of these clients before or after the fault, per repetition.
    pub wrong_site: Option<Spread>,
    /// In order of the chain from fault to recovery, each from the fault unless its title says otherwise.
    pub phases: Vec<Phase>,
    /// What the clients paid otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Count>,
    /// One per repetition.
    pub runs: Vec<Run>,
    /// What the router's table went through, per repetition, where a lab follows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Vec<Step>>,
}

/// Of several samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// By nearest rank: of fewer than 100 samples it is the largest.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// What one repetition cost the clients of a method.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Run {
    /// Per client, milliseconds; see [`Method::outage_ms`].
    pub outage_ms: Vec<f64>,
    /// What became of requests: every change, and one of each second between.
    pub timeline: Vec<Moment>,
    /// Requests that failed.
    pub failed: u64,
    /// Replies from a wrong site.
    pub wrong_site: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// Whose.
    pub client: String,
    /// When it was due, milliseconds after the fault.
    pub at_ms: f64,
    /// Who answered.
    pub site: Option<String>,
    /// Whether the answer was good, and came in time.
    pub ok: bool,
}

/// A change of the near edge's route in the router's table.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// After the fault, milliseconds.
    pub at_ms: f64,
    /// The route as it is from then on.
    pub what: String,
}

/// The time from one event to another.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// For machines and bounds, such as `verdict_to_wire`.
    pub name: String,
    /// For people.
    pub title: String,
    /// Milliseconds; `null` where the method has no such event, or it was not seen.
    pub ms: Option<Spread>,
    /// One per repetition in which it was seen, in order.
    pub samples: Vec<f64>,
}

/// A count, or a share in per cent.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// For machines and bounds, such as `syn_lost`.
    pub name: String,
    /// For people; names the unit.
    pub title: String,
    /// Over the samples.
    pub count: Option<Spread>,
    /// One per repetition.
    pub samples: Vec<f64>,
}

/// The last word on one repetition of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Of which stage.
    pub stage: String,
    /// What the program said on its standard output.
    pub said: String,
    /// And on its standard error.
    pub error: String,
    /// Whether it ended with exit code 0.
    pub held: bool,
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
    /// Whether every bound and every verdict held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.bounds.iter().all(|checked| checked.held) && self.verdicts.iter().all(|judged| judged.held)
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
        let phase = self.spread(&bound.method, &bound.phase);
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
        let median = |method: &str| self.spread(method, &ratio.phase).map(|phase| phase.median);
        let got = median(&ratio.of).zip(median(&ratio.to)).map(|(of, to)| of / to);
        let what = format!(
            "{} of {}, median as a multiple of {}",
            ratio.phase, ratio.of, ratio.to
        );
        Checked::new(what, ratio.most, got)
    }

    /// Over the repetitions: of a phase, of a count, or of `outage`, `failed` and `wrong_site`.
    #[must_use]
    pub fn spread(&self, method: &str, name: &str) -> Option<Spread> {
        self.methods.get(method).and_then(|method| method.spread(name))
    }
}

impl Checked {
    pub(crate) fn new(what: String, limit: f64, got: Option<f64>) -> Self {
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

/// Keeps both sides of every change, and one request of each second between. Of one client, in order of time.
pub(crate) fn thin(moments: Vec<Moment>) -> Vec<Moment> {
    let like = |a: &Moment, b: &Moment| a.ok == b.ok && a.site == b.site;
    let mut kept: Vec<Moment> = Vec::new();
    let mut skipped: Option<Moment> = None;
    for moment in moments {
        match kept.last() {
            Some(last) if like(last, &moment) && moment.at_ms - last.at_ms < THIN_MS => {
                skipped = Some(moment);
            }
            Some(last) if !like(last, &moment) => {
                kept.extend(skipped.take());
                kept.push(moment);
            }
            Some(_) | None => {
                skipped = None;
                kept.push(moment);
            }
        }
    }
    kept.extend(skipped);
    kept
}

impl Spread {
    /// `None` without samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len();
        // Nearest rank: the smallest with at least 99 % of the samples at or below it.
        let rank = (count * 99).div_ceil(100).max(1);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(max);
        Some(Self {
            min,
            median: f64::midpoint(at((count - 1) / 2), at(count / 2)),
            p99: at(rank - 1),
            max,
        })
    }
}

impl Method {
    /// Over the repetitions: of a phase, of a count, or of `outage`, `failed` and `wrong_site`.
    #[must_use]
    pub fn spread(&self, name: &str) -> Option<Spread> {
        let phase = self.phases.iter().find(|phase| phase.name == name);
        let count = self.counts.iter().find(|count| count.name == name);
        let own = match name {
            "outage" => self.outage_ms,
            "failed" => self.failed,
            "wrong_site" => self.wrong_site,
            _ => None,
        };
        own.or_else(|| phase.and_then(|phase| phase.ms))
            .or_else(|| count.and_then(|count| count.count))
    }

    /// Adds a time; the first of a phase makes its row.
    pub(crate) fn add(&mut self, name: &str, title: &str, milliseconds: f64) {
        self.phase(name, title, Some(milliseconds));
    }

    /// Adds a time that may not have been seen. The row is there in any case.
    pub(crate) fn phase(&mut self, name: &str, title: &str, milliseconds: Option<f64>) {
        let index = self.phases.iter().position(|phase| phase.name == name);
        let index = index.unwrap_or_else(|| {
            self.phases.push(Phase {
                name: name.to_owned(),
                title: title.to_owned(),
                ms: None,
                samples: Vec::new(),
            });
            self.phases.len() - 1
        });
        let phase = &mut self.phases[index];
        phase.samples.extend(milliseconds);
        phase.ms = Spread::of(&phase.samples);
    }

    /// Adds a count, or a share in percent.
    pub(crate) fn count(&mut self, name: &str, title: &str, sample: f64) {
        let index = self.counts.iter().position(|count| count.name == name);
        let index = index.unwrap_or_else(|| {
            self.counts.push(Count {
                name: name.to_owned(),
                title: title.to_owned(),
                count: None,
                samples: Vec::new(),
            });
            self.counts.len() - 1
        });
        let count = &mut self.counts[index];
        count.samples.push(sample);
        count.count = Spread::of(&count.samples);
    }

    /// Adds what a repetition cost.
    pub(crate) fn run(&mut self, run: Run) {
        self.runs.push(run);
        let outages: Vec<f64> = self
            .runs
            .iter()
            .flat_map(|run| run.outage_ms.iter().copied())
            .collect();
        self.outage_ms = Spread::of(&outages);
        let of = |count: fn(&Run) -> u64| {
            let samples: Vec<f64> = self.runs.iter().map(|run| count(run) as f64).collect();
            Spread::of(&samples)
        };
        (self.failed, self.wrong_site) = (of(|run| run.failed), of(|run| run.wrong_site));
    }
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
            anycast.count("lost", "requests that were lost (count)", failed);
        }
        Report {
            schema: 1,
            lab: "test".to_owned(),
            summary: "a test".to_owned(),
            fault: "none".to_owned(),
            started: jiff::Timestamp::UNIX_EPOCH,
            repeat: 4,
            runtime: "netns".to_owned(),
            clock: Clock {
                source: "made up".to_owned(),
                largest_step_us: 3.0,
            },
            settings: vec![("check".to_owned(), "every 100 ms".to_owned())],
            methods: BTreeMap::from([("anycast".to_owned(), anycast)]),
            bounds: Vec::new(),
            verdicts: Vec::new(),
            side_by_side: Vec::new(),
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
        let phase = report.spread("anycast", "verdict_to_wire").unwrap();
        assert_eq!(
            (phase.min, phase.median, phase.p99, phase.max),
            (1.0, 2.5, 10.0, 10.0)
        );
    }

    #[test]
    fn thinning_keeps_both_sides_of_every_change() {
        let moment = |at_ms: f64, site: &str, ok: bool| Moment {
            client: "a".to_owned(),
            at_ms,
            site: ok.then(|| site.to_owned()),
            ok,
        };
        let all: Vec<_> = (0..3000)
            .map(|at| moment(f64::from(at), "fra", !(700..710).contains(&at)))
            .collect();
        let kept: Vec<_> = thin(all).iter().map(|moment| moment.at_ms).collect();
        assert_eq!(kept, [0.0, 699.0, 700.0, 709.0, 710.0, 1710.0, 2710.0, 2999.0]);
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
        let mut scenario = scenario(&[("lost", 0.0)], &[]);
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
