//! The labs of the announcement, each for a few repetitions: real BIRD, real steer, real load in namespaces.
//!
//! One after the other: they measure milliseconds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use steer_tests::{skip, steer_binary};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a lab said.
struct Run {
    /// `result.json`
    result: Value,
    /// Whether every bound of the lab held.
    held: bool,
    /// Table and progress, for the message of a failure.
    said: String,
}

impl Run {
    /// The median of a phase.
    fn median(&self, method: &str, phase: &str) -> f64 {
        let method = &self.result["methods"][method];
        let rows = ["phases", "counts"]
            .into_iter()
            .filter_map(|of| method[of].as_array());
        let row = rows
            .flatten()
            .find(|row| row["name"] == phase)
            .unwrap_or_else(|| panic!("no {phase}\n{}", self.said));
        let spread = if row["ms"].is_null() {
            &row["count"]
        } else {
            &row["ms"]
        };
        spread["median"].as_f64().unwrap()
    }
}

/// Runs a lab, or says why it is skipped.
fn run(lab: &str, repeat: u32, only: &str) -> Option<Run> {
    if let Err(why) = steer_labs::netns::can_run() {
        skip(lab, &why);
        return None;
    }
    if !Path::new("/usr/sbin/bird").exists() {
        skip(lab, "/usr/sbin/bird is missing");
        return None;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(steer_binary());
    command
        .args(["lab", "run", lab, "--repeat", &repeat.to_string(), "--out"])
        .arg(folder.path());
    if !only.is_empty() {
        command.args(["--only", only]);
    }
    let output = command.output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{said}");
    let text = std::fs::read_to_string(folder.path().join("result.json"));
    let text = text.unwrap_or_else(|error| panic!("no result: {error}\n{said}"));
    Some(Run {
        result: serde_json::from_str(&text).unwrap(),
        held: output.status.success(),
        said,
    })
}

#[test]
fn a_killed_service_costs_its_clients_milliseconds() {
    let Some(run) = run("app-death", 5, "steer") else {
        return;
    };
    assert!(run.held, "{}", run.said);
    assert!(run.median("steer", "detected") <= run.median("steer", "first_good_reply"));
}

#[test]
fn a_hanging_service_is_left_within_its_time_out_and_a_little() {
    let Some(run) = run("app-hang", 3, "steer") else {
        return;
    };
    assert!(run.held, "{}", run.said);
    assert_eq!(run.median("steer", "flow_reset"), 1.0, "{}", run.said);
}

#[test]
fn a_silent_edge_is_noticed_as_soon_as_one_that_runs_bird() {
    let Some(run) = run("silent-death", 3, "steer 50x3,bird 50x3") else {
        return;
    };
    // The lab's own bound of 1.1 is for ten repetitions and more: where in its interval the last packet was sent
    // alone moves a median of three by a tenth.
    let ratio = run.median("steer 50x3", "first_good_reply") / run.median("bird 50x3", "first_good_reply");
    assert!(ratio < 1.35, "{ratio}\n{}", run.said);
    assert_eq!(run.median("steer 50x3", "flow_reset"), 1.0, "{}", run.said);
}

#[test]
fn a_drain_under_load_loses_nobody_and_goes_step_by_step() {
    let Some(run) = run("drain-load", 2, "") else {
        return;
    };
    assert!(run.held, "{}", run.said);
    for steps in run.result["methods"]["anycast"]["steps"].as_array().unwrap() {
        let words: Vec<_> = steps
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["what"].as_str().unwrap())
            .collect();
        let wanted = [
            "path 64512, communities (65535,0), local preference 0",
            "path 64512 64512 64512 64512, communities (65535,0), local preference 0",
            "gone",
        ];
        assert_eq!(words, wanted, "{}", run.said);
    }
}
