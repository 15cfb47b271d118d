use std::collections::HashMap;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_topology::{CheckId, CheckKind, HttpCheck};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::outcome::{Answer, Failure};
use crate::probe::Reporter;
use crate::snapshot::{Service, Snapshot};
use crate::testing::FleetBuilder;
use crate::tripwire::Cut;

/// How an endpoint of the pretended world treats a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    Refuses,
    Hangs,
    Panics,
    FailsEverySecond,
    NothingNew,
}

/// A world without sockets: the manner of each endpoint, and when it was probed.
#[derive(Clone, Default)]
struct World(Arc<Mutex<WorldState>>);

#[derive(Default)]
struct WorldState {
    manners: HashMap<EndpointId, Manner>,
    probed: Vec<(EndpointId, Instant)>,
    /// The other ends of held connections.
    wires: HashMap<EndpointId, oneshot::Sender<Cut>>,
    dialled: Vec<(EndpointId, Instant)>,
}

impl World {
    fn set(&self, id: u32, manner: Manner) {
        self.0.lock().unwrap().manners.insert(EndpointId(id), manner);
    }

    fn probed(&self) -> Vec<(EndpointId, Instant)> {
        self.0.lock().unwrap().probed.clone()
    }

    fn is_held(&self, id: u32) -> bool {
        let state = self.0.lock().unwrap();
        state
            .wires
            .get(&EndpointId(id))
            .is_some_and(|wire| !wire.is_closed())
    }

    async fn wait_until_held(&self, id: u32) {
        while !self.is_held(id) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn cut(&self, id: u32, cut: Cut) {
        let wire = self.0.lock().unwrap().wires.remove(&EndpointId(id)).unwrap();
        wire.send(cut).unwrap();
    }

    fn dialled(&self, id: u32) -> Vec<Instant> {
        let state = self.0.lock().unwrap();
        let of = state
            .dialled
            .iter()
            .filter(|(endpoint, _)| *endpoint == EndpointId(id));
        of.map(|(_, at)| *at).collect()
    }

    fn meets(&self, endpoint: EndpointId) -> Manner {
        let mut state = self.0.lock().unwrap();
        state.probed.push((endpoint, now()));
        state.manners.get(&endpoint).copied().unwrap_or(Manner::Answers)
    }
}

impl Prober for World {
    type Wire = oneshot::Receiver<Cut>;

    async fn probe(&self, errand: Errand, _progress: &Progress) -> Outcome {
        match self.meets(errand.job.endpoint) {
            Manner::Answers => Outcome::Success(Answer::Connected),
            Manner::Refuses => Outcome::Failure(Failure::Refused),
            Manner::Hangs => std::future::pending().await,
            Manner::Panics => panic!("a probe that panics on purpose"),
            Manner::FailsEverySecond if self.probed().len().is_multiple_of(2) => {
                Outcome::Failure(Failure::Refused)
            }
            Manner::FailsEverySecond => Outcome::Success(Answer::Connected),
            Manner::NothingNew => Outcome::Void(Void::NoReport),
        }
    }

    async fn read(&self, _errand: Errand, _progress: &Progress) -> Outcome {
        Outcome::Void(Void::Skipped)
    }

    fn reported(&self, _endpoint: EndpointId, _by: Reporter, _now: Instant) -> bool {
        true
    }

    async fn dial(&self, endpoint: EndpointId, _timeout: Duration) -> Result<Self::Wire, Outcome> {
        let (near, far) = oneshot::channel();
        let mut state = self.0.lock().unwrap();
        state.dialled.push((endpoint, now()));
        if state.manners.get(&endpoint) == Some(&Manner::Refuses) {
            return Err(Outcome::Failure(Failure::Refused));
        }
        state.wires.insert(endpoint, near);
        Ok(far)
    }

