//! Processes that are killed (SIGKILL) between any two steps of a call, and in the midst of many.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_rpc::key::{Answer, Claim, Embedded, Found, KeyStore, Postgres, StoreError, Terms, system_clock};

use crate::bed::{self, Bed, ClaimOf, InFile, InPostgres, call, fresh, message, settled};
use crate::postgres;

const TERMS: Terms = Terms {
    lease: Duration::from_secs(60),
    keep: Duration::from_secs(3600),
};

/// Steps of a call, after each of which a process dies.
const STEPS: [&str; 4] = ["opened", "claimed", "written", "committed"];

/// Tells the child what to do: a step or `many`, and the store.
const ORDER: &str = "STEER_TEST_KEYS";

/// How the child names its store.
#[derive(Clone)]
enum Place {
    File(std::path::PathBuf),
    Server(String),
    /// A server, and a process that stands still with a short lease.
    Stopped(String),
}

impl Place {
    fn order(&self, what: &str) -> String {
        match self {
            Self::File(file) => format!("{what}|file|{}", file.display()),
            Self::Server(config) => format!("{what}|server|{config}"),
            Self::Stopped(config) => format!("{what}|stopped|{config}"),
        }
    }
}

/// This very test program once more, with an order.
fn spawn(place: &Place, what: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::the_process_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(ORDER, place.order(what))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("> ").map(str::to_owned));
    (child, said)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").unwrap();
    out.flush().unwrap();
}

#[tokio::test]
#[ignore = "no test of its own: the process that the others start and kill"]
async fn the_process_that_is_killed() {
    let order = std::env::var(ORDER).expect("it is started by the tests of this file");
    let parts: Vec<_> = order.splitn(3, '|').collect();
    match parts[1] {
        "stopped" => {
            let lease = bed::LEASE;
            let store = Postgres::connect(parts[2], 4, Terms { lease, ..TERMS })
                .await
                .unwrap();
            commit_when_told(&store).await;
        }
        "file" => {
            let store = Embedded::open(parts[2].as_ref(), TERMS, system_clock()).unwrap();
            obey::<InFile>(&store, parts[0]).await;
        }
        _ => {
            let store = Postgres::connect(parts[2], 4, TERMS).await.unwrap();
            obey::<InPostgres>(&store, parts[0]).await;
        }
    }
}

async fn obey<B: Bed>(store: &B::Store, what: &str) {
    if what == "many" {
        for number in 0.. {
            let key = format!("k{number}");
            say(&format!("begun {key}"));
            charge::<B>(store, &key, "").await;
            say(&format!("acked {key}"));
        }
    }
    charge::<B>(store, "k", what).await;
}

async fn charge<B: Bed>(store: &B::Store, key: &str, until: &str) {
    stop_at("opened", until).await;
    let mut claim: ClaimOf<B> = fresh(store, &call(key, "10 EUR")).await;
    stop_at("claimed", until).await;
    B::write(&mut claim, key).await.unwrap();
    stop_at("written", until).await;
    claim
        .commit(&Answer::ok(key.to_owned()), &[message(key)])
        .await
        .unwrap();
    stop_at("committed", until).await;
}

async fn stop_at(step: &str, until: &str) {
    if step == until {
        say(step);
        std::future::pending::<()>().await;
    }
}

fn killed_after(place: &Place, step: &str) {
    let (mut child, mut said) = spawn(place, step);
    assert_eq!(said.next().as_deref(), Some(step));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// After a crash the call is sent again: it is done once, whatever happened before.
async fn check_after<B: Bed>(store: &B::Store, step: &str) {
    match settled(store, &call("k", "10 EUR")).await {
        Found::Fresh(mut claim) => {
            assert_ne!(step, "committed", "what was committed is there");
            B::write(&mut claim, "k").await.unwrap();
            claim.commit(&Answer::ok("k"), &[message("k")]).await.unwrap();
        }
        Found::Answered(answer) => {
            assert_eq!(step, "committed", "nothing is there that was not committed");
            assert_eq!(answer, Answer::ok("k"));
        }
        Found::InFlight | Found::OtherPayload => panic!("after {step}"),
    }
}

#[tokio::test]
async fn a_file_is_right_after_a_kill_between_any_two_steps() {
    for step in STEPS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.redb");
        killed_after(&Place::File(file.clone()), step);
        let store = Embedded::open(&file, TERMS, system_clock()).unwrap();
        check_after::<InFile>(&store, step).await;
        assert_eq!(bed::lines_of_file(&store), ["k"], "after {step}");
        assert_eq!(store.outbox(10).unwrap().len(), 1, "after {step}");
    }
}

#[tokio::test]
async fn a_server_is_right_after_a_kill_between_any_two_steps() {
    let Some(cluster) = postgres::shared("a kill between any two steps") else {
        return;
    };
    for step in STEPS {
        let config = cluster.database();
        let store = bed::open(&config, TERMS).await;
        killed_after(&Place::Server(config), step);
        let began = std::time::Instant::now();
        check_after::<InPostgres>(&store, step).await;
        // The server saw the socket close: nobody waited for the lease, which is a minute.
        assert!(began.elapsed() < bed::PATIENCE);
        assert_eq!(bed::lines_of_server(&store).await, ["k"], "after {step}");
        assert_eq!(store.outbox(10).await.unwrap().len(), 1, "after {step}");
    }
}

