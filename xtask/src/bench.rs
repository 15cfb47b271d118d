//! `cargo xtask bench`: ratios against real peers, measured side by side in one run.

mod bfd;
mod dns;

use clap::Subcommand;

/// What can be measured.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// Plain UDP answers: queries per second and CPU per query beside Knot and NSD (Debian packages).
    Dns,
    /// No false BFD failure while every core is busy: steer with BIRD, and BIRD with BIRD (needs root).
    Bfd(bfd::Plan),
}

pub(crate) fn bench(what: Bench) -> Result<(), String> {
    match what {
        Bench::Dns => dns::bench(),
        Bench::Bfd(plan) => bfd::bench(plan),
    }
}
