//! Failover labs: rehearse in network namespaces what production will do, and measure it.
//!
//! ```text
//! labs/<name>/ (embedded) ─┬─ *.clab.yml ───► clab ─────► netns: World, nodes, links, processes
//!                          └─ scenario.toml ► scenario ─► rehearsal: converge, break, watch, heal, repeat
//!                                                          │
//!    watch: capture (UPDATEs), routes (kernel), table (BIRD), answers (DNS), load, flow, replies (clients), logs
//!                                                          ▼
//!                                  chain: from fault to recovery ─► report: phases per method, bounds
//!                 scenario.toml with stages ► drill: many clients, several faults, methods side by side ─┘
//! ```
//!
//! All times of a run come from one wall clock (`CLOCK_REALTIME` of the one machine everything runs on), so that
//! log lines, kernel time stamps of packets and client observations can be subtracted from each other.

mod chain;
pub mod clab;
mod compare;
pub mod datagram;
mod disk;
pub mod drill;
mod error;
mod export;
mod faketime;
mod html;
mod link;
pub mod netns;
mod record;
mod rehearsal;
pub mod report;
mod run;
mod runtime;
pub mod scenario;
mod shipped;
pub mod wait;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use compare::{Comparison, compare};
pub use error::LabError;
pub use export::{Exported, export};
pub use html::write as write_page;
pub use link::Wan;
pub use report::Report;
pub use runtime::Runtime;
pub use runtime::containerlab::can_run as can_run_containerlab;

/// How to run a lab.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// The binary under test.
    pub steer: PathBuf,
    /// How often the fault is repeated; 0 is as often as the lab says: 20 times where it says nothing.
    pub repeat: u32,
    /// Run only these variants of the lab; all when empty. Bounds on others are not looked at.
    pub only: Vec<String>,
    /// Other values for `set` of the lab's stages or variants, by key.
    pub set: BTreeMap<String, String>,
    /// Keep `result.json`, logs and captures in this folder. Without it they are kept only when the run fails.
    pub out: Option<PathBuf>,
    /// Where the nodes live.
    pub runtime: Runtime,
}

/// Runs a shipped lab by its name, or the lab in a folder. Shows progress on stderr. Nothing is left behind but
/// what `out` asks for; when the run fails, logs and routes of every node are kept and the error names the place.
#[expect(clippy::needless_pass_by_value, reason = "options belong to one run")]
pub fn run(lab: &str, options: LabOptions) -> Result<Report, LabError> {
    run::run(lab, &options)
}
