//! `steer lab`: rehearse failover with copies of this very binary.

use steer_labs::{LabOptions, Report};

use crate::cli::{LabArgs, LabCommand, LabRunArgs};
use crate::exit::Failure;
use crate::resolve::SystemResolver;
use crate::shop;

/// One of the subcommands.
pub(crate) fn run(args: LabArgs) -> Result<(), Failure> {
    match args.command {
        LabCommand::Run(args) => rehearse(args),
        LabCommand::Shop(command) => shop::run(command),
        LabCommand::Report { result } => {
            let page =
                steer_labs::write_page(&result).map_err(|error| Failure::runtime("lab report", &error))?;
            println!("{}", page.display());
            Ok(())
        }
        LabCommand::Export { config, out } => {
            let exported = steer_labs::export(&config, &out, &SystemResolver)
                .map_err(|error| Failure::runtime("lab export", &error))?;
            for left_out in &exported.left_out {
                eprintln!("not in the lab: {left_out}");
            }
            println!(
                "{} files; run it as root: steer lab run {}",
                exported.files.len(),
                out.display()
            );
            Ok(())
        }
        LabCommand::Compare { a, b, json } => {
            let compared =
                steer_labs::compare(&a, &b).map_err(|error| Failure::runtime("lab compare", &error))?;
            if json {
                println!("{}", serde_json::json!(compared));
            } else {
                println!("{compared}");
            }
            Ok(())
        }
    }
}

/// Runs a lab and prints its report; a broken bound is a failure.
fn rehearse(args: LabRunArgs) -> Result<(), Failure> {
    let LabRunArgs {
        name,
        repeat,
        only,
        set,
        out,
        runtime,
        json,
    } = args;
    let steer =
        std::env::current_exe().map_err(|error| Failure::runtime("cannot find this binary", &error))?;
    let options = LabOptions {
        steer,
        repeat: repeat.unwrap_or(0),
        only,
        set: set.into_iter().collect(),
        out,
        runtime,
    };
    let report =
        steer_labs::run(&name, options).map_err(|error| Failure::runtime(&format!("lab {name}"), &error))?;
    if json {
        println!("{}", serde_json::json!(report));
    } else {
        println!("{report}");
    }
    if report.passed() {
        Ok(())
    } else {
        Err(Failure::Runtime(format!("lab {name}: {}", broken(&report))))
    }
}

/// What a report failed for.
fn broken(report: &Report) -> &str {
    let judged = report.verdicts.iter().find(|judged| !judged.held);
    // A verdict may be one of our own commands, which has our name before its words.
    judged.map_or("a bound was broken", |judged| {
        judged.error.trim_start_matches("steer: ")
    })
}
