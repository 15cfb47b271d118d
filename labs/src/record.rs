//! A kept `result.json`, read again: what pages and comparisons are made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::LabError;

/// The version of the shape that is read here.
const SCHEMA: u32 = 1;

/// A run of a lab.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) lab: String,
    #[serde(default)]
    pub(crate) summary: String,
    #[serde(default)]
    pub(crate) fault: String,
    pub(crate) started: jiff::Timestamp,
    pub(crate) repeat: u32,
    #[serde(default)]
    pub(crate) runtime: String,
    pub(crate) clock: Clock,
    #[serde(default)]
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) methods: BTreeMap<String, Method>,
    #[serde(default)]
    pub(crate) bounds: Vec<Bound>,
    #[serde(default)]
    pub(crate) verdicts: Vec<Verdict>,
}

/// The last word of a program on a stage.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) stage: String,
    pub(crate) said: String,
    pub(crate) held: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Clock {
    pub(crate) source: String,
    pub(crate) largest_step_us: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Method {
    #[serde(default)]
    pub(crate) title: String,
    pub(crate) outage_ms: Option<Spread>,
    pub(crate) failed: Option<Spread>,
    pub(crate) wrong_site: Option<Spread>,
    #[serde(default)]
    pub(crate) phases: Vec<Phase>,
    #[serde(default)]
    pub(crate) counts: Vec<Count>,
    #[serde(default)]
    pub(crate) runs: Vec<Run>,
}

/// Of several samples.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) title: String,
    pub(crate) ms: Option<Spread>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Count {
    pub(crate) title: String,
    pub(crate) count: Option<Spread>,
}

/// One repetition.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Run {
    /// Per client.
    #[serde(default)]
    pub(crate) outage_ms: Vec<f64>,
    #[serde(default)]
    pub(crate) timeline: Vec<Moment>,
}

/// One request of a client.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Moment {
    pub(crate) client: String,
    /// After the fault.
    pub(crate) at_ms: f64,
    pub(crate) site: Option<String>,
    pub(crate) ok: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Bound {
    pub(crate) what: String,
    pub(crate) limit: f64,
    pub(crate) got: Option<f64>,
    pub(crate) held: bool,
}

impl Record {
    /// Reads a file, or the `result.json` of a folder.
    pub(crate) fn read(path: &Path) -> Result<Self, LabError> {
        let file = if path.is_dir() {
            path.join("result.json")
        } else {
            path.to_owned()
        };
        let text = fs::read_to_string(&file).map_err(|source| LabError::io("read", &file, source))?;
        Self::parse(&file, &text)
    }

    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, LabError> {
        let bad = |why: String| LabError::failed(format!("{}: {why}", file.display()));
        let record: Self = serde_json::from_str(text).map_err(|error| {
            bad(format!(
                "no result of a lab: {error}; write one by `steer lab run LAB --out DIR`"
            ))
        })?;
        if record.schema == SCHEMA {
            Ok(record)
        } else {
            let found = record.schema;
            Err(bad(format!(
                "its schema is {found}, and {SCHEMA} can be read: run the lab again"
            )))
        }
    }

    /// Methods with the shortest median outage first; those without one come last.
    pub(crate) fn ranked(&self) -> Vec<(&str, &Method)> {
        let mut methods: Vec<_> = self
            .methods
            .iter()
            .map(|(id, method)| (id.as_str(), method))
            .collect();
        let key = |method: &Method| method.outage_ms.map_or(f64::INFINITY, |outage| outage.median);
        methods.sort_by(|(_, a), (_, b)| key(a).total_cmp(&key(b)));
        methods
    }
}

impl Method {
    pub(crate) fn phase(&self, name: &str) -> Option<Spread> {
        self.phases.iter().find(|phase| phase.name == name)?.ms
    }

    /// Of every client of every repetition, in order.
    pub(crate) fn outages(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self
            .runs
            .iter()
            .flat_map(|run| run.outage_ms.iter().copied())
            .collect();
        all.sort_by(f64::total_cmp);
        all
    }
}

/// Where the `result.json` of a folder, or the file itself, lies.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.to_owned()
    } else {
        path.parent().map(Path::to_owned).unwrap_or_default()
    }
}
