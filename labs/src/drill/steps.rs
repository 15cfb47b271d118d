//! `steps.jsonl` in the folder of the run: what was done to the lab, and when, for whoever judges it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::spec::Step;
use crate::LabError;
use crate::watch::now;

/// The file of a stage; the next stage begins another one.
#[derive(Debug)]
pub(super) struct Steps {
    path: PathBuf,
    file: File,
}

impl Steps {
    /// All is well from here on.
    pub(super) fn begin(dir: &Path) -> Result<Self, LabError> {
        let path = dir.join("steps.jsonl");
        let file = File::create(&path).map_err(|source| LabError::io("create", &path, source))?;
        let mut steps = Self { path, file };
        steps.write("steady")?;
        Ok(steps)
    }

    /// A step that is about to be done.
    pub(super) fn note(&mut self, step: &Step) -> Result<(), LabError> {
        let breaks: Vec<_> = step.breaks.iter().map(ToString::to_string).collect();
        let healed = step.heal.then(|| "healed".to_owned());
        let what: Vec<_> = breaks.into_iter().chain(healed).collect();
        self.write(&what.join(", "))
    }

    fn write(&mut self, what: &str) -> Result<(), LabError> {
        let line = serde_json::json!({ "at_us": now() / 1_000, "what": what });
        let written = writeln!(self.file, "{line}");
        written.map_err(|source| LabError::io("write", &self.path, source))
    }
}
