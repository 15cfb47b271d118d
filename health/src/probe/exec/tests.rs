use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steer_topology::{CheckId, CheckKind};

use super::*;
use crate::driver::{Errand, send};
use crate::evidence::Evidence;
use crate::probe::NetProber;
use crate::testing::FleetBuilder;

/// What a shell script comes to, as a check.
async fn script(text: &str, timeout: Duration) -> Outcome {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    command_line(command, timeout).await
}

async fn command_line(command: Vec<String>, timeout: Duration) -> Outcome {
    let address = "192.0.2.7:443".parse().unwrap();
    let fleet = FleetBuilder::new(CheckKind::Exec { command })
        .pool_at(&[(Some(0), address)], Some(CheckId(0)))
        .build();
    let prober = NetProber::new(&fleet, &Arc::new(Evidence::of(&fleet)), Instant::now());
    let errand = Errand::of_test(1, timeout);
    send(Arc::new(prober), errand).await.outcome
}

const LONG: Duration = Duration::from_secs(10);

fn failed(text: &str) -> Outcome {
    Outcome::Failure(Failure::Exec(text.to_owned()))
}

#[tokio::test]
async fn status_0_is_a_success_and_the_first_line_is_kept() {
    let seen = |text: &'static str| Outcome::Success(Answer::Seen(text.into()));
    assert_eq!(script("exit 0", LONG).await, seen("status 0"));
    assert_eq!(
        script("echo; echo '  lag 3 ms '; echo more", LONG).await,
        seen("lag 3 ms")
    );
}

#[tokio::test]
async fn another_status_and_a_signal_are_failures_with_what_was_said() {
    assert_eq!(script("exit 3", LONG).await, failed("exit status 3"));
    assert_eq!(
        script("echo disk full; exit 2", LONG).await,
        failed("exit status 2: disk full")
    );
    assert_eq!(script("kill -SEGV $$", LONG).await, failed("killed by signal 11"));
}

#[tokio::test]
async fn it_finds_its_endpoint_in_an_environment_without_ours() {
    let text = "echo $STEER_ADDRESS $STEER_PORT $STEER_POOL $STEER_SITE ${HOME-none}";
    let want = Outcome::Success(Answer::Seen("192.0.2.7 443 pool-0 fra none".into()));
    assert_eq!(script(text, LONG).await, want);
}

#[tokio::test]
async fn a_program_that_is_not_there_says_nothing_of_the_endpoint() {
    let outcome = command_line(vec!["/nowhere/check".to_owned()], LONG).await;
    assert!(matches!(outcome, Outcome::Void(Void::Local(why)) if why.starts_with("/nowhere/check: ")));
}

#[tokio::test]
async fn output_without_an_end_is_bounded_and_does_not_block() {
    let outcome = script("head -c 5000000 /dev/zero | tr '\\0' x; exit 1", LONG).await;
    let Outcome::Failure(Failure::Exec(text)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        text.len() < 200 && text.starts_with("exit status 1: xxx"),
        "{text}"
    );
}

fn is_gone(pid: &str) -> bool {
    // A zombie that init has not reaped yet runs no more.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

async fn all_end(file: &Path) {
    let pids = std::fs::read_to_string(file).unwrap();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert!(!pids.is_empty());
    let deadline = Instant::now() + LONG;
    while !pids.iter().all(|pid| is_gone(pid)) {
        assert!(Instant::now() < deadline, "still there: {pids:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn at_the_time_out_it_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let text = format!(
        "sleep 1000 & sh -c 'sleep 1000 & wait' & echo $$ $! > {0}; pgrep -g $$ >> {0}; wait",
        file.display()
    );
    let begun = Instant::now();
    let outcome = script(&text, Duration::from_millis(500)).await;
    assert_eq!(outcome, failed("killed: it ran longer than 500 ms"));
    assert!(begun.elapsed() < Duration::from_secs(3));
    all_end(&file).await;
}

#[tokio::test]
async fn what_it_leaves_behind_is_killed_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let text = format!("sleep 1000 & echo $! > {}; echo done", file.display());
    let begun = Instant::now();
    assert_eq!(
        script(&text, LONG).await,
        Outcome::Success(Answer::Seen("done".into()))
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it does not wait for the end of the output"
    );
    all_end(&file).await;
}
