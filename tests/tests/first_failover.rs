//! The first lab as a test: real BIRD, real unbound, real steer in network namespaces.

use std::path::Path;
use std::process::Command;

use steer_tests::{skip, steer_binary};

#[test]
fn the_near_edge_dies_and_both_actuators_move_clients_within_the_bounds() {
    const NAME: &str = "first-failover";
    if let Err(why) = steer_labs::netns::can_run() {
        return skip(NAME, &why);
    }
    for program in ["/usr/sbin/bird", "/usr/sbin/unbound"] {
        if !Path::new(program).exists() {
            return skip(NAME, &format!("{program} is missing"));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(steer_binary())
        .args(["lab", "run", NAME, "--repeat", "20", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let (table, progress) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{table}");
    // The lab itself holds the medians against the bounds of its scenario (5 ms each from verdict to action).
    assert!(output.status.success(), "{progress}\n{table}");
    let text = std::fs::read_to_string(folder.path().join("result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(result["repeat"], 20, "{text}");
}
