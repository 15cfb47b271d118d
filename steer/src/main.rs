//! The one binary: command line, wiring, admin API.
//!
//! ```text
//! steer.toml ─► load ─► bind everything ─► run ─┬─ health ──► SnapshotCell
//!                 │            │                ├─ dns      ◄─ tables compiled from each snapshot
//!              exit 2       exit 1              ├─ anycast  ◄─ wanted routes of each snapshot
//!                                               └─ admin    ◄─ status, explain, metrics, drains, reload
//! ```
//!
//! Nothing is started before everything is loaded and bound.

mod admin;
mod check;
mod cli;
mod client;
mod drain;
mod dump;
mod edge;
mod endpoint;
mod exit;
mod explain;
mod force;
mod lab;
mod load;
mod logging;
mod moment;
mod monitor;
mod notify;
mod paths;
mod quickstart;
mod reload;
mod resolve;
mod routes;
mod run;
mod runtimes;
mod shop;
mod simulate;
mod site_load;
mod status;
mod table;
mod wishes;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use exit::Failure;
use steer_health::Forced;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Edge(args) => edge::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Status(args) => status::show(&args),
        Command::Explain(args) => explain::show(&args),
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Drain(args) => drain::drain(&args),
        Command::Undrain(args) => drain::undrain(&args),
        Command::ForceUp(args) => force::force(&args, Forced::Up),
        Command::ForceDown(args) => force::force(&args, Forced::Down),
        Command::Unforce(args) => force::unforce(&args),
        Command::Load(args) => site_load::tell(&args),
        Command::Reload(args) => reload::ask(&args),
        Command::Notify(command) => notify::run(&command),
        Command::Monitor(args) => monitor::run(&args),
        Command::Dump(args) => dump::dump(&args),
        Command::Announce(args) => routes::announce(&args),
        Command::Withdraw(args) => routes::withdraw(&args),
        Command::ClearFlaps(args) => routes::clear_flaps(&args),
        Command::Lab(args) => lab::run(args),
        Command::Endpoint(args) => endpoint::run(&args),
    }
}
