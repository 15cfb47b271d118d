//! The commands that people and CI both use: `cargo xtask check | test | interop | lab | images | sim | bench | fuzz | data`.

mod bench;
mod check;
mod data;
mod fuzz;
mod images;
mod interop;
mod lab;
mod packages;
mod shell;
mod sim;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Work on steer itself.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Format, lints, forbidden dependencies.
    Check,
    /// Every test. As root it installs the peers it needs from Debian packages; else it says what it skips.
    Test {
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Run the sessions with real peers and write their table into docs/interop.md (needs root).
    Interop {
        /// One of them alone: `interop` (BGP) or `bfd`.
        test: Option<String>,
    },
    /// Run one lab, or all of them, with the binary of this tree (needs root).
    Lab {
        /// The lab's name, for example `first-failover`, or `all`.
        name: String,
        /// Passed on to `steer lab run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Make the container image that labs need under `--runtime containerlab` (needs root and Docker).
    Images {
        /// Although it is there.
        #[arg(long)]
        again: bool,
    },
    /// Whole fleets under virtual time, from seeds: looks for broken rules (docs/simulation.md).
    Sim(sim::Sim),
    /// Measure beside real peers, in one run.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// Random octets and events against decoders and machines (needs a C++ compiler).
    Fuzz {
        /// One target; all when absent.
        target: Option<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
        /// Run the target once on this file instead, for example on what made it crash.
        #[arg(long)]
        input: Option<std::path::PathBuf>,
    },
    /// Make the shipped data files anew from pinned packages (needs npm, pip, xz and the network).
    Data {
        /// Only compare the shipped files with what would be made.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check => check::check(),
        Command::Interop { test } => interop::interop(test.as_deref()),
        Command::Test { rest } => test::test(&rest),
        Command::Bench { what } => bench::bench(what),
        Command::Fuzz {
            target,
            seconds,
            input,
        } => fuzz::fuzz(target.as_deref(), seconds, input.as_deref()),
        Command::Data { check } => data::data(check),
        Command::Images { again } => images::images(again),
        Command::Sim(sim) => sim::sim(&sim),
        Command::Lab { name, rest } => lab::lab(&name, &rest),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
