//! The last word on a stage: a program of the lab's own.

use nix::sys::signal::Signal;

use super::spec::{Stage, Verdict};
use crate::LabError;
use crate::report::Judged;
use crate::scenario::ms;
use crate::world::Lab;

impl Stage {
    /// Whether it has a verdict, and runs without any method. `only`: methods that were asked for alone.
    pub(crate) fn is_judged(&self, only: &[String]) -> bool {
        only.is_empty() && self.verdict.is_some()
    }
}

impl Verdict {
    /// Ends whom it waits for, then asks it.
    pub(super) fn speak(&self, lab: &mut Lab, stage: &str) -> Result<Judged, LabError> {
        for (node, process) in &self.after {
            lab.process(node, process)?.signal(Signal::SIGTERM)?;
        }
        for (node, name) in &self.after {
            let process = lab.process(node, name)?;
            let status = process.wait(ms(self.limit_ms))?;
            if !status.success() {
                let what = format!("{} ended with {status}", process.name());
                return Err(LabError::failed(what));
            }
        }
        let output = lab.ask(&self.node, &self.run)?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim_end().to_owned();
        Ok(Judged {
            stage: stage.to_owned(),
            said: text(&output.stdout),
            error: text(&output.stderr),
            held: output.status.success(),
        })
    }
}
