//! `cargo xtask bench`: ratios against real peers, measured side by side in one run.

mod dns;

use clap::Subcommand;

/// What can be measured.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// Plain UDP answers: queries per second and CPU per query beside Knot and NSD (Debian packages).
    Dns,
}

pub(crate) fn bench(what: Bench) -> Result<(), String> {
    match what {
        Bench::Dns => dns::bench(),
    }
}
