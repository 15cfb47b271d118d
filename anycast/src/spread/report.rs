//! What the tracker has to say: reports of changes, and what went astray.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::Vantage;
use super::tracker::Change;

/// Vantages that are named in a report; more are only counted.
const MAX_NAMED: usize = 16;

/// How the watching of a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every vantage shows it.
    Complete,
    /// The time is over and some do not.
    Incomplete,
    /// The next change of the prefix came before that.
    Superseded,
}

impl Outcome {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Superseded => "superseded",
        }
    }
}

/// How one change spread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The change.
    #[serde(flatten)]
    pub change: Change,
    /// How it ended.
    pub outcome: Outcome,
    /// Vantages on which it could be seen: they did not show it before.
    pub vantages: usize,
    /// Vantages that showed it before; they tell nothing.
    pub already: usize,
    /// Vantages that showed it in the end.
    pub reached: usize,
    /// Until half of them showed it.
    #[serde(rename = "p50_s", serialize_with = "seconds")]
    pub p50: Option<Duration>,
    /// Until 90 % did.
    #[serde(rename = "p90_s", serialize_with = "seconds")]
    pub p90: Option<Duration>,
    /// Until 99 % did.
    #[serde(rename = "p99_s", serialize_with = "seconds")]
    pub p99: Option<Duration>,
    /// Those that did not; the first of them where they are many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreached: Vec<Vantage>,
}

impl Report {
    /// `delays` of the vantages that were reached, `unreached` the others.
    pub(super) fn new(
        change: Change,
        outcome: Outcome,
        already: usize,
        mut delays: Vec<Duration>,
        mut unreached: Vec<Vantage>,
    ) -> Self {
        delays.sort();
        let vantages = delays.len() + unreached.len();
        // Nearest rank: the vantage with which the share is reached.
        let share = |percent: usize| {
            let rank = (vantages * percent).div_ceil(100);
            delays.get(rank.checked_sub(1)?).copied()
        };
        let (p50, p90, p99) = (share(50), share(90), share(99));
        unreached.truncate(MAX_NAMED);
        Self {
            change,
            outcome,
            vantages,
            already,
            reached: delays.len(),
            p50,
            p90,
            p99,
            unreached,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change {
            prefix,
            announced,
            snapshot,
            ..
        } = self.change;
        let what = if announced { "announcement" } else { "withdrawal" };
        write!(f, "{what} of {prefix} (snapshot {snapshot}): ")?;
        match (self.vantages, self.already) {
            (0, 0) => write!(f, "no vantage to see it from")?,
            (0, already) => write!(f, "all {already} vantages showed it already")?,
            (vantages, _) => write!(f, "{} of {vantages} vantages", self.reached)?,
        }
        for (name, time) in [("50 %", self.p50), ("90 %", self.p90), ("99 %", self.p99)] {
            if let Some(time) = time {
                write!(f, ", {name} in {}", InMilliseconds(time))?;
            }
        }
        match self.outcome {
            Outcome::Complete => Ok(()),
            Outcome::Incomplete | Outcome::Superseded => write!(f, "; {}", self.outcome.name()),
        }
    }
}

/// A route that is where it should not be, or is not where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// The change that did not arrive.
    #[serde(flatten)]
    pub change: Change,
    /// Which way.
    pub kind: StrayKind,
    /// Where.
    pub vantage: Vantage,
    /// Since when the vantage is wrong: the change, or what it said later.
    pub since: Timestamp,
}

/// Which way a route is astray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrayKind {
    /// Withdrawn, and still there.
    Zombie,
    /// Announced, and not there.
    Missing,
}

impl StrayKind {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zombie => "zombie",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, vantage) = (self.change.prefix, self.vantage);
        match self.kind {
            StrayKind::Zombie => write!(f, "{prefix} is withdrawn, but {vantage} still has it"),
            StrayKind::Missing => write!(f, "{prefix} is announced, but {vantage} does not have it"),
        }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Who tells us.
    pub vantages: Vec<Vantage>,
    /// The newest reports, oldest first.
    pub reports: Vec<Report>,
    /// What is astray now.
    pub strays: Vec<Stray>,
    /// Changes, vantages and sightings that there was no room for.
    pub ignored: u64,
}

/// A duration for people: milliseconds below ten seconds.
#[derive(Debug, Clone, Copy)]
struct InMilliseconds(Duration);

impl fmt::Display for InMilliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(10) {
            write!(f, "{:.1} ms", self.0.as_secs_f64() * 1_000.0)
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}
