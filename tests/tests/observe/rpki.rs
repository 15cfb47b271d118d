//! RTR with a real cache: stayrtr serves a file, in the versions that it knows.

use std::fs;
use std::path::Path;

use serde_json::Value;
use steer_tests::free_port;

use super::{Stage, Tool, missing, until};

const STAYRTR: &str = "/usr/bin/stayrtr";

fn roas(list: &[(&str, u8, u32)]) -> String {
    let roas: Vec<Value> = list
        .iter()
        .map(|(prefix, max_length, asn)| {
            serde_json::json!({ "prefix": prefix, "maxLength": max_length, "asn": format!("AS{asn}"), "ta": "test" })
        })
        .collect();
    serde_json::json!({ "metadata": { "buildtime": "2026-01-01T00:00:00Z" }, "roas": roas }).to_string()
}

/// As a whole, or the cache may read half of it.
fn replace(file: &Path, text: &str) {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(&fresh, file).unwrap();
}

/// Validity of the three prefixes, in their order.
fn validity(stage: &Stage) -> Result<Vec<String>, String> {
    let status = stage.status()?;
    let routes = &status["bgp"][0]["rpki"]["routes"];
    let routes = routes.as_object().ok_or_else(|| format!("no rpki in {status}"))?;
    let names = routes.values().map(|route| route["validity"].as_str());
    Ok(names.map(|name| name.unwrap_or_default().to_owned()).collect())
}

fn shows(stage: &Stage, wanted: [&str; 3]) {
    until(&format!("{wanted:?}"), || {
        let seen = validity(stage)?;
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
}

/// The validity of our announcements follows the cache, each change is logged once, and nothing is withdrawn.
fn follows(protocol: &str) {
    let stage = Stage::new();
    let file = stage.path("vrps.json");
    let wrong = [("192.0.2.0/24", 24, 64_512), ("2001:db8::/32", 128, 64_512)];
    replace(&file, &roas(&wrong));
    let cache = free_port();
    let (bind, metrics) = (cache.to_string(), free_port().to_string());
    let args = [
        "-bind",
        &bind,
        "-metrics.addr",
        &metrics,
        "-cache",
        "vrps.json",
        "-checktime=false",
        "-refresh",
        "1",
        "-protocol",
        protocol,
    ];
    let stayrtr = Tool::start(STAYRTR, &args, stage.folder.path());
    let mut monitor = stage.monitor(&[]);
    let steer = stage.start(&format!("rpki = \"{cache}\""));
    // A /32 below a ROA for the /24 alone: what anycast services forget.
    shows(&stage, ["invalid", "invalid", "valid"]);
    let right = [("192.0.2.0/24", 32, 64_512), ("2001:db8::/32", 128, 64_512)];
    replace(&file, &roas(&right));
    shows(&stage, ["valid", "valid", "valid"]);
    replace(&file, &roas(&[("198.51.100.0/24", 24, 64_512)]));
    shows(&stage, ["not-found", "not-found", "not-found"]);
    drop(stayrtr);
    until("the loss of the cache", || {
        let state = stage.status()?["bgp"][0]["rpki"]["last_error"].clone();
        state.is_string().then_some(()).ok_or_else(|| state.to_string())
    });
    shows(&stage, ["not-found", "not-found", "not-found"]); // data outlive the connection
    monitor.until("all routes", |monitor| {
        monitor.printed().contains("192.0.2.1/32").then_some(())
    });
    assert!(
        !monitor.printed().contains("-  192.0.2.1/32"),
        "a wrong ROA withdraws nothing"
    );
    let log = steer.stop().stderr;
    let warnings = log
        .lines()
        .filter(|line| line.contains("RPKI invalid") && line.contains("192.0.2.1/32"));
    assert_eq!(warnings.count(), 1, "{log}");
}

#[test]
fn validity_follows_a_cache_of_version_1() {
    if !missing("validity_follows_a_cache_of_version_1", STAYRTR, "stayrtr") {
        follows("1");
    }
}

#[test]
fn validity_follows_a_cache_that_knows_version_0_alone() {
    if !missing(
        "validity_follows_a_cache_that_knows_version_0_alone",
        STAYRTR,
        "stayrtr",
    ) {
        follows("0");
    }
}

#[test]
fn validity_follows_a_cache_that_knows_more_than_we_do() {
    if !missing(
        "validity_follows_a_cache_that_knows_more_than_we_do",
        STAYRTR,
        "stayrtr",
    ) {
        follows("2");
    }
}