    async fn hold(&self, wire: Self::Wire) -> Cut {
        wire.await.unwrap_or(Cut::Failed)
    }
}

/// A running driver.
struct Running {
    cell: Arc<SnapshotCell>,
    shutdown: CancellationToken,
    task: JoinHandle<Judge>,
}

fn start<P: Prober>(fleet: &Arc<Fleet>, prober: P, seed: u64, in_flight_max: usize) -> Running {
    let judge = Judge::new(Arc::clone(fleet), now(), Timestamp::now());
    let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
    let shutdown = CancellationToken::new();
    let mut driver = Driver::new(fleet, Arc::clone(&cell), judge, seed, prober);
    driver.in_flight_max = in_flight_max;
    let task = tokio::spawn(driver.run(shutdown.clone()));
    Running { cell, shutdown, task }
}

impl Running {
    /// The first snapshot that is as it should be, by wake-up alone.
    async fn wait_for(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut news = self.cell.subscribe();
        let wait = async {
            loop {
                let snapshot = self.cell.load();
                if is_so(&snapshot) {
                    return snapshot;
                }
                news.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| {
            panic!(
                "no snapshot with {what}; last is {:?}",
                self.cell.load().endpoints
            )
        })
    }

    async fn stop(self) -> Judge {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .unwrap()
            .unwrap()
    }
}

fn verdict_of(snapshot: &Snapshot, id: u32) -> Verdict {
    snapshot.endpoint(EndpointId(id)).verdict
}

fn three_sites() -> FleetBuilder {
    FleetBuilder::new(CheckKind::Tcp).pool(&[Some(0), Some(1), Some(2)])
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_dies_and_returns_is_followed() {
    let (fleet, world) = (three_sites().build(), World::default());
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    let settled = running.wait_for("everything settled", |s| s.settled).await;
    assert!(settled.endpoints.iter().all(|state| state.verdict == Verdict::Up));

    let died = now();
    world.set(1, Manner::Refuses);
    let down = running
        .wait_for("1 down", |s| verdict_of(s, 1) == Verdict::Down)
        .await;
    assert!(
        now() - died <= Duration::from_millis(3_015),
        "fall x interval: {:?}",
        now() - died
    );
    assert_eq!(down.endpoint(EndpointId(1)).cause, "connection refused");
    assert_eq!(down.endpoint(EndpointId(1)).service, Service::Out);

    let returned = now();
    world.set(1, Manner::Answers);
    let up = running
        .wait_for("1 up", |s| verdict_of(s, 1) == Verdict::Up)
        .await;
    assert!(
        now() - returned <= Duration::from_millis(2_015),
        "rise x interval: {:?}",
        now() - returned
    );
    assert_eq!(up.endpoint(EndpointId(1)).service, Service::In);
    running.stop().await;
}

/// The check that a file without more than `kind` asks for.
fn by_default(builder: FleetBuilder) -> FleetBuilder {
    builder.check(|check| {
        check.fast_interval = check.interval / 2;
        check.detect.push(steer_topology::DetectorRules::Window(
            steer_topology::WindowRules {
                size: 10,
                min_success: 50,
                recover: 80,
                latency: None,
            },
        ));
    })
}

#[tokio::test(start_paused = true)]
async fn by_default_a_refusal_is_down_within_2_2_seconds_and_a_hang_within_3() {
    for (manner, limit) in [(Manner::Refuses, 2_200), (Manner::Hangs, 3_000)] {
        let (fleet, world) = (by_default(three_sites()).build(), World::default());
        let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
        running.wait_for("everything settled", |s| s.settled).await;
        let died = now();
        world.set(1, manner);
        running
            .wait_for("1 down", |s| verdict_of(s, 1) == Verdict::Down)
            .await;
        assert!(
            now() - died < Duration::from_millis(limit),
            "{manner:?}: {:?}",
            now() - died
        );
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outlier_is_down_with_its_reason_and_returns_after_its_time() {
    let rules = steer_topology::OutlierRules::DEFAULT;
    let (fleet, world) = (three_sites().outlier(rules).build(), World::default());
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    running.wait_for("everything settled", |s| s.settled).await;
    world.set(1, Manner::FailsEverySecond);
    let out = running
        .wait_for("1 out", |s| s.endpoint(EndpointId(1)).service == Service::Out)
        .await;
    let cause = &out.endpoint(EndpointId(1)).cause;
    assert!(
        cause.starts_with("outlier: ") && cause.ends_with(" % of its checks fail, 0 % of its pool's"),
        "{cause}"
    );
    let since = now();
    world.set(1, Manner::Answers);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(running.cell.load().endpoint(EndpointId(1)).service, Service::Out);
    running
        .wait_for("1 back", |s| s.endpoint(EndpointId(1)).service == Service::In)
        .await;
    assert!(
        (30..=45).contains(&(now() - since).as_secs()),
        "{:?}",
        now() - since
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_stop_are_missed_by_phi_before_the_next_slot() {
    let builder = three_sites().check(|check| {
        check.interval = Duration::from_secs(60);
        check.detect = vec![steer_topology::DetectorRules::Phi(steer_topology::PhiRules {
            threshold: 8,
            samples: 1000,
            model: steer_topology::PhiModel::Normal,
            pause: Duration::ZERO,
        })];
    });
    let (fleet, world) = (builder.build(), World::default());
    (0..3).for_each(|id| world.set(id, Manner::NothingNew));
    let judge = Judge::new(Arc::clone(&fleet), now(), Timestamp::now());
    let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
    let keeper = crate::store::keeper::Keeper::new(crate::store::Store::open(None).unwrap()).unwrap();
    let (operator, commands) = crate::Operator::new(Arc::clone(&cell), &keeper);
    let mut driver = Driver::new(&fleet, Arc::clone(&cell), judge, 1, world);
    driver.commands = commands;
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(driver.run(shutdown.clone()));
    let running = Running { cell, shutdown, task };
    for _ in 0..50 {
        for target in [
            "pool-0/127.0.0.1:9@fra",
            "pool-0/127.0.0.1:9@nrt",
            "pool-0/127.0.0.1:9@jfk",
        ] {
            operator.report(target, true, "").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running
        .wait_for("all up", |s| {
            s.settled && s.endpoints.iter().all(|state| state.verdict == Verdict::Up)
        })
        .await;
    let stopped = now();
    let down = running
        .wait_for("all down", |s| {
            s.endpoints.iter().all(|state| state.verdict == Verdict::Down)
        })
        .await;
    assert!(
        now() - stopped < Duration::from_millis(100),
        "{:?}",
        now() - stopped
    );
    let cause = &down.endpoint(EndpointId(0)).cause;
    assert!(
        cause.starts_with("silent for 15") && cause.contains("phi 8."),
        "{cause}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn probes_are_spread_at_the_start_and_keep_their_cadence_without_drift() {
    let fleet = FleetBuilder::new(CheckKind::Tcp).pool(&[None; 100]).build();
    let (world, began) = (World::default(), now());
    world.set(7, Manner::Hangs);
    let running = start(&fleet, world.clone(), 5, IN_FLIGHT_MAX);
    tokio::time::sleep(Duration::from_secs(600)).await;
    running.stop().await;
    let mut by_endpoint: HashMap<_, Vec<Instant>> = HashMap::new();
    for (endpoint, at) in world.probed() {
        by_endpoint.entry(endpoint).or_default().push(at);
    }
    assert_eq!(by_endpoint.len(), 100);
    let mut tenths = [0; 10];
    for (endpoint, times) in by_endpoint {
        tenths[((times[0] - began).as_millis() / 100) as usize] += 1;
        assert!(times.len() >= 599, "{endpoint:?}: {}", times.len());
        for (number, at) in (0..).zip(&times) {
            let off = (*at - times[0]).abs_diff(Duration::from_secs(number));
            assert!(
                off <= Duration::from_millis(2),
                "{endpoint:?} probe {number} is {off:?} off its slot"
            );
        }
    }
    assert!(
        tenths.iter().all(|probes| *probes > 0),
        "the first round comes in a lump: {tenths:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_neither_success_nor_failure_and_the_loop_lives() {
    let (fleet, world) = (three_sites().build(), World::default());
    world.set(0, Manner::Panics);
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    let settled = running.wait_for("settled without 0", |s| s.settled).await;
    assert_eq!(verdict_of(&settled, 0), Verdict::Unknown);
    assert_eq!(
        settled.endpoint(EndpointId(0)).service,
        Service::In,
        "unknown is not down"
    );
    world.set(0, Manner::Answers);
    running
        .wait_for("0 up", |s| verdict_of(s, 0) == Verdict::Up)
        .await;
    world.set(0, Manner::Panics);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(verdict_of(&running.cell.load(), 0), Verdict::Up);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn probes_beyond_the_bound_are_skipped_and_count_neither_way() {
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .timing(Duration::from_secs(1), Duration::from_secs(1))
        .guard(0, 9, Duration::from_secs(60))
        .pool(&[None; 3])
        .build();
    let world = World::default();
    let running = start(&fleet, world.clone(), 1, 1);
    let settled = running.wait_for("settled", |s| s.settled).await;
    assert!(settled.endpoints.iter().all(|state| state.verdict == Verdict::Up));
    // One that hangs for its whole interval takes the only place, whenever it gets it.
    world.set(0, Manner::Hangs);
    running
        .wait_for("0 down", |s| verdict_of(s, 0) == Verdict::Down)
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let verdicts = [1, 2].map(|id| verdict_of(&running.cell.load(), id));
    assert_eq!(verdicts, [Verdict::Up; 2], "what was not probed is not down");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_probes_that_hang() {
    let fleet = three_sites()
        .timing(Duration::from_secs(60), Duration::from_secs(60))
        .build();
    let world = World::default();
    (0..3).for_each(|id| world.set(id, Manner::Hangs));
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    while world.probed().len() < 3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = now();
    running.stop().await;
    assert!(now() - asked < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_reload_probes_the_new_fleet_and_goes_on_from_the_old_numbers() {
    let (fleet, world) = (three_sites().build(), World::default());
    world.set(0, Manner::Refuses);
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    let before = running.wait_for("settled", |s| s.settled).await;
    let cell = Arc::clone(&running.cell);
    let judge = running.stop().await;

    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .pool(&[Some(1), Some(0), Some(3)])
        .build();
    let (judge, first) = judge.reload(Arc::clone(&fleet), now(), Timestamp::now());
    assert_eq!(first.number, before.number + 1);
    assert!(cell.publish(first).is_newest());
    world.set(0, Manner::Answers);
    world.set(2, Manner::Refuses);
    let shutdown = CancellationToken::new();
    let driver = Driver::new(&fleet, Arc::clone(&cell), judge, 2, world);
    let task = tokio::spawn(driver.run(shutdown.clone()));
    let running = Running { cell, shutdown, task };
    let wanted = [Verdict::Up, Verdict::Up, Verdict::Down];
    let is_so = |s: &Snapshot| s.endpoints.iter().map(|state| state.verdict).eq(wanted);
    let after = running.wait_for("the new fleet judged", is_so).await;
    assert_eq!(
        after.endpoint(EndpointId(1)).service,
        Service::In,
        "fra, which was out, came back"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_judge_never_publishes_numbers_that_were_used() {
    let (fleet, world) = (three_sites().build(), World::default());
    let judge = || Judge::new(Arc::clone(&fleet), now(), Timestamp::now());
    let used = Snapshot {
        number: 41,
        ..judge().first_snapshot()
    };
    let cell = Arc::new(SnapshotCell::new(used));
    let shutdown = CancellationToken::new();
    let driver = Driver::new(&fleet, Arc::clone(&cell), judge(), 2, world);
    let running = Running {
        cell,
        task: tokio::spawn(driver.run(shutdown.clone())),
        shutdown,
    };
    let settled = running.wait_for("settled", |s| s.settled).await;
    assert_eq!(settled.number, 42);
    running.stop().await;
}

/// A run of ten minutes in a world that changes at random; what was probed when, and what was published.
async fn random_run(seed: u64) -> Vec<String> {
    let began = now();
    let shape = [Some(0), Some(0), Some(1), Some(2)];
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .guard(1, 1, Duration::from_secs(5))
        .tripwire()
        .pool(&shape)
        .pool(&shape);
    let (world, mut random) = (World::default(), StdRng::seed_from_u64(seed));
    let running = start(&fleet.build(), world.clone(), seed, IN_FLIGHT_MAX);
    let mut told = Vec::new();
    let mut last = 0;
    for _ in 0..40 {
        for id in 0..8 {
            let manners = [Manner::Answers, Manner::Answers, Manner::Refuses, Manner::Hangs];
            world.set(id, manners[random.random_range(0..manners.len())]);
            if random.random_range(0..4) == 0 && world.is_held(id) {
                world.cut(id, Cut::Closed);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(100..20_000))).await;
        let snapshot = running.cell.load();
        assert!(snapshot.number >= last, "seed {seed}: numbers go back");
        last = snapshot.number;
        let states: Vec<_> = snapshot
            .endpoints
            .iter()
            .map(|s| (s.verdict, s.service.clone(), s.cause.clone()))
            .collect();
        told.push(format!("{:?} {} {states:?}", now() - began, snapshot.number));
    }
    // The faults end; fall, rise and all windows pass.
    (0..8).for_each(|id| world.set(id, Manner::Answers));
    tokio::time::sleep(Duration::from_secs(60)).await;
    for state in &running.cell.load().endpoints {
        assert_eq!(
            (state.verdict, &state.service),
            (Verdict::Up, &Service::In),
            "seed {seed}"
        );
    }
    running.stop().await;
    told.extend(
        world
            .probed()
            .iter()
            .map(|(id, at)| format!("{id:?} {:?}", *at - began)),
    );
    told
}

#[test]
fn a_run_is_replayed_by_its_seed() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(random_run(seed))
    };
    for seed in 0..8 {
        let (first, second) = (run(seed), run(seed));
        assert!(first == second, "seed {seed} gave two different runs");
    }
    assert_ne!(run(1), run(2));
}

/// Answers 200 to everything until it is dropped.
struct Origin(JoinHandle<()>);

impl Origin {
    async fn at(address: std::net::SocketAddr) -> (std::net::SocketAddr, Self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _gone = stream.read(&mut request).await;
                let _gone = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
        };
        (address, Self(tokio::spawn(serve)))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_real_sockets_a_dead_origin_is_taken_out_and_a_returned_one_taken_back() {
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, origin) = Origin::at(anywhere).await;
    let (other, _other_origin) = Origin::at(anywhere).await;
    let kind = CheckKind::Http(HttpCheck::plain());
    let fleet = FleetBuilder::new(kind)
        .timing(Duration::from_millis(50), Duration::from_millis(50))
        .pool_at(&[(Some(0), address), (Some(1), other)], Some(CheckId(0)))
        .build();
    let judge = Judge::new(Arc::clone(&fleet), now(), Timestamp::now());
    let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
    let shutdown = CancellationToken::new();
    let run = run(
        fleet,
        Arc::clone(&cell),
        judge,
        Commands::none(),
        3,
        None,
        shutdown.clone(),
    );
    let task = tokio::spawn(async move { run.await.0 });
    let running = Running { cell, shutdown, task };

    running
        .wait_for("both up", |s| {
            s.settled && [0, 1].iter().all(|id| verdict_of(s, *id) == Verdict::Up)
        })
        .await;
    drop(origin);
    let out = running
        .wait_for("0 out", |s| s.endpoint(EndpointId(0)).service == Service::Out)
        .await;
    assert_eq!(out.endpoint(EndpointId(0)).cause, "connection refused");
    let (_, _returned) = Origin::at(address).await;
    let back = running
        .wait_for("0 back", |s| verdict_of(s, 0) == Verdict::Up)
        .await;
    assert_eq!(back.endpoint(EndpointId(0)).service, Service::In);
    assert_eq!(back.endpoint(EndpointId(0)).cause, "status 200");
    running.stop().await;
}

#[test]
fn operators_can_count_probes_refusals_and_verdicts() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let world = World::default();
            let running = start(&three_sites().build(), world.clone(), 1, IN_FLIGHT_MAX);
            running.wait_for("everything settled", |s| s.settled).await;
            world.set(0, Manner::Refuses);
            world.set(1, Manner::Hangs);
            let both = |s: &Snapshot| [0, 1].iter().all(|id| verdict_of(s, *id) == Verdict::Down);
            running.wait_for("two down", both).await;
            running.stop().await;
        });
    });
    let page = page.render();
    for line in [
        r#"steer_health_probes_total{result="refused"} 3"#,
        r#"steer_health_probes_total{result="no-answer"} 3"#,
        r#"steer_health_guard_refusals_total{rule="max_withdrawn"} 1"#,
        r#"steer_health_verdict{endpoint="127.0.0.1:9",pool="pool-0",site="nrt"} 0"#,
        r#"steer_health_verdict{endpoint="127.0.0.1:9",pool="pool-0",site="jfk"} 1"#,
        "steer_health_snapshots_total 3",
        "steer_health_snapshot 4",
    ] {
        assert!(
            page.lines().any(|one| one == line),
            "{line:?} is missing:\n{page}"
        );
    }
    assert!(page.contains("steer_health_probe_seconds"), "{page}");
}

mod tripwire;

/// A machine that was not let run finds out late that the time is over.
#[tokio::test(start_paused = true)]
async fn a_time_out_that_comes_much_too_late_says_nothing_of_the_endpoint() {
    let timeout = Duration::from_millis(300);
    for (late, is_void) in [
        (Duration::from_millis(70), false),
        (Duration::from_millis(80), true),
    ] {
        let world = World::default();
        world.set(0, Manner::Hangs);
        let probe = tokio::spawn(send(Arc::new(world), Errand::of_test(1, timeout)));
        tokio::task::yield_now().await; // it has begun
        tokio::time::advance(timeout + late).await;
        let outcome = probe.await.unwrap().outcome;
        let was_void = matches!(outcome, Outcome::Void(Void::Late(by)) if by >= late);
        let was_failure = outcome == Outcome::no_answer(timeout);
        assert_eq!(
            (was_void, was_failure),
            (is_void, !is_void),
            "{late:?} late: {outcome:?}"
        );
    }
}
