//! Drills, each once or a few times: many clients, real routers and resolvers, faults at times; the lab itself holds what
//! it measured against its bounds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use steer_labs::wait;
use steer_tests::{skip, steer_binary};

/// They measure milliseconds; each takes its turn.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const BIRD: &str = "/usr/sbin/bird";
const UNBOUND: &str = "/usr/sbin/unbound";
const SMALL: &[&str] = &[BIRD, UNBOUND];

/// Whether it can run here; says why not.
fn can_run(lab: &str, programs: &[&str]) -> bool {
    if let Err(why) = steer_labs::netns::can_run() {
        skip(lab, &why);
        return false;
    }
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    if let Some(program) = missing {
        skip(lab, &format!("{program} is missing"));
    }
    missing.is_none()
}

/// A lab that runs.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(lab: &str, repeat: u32, only: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(steer_binary());
        command
            .args(["lab", "run", lab, "--repeat", &repeat.to_string(), "--out"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !only.is_empty() {
            command.args(["--only", only]);
        }
        let child = command.spawn().unwrap();
        Self { child, folder }
    }

    /// Its `result.json`, once every bound held.
    fn held(self) -> Value {
        let output = self.child.wait_with_output().unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        println!("{said}");
        assert!(output.status.success(), "{said}");
        let text = std::fs::read_to_string(self.folder.path().join("result.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

fn run(lab: &str, repeat: u32, only: &str) -> Value {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Running::start(lab, repeat, only).held()
}

/// The median of a phase or of `outage_ms`.
fn median(result: &Value, method: &str, what: &str) -> f64 {
    let method = &result["methods"][method];
    let phases = method["phases"].as_array().unwrap();
    let phase = phases.iter().find(|phase| phase["name"] == what);
    let spread = phase.map_or(&method[what], |phase| &phase["ms"]);
    spread["median"]
        .as_f64()
        .unwrap_or_else(|| panic!("no {what}: {method}"))
}

#[test]
fn dns_pays_its_ttl_where_a_route_takes_milliseconds() {
    let programs = [BIRD, UNBOUND, "/usr/lib/frr/bgpd", "/usr/sbin/named"];
    if !can_run("dns-vs-anycast", &programs) {
        return;
    }
    let result = run(
        "dns-vs-anycast",
        1,
        "dns-ttl5,anycast-app-death,hybrid,anycast-bfd50",
    );
    let outage = |method: &str| median(&result, method, "outage_ms");
    assert!(outage("anycast-app-death") < outage("dns-ttl5"), "{result}");
    assert!(outage("hybrid") < outage("dns-ttl5"), "{result}");
    // The chain is in its order.
    let phase = |name: &str| median(&result, "anycast-app-death", name);
    let chain = [
        "fault_to_detected",
        "fault_to_on_the_wire",
        "fault_to_first_good_reply",
        "fault_to_clients_99",
    ];
    let times: Vec<f64> = chain.iter().map(|name| phase(name)).collect();
    assert!(times.is_sorted(), "{times:?}");
    // Every request that was sent is accounted for, from before the fault on.
    let timeline = result["methods"]["dns-ttl5"]["runs"][0]["timeline"]
        .as_array()
        .unwrap();
    let is = |moment: &&Value, ok: bool| moment["ok"] == ok;
    assert!(
        timeline
            .iter()
            .any(|moment| is(&moment, true) && moment["site"] == "fra")
    );
    assert!(timeline.iter().any(|moment| is(&moment, false)));
    assert!(
        timeline
            .iter()
            .any(|moment| is(&moment, true) && moment["site"] == "iad")
    );
}

#[test]
fn steer_is_back_before_the_tools_of_today() {
    let programs = [
        BIRD,
        UNBOUND,
        "/usr/sbin/exabgp",
        "/usr/bin/gobgpd",
        "/usr/sbin/gdnsd",
    ];
    if !can_run("peers", &programs) {
        return;
    }
    let result = run("peers", 3, "steer,exabgp,gobgp,steer-dns,gdnsd");
    for (ours, theirs) in [("steer", "exabgp"), ("steer", "gobgp"), ("steer-dns", "gdnsd")] {
        let outage = |method: &str| median(&result, method, "outage_ms");
        assert!(outage(ours) < outage(theirs), "{ours} and {theirs}: {result}");
    }
}

#[test]
fn checks_that_fail_everywhere_cost_nobody_anything() {
    if can_run("bad-check", SMALL) {
        run("bad-check", 1, "");
    }
}

#[test]
fn the_loss_of_a_region_is_taken_by_the_site_that_is_left() {
    if can_run("region-loss", SMALL) {
        run("region-loss", 1, "");
    }
}

#[test]
fn overflow_spreads_what_is_more_than_the_next_site_holds() {
    if !can_run("catchment-shift", &[BIRD, UNBOUND, "/usr/sbin/nginx"]) {
        return;
    }
    let result = run("catchment-shift", 1, "dns-nearest,dns-overflow");
    let failed = |method: &str| median(&result, method, "failed");
    assert!(
        failed("dns-overflow") * 2.0 < failed("dns-nearest"),
        "the next site is full: {result}"
    );
}

#[test]
fn a_held_connection_to_an_address_breaks_once_when_routes_move_and_one_to_a_name_stays() {
    if !can_run("flows", SMALL) {
        return;
    }
    let methods =
        "http-drain,tcp-drain,grpc-drain,udp-drain,named-tcp-drain,tcp-silent,grpc-silent,udp-silent";
    let result = run("flows", 1, methods);
    let failed = |method: &str| median(&result, method, "failed");
    for held in ["tcp-silent", "grpc-silent"] {
        assert!(
            failed(held) > 0.0,
            "its packets go to a site that is silent: {result}"
        );
    }
    assert!(failed("named-tcp-drain") == 0.0, "{result}");
}

#[test]
fn a_stepped_clock_moves_nobody_and_a_full_disk_keeps_nobody_from_moving() {
    if can_run("host-faults", &[BIRD, UNBOUND, "/usr/bin/faketime"]) {
        run("host-faults", 1, "");
    }
}

#[test]
fn a_flapping_service_is_felt_less_often_than_it_dies() {
    if can_run("flap", SMALL) {
        run("flap", 1, "");
    }
}

#[test]
fn two_labs_run_side_by_side() {
    if !can_run("partition", &[BIRD, UNBOUND, "/usr/sbin/nft"]) {
        return;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let both = ["partition", "rolling-upgrade"].map(|lab| Running::start(lab, 1, ""));
    for lab in both {
        lab.held();
    }
}

/// Every kind of fault, in words of a scenario; what it hits is at fra, or the router's end of its link.
const FAULTS: [&str; 11] = [
    r#"{ kind = "stop", node = "fra", process = "service" }"#,
    r#"{ kind = "kill-9", node = "fra", process = "service" }"#,
    r#"{ kind = "term", node = "fra", process = "service" }"#,
    r#"{ kind = "restart", node = "fra", process = "service" }"#,
    r#"{ kind = "one-way", node = "router", interface = "eth3" }"#,
    r#"{ kind = "line", link = ["router:eth3", "fra:eth1"], loss = 100 }"#,
    r#"{ kind = "link-down", node = "router", interface = "eth3" }"#,
    r#"{ kind = "answer", node = "fra", process = "service", how = "500" }"#,
    r#"{ kind = "answer", node = "fra", process = "service", how = "refuse" }"#,
    r#"{ kind = "answer", node = "fra", process = "service", how = "half-open" }"#,
    r#"{ kind = "run", node = "fra", run = ["{steer}", "drain", "fra"], heal = ["{steer}", "undrain", "fra"] }"#,
];

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
fn every_kind_of_fault_strikes_and_is_taken_back() {
    if !can_run("a lab of all faults", &[BIRD, UNBOUND, "/usr/sbin/nft"]) {
        return;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../labs/rolling-upgrade");
    copy(&shipped, folder.path());
    let path = folder.path().join("scenario.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, tail) = text.split_once("[[stage.step]]").unwrap();
    let (_, methods) = tail.split_once("[[method]]").unwrap();
    let methods = methods.split("[[bound]]").next().unwrap();
    let head = head.replacen(
        r#""--name", "fra"]"#,
        r#""--name", "fra", "--behave", "{run}/fra-service.behave"]"#,
        1,
    );
    // The clients come back to fra after each of them, and are there in the end.
    let step = |(number, fault): (usize, &&str)| {
        let at = number * 5_000;
        let healed = at + 2_000;
        format!(
            "[[stage.step]]\nat_ms = {at}\nbreak = [{fault}]\n\n[[stage.step]]\nat_ms = {healed}\nheal = true\n"
        )
    };
    let steps: Vec<String> = FAULTS.iter().enumerate().map(step).collect();
    let wan = "[[wan]]\nlink = [\"fra:eth1\", \"router:eth3\"]\ndelay_ms = 1\n";
    let text = format!("{head}{}\n[[method]]{methods}\n{wan}", steps.join("\n"));
    std::fs::write(&path, text).unwrap();
    let result = Running::start(folder.path().to_str().unwrap(), 1, "anycast").held();
    let faults = result["fault"].as_str().unwrap();
    let said = [" on `fra`", "`router`", "the line from"].map(|words| faults.matches(words).count());
    assert_eq!(said.iter().sum::<usize>(), FAULTS.len(), "{faults}");
    let moments = result["methods"]["anycast"]["runs"][0]["timeline"]
        .as_array()
        .unwrap();
    for (number, fault) in FAULTS
        .iter()
        .enumerate()
        .filter(|(_, fault)| !fault.contains("restart"))
    {
        let struck = (number as f64 * 5_000.0)..(number as f64 * 5_000.0 + 3_000.0);
        let felt = |moment: &&Value| {
            let at = moment["at_ms"].as_f64().unwrap();
            struck.contains(&at) && (moment["ok"] == false || moment["site"] != "fra")
        };
        assert!(moments.iter().any(|moment| felt(&moment)), "nobody felt {fault}");
    }
}

/// Names of namespaces that a process has made.
fn namespaces(of: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let prefix = format!("steer-{of}-");
    names.filter(|name| name.starts_with(&prefix)).collect()
}

#[test]
fn what_a_killed_run_leaves_is_swept_by_the_next() {
    if !can_run("region-loss", SMALL) {
        return;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut killed = Running::start("region-loss", 1, "anycast");
    let id = killed.child.id();
    let limit = Duration::from_secs(20);
    let made = || match namespaces(id).len() {
        9 => Ok(()),
        some => Err(format!("{some} namespaces")),
    };
    wait::until(limit, Duration::from_millis(20), made).unwrap();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert_eq!(namespaces(id).len(), 9);
    Running::start("region-loss", 1, "anycast").held();
    assert_eq!(namespaces(id), Vec::<String>::new());
}
