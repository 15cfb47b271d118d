//! Sessions of the real binary with real peers in namespaces: one battery for all of them.
//!
//! ```text
//! world ─┬─ stage `dialled`: steer opens       two families, frozen peer, crashed peer, orderly stop, wrong AS
//!        ├─ stage `dialling`: the peer opens   4-octet AS number, crashed steer
//!        └─ stage `v6`: IPv6 transport         IPv6 alone
//! ```
//!
//! The stages of a world run side by side; each is two namespaces and a cable. `--nocapture` shows a table per
//! peer; `docs/interop.md` is made of them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod features;
mod health;
mod stage;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use steer_labs::netns::{World, can_run};
use steer_tests::peers::{Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Opens, Peer, missing, version};
use steer_tests::skip;

use stage::{HOLD, Plan, STEER_TEXT, Stage, Transport};

/// What one case showed.
struct Case {
    name: &'static str,
    measured: String,
}

fn case(name: &'static str, since: Instant) -> Case {
    let measured = format!("{:.2} s", since.elapsed().as_secs_f64());
    Case { name, measured }
}

#[test]
fn bird_takes_and_loses_our_routes_as_it_should() {
    battery(&Bird);
}

#[test]
fn frr_takes_and_loses_our_routes_as_it_should() {
    battery(&Frr);
}

#[test]
fn gobgp_takes_and_loses_our_routes_as_it_should() {
    battery(&GoBgp);
}

#[test]
fn openbgpd_takes_and_loses_our_routes_as_it_should() {
    battery(&OpenBgpd);
}

#[test]
fn exabgp_takes_and_loses_our_routes_as_it_should() {
    battery(&ExaBgp);
}

/// Says why a test with this peer cannot run here.
pub(crate) fn skipped(peer: &dyn Peer) -> bool {
    match can_run().and_then(|()| missing(peer)) {
        Ok(()) => false,
        Err(reason) => {
            skip(peer.name(), &reason);
            true
        }
    }
}

fn battery(peer: &dyn Peer) {
    if skipped(peer) {
        return;
    }
    let started = Instant::now();
    let world = World::new(&format!("interop-{}", peer.name())).unwrap();
    let stages = [dialled, dialling, over_ipv6].map(|stage| (stage as Stages, "plain"));
    let (can, cannot) = features::SCENES
        .into_iter()
        .partition::<Vec<_>, _>(|(feature, ..)| peer.lacks(*feature).is_none());
    let stages = stages
        .into_iter()
        .chain(can.into_iter().map(|(_, name, scene)| (scene, name)));
    let mut cases = Vec::new();
    // A few at a time: a machine of two cores must not be what a hold timer of 3 s notices.
    let stages: Vec<_> = stages.collect();
    for group in stages.chunks(3) {
        cases.extend(side_by_side(&world, peer, group));
    }
    let package = format!("{} {}", peer.package(), version(peer));
    println!("\n{package}, all in {:.1} s", started.elapsed().as_secs_f64());
    let mut rows: Vec<(&str, String)> = cases.into_iter().map(|case| (case.name, case.measured)).collect();
    rows.extend(cannot.into_iter().map(|(feature, name, _)| {
        let why = peer.lacks(feature).unwrap_or_default();
        (name, format!("not there: {why}"))
    }));
    for (name, result) in &rows {
        println!("| {} | {name} | {result} |", peer.name());
    }
    leave_rows(peer.name(), &package, &rows);
}

/// For `cargo xtask interop`, which makes the page of them.
fn leave_rows(peer: &str, title: &str, rows: &[(&str, String)]) {
    let Some(folder) = std::env::var_os("STEER_ROWS") else {
        return;
    };
    let lines: String = rows
        .iter()
        .map(|(name, result)| format!("{name}\t{result}\n"))
        .collect();
    let path = std::path::Path::new(&folder).join(format!("{peer}.tsv"));
    std::fs::write(path, format!("{title}\n{lines}")).unwrap();
}

type Stages = fn(&World, &dyn Peer) -> Vec<Case>;

fn side_by_side(world: &World, peer: &dyn Peer, group: &[(Stages, &str)]) -> Vec<Case> {
    std::thread::scope(|scope| {
        let started: Vec<_> = group
            .iter()
            .map(|(stage, _)| scope.spawn(move || stage(world, peer)))
            .collect();
        let ended = started.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .flat_map(|stage| stage.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// steer opens the session.
fn dialled(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = Plan::new(64_512, Opens::Steer, Transport::V4);
    let mut stage = Stage::set(world, "dialled", peer, plan);
    let mut cases = Vec::new();

    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    cases.push(case("steer opens; one IPv4 and one IPv6 prefix", since));

    let since = Instant::now();
    stage.peer.freeze();
    stage.logged("session down", "Hold Timer Expired (4/0)");
    let took = since.elapsed();
    // The last message of the peer may be up to a keepalive interval (a third) older than the freeze.
    let bounds = HOLD * 2 / 3 - Duration::from_millis(200)..HOLD + Duration::from_secs(1);
    stage.check(
        bounds.contains(&took),
        &format!("the hold timer fired after {took:?}"),
    );
    cases.push(case("frozen peer: hold timer of 3 s drops it", since));
    let since = Instant::now();
    stage.peer.thaw();
    stage.established_again(2);
    stage.learned();
    cases.push(case("thawed peer: session and routes again", since));

    let since = Instant::now();
    stage.crash_peer();
    stage.established_again(3);
    stage.learned();
    cases.push(case("kill -9 of the peer and restart: routes again", since));

    let since = Instant::now();
    stage.steer().signal(Signal::SIGTERM).unwrap();
    stage.forgotten();
    let gone = case("SIGTERM of steer: routes gone at once", since);
    stage.check(
        since.elapsed() < Duration::from_secs(2),
        "SIGTERM: the routes went too late",
    );
    cases.push(gone);
    let ended = stage.steer().wait(Duration::from_secs(5)).unwrap();
    stage.check(ended.code() == Some(0), &format!("steer ended with {ended}"));
    let words = stage.until("the farewell", |stage| stage.peer.farewell(STEER_TEXT));
    println!("{}: {words}", peer.name());
    cases.push(Case {
        name: "SIGTERM of steer: Cease/Administrative Shutdown and its text seen",
        measured: format!("`{STEER_TEXT}`"),
    });

    let since = Instant::now();
    stage.expected_asn = 64_501;
    stage.start_steer();
    stage.logged("no session", "the peer is AS64500, configured is AS64501");
    stage.stays_without_routes();
    cases.push(case(
        "wrong AS: both numbers in our log, no session, steer goes on",
        since,
    ));
    cases
}

/// The peer opens the session; a 4-octet AS number.
fn dialling(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = Plan::new(4_200_000_001, Opens::Peer, Transport::V4);
    let mut stage = Stage::set(world, "dialling", peer, plan);
    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    let up = case("the peer opens; AS 4200000001 in the path", since);
    let since = Instant::now();
    stage.steer().kill().unwrap();
    stage.forgotten();
    let gone = case("kill -9 of steer: routes gone at once", since);
    stage.check(
        since.elapsed() < Duration::from_secs(2),
        "kill -9: the routes went too late",
    );
    vec![up, gone]
}

/// The session runs over IPv6 and carries IPv6 alone: the IPv4 prefix stays at home.
fn over_ipv6(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = Plan::new(64_512, Opens::Steer, Transport::V6);
    let mut stage = Stage::set(world, "v6", peer, plan);
    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    vec![case("IPv6 transport: the IPv6 prefix alone", since)]
}
