//! `dnsperf` (Debian), and what it prints.

use std::path::Path;
use std::process::Command;

use crate::shell::output;

/// Its path.
pub(super) const DNSPERF: &str = "/usr/bin/dnsperf";

/// What one run printed.
pub(super) struct Printed(String);

impl Printed {
    /// The number behind a label.
    pub(super) fn figure(&self, label: &str) -> Result<f64, String> {
        let word = self.after(label)?.split_whitespace().next();
        word.and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("dnsperf printed no number behind {label:?}:\n{}", self.0))
    }

    /// What stands behind a label.
    pub(super) fn after(&self, label: &str) -> Result<&str, String> {
        let line = self.0.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim)
            .ok_or_else(|| format!("dnsperf printed no {label:?}:\n{}", self.0))
    }
}

/// Asks a port of this host what the file says, over and over, for so many seconds.
pub(super) fn dnsperf(port: u16, seconds: u32, queries: &Path, more: &[&str]) -> Result<Printed, String> {
    let (port, seconds) = (port.to_string(), seconds.to_string());
    let mut command = Command::new(DNSPERF);
    command
        .args(["-s", "127.0.0.1", "-p", &port, "-l", &seconds])
        .args(more)
        .arg("-d")
        .arg(queries);
    output(&mut command).map(Printed)
}
