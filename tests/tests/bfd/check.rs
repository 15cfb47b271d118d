//! The state of a BFD session as a check: the real binary beside BIRD, and a switch that is cut.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use steer_labs::netns::{Node, Proc, World, can_run};
use steer_labs::wait;
use steer_tests::peers::{Bird, Features, missing};
use steer_tests::{skip, steer_binary};

use crate::bgp::{CONFIG, INTERVAL_MS, line};

const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_millis(600);

/// Besides what the test of BGP has: an uplink that is up while its path is.
const CHECKED: &str = r#"
[admin]
listen = "127.0.0.1:8053"
[[check]]
name = "uplink"
kind = "bfd"
peer = "10.0.0.2"
[[pool]]
name = "uplink"
check = "uplink"
endpoints = [{ address = "10.0.0.2:3784" }]
"#;

#[test]
fn an_endpoint_is_what_bfd_says_of_the_path_to_it() {
    let name = "bfd-check-bird";
    if let Err(reason) = can_run().and_then(|()| missing(&Bird)) {
        return skip(name, &reason);
    }
    let world = World::new(name).unwrap();
    let features = Features {
        bfd_ms: Some(INTERVAL_MS),
        ..Features::default()
    };
    let (node, switch, _peer) = line(&world, &Bird, features);
    let config = world.dir().join("steer.toml");
    fs::write(&config, format!("{CONFIG}{CHECKED}")).unwrap();
    let mut command = Command::new(steer_binary());
    command.args(["run", "--config"]).arg(&config);
    let mut steer = node.spawn(command, "run").unwrap();

    let shows = |verdict: &str, cause: &str| {
        let look = || {
            let (seen, why) = seen(&node)?;
            let fits = seen == verdict && why.starts_with(cause);
            fits.then_some(()).ok_or_else(|| format!("{seen}: {why}"))
        };
        if let Err(error) = wait::stable(PATIENCE, POLL, SETTLE, look) {
            panic!("want {verdict} {cause}: {error}\n{}", log(&steer));
        }
    };
    shows("up", "BFD with 10.0.0.2 is up");
    switch.set_link("br0", false).unwrap();
    shows("down", "BFD with 10.0.0.2 is down: ");
    switch.set_link("br0", true).unwrap();
    shows("up", "BFD with 10.0.0.2 is up");

    // Another fleet: its checks begin knowing nothing, and are told at once.
    let other = format!(
        "{CONFIG}{CHECKED}[[pool]]\nname = \"more\"\ncheck = \"uplink\"\nendpoints = [{{ address = \"10.0.0.2:1\" }}]\n"
    );
    fs::write(&config, other).unwrap();
    steer.signal(Signal::SIGHUP).unwrap();
    let both = || {
        let rows = rows(&node)?;
        let up = rows.iter().filter(|row| row["verdict"] == "up").count();
        (up == 2).then_some(()).ok_or_else(|| format!("{rows:?}"))
    };
    if let Err(error) = wait::stable(PATIENCE, POLL, SETTLE, both) {
        panic!("after the reload: {error}\n{}", log(&steer));
    }
    // Nobody else may speak for BFD.
    let mut curl = Command::new("/usr/bin/curl");
    curl.args([
        "-s",
        "-X",
        "PUT",
        "http://127.0.0.1:8053/v1/reports/uplink/10.0.0.2:3784?state=down",
    ]);
    let told = node.enter(|| curl.output()).unwrap().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("takes no reports"), "{told}");
    steer.signal(Signal::SIGTERM).unwrap();
    assert_eq!(steer.wait(Duration::from_secs(5)).unwrap().code(), Some(0));
}

fn seen(node: &Node) -> Result<(String, String), String> {
    let rows = rows(node)?;
    let row = rows.first().ok_or("no endpoint")?;
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok((text("verdict"), text("cause")))
}

fn rows(node: &Node) -> Result<Vec<Value>, String> {
    let mut status = Command::new(steer_binary());
    status.args(["status", "--json", "--admin", "127.0.0.1:8053"]);
    let done = node
        .enter(|| status.output())
        .map_err(|error| error.to_string())?;
    let done = done.map_err(|error| error.to_string())?;
    let status: Value = serde_json::from_slice(&done.stdout).map_err(|error| error.to_string())?;
    Ok(status["endpoints"].as_array().cloned().unwrap_or_default())
}

fn log(steer: &Proc) -> String {
    String::from_utf8_lossy(&fs::read(steer.stderr()).unwrap_or_default()).into_owned()
}
