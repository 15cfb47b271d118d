//! MRT, read by bgpdump: what a monitor saved, and what a running steer dumped on request.

use std::path::Path;
use std::process::Command;

use steer_tests::Steer;

use super::{Stage, in_order, missing};

const BGPDUMP: &str = "/usr/bin/bgpdump";

/// One line per record, as bgpdump words it.
fn read(file: &Path) -> Result<String, String> {
    let shown = Command::new(BGPDUMP).args(["-v", "-m"]).arg(file).output();
    let shown = shown.map_err(|error| error.to_string())?;
    let complaint = String::from_utf8_lossy(&shown.stderr);
    let complaint = complaint.lines().find(|line| !line.contains("[info]"));
    match complaint {
        Some(complaint) => Err(complaint.to_owned()),
        None => Ok(String::from_utf8_lossy(&shown.stdout).into_owned()),
    }
}

#[test]
fn what_a_monitor_saved_and_what_steer_dumped_are_read_by_bgpdump() {
    if missing(
        "what_a_monitor_saved_and_what_steer_dumped_are_read_by_bgpdump",
        BGPDUMP,
        "bgpdump",
    ) {
        return;
    }
    let mut stage = Stage::new();
    let mut monitor = stage.monitor(&["--save", "saved.mrt", "--save", "saved.jsonl"]);
    let mut steer = stage.start("");
    monitor.until("all routes", |monitor| {
        in_order(&monitor.printed(), &["192.0.2.53/32"]).ok()
    });
    let admin = stage.admin.to_string();
    let mut dump = stage.steer("dump", &["dump", "--admin", &admin, "--for", "2s", "dumped.mrt"]);
    // Nothing tells when it has begun: the route comes and goes until it is over.
    let (mut up, mut down) = (1, 0);
    while dump.is_running() {
        stage.take_down();
        down += 1;
        monitor.until("the withdrawal", |monitor| {
            (times(monitor, "-  192.0.2.53/32") == down).then_some(())
        });
        stage.bring_up();
        up += 1;
        monitor.until("the announcement", |monitor| {
            (times(monitor, "+  192.0.2.53/32") == up).then_some(())
        });
    }
    let dumped = dump.wait();
    assert_eq!(dumped.status.code(), Some(0), "{}", dumped.stderr);
    assert!(dumped.stderr.contains(" records, "), "{}", dumped.stderr);
    let dumped = read(&stage.path("dump/dumped.mrt")).unwrap();
    let order = [
        "BGP4MP_ET_LOCAL|",
        "|W|127.0.0.1|64500|192.0.2.53/32",
        "|A|127.0.0.1|64500|192.0.2.53/32|64512|IGP|",
    ];
    in_order(&dumped, &order).unwrap();

    steer.until("its life", |steer| {
        steer.log().contains("session established").then_some(())
    });
    drop(steer.stop());
    monitor.until("the end of the session", |monitor| {
        in_order(
            &monitor.printed(),
            &["down: peer sent Cease/Administrative Shutdown"],
        )
        .ok()
    });
    let stopped = monitor.stop();
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("unprinted=0 unsaved=0"),
        "{}",
        stopped.stderr
    );
    let saved = read(&stage.path("monitor/saved.mrt")).unwrap();
    let order = [
        "|STATE|127.0.0.1|0|1|4",
        "|STATE|127.0.0.1|64512|5|6",
        "|A|127.0.0.1|64512|192.0.2.1/32|64512|IGP|127.0.0.1|0|0|64512:7|",
        "|W|127.0.0.1|64512|192.0.2.53/32",
        "|STATE|127.0.0.1|64512|6|1",
    ];
    in_order(&saved, &order).unwrap();
    let lines = std::fs::read_to_string(stage.path("monitor/saved.jsonl")).unwrap();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let events: Vec<String> = events
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    let count = |name: &str| events.iter().filter(|event| *event == name).count();
    assert_eq!((count("session-up"), count("session-down")), (1, 1));
    assert_eq!((count("announced"), count("withdrawn")), (up + 2, down + 3));
}

/// How often the monitor has said so.
fn times(monitor: &Steer, words: &str) -> usize {
    monitor.printed().matches(words).count()
}
