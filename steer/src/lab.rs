//! `steer lab`: rehearse failover with copies of this very binary.

use steer_labs::LabOptions;

use crate::cli::{LabArgs, LabCommand};
use crate::exit::Failure;

/// Runs a lab and prints its report; a broken bound is a failure.
pub(crate) fn run(args: LabArgs) -> Result<(), Failure> {
    let LabCommand::Run {
        name,
        repeat,
        only,
        out,
        json,
    } = args.command;
    let steer =
        std::env::current_exe().map_err(|error| Failure::runtime("cannot find this binary", &error))?;
    let options = LabOptions {
        steer,
        repeat,
        only,
        out,
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
        Err(Failure::Runtime(format!("lab {name}: a bound was broken")))
    }
}
