use std::time::Instant;

use steer_topology::EndpointId;
use tokio::sync::oneshot;

use super::*;
use crate::check::Attempt;
use crate::outcome::{Answer, Failure};
use crate::probe::{Progress, Reporter};
use crate::tripwire::Cut;

/// Endpoint 0 answers, 1 refuses, 2 hangs; each says which thread it was asked on.
#[derive(Default)]
struct World {
    threads: Mutex<Vec<Option<String>>>,
    /// Dropped with the probe that hangs.
    hanging: Mutex<Option<oneshot::Sender<()>>>,
}

impl Prober for World {
    type Wire = ();

    async fn probe(&self, errand: Errand, _progress: &Progress) -> Outcome {
        let name = std::thread::current().name().map(str::to_owned);
        lock(&self.threads).push(name);
        match errand.job.endpoint.0 {
            0 => Outcome::Success(Answer::Connected),
            1 => Outcome::Failure(Failure::Refused),
            _ => {
                let _kept = lock(&self.hanging).take();
                std::future::pending().await
            }
        }
    }

    async fn read(&self, errand: Errand, progress: &Progress) -> Outcome {
        self.probe(errand, progress).await
    }

    fn reported(&self, _endpoint: EndpointId, _by: Reporter, _now: Instant) -> bool {
        false
    }

    async fn dial(&self, _endpoint: EndpointId, timeout: Duration) -> Result<(), Outcome> {
        Err(Outcome::no_answer(timeout))
    }

    async fn hold(&self, (): ()) -> Cut {
        Cut::Failed
    }
}

fn job(endpoint: u32, verdict: Verdict) -> Job {
    Job {
        endpoint: EndpointId(endpoint),
        attempt: Attempt(u64::from(endpoint)),
        verdict,
        ..Errand::of_test(1, Duration::from_secs(60)).job
    }
}

fn courier() -> (Arc<World>, Courier<World>) {
    let world = Arc::new(World::default());
    let mut courier = Courier::beside(Arc::clone(&world));
    courier.start_thread();
    (world, courier)
}

async fn next(courier: &mut Courier<World>) -> Report {
    let next = tokio::time::timeout(Duration::from_secs(20), courier.next());
    next.await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn probes_run_on_the_thread_and_what_decides_alone_runs_beside_the_loop() {
    let (world, mut courier) = courier();
    for decides_alone in [false, true] {
        let job = Job {
            decides_alone,
            ..job(1, Verdict::Up)
        };
        courier.send(job, Purpose::Check);
        courier.flush();
        assert_eq!(courier.in_flight(), 1);
        assert_eq!(
            next(&mut courier).await.outcome,
            Outcome::Failure(Failure::Refused)
        );
        assert_eq!(courier.in_flight(), 0);
    }
    let threads = lock(&world.threads).clone();
    let on = |name: &Option<String>| name.as_deref() == Some("steer-probes");
    assert_eq!(
        threads.iter().map(on).collect::<Vec<_>>(),
        [true, false],
        "{threads:?}"
    );
}

#[tokio::test]
async fn a_success_that_changes_nothing_comes_by_itself_too() {
    let (_world, mut courier) = courier();
    for verdict in [Verdict::Up, Verdict::Down, Verdict::Up] {
        courier.send(job(0, verdict), Purpose::Check);
        courier.flush();
        assert_eq!(
            next(&mut courier).await.outcome,
            Outcome::Success(Answer::Connected)
        );
    }
    assert_eq!(courier.in_flight(), 0);
}

#[tokio::test]
async fn the_end_of_the_courier_is_the_end_of_all_probes() {
    let (world, mut courier) = courier();
    let (kept, ended) = oneshot::channel();
    *lock(&world.hanging) = Some(kept);
    courier.send(job(2, Verdict::Up), Purpose::Check);
    courier.send(job(1, Verdict::Up), Purpose::Check);
    courier.flush();
    assert_eq!(
        next(&mut courier).await.job.endpoint,
        EndpointId(1),
        "one that hangs holds up nobody"
    );
    while lock(&world.threads).len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(courier.in_flight(), 1);
    courier.shutdown().await;
    assert!(ended.await.is_err(), "dropped with its probe");
}