/// What a process said before it was killed at a random moment.
struct Said {
    begun: Vec<String>,
    acked: Vec<String>,
}

fn killed_amid_many(place: &Place, rng: &mut StdRng) -> Said {
    let (mut child, said) = spawn(place, "many");
    let mut heard = Said {
        begun: Vec::new(),
        acked: Vec::new(),
    };
    let at = rng.random_range(1..30_usize);
    for line in said {
        match line.split_once(' ') {
            Some(("begun", key)) => heard.begun.push(key.to_owned()),
            Some(("acked", key)) => heard.acked.push(key.to_owned()),
            _ => panic!("it said {line:?}"),
        }
        if heard.acked.len() == at && heard.begun.len() > at {
            // Somewhere in the next call; what it still says is heard as well.
            std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    heard
}

fn check_ledger(said: &Said, ledger: &[String]) {
    for key in &said.acked {
        assert_eq!(
            ledger.iter().filter(|line| *line == key).count(),
            1,
            "{key} was acknowledged"
        );
    }
    for line in ledger {
        assert!(said.begun.contains(line), "{line} was never begun");
        assert_eq!(
            ledger.iter().filter(|other| *other == line).count(),
            1,
            "{line} twice"
        );
    }
}

async fn check_answers<S: KeyStore>(store: &S, said: &Said, ledger: &[String]) {
    for key in &said.begun {
        match settled(store, &call(key, "10 EUR")).await {
            Found::Answered(answer) => {
                assert!(ledger.contains(key), "{key} has an answer and no effect");
                assert_eq!(answer, Answer::ok(key.clone()));
            }
            Found::Fresh(claim) => {
                assert!(!ledger.contains(key), "{key} has an effect and no answer");
                claim.release().await;
            }
            Found::InFlight | Found::OtherPayload => panic!("{key}"),
        }
    }
}

#[tokio::test]
async fn a_file_is_right_after_a_kill_at_any_moment() {
    let mut rng = StdRng::seed_from_u64(8);
    for _ in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.redb");
        let said = killed_amid_many(&Place::File(file.clone()), &mut rng);
        let store = Embedded::open(&file, TERMS, system_clock()).unwrap();
        let ledger = bed::lines_of_file(&store);
        check_ledger(&said, &ledger);
        check_answers(&store, &said, &ledger).await;
        assert_eq!(store.outbox(1000).unwrap().len(), ledger.len());
    }
}

#[tokio::test]
async fn a_server_is_right_after_a_kill_at_any_moment() {
    let Some(cluster) = postgres::shared("a kill at any moment") else {
        return;
    };
    let mut rng = StdRng::seed_from_u64(9);
    for _ in 0..8 {
        let config = cluster.database();
        let store = bed::open(&config, TERMS).await;
        let said = killed_amid_many(&Place::Server(config), &mut rng);
        // A commit that was sent may still be on its way.
        let last = call(said.begun.last().unwrap(), "10 EUR");
        drop(settled(&store, &last).await);
        let ledger = bed::lines_of_server(&store).await;
        check_ledger(&said, &ledger);
        check_answers(&store, &said, &ledger).await;
        assert_eq!(store.outbox(1000).await.unwrap().len(), ledger.len());
    }
}

async fn commit_when_told(store: &Postgres) {
    let mut claim = fresh(store, &call("k", "10 EUR")).await;
    InPostgres::write(&mut claim, "late").await.unwrap();
    say("written");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let epoch = claim.epoch();
    let outcome = claim.commit(&Answer::ok("late"), &[message("late")]).await;
    let fenced = outcome == Err(StoreError::Fenced(epoch));
    say(if fenced { "fenced" } else { "done" });
}

#[tokio::test]
async fn a_process_that_was_stopped_past_its_lease_wakes_up_fenced() {
    let Some(cluster) = postgres::shared("a process that is stopped") else {
        return;
    };
    let config = cluster.database();
    let store = bed::open(&config, TERMS).await;
    let (mut child, mut said) = spawn(&Place::Stopped(config), "k");
    assert_eq!(said.next().as_deref(), Some("written"));
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let call = call("k", "10 EUR");
    assert!(matches!(store.claim(&call).await, Ok(Found::InFlight)));
    let Found::Fresh(mut claim) = settled(&store, &call).await else {
        panic!("nothing was committed");
    };
    InPostgres::write(&mut claim, "quick").await.unwrap();
    claim
        .commit(&Answer::ok("quick"), &[message("quick")])
        .await
        .unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(said.next().as_deref(), Some("fenced"));
    child.wait().unwrap();
    assert_eq!(bed::lines_of_server(&store).await, ["quick"]);
    assert_eq!(store.outbox(10).await.unwrap().len(), 1);
}
