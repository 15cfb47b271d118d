//! Runs a lab with any binary: `cargo run -p steer-labs --example lab -- first-failover target/debug/steer 3`.

use std::process::ExitCode;

use steer_labs::LabOptions;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(lab), Some(steer)) = (words.next(), words.next()) else {
        eprintln!("usage: lab NAME|FOLDER BINARY [REPEAT] [OUT]");
        return ExitCode::from(2);
    };
    let repeat = words.next().and_then(|word| word.parse().ok()).unwrap_or(3);
    let options = LabOptions {
        steer: steer.into(),
        repeat,
        only: Vec::new(),
        out: words.next().map(Into::into),
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
