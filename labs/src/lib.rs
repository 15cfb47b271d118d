//! Failover labs: rehearse in network namespaces what production will do, and measure it.
//!
//! ```text
//! labs/<name>/ (embedded) ─┬─ *.clab.yml ───► clab ─────► netns: World, nodes, links, processes
//!                          └─ scenario.toml ► scenario ─► run: converge, break, watch, heal, repeat
//!                                                          │
//!    watch: capture (UPDATEs), routes (kernel), answers (DNS), replies (clients), steer's log
//!                                                          ▼
//!                                              report: phases per method, bounds
//! ```
//!
//! All times of a run come from one wall clock (`CLOCK_REALTIME` of the one machine everything runs on), so that
//! log lines, kernel time stamps of packets and client observations can be subtracted from each other.

pub mod clab;
mod error;
pub mod netns;
pub mod report;
pub mod scenario;
pub mod wait;

use std::path::PathBuf;

pub use error::LabError;
pub use report::Report;

/// How to run a lab.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// The binary under test.
    pub steer: PathBuf,
    /// How often the fault is repeated; at least 1.
    pub repeat: u32,
    /// Keep `result.json`, logs and captures in this folder. Without it they are kept only when the run fails.
    pub out: Option<PathBuf>,
}

/// Runs a shipped lab by its name, or the lab in a folder. Shows progress on stderr.
pub fn run(lab: &str, _options: LabOptions) -> Result<Report, LabError> {
    Err(LabError::Unknown {
        name: lab.to_owned(),
        shipped: String::new(),
    })
}
