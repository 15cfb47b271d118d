//! BFD with real daemons in namespaces: BIRD and FRR's bfdd.
//!
//! ```text
//! steer (eth1) ── switch ── (eth1) daemon        IPv4 and IPv6, every 10, 50 and 300 ms, 3 may be lost
//! steer (eth1) ── switch ── router ── daemon     multihop, with BIRD
//! ```
//!
//! The switch is what is cut: neither end loses its link. `--nocapture` shows a table per daemon; the one in
//! `docs/interop.md` is made of them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bgp;
mod check;
mod held;
mod stage;

use std::time::{Duration, Instant};

use steer_anycast::bfd::PathState;
use steer_labs::netns::{World, can_run};
use steer_tests::peers::bfd::{BirdBfd, Daemon, FrrBfd, Key};
use steer_tests::peers::{missing_program, package_version};
use steer_tests::skip;
use steer_topology::BfdAuthKind;

use stage::{Plan, Stage};

/// How long a session must not fail.
const CALM: Duration = Duration::from_secs(3);

type Rows = Vec<(String, String)>;

#[test]
fn bird_and_we_see_the_same_failures() {
    let Some(world) = ready(&BirdBfd, "bfd-bird") else {
        return;
    };
    let mut rows = by_interval(&world, &BirdBfd);
    rows.extend(multihop(&world, &BirdBfd));
    rows.extend(link_local(&world, &BirdBfd));
    for kind in [BfdAuthKind::KeyedSha1, BfdAuthKind::MeticulousKeyedSha1] {
        rows.extend(with_key(&world, &BirdBfd, kind));
    }
    show("1-alone", BirdBfd.name(), BirdBfd.package(), &rows);
}

#[test]
fn frr_and_we_see_the_same_failures() {
    let Some(world) = ready(&FrrBfd, "bfd-frr") else {
        return;
    };
    let mut rows = by_interval(&world, &FrrBfd);
    rows.extend(multihop(&world, &FrrBfd));
    rows.extend(link_local(&world, &FrrBfd));
    show("1-alone", FrrBfd.name(), FrrBfd.package(), &rows);
}

fn ready(daemon: &dyn Daemon, name: &str) -> Option<World> {
    let able = can_run().and_then(|()| missing_program(daemon.programs(), daemon.package()));
    if let Err(reason) = able {
        skip(name, &reason);
        return None;
    }
    Some(World::new(name).unwrap())
}

/// Prints the rows, and leaves them for `cargo xtask interop`, which makes the page of them. The `part` tells where
/// they stand in it.
fn show(part: &str, peer: &str, package: &str, rows: &[(String, String)]) {
    let title = format!("{package} {}", package_version(package));
    println!("\n{title}");
    let mut lines = format!("{title}\n");
    for (case, result) in rows {
        println!("| {peer} | {case} | {result} |");
        lines.extend([case.as_str(), "\t", result.as_str(), "\n"]);
    }
    if let Some(folder) = std::env::var_os("STEER_ROWS") {
        let file = std::path::Path::new(&folder).join(format!("{peer}-{part}.tsv"));
        std::fs::write(file, lines).unwrap();
    }
}

fn by_interval(world: &World, daemon: &dyn Daemon) -> Rows {
    let mut rows = Rows::new();
    for interval_ms in [10, 50, 300] {
        let plan = Plan::every(interval_ms);
        let stage = Stage::set(world, &format!("single-{interval_ms}"), daemon, plan);
        rows.extend(fails_and_heals(&stage, &format!("{interval_ms} ms x 3")));
        rows.extend(wishes(&stage, &format!("{interval_ms} ms x 3")));
    }
    rows
}

fn multihop(world: &World, daemon: &dyn Daemon) -> Rows {
    let plan = Plan {
        multihop: true,
        ..Plan::every(50)
    };
    let stage = Stage::set(world, "multi-50", daemon, plan);
    fails_and_heals(&stage, "multihop, 50 ms x 3")
}

/// IPv4, and IPv6 with link-local addresses alone.
fn link_local(world: &World, daemon: &dyn Daemon) -> Rows {
    let plan = Plan {
        link_local: true,
        ..Plan::every(50)
    };
    let stage = Stage::set(world, "local-50", daemon, plan);
    fails_and_heals(&stage, "link-local, 50 ms x 3")
}

fn with_key(world: &World, daemon: &dyn Daemon, kind: BfdAuthKind) -> Rows {
    let (name, stem) = match kind {
        BfdAuthKind::KeyedSha1 => ("keyed-sha1", "keyed"),
        BfdAuthKind::MeticulousKeyedSha1 => ("meticulous-keyed-sha1", "meticulous"),
    };
    let key = Key {
        kind: name,
        secret: "it is a secret",
    };
    let plan = Plan {
        key: Some((kind, key)),
        ..Plan::every(50)
    };
    let stage = Stage::set(world, stem, daemon, plan);
    fails_and_heals(&stage, &format!("{name}, 50 ms x 3"))
}

/// Up, calm, cut, seen at both ends in time, healed.
fn fails_and_heals(stage: &Stage<'_>, name: &str) -> Rows {
    let since = Instant::now();
    stage.agreed();
    let mut rows = vec![(
        format!("{name}: up at the agreed interval, IPv4 and IPv6"),
        seconds(since),
    )];

    let before = stage.failures();
    std::thread::sleep(CALM);
    let failed = stage.failures();
    stage.check(
        failed == before,
        &format!("{before:?} failures became {failed:?}"),
    );
    rows.push((
        format!("{name}: no failure in {} s", CALM.as_secs()),
        "ok".to_owned(),
    ));

    for seen in stage.cut() {
        let (here, there) = (seen.here.as_millis(), seen.there.as_millis());
        let case = format!(
            "{name}: silent cut, {}; seen by steer / by the daemon",
            seen.family
        );
        rows.push((case, format!("{here} ms / {there} ms")));
    }
    let since = Instant::now();
    stage.heal();
    stage.agreed();
    rows.push((format!("{name}: line back, both up again"), seconds(since)));
    rows
}

/// Nobody takes an operator's wish for a failure.
fn wishes(stage: &Stage<'_>, name: &str) -> Rows {
    let before = stage.failures();
    stage.hold_down(true);
    let words = stage.wish_known();
    println!("{}: {words}", stage.daemon.name());
    stage.until_paths("our AdminDown", |status| {
        status.path.state == PathState::AdminDown
    });
    stage.check(
        stage.failures().0 == before.0,
        "we count our own wish as a failure",
    );
    stage.hold_down(false);
    stage.agreed();
    vec![(
        format!("{name}: our AdminDown known there as such, and back"),
        "ok".to_owned(),
    )]
}

fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}
