//! `cargo xtask test`: every test, from unit tests to real peers in namespaces.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::packages;
use crate::shell::{FEATURES, cargo, run, target};

pub(crate) fn test(rest: &[String]) -> Result<(), String> {
    packages::ensure();
    if !packages::is_root() {
        eprintln!("skip: tests in network namespaces (not root)");
    }
    // Black-box tests and labs run the real binary; same profile and target folder as the tests.
    run(&mut cargo(&["build", "--package", "steer"]))?;
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests.args(FEATURES).args(rest).env("STEER_BIN", steer_binary());
    if !rest.iter().any(|arg| arg == "--") {
        // What a test printed is worth seeing when it passes too: tables of labs, reasons of skips.
        tests.args(["--", "--show-output"]);
    }
    let (tally, succeeded) = run_counting(&mut tests)?;
    println!("{tally}");
    if succeeded {
        Ok(())
    } else {
        Err("some tests failed; see above".to_owned())
    }
}

/// The binary that `cargo build --package steer` makes.
pub(crate) fn steer_binary() -> PathBuf {
    target().join("debug/steer")
}

/// What all test programs said together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Ended early with a line `skip: ..` or `skipped: ..`; the harness counts them as passed.
    skipped: u64,
}

impl Tally {
    /// Takes one line of `cargo test`.
    fn read(&mut self, line: &str) {
        if line.starts_with("skip: ") || line.starts_with("skipped: ") {
            self.skipped += 1;
            return;
        }
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let of = |noun: &str| {
            let part = counts
                .split(['.', ';'])
                .map(str::trim)
                .find(|part| part.ends_with(noun));
            part.and_then(|part| part.split(' ').next()?.parse().ok())
                .unwrap_or(0)
        };
        self.passed += of(" passed");
        self.failed += of(" failed");
        self.ignored += of(" ignored");
    }
}

/// The one closing line: `N passed, N failed, N skipped`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            ignored,
            skipped,
        } = self;
        write!(
            f,
            "{} passed, {failed} failed, {} skipped",
            passed.saturating_sub(*skipped),
            ignored + skipped
        )
    }
}

/// Shows what a command prints as it comes, and adds up the results in it.
fn run_counting(command: &mut Command) -> Result<(Tally, bool), String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo test: {error}"))?;
    let mut tally = Tally::default();
    for line in child
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        let line = line.map_err(|error| format!("cargo test: {error}"))?;
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait().map_err(|error| format!("cargo test: {error}"))?;
    Ok((tally, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_added_up_and_skips_are_no_passes() {
        let mut tally = Tally::default();
        for line in [
            "test a ... ok",
            "skip: lab: not root",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.to_string(), "4 passed, 1 failed, 2 skipped");
    }
}
