//! What the clients saw of each fault: how long calls took, who failed, and how long until all was well. Sans-IO.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::journal::Entry;

/// A bad time is over when nothing bad was due for so long.
const CALM_US: i64 = 1_000_000;

/// Something that was done to the lab, as `steps.jsonl` of its run has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Step {
    /// Microseconds of the wall clock.
    pub at_us: i64,
    /// In words.
    pub what: String,
}

/// Steps that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    /// The file.
    #[error("{}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is no step.
    #[error("{}:{line}: no step: {source}", file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads a `steps.jsonl`.
///
/// # Errors
///
/// See [`StepsError`].
pub fn read_steps(path: &Path) -> Result<Vec<Step>, StepsError> {
    let text = fs::read_to_string(path).map_err(|source| StepsError::Io {
        file: path.to_owned(),
        source,
    })?;
    let step = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| StepsError::Line {
            file: path.to_owned(),
            line: number + 1,
            source,
        })
    };
    text.lines().enumerate().map(step).collect()
}

/// The time from one step to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chapter {
    /// What began it.
    pub what: String,
    /// Charges that were due.
    pub due: usize,
    /// Of these: given up, or not tried.
    pub failed: usize,
    /// Sent more than once.
    pub again: usize,
    /// From when they were due to the acknowledgement, milliseconds; `None` without any.
    pub p50_ms: Option<f64>,
    /// The same.
    pub p99_ms: Option<f64>,
    /// The same.
    pub max_ms: Option<f64>,
    /// When the last bad charge of the first bad time was due, after the step; 0 without any.
    pub back_ms: f64,
    /// Streams that broke.
    pub broken: usize,
    /// Streams that ended in good order, to begin anew.
    pub moved: usize,
    /// The longest that a stream was missing: until it was open again.
    pub gap_ms: f64,
}

/// All chapters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Story(pub Vec<Chapter>);

/// A charge, as its client saw it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    due: i64,
    /// `None`: it failed.
    took: Option<i64>,
    tries: u32,
}

impl Story {
    /// What each step did to the clients. A charge that took longer than `late_us`, or failed, is bad.
    #[must_use]
    pub fn of(journal: &[Entry], steps: &[Step], late_us: i64) -> Self {
        let charges = charges(journal);
        let (ends, gaps) = streams(journal);
        let ends_of = |from: i64, to: i64, is_broken: bool| {
            let within = ends.iter().filter(|(at, _)| (from..to).contains(at));
            within.filter(|(_, broken)| *broken == is_broken).count()
        };
        let chapter = |(number, step): (usize, &Step)| {
            let (from, to) = (
                step.at_us,
                steps.get(number + 1).map_or(i64::MAX, |next| next.at_us),
            );
            let mut mine: Vec<_> = charges
                .iter()
                .filter(|seen| (from..to).contains(&seen.due))
                .copied()
                .collect();
            mine.sort_by_key(|seen| seen.due);
            let mut took: Vec<_> = mine.iter().filter_map(|seen| seen.took).collect();
            took.sort_unstable();
            let gaps = gaps.iter().filter(|(at, _)| (from..to).contains(at));
            Chapter {
                what: step.what.clone(),
                due: mine.len(),
                failed: mine.iter().filter(|seen| seen.took.is_none()).count(),
                again: mine.iter().filter(|seen| seen.tries > 1).count(),
                p50_ms: rank(&took, 0.50),
                p99_ms: rank(&took, 0.99),
                max_ms: rank(&took, 1.0),
                back_ms: back(&mine, from, late_us),
                broken: ends_of(from, to, true),
                moved: ends_of(from, to, false),
                gap_ms: gaps.map(|(_, gap)| *gap).max().map_or(0.0, ms),
            }
        };
        Self(steps.iter().enumerate().map(chapter).collect())
    }

    /// Steps with these words that made a charge fail or a stream break; the words themselves when there is no such step.
    #[must_use]
    pub fn harmed(&self, words: &str) -> Vec<String> {
        let meant = self.0.iter().filter(|chapter| chapter.what.contains(words));
        let (mut harmed, mut any) = (Vec::new(), false);
        for chapter in meant {
            any = true;
            if chapter.failed + chapter.broken > 0 {
                harmed.push(chapter.what.clone());
            }
        }
        if !any {
            harmed.push(format!("no step has the words {words:?}"));
        }
        harmed
    }
}

fn charges(journal: &[Entry]) -> Vec<Seen> {
    let mut by_key: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut shed = Vec::new();
    for entry in journal {
        match entry {
            Entry::Begun { key, at_us, .. } => {
                let seen = Seen {
                    due: *at_us,
                    took: None,
                    tries: 0,
                };
                by_key.insert(key, seen);
            }
            Entry::Acked {
                key, at_us, tries, ..
            } => {
                if let Some(seen) = by_key.get_mut(key.as_str()) {
                    seen.took = Some(at_us - seen.due);
                    seen.tries = *tries;
                }
            }
            Entry::GaveUp { key, tries, .. } => {
                if let Some(seen) = by_key.get_mut(key.as_str()) {
                    seen.tries = *tries;
                }
            }
            Entry::Shed { at_us } => shed.push(Seen {
                due: *at_us,
                took: None,
                tries: 0,
            }),
            Entry::Opened { .. } | Entry::Echo { .. } | Entry::Ended { .. } => {}
        }
    }
    by_key.into_values().chain(shed).collect()
}

/// When a stream ended, and whether it broke.
type End = (i64, bool);

/// Since when a stream was missing, and for how long.
type Gap = (i64, i64);

