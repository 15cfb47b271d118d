//! A spool and its channels with real receivers: what holds for a relay holds for them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use steer_rpc::outbox::spool::{Counts, Limits, Post};
use steer_rpc::outbox::{Channel, Rate, Rules, Sink, SinkError, Spool, Standing};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::bed::{Bed, PATIENCE, Poisoned, check, rules};
use crate::mail::ByMail;
use crate::webhook::AtWebhook;

/// Each rule, for each receiver.
macro_rules! battery {
    ($($rule:ident),* $(,)?) => {
        mod at_a_webhook {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    super::$rule::<super::AtWebhook>(stringify!($rule)).await;
                }
            )*
        }
        mod by_mail {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    super::$rule::<super::ByMail>(stringify!($rule)).await;
                }
            )*
        }
    };
}

battery!(
    every_row_is_told_once_and_each_partition_in_its_order_over_crashes,
    a_receiver_that_is_away_costs_no_row_a_try_and_gets_all_when_it_is_back,
    a_row_that_is_refused_or_fails_too_often_is_dead_and_is_told_when_it_is_sent_again,
    no_more_rows_are_told_in_a_second_than_the_channel_may,
);

/// A file with a spool, and a channel that tells.
struct Told {
    _folder: TempDir,
    spool: Spool,
    standing: Arc<Mutex<Standing>>,
}

impl Told {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events");
        Self {
            spool: Spool::open(Some(&file), "fra", Limits::DEFAULT).unwrap(),
            _folder: folder,
            standing: Arc::default(),
        }
    }

    fn rows(&self, partitions: u32, each: u32) {
        for number in 0..each {
            let posts = (0..partitions).map(|partition| post(&format!("p{partition}"), &number.to_string()));
            self.spool.append(posts.collect(), &[]).unwrap();
        }
    }

    fn run<S: Sink + 'static>(&self, rules: Rules, sink: S) -> JoinHandle<()> {
        let standing = Arc::clone(&self.standing);
        let channel = Channel::new(self.spool.clone(), "ops", rules, sink, standing);
        tokio::spawn(channel.run())
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut(Counts, &Standing) -> bool) {
        let began = Instant::now();
        loop {
            let (counts, standing) = (self.spool.counts("ops"), self.standing.lock().unwrap().clone());
            if is_so(counts, &standing) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {counts:?} {standing:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn post(partition: &str, text: &str) -> Post {
    let text = Bytes::from(text.to_owned());
    Post {
        subject: "steer.verdict".to_owned(),
        partition: partition.to_owned(),
        payload: Box::new(move |_| text),
        channels: vec!["ops".to_owned()],
    }
}

async fn every_row_is_told_once_and_each_partition_in_its_order_over_crashes<B: Bed>(what: &str) {
    let Some(bed) = B::new(what).await else { return };
    let told = Told::new();
    told.rows(4, 10);
    // Ended in the midst of its work, again and again.
    for wait in 1..12 {
        let channel = told.run(rules(), bed.sink());
        tokio::time::sleep(Duration::from_millis(wait * 3)).await;
        channel.abort();
        _ = channel.await;
    }
    let channel = told.run(rules(), bed.sink());
    told.until("all to be told", |counts, _| counts == Counts::default())
        .await;
    check(&bed.came().await, 4, 10);
    channel.abort();
}

async fn a_receiver_that_is_away_costs_no_row_a_try_and_gets_all_when_it_is_back<B: Bed>(what: &str) {
    let Some(mut bed) = B::new(what).await else { return };
    let told = Told::new();
    bed.go().await;
    let channel = told.run(rules(), bed.sink());
    told.rows(2, 5);
    told.until("nobody to be there", |_, standing| standing.is_away)
        .await;
    // As long as all its tries would take, if they were counted.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(told.spool.counts("ops"), Counts { waiting: 10, dead: 0 });
    bed.come_back().await;
    told.until("all to be told", |counts, _| counts == Counts::default())
        .await;
    let standing = told.standing.lock().unwrap().clone();
    assert_eq!(
        (standing.told, standing.trouble, standing.is_away),
        (10, None, false)
    );
    check(&bed.came().await, 2, 5);
    channel.abort();
}

async fn a_row_that_is_refused_or_fails_too_often_is_dead_and_is_told_when_it_is_sent_again<B: Bed>(
    what: &str,
) {
    let Some(bed) = B::new(what).await else { return };
    for (error, tries) in [
        (SinkError::Refused("never".to_owned()), 1),
        (SinkError::Failed("not now".to_owned()), 3),
    ] {
        let told = Told::new();
        let poisoned = Poisoned::new(bed.sink(), error);
        let channel = told.run(rules(), poisoned.clone());
        let rows = ["0", "poison", "1"].map(|text| post("p0", text));
        told.spool.append(rows.into(), &[]).unwrap();
        let dead = Counts { waiting: 0, dead: 1 };
        told.until("the dead letter", |counts, _| counts == dead).await;
        let letters = told.spool.dead("ops", 9).unwrap();
        assert_eq!(
            (&letters[0].letter.payload[..], letters[0].tries),
            (&b"poison"[..], tries)
        );
        let before = bed.came().await.len();
        poisoned.on.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(told.spool.resend("ops", None).unwrap(), 1);
        told.until("it to be told", |counts, _| counts == Counts::default())
            .await;
        let came = bed.came().await;
        assert_eq!(
            (came.len(), came[before].payload.as_str()),
            (before + 1, "poison")
        );
        assert!(
            came[before].id.contains(&letters[0].letter.id),
            "with the id that it had"
        );
        channel.abort();
    }
}

async fn no_more_rows_are_told_in_a_second_than_the_channel_may<B: Bed>(what: &str) {
    let Some(bed) = B::new(what).await else { return };
    let told = Told::new();
    told.rows(3, 10);
    let began = Instant::now();
    let slow = Rules {
        rate: Rate::per_second(40),
        ..rules()
    };
    let channel = told.run(slow, bed.sink());
    told.until("all to be told", |counts, _| counts == Counts::default())
        .await;
    assert!(
        began.elapsed() >= Duration::from_millis(25 * 25),
        "{:?}",
        began.elapsed()
    );
    channel.abort();
}
