//! The same lab under the real containerlab, where it, Docker and the image are there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the shipped topologies name.
const IMAGE: &str = "steer-lab:latest";

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The binary that runs the lab; the reason when there is none.
fn binary() -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/steer");
    let path = std::env::var_os("STEER_BIN").map_or(beside, PathBuf::from);
    path.is_file()
        .then_some(path)
        .ok_or_else(|| "no binary: build it, or name it by STEER_BIN".to_owned())
}

/// All that the runs of a process have left, by names that carry its pid.
fn leftovers(pid: u32) -> Vec<String> {
    let tag = format!("steer-{pid}-");
    let said = Command::new("docker")
        .args(["ps", "--all", "--format", "{{.Names}}"])
        .output()
        .unwrap();
    let containers = String::from_utf8_lossy(&said.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    let temporary = std::env::temp_dir();
    let all = [
        containers,
        names("/run/netns"),
        names("/etc/ssh/ssh_config.d"),
        names(&temporary.to_string_lossy()),
    ];
    all.into_iter()
        .flatten()
        .filter(|name| name.contains(&tag))
        .collect()
}

#[test]
fn a_lab_runs_in_containers_and_leaves_nothing_behind() {
    let steer = match steer_labs::can_run_containerlab(IMAGE).and_then(|()| binary()) {
        Ok(steer) => steer,
        Err(why) => return println!("skipped: {why}"),
    };
    let folder = std::env::temp_dir().join(format!("labs-containers-{}", std::process::id()));
    let child = Command::new(steer)
        .args(["lab", "run", "app-death", "--runtime", "containerlab"])
        .args(["--repeat", "3", "--only", "steer", "--out"])
        .arg(&folder)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let progress = String::from_utf8_lossy(&output.stderr);
    println!("{}", String::from_utf8_lossy(&output.stdout));
    // The bound of 5 ms is for the namespaces; here it may be broken, which is no failure to run.
    let text = std::fs::read_to_string(folder.join("result.json"));
    let text = text.unwrap_or_else(|error| panic!("no result: {error}\n{progress}"));
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(result["runtime"], "containerlab", "{text}");
    let phases = result["methods"]["steer"]["phases"].as_array().unwrap();
    let reply = phases
        .iter()
        .find(|phase| phase["name"] == "first_good_reply")
        .unwrap();
    let median = reply["ms"]["median"].as_f64().unwrap();
    assert!(
        median > 0.0 && median < 100.0,
        "the tripwire finds it, not the check: {median} ms"
    );
    assert_eq!(leftovers(pid), Vec::<String>::new());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn without_the_program_the_error_says_so_and_nothing_is_left() {
    let steer = match steer_labs::netns::can_run().and_then(|()| binary()) {
        Ok(steer) => steer,
        Err(why) => return println!("skipped: {why}"),
    };
    let child = Command::new(steer)
        .args(["lab", "run", "app-death", "--runtime", "containerlab"])
        .env("STEER_CONTAINERLAB", "/nowhere/containerlab")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("`/nowhere/containerlab`") && said.contains("STEER_CONTAINERLAB"),
        "{said}"
    );
    let temporary = std::env::temp_dir();
    let left = names(&temporary.to_string_lossy())
        .into_iter()
        .filter(|name| name.contains(&format!("steer-{pid}-")));
    assert_eq!(left.count(), 0);
    assert!(!Path::new("/nowhere").exists());
}
