//! `cargo xtask fuzz`: every target of `fuzz/`, each for a while, on the stable toolchain.
//!
//! ```text
//! fuzz/seeds/<target> ─┐
//! corpus of last time ─┴─► target (libFuzzer) ─► corpus, or a crash and the octets that make it
//! ```
//!
//! What cargo-fuzz does with a nightly toolchain is passed to the compiler here; without a sanitizer stable takes
//! it, and safe code has little use for one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{cargo, output, run, workspace};

/// Coverage as libFuzzer wants it: counters per edge, their places, and the operands of comparisons.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Longer inputs find nothing that shorter ones do not; a BGP message has at most 65,535 octets.
const MAX_INPUT: u32 = 8_192;

/// An input that takes longer is reported as a hang.
const HANG_SECONDS: u32 = 10;

/// What one target did.
struct Outcome {
    target: String,
    runs: String,
    per_second: String,
    coverage: String,
    corpus: String,
    /// Octets that make it crash, or hang.
    crash: Option<PathBuf>,
}

/// Runs `only`, or all targets, for `seconds` each; with `input` replays that file instead.
pub(crate) fn fuzz(only: Option<&str>, seconds: u32, input: Option<&Path>) -> Result<(), String> {
    let targets = targets(only)?;
    let binaries = build()?;
    if let Some(input) = input {
        let [target] = targets.as_slice() else {
            return Err("--input wants one TARGET".to_owned());
        };
        return run(Command::new(binaries.join(target)).arg(input));
    }
    let outcomes = targets.iter().map(|target| run_one(&binaries, target, seconds));
    let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
    print(&outcomes, seconds);
    let crashes: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.crash.is_some())
        .collect();
    for Outcome { target, crash, .. } in &crashes {
        let crash = crash.as_deref().unwrap_or(Path::new(""));
        eprintln!(
            "{target}: run it again with `cargo xtask fuzz {target} --input {}`",
            crash.display()
        );
    }
    if crashes.is_empty() {
        Ok(())
    } else {
        Err(format!("{} of {} targets failed", crashes.len(), outcomes.len()))
    }
}

/// The targets are the files in `fuzz/fuzz_targets`.
fn targets(only: Option<&str>) -> Result<Vec<String>, String> {
    let folder = workspace().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".rs").map(str::to_owned)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    match only {
        None => Ok(names),
        Some(only) if names.iter().any(|name| name == only) => Ok(vec![only.to_owned()]),
        Some(only) => Err(format!("no target {only:?}; there are {}", names.join(", "))),
    }
}

/// Builds all targets and says where they are.
fn build() -> Result<PathBuf, String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    output(Command::new(&compiler).arg("--version"))
        .map_err(|error| format!("libFuzzer needs a C++ compiler (Debian package g++): {error}"))?;
    // With a target named, build scripts and procedural macros are compiled without the flags.
    let host = output(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc -vV names no host")?;
    let folder = folder();
    run(cargo(&["build", "--release", "--bins", "--target", host])
        .current_dir(workspace().join("fuzz"))
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(folder.join(host).join("release"))
}

fn folder() -> PathBuf {
    crate::shell::target().join("fuzz")
}

fn run_one(binaries: &Path, target: &str, seconds: u32) -> Result<Outcome, String> {
    let corpus = folder().join("corpus").join(target);
    let crashes = folder().join("crashes").join(target);
    for path in [&corpus, &crashes] {
        fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    eprintln!("{target}: {seconds} s");
    let mut child = Command::new(binaries.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT}"))
        .arg(format!("-timeout={HANG_SECONDS}"))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .arg("-print_final_stats=1")
        .args([corpus, workspace().join("fuzz/seeds").join(target)])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{target}: {error}"))?;
    let stderr = child.stderr.take().map(BufReader::new);
    let mut outcome = Outcome::new(target);
    let mut shown = Instant::now();
    for line in stderr.into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(|error| format!("{target}: {error}"))?;
        let progress = outcome.read(&line);
        if !progress || shown.elapsed() >= PROGRESS {
            eprintln!("  {line}");
            shown = Instant::now();
        }
    }
    let status = child.wait().map_err(|error| format!("{target}: {error}"))?;
    match (status.success(), &outcome.crash) {
        (true, _) | (false, Some(_)) => Ok(outcome),
        (false, None) => Err(format!(
            "{target}: {status}, and no octets that make it; see above"
        )),
    }
}

impl Outcome {
    fn new(target: &str) -> Self {
        let unknown = || "?".to_owned();
        Self {
            target: target.to_owned(),
            runs: unknown(),
            per_second: unknown(),
            coverage: unknown(),
            corpus: unknown(),
            crash: None,
        }
    }

    /// Takes one line of libFuzzer; whether it is one of many that only show progress.
    fn read(&mut self, line: &str) -> bool {
        let after = |label: &str| {
            let (_, rest) = line.split_once(label)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        if line.starts_with('#') && !line.starts_with("##") {
            self.coverage = after(" cov: ").unwrap_or(std::mem::take(&mut self.coverage));
            self.corpus = after(" corp: ").unwrap_or(std::mem::take(&mut self.corpus));
            return !line.contains("DONE");
        }
        if let Some(path) = after("Test unit written to ") {
            self.crash = Some(path.into());
        }
        self.runs = after("stat::number_of_executed_units:").unwrap_or(std::mem::take(&mut self.runs));
        self.per_second =
            after("stat::average_exec_per_sec:").unwrap_or(std::mem::take(&mut self.per_second));
        line.contains("# Uses:") || line.starts_with("INFO: ") || line.starts_with("stat::")
    }
}

fn print(outcomes: &[Outcome], seconds: u32) {
    println!(
        "\n{:14} {:>12} {:>9} {:>9} {:>12}  result ({seconds} s each)",
        "target", "runs", "runs/s", "edges", "inputs/size"
    );
    for outcome in outcomes {
        let Outcome {
            target,
            runs,
            per_second,
            coverage,
            corpus,
            crash,
        } = outcome;
        let result = match crash {
            None => "ok".to_owned(),
            Some(path) => format!("FAILED: {}", path.display()),
        };
        println!("{target:14} {runs:>12} {per_second:>9} {coverage:>9} {corpus:>12}  {result}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_crashes_are_read_from_the_lines_of_libfuzzer() {
        let mut outcome = Outcome::new("bgp_message");
        assert!(
            outcome.read("#524288\tpulse  cov: 133 ft: 186 corp: 31/284b lim: 4200 exec/s: 74898 rss: 27Mb")
        );
        assert!(
            !outcome.read("#600000\tDONE   cov: 140 ft: 190 corp: 33/300b lim: 4200 exec/s: 70000 rss: 27Mb")
        );
        outcome.read("stat::number_of_executed_units: 600000");
        outcome.read("stat::average_exec_per_sec:     70000");
        assert_eq!(outcome.crash, None);
        assert!(!outcome.read("artifact_prefix='x/'; Test unit written to x/crash-1"));
        let got = [outcome.coverage, outcome.corpus, outcome.runs, outcome.per_second];
        assert_eq!(got, ["140", "33/300b", "600000", "70000"]);
        assert_eq!(outcome.crash, Some("x/crash-1".into()));
    }
}
