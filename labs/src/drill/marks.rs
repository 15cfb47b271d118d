//! Moments that logs tell: who noticed the fault, and who decided what to do.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

use super::spec::{Mark, MarkPhase};
use crate::LabError;
use crate::watch::Nanos;
use crate::watch::log::Tail;

/// The log files that one mark reads.
#[derive(Debug)]
pub(super) struct Marks {
    phase: MarkPhase,
    methods: Option<Vec<String>>,
    line: Regex,
    logs: Vec<Log>,
}

#[derive(Debug)]
struct Log {
    tails: [Tail; 2],
    /// The first line after the fault.
    said: Option<Nanos>,
}

impl Marks {
    pub(super) fn new(mark: &Mark, run: &Path) -> Result<Self, LabError> {
        let line = Regex::new(&mark.line).map_err(|error| LabError::failed(error.to_string()))?;
        let log = |(node, process): &(String, String)| {
            let path = |ending: &str| -> PathBuf { run.join(format!("{node}-{process}.{ending}")) };
            let mut tails = [Tail::new(&path("err")), Tail::new(&path("out"))];
            for tail in &mut tails {
                let _of_before = tail.lines();
            }
            Log { tails, said: None }
        };
        Ok(Self {
            phase: mark.phase,
            methods: mark.methods.clone(),
            line,
            logs: mark.processes.iter().map(log).collect(),
        })
    }

    /// Reads what was logged since the last call.
    pub(super) fn read(&mut self, fault: Nanos) {
        for log in &mut self.logs {
            for line in log.tails.iter_mut().flat_map(Tail::lines) {
                if log.said.is_none() && self.line.is_match(&line) {
                    log.said = time_of(&line).filter(|at| *at >= fault);
                }
            }
        }
    }

    /// When the phase was reached: `detected` by the first, `decided` by the last.
    pub(super) fn at(&self, phase: MarkPhase, method: &str) -> Option<Nanos> {
        let is_about = |names: &Vec<String>| names.iter().any(|name| name == method);
        if self.phase != phase || !self.methods.as_ref().is_none_or(is_about) {
            return None;
        }
        let said = self.logs.iter().filter_map(|log| log.said);
        match phase {
            MarkPhase::Detected => said.min(),
            MarkPhase::Decided => said.max(),
        }
    }
}

/// Times in a JSON line: `at` is the moment itself, `timestamp` when the line was written.
#[derive(Deserialize)]
struct Json {
    at: Option<jiff::Timestamp>,
    timestamp: Option<jiff::Timestamp>,
}

/// When a line says that it happened. UTC is set by the environment. BIRD writes `2026-11-28 23:00:00.000000`, FRR
/// `2026/11/28 23:00:00.000000`, Python's logging `2026-11-28 23:00:00,000`, others RFC 3339.
fn time_of(line: &str) -> Option<Nanos> {
    let nanos = |at: jiff::Timestamp| i64::try_from(at.as_nanosecond()).ok();
    if line.starts_with('{') {
        let Json { at, timestamp } = serde_json::from_str(line).ok()?;
        return nanos(at.or(timestamp)?);
    }
    let start = line.find(|c: char| c.is_ascii_digit())?;
    let text: String = line.get(start..)?.chars().take(35).collect();
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    if first.contains('T') {
        return nanos(first.parse().ok()?);
    }
    let time = words.next()?.replace(',', ".");
    let time: jiff::civil::DateTime = format!("{} {time}", first.replace('/', "-")).parse().ok()?;
    nanos(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_line_is_read_in_every_program_s_own_form() {
        let want: jiff::Timestamp = "2026-11-28T23:00:01.25Z".parse().unwrap();
        let want = i64::try_from(want.as_nanosecond()).ok();
        for line in [
            r#"{"timestamp":"2026-11-28T23:00:09Z","at":"2026-11-28T23:00:01.25Z","message":"verdict changed"}"#,
            r#"{"timestamp":"2026-11-28T23:00:01.250Z","message":"x"}"#,
            "2026-11-28 23:00:01.250000 <TRACE> fra: BGP session closed",
            "2026/11/28 23:00:01.250000 BGP: [X] %ADJCHANGE",
            "2026-11-28 23:00:01,250 INFO down",
            "[2026-11-28T23:00:01.250Z info] x",
        ] {
            let line = line.replace("Z info", "Z");
            assert_eq!(time_of(line.trim_end_matches("] x")), want, "{line}");
        }
        assert_eq!(time_of("no time here"), None);
    }

    #[test]
    fn detected_is_the_first_to_say_so_and_decided_the_last() {
        let run = std::env::temp_dir().join(format!("steer-labs-marks-{}", std::process::id()));
        std::fs::create_dir_all(&run).unwrap();
        let mark = |phase| Mark {
            phase,
            processes: vec![("a".to_owned(), "x".to_owned()), ("b".to_owned(), "x".to_owned())],
            line: "down".to_owned(),
            methods: None,
        };
        let mut first = Marks::new(&mark(MarkPhase::Detected), &run).unwrap();
        let mut last = Marks::new(&mark(MarkPhase::Decided), &run).unwrap();
        std::fs::write(run.join("a-x.err"), "2026-11-28 23:00:01.0 down\n").unwrap();
        std::fs::write(run.join("b-x.out"), "2026-11-28 23:00:03.0 down\n").unwrap();
        for marks in [&mut first, &mut last] {
            marks.read(0);
        }
        let early = first.at(MarkPhase::Detected, "m").unwrap();
        assert_eq!(last.at(MarkPhase::Decided, "m").unwrap() - early, 2_000_000_000);
        assert_eq!(first.at(MarkPhase::Decided, "m"), None);
        std::fs::remove_dir_all(&run).unwrap();
    }
}
