//! Relays that end between any two steps: dropped at each await in turn, and killed.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use steer_rpc::outbox::{Letter, Relay, Rules, Sink, SinkError};

use crate::bed::{Base, Bed, PATIENCE, check, rules};
#[cfg(feature = "kafka")]
use crate::kafka::InKafka;
use crate::nats::{InJetStream, connect};
use crate::webhook::AtWebhook;

/// Ends in the midst of its work, after so many polls.
struct Dropped<F> {
    work: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Dropped<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(left) = self.polls.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.polls = left;
        self.work.as_mut().poll(cx).map(Some)
    }
}

async fn dropped_at_every_step<B: Bed>(what: &str) {
    let (Some(base), Some(bed)) = (Base::new(what).await, B::new(what).await) else {
        return;
    };
    base.fill(3, 60).await;
    let relay = base.relay(rules(), bed.sink());
    let mut whole = 0;
    for polls in 1.. {
        let turn = Dropped {
            work: Box::pin(relay.turn()),
            polls,
        };
        let done = turn
            .await
            .is_some_and(|turn| turn.is_ok_and(|turn| turn.told > 0));
        whole = if done { whole + 1 } else { 0 };
        // A turn that is dropped no more has been dropped at each of its steps before.
        if whole == 3 || base.count("steer_outbox").await == 0 {
            println!("dropped after 1 to {polls} polls");
            break;
        }
    }
    base.drain(&relay).await;
    check(&bed.came().await, 3, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_at_any_step_loses_nothing_in_jetstream_and_doubles_nothing() {
    dropped_at_every_step::<InJetStream>("a relay that ends at any step").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_at_any_step_loses_nothing_at_a_webhook_and_doubles_nothing() {
    dropped_at_every_step::<AtWebhook>("a relay that ends at any step").await;
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_at_any_step_loses_nothing_in_kafka_and_doubles_nothing() {
    dropped_at_every_step::<InKafka>("a relay that ends at any step").await;
}

/// Tells the child where to relay from and to.
const ORDER: &str = "STEER_TEST_OUTBOX";

/// Says what it has told, once it has, so that it can be killed right there.
struct Spoken<S>(S);

impl<S: Sink> Sink for Spoken<S> {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        let told = self.0.tell(letter).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "> {}", letter.id).unwrap();
        out.flush().unwrap();
        told
    }
}

#[tokio::test]
#[ignore = "no test of its own: the process that the other one starts and kills"]
async fn the_relay_that_is_killed() {
    let order = std::env::var(ORDER).expect("it is started by the test of this file");
    let (address, config) = order.split_once('|').unwrap();
    let sink = Spoken(connect(address).await);
    let relay = Relay::new(config, "shop", "", rules(), sink).unwrap();
    relay.run(2, std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_are_killed_lose_nothing_and_another_goes_on_where_they_were() {
    let what = "relays that are killed";
    let (Some(base), Some(bed)) = (Base::new(what).await, InJetStream::new(what).await) else {
        return;
    };
    base.fill(4, 40).await;
    for told in [1, 3, 8, 20, 2] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::the_relay_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(ORDER, format!("{}|{}", bed.address(), base.config))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).filter(|line| line.starts_with("> "));
        assert_eq!(said.take(told).count(), told);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    base.drain(&base.relay(rules(), bed.sink())).await;
    check(&bed.came().await, 4, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stands_still_loses_its_partition_and_what_it_tells_later_is_known() {
    let what = "a relay that stands still";
    let (Some(base), Some(bed)) = (Base::new(what).await, InJetStream::new(what).await) else {
        return;
    };
    base.fill(1, 5).await;
    // The lease of such rules is five seconds and a bit; the sink stands still for longer than that.
    let quick = Rules {
        batch_time: Duration::from_millis(100),
        ..rules()
    };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stuck = base.relay(quick, Stuck(bed.sink(), tell));
    let standing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(stuck.turn())
    });
    let began = Instant::now();
    let relay = base.relay(rules(), bed.sink());
    told.recv().await.unwrap();
    assert_eq!(relay.turn().await.unwrap().told, 0, "the partition is another's");
    base.drain(&relay).await;
    assert!(began.elapsed() < PATIENCE);
    assert!(standing.join().unwrap().is_err(), "its session is gone");
    check(&bed.came().await, 1, 5);
}

/// Says that it has begun, stands still with its thread, as a process does that is stopped, and tells then.
struct Stuck<S>(S, tokio::sync::mpsc::UnboundedSender<()>);

impl<S: Sink> Sink for Stuck<S> {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        self.1.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(8)); // longer than the lease
        self.0.tell(letter).await
    }
}
