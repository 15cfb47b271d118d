//! Runs a lab with any binary: `cargo run -p steer-labs --example lab -- first-failover target/debug/steer 3`.

use std::process::ExitCode;

use steer_labs::LabOptions;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(lab), Some(steer)) = (words.next(), words.next()) else {
        eprintln!("usage: lab NAME|FOLDER BINARY [REPEAT] [OUT] [RUNTIME] [ONLY,..]");
        return ExitCode::from(2);
    };
    let repeat = words.next().and_then(|word| word.parse().ok()).unwrap_or(3);
    let out = words.next().map(Into::into);
    let runtime = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    let only = words.next().unwrap_or_default();
    let options = LabOptions {
        set: std::collections::BTreeMap::new(),
        steer: steer.into(),
        repeat,
        only: only.split_terminator(',').map(str::to_owned).collect(),
        out,
        runtime,
    };
    match steer_labs::run(&lab, options) {
        Ok(report) => {
            println!("{report}");
            if report.passed() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
