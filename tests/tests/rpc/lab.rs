//! The lab `rpc-edge`: edges are killed, stopped and drained under load, and the ledger is counted.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use steer_tests::{skip, steer_binary};

/// They need the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a build without optimisation holds on two cores that do other things too; the lab itself asks for more.
const LOAD: [&str; 6] = [
    "--set",
    "per_second=20",
    "--set",
    "streams=10",
    "--set",
    "late_ms=1000",
];

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../labs/rpc-edge");

/// Whether it can run here; says why not.
fn can_run() -> bool {
    if let Err(why) = steer_labs::netns::can_run() {
        skip("rpc-edge", &why);
        return false;
    }
    let programs = ["/usr/sbin/bird", "/usr/lib/frr/bgpd", "/usr/bin/pg_createcluster"];
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    if let Some(program) = missing {
        skip("rpc-edge", &format!("{program} is missing"));
    }
    missing.is_none()
}

/// A run, and the last line it printed.
fn run(lab: &str, out: &Path) -> (Output, String) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(steer_binary())
        .args(["lab", "run", lab, "--out"])
        .arg(out)
        .args(LOAD)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default().to_owned();
    (output, last)
}

/// The counts of a last line.
fn counts(last: &str) -> [usize; 3] {
    let words = last.split(", ").zip([" charged", " lost", " double"]);
    let counts: Vec<usize> = words
        .map(|(words, noun)| words.strip_suffix(noun).unwrap_or_else(|| panic!("{last}")))
        .map(|count| count.parse().unwrap())
        .collect();
    counts.try_into().unwrap()
}

#[test]
fn no_charge_is_lost_or_double_while_edges_are_killed_stopped_and_drained() {
    if !can_run() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let (output, last) = run("rpc-edge", out.path());
    assert!(output.status.success(), "{last}");
    let [charged, lost, double] = counts(&last);
    assert_eq!((lost, double), (0, 0));
    // 60 charges a second for a minute; a few are given up when a machine is busy.
    assert!(charged > 3_000, "{last}");
    let text = std::fs::read_to_string(out.path().join("result.json")).unwrap();
    let result: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(result["verdicts"][0]["held"], true);
    let said = result["verdicts"][0]["said"].as_str().unwrap();
    for step in [
        "steady",
        "kill -9 of `edge` on `fra`",
        "SIGSTOP of `edge` on `iad`",
        "drain nrt",
    ] {
        assert!(said.contains(step), "{said}");
    }
}

/// Copies a folder of files and folders.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_lab_whose_ledger_has_lost_a_line_fails_and_says_so_in_its_last_line() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("rpc-edge");
    copy(Path::new(SHIPPED), &lab);
    let path = lab.join("scenario.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("# Only the edge").unwrap();
    let (_, verdict) = rest.split_once("[stage.verdict]").unwrap();
    let theft = "DELETE FROM ledger WHERE receipt = 1";
    let step = format!(
        "[[stage.step]]\nbreak = [{{ kind = \"run\", node = \"db\", run = [\"psql\", \"-h\", \"{{run}}/db\", \"-U\", \
         \"postgres\", \"-c\", \"{theft}\"] }}]\n\n"
    );
    let verdict = verdict.replace("\"--harmless\", \"drain\", ", "");
    let text =
        format!("{head}{step}[stage.verdict]{verdict}").replace("watch_ms = 8_000", "watch_ms = 1_000");
    std::fs::write(&path, text).unwrap();
    let (output, last) = run(lab.to_str().unwrap(), &folder.path().join("out"));
    assert_eq!(output.status.code(), Some(1));
    let [charged, lost, double] = counts(&last);
    assert!(charged > 0);
    assert_eq!((lost, double), (1, 0), "{last}");
}