/// When streams ended and whether they broke; and from when on they were missing for how long. One that is not opened
/// again was stopped with the load.
fn streams(journal: &[Entry]) -> (Vec<End>, Vec<Gap>) {
    let (mut ends, mut gaps) = (Vec::new(), Vec::new());
    let mut missing: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
    for entry in journal {
        match entry {
            Entry::Ended {
                stream,
                at_us,
                broken,
            } => _ = missing.insert(stream, (*at_us, broken.is_some())),
            Entry::Opened { stream, at_us } => {
                if let Some((since, is_broken)) = missing.remove(stream.as_str()) {
                    ends.push((since, is_broken));
                    gaps.push((since, at_us - since));
                }
            }
            Entry::Begun { .. }
            | Entry::Acked { .. }
            | Entry::GaveUp { .. }
            | Entry::Shed { .. }
            | Entry::Echo { .. } => {}
        }
    }
    ends.extend(missing.into_values().filter(|(_, is_broken)| *is_broken));
    (ends, gaps)
}

/// By nearest rank.
fn rank(sorted: &[i64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().map(ms)
}

fn ms(us: i64) -> f64 {
    us as f64 / 1e3
}

fn back(sorted: &[Seen], from: i64, late_us: i64) -> f64 {
    let is_bad = |seen: &&Seen| seen.took.is_none_or(|took| took > late_us);
    let mut last = None;
    for bad in sorted.iter().filter(is_bad) {
        if last.is_some_and(|last| bad.due - last > CALM_US) {
            break;
        }
        last = Some(bad.due);
    }
    last.map_or(0.0, |last| ms(last - from))
}

const HEAD: &str = "charges and streams; milliseconds";

/// A table.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|chapter| chapter.what.chars().count());
        let width = width.max().unwrap_or(0).max(HEAD.len());
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        write!(
            f,
            "{:width$}  {:>7} {:>6} {:>6} {:>8} {:>8} {:>8} {:>9}  {:>7} {:>6} {:>8}",
            HEAD, "due", "failed", "again", "p50", "p99", "max", "back", "broken", "moved", "gap"
        )?;
        for chapter in &self.0 {
            let Chapter {
                what,
                due,
                failed,
                again,
                p50_ms,
                p99_ms,
                max_ms,
                back_ms,
                broken,
                moved,
                gap_ms,
            } = chapter;
            write!(
                f,
                "\n{what:width$}  {due:>7} {failed:>6} {again:>6} {:>8} {:>8} {:>8} {back_ms:>9.1}  {broken:>7} {moved:>6} \
                 {gap_ms:>8.1}",
                number(*p50_ms),
                number(*p99_ms),
                number(*max_ms)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A charge due at so many milliseconds, and how long it took; `None`: it was given up.
    fn charge(due_ms: i64, took_ms: Option<i64>) -> [Entry; 2] {
        let key = format!("k{due_ms}");
        let begun = Entry::Begun {
            key: key.clone(),
            at_us: due_ms * 1000,
            account: "a".to_owned(),
            amount: 1,
        };
        let at_us = (due_ms + took_ms.unwrap_or(0)) * 1000;
        let ended = match took_ms {
            Some(_) => Entry::Acked {
                key,
                at_us,
                receipt: due_ms,
                tries: 1,
                replayed: false,
            },
            None => Entry::GaveUp {
                key,
                at_us,
                tries: 3,
                why: "late".to_owned(),
            },
        };
        [begun, ended]
    }

    fn step(at_ms: i64, what: &str) -> Step {
        Step {
            at_us: at_ms * 1000,
            what: what.to_owned(),
        }
    }

    #[test]
    fn a_charge_belongs_to_the_chapter_in_which_it_was_due() {
        let journal: Vec<_> = [charge(10, Some(2)), charge(90, Some(500)), charge(110, Some(4))]
            .into_iter()
            .flatten()
            .collect();
        let story = Story::of(&journal, &[step(0, "steady"), step(100, "fault")], 50_000);
        let dues: Vec<_> = story
            .0
            .iter()
            .map(|chapter| (chapter.due, chapter.max_ms))
            .collect();
        assert_eq!(dues, [(2, Some(500.0)), (1, Some(4.0))]);
    }

    #[test]
    fn clients_are_back_with_the_last_bad_charge_before_a_second_of_good_ones() {
        let took = |due: i64| match due {
            0..=300 => Some(900),
            400 => None,
            2_500 => Some(60), // a busy machine, later
            _ => Some(3),
        };
        let journal: Vec<_> = (0..40).flat_map(|at| charge(at * 100, took(at * 100))).collect();
        let story = Story::of(&journal, &[step(0, "fault")], 50_000);
        let Chapter { failed, back_ms, .. } = story.0[0];
        assert_eq!((failed, back_ms), (1, 400.0));
    }

    #[test]
    fn streams_are_told_apart_by_how_they_ended() {
        let opened = |stream: &str, at_us| Entry::Opened {
            stream: stream.to_owned(),
            at_us,
        };
        let ended = |stream: &str, at_us, broken: Option<&str>| Entry::Ended {
            stream: stream.to_owned(),
            at_us,
            broken: broken.map(str::to_owned),
        };
        let journal = [
            opened("a", 1),
            opened("b", 2),
            ended("a", 1_000, Some("reset")),
            ended("b", 1_500, None),
            opened("a", 4_000),
            opened("b", 1_600),
            ended("a", 9_000, None), // the end of the load
        ];
        let story = Story::of(&journal, &[step(0, "fault")], 50_000);
        let Chapter {
            broken,
            moved,
            gap_ms,
            ..
        } = story.0[0];
        assert_eq!((broken, moved, gap_ms), (1, 1, 3.0));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<_> = (1..=100).map(|ms| ms * 1000).collect();
        assert_eq!(
            (rank(&sorted, 0.5), rank(&sorted, 0.99)),
            (Some(50.0), Some(99.0))
        );
        assert_eq!(rank(&[], 0.5), None);
    }
}
