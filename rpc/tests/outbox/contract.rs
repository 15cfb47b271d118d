//! What holds for every sink.

use std::time::{Duration, Instant};

use steer_rpc::outbox::{Rate, Rules, SinkError};

use crate::bed::{Base, Bed, Poisoned, check, rules};
#[cfg(feature = "kafka")]
use crate::kafka::InKafka;
use crate::mail::ByMail;
use crate::nats::InJetStream;
use crate::webhook::AtWebhook;

/// Each rule, for each sink.
macro_rules! battery {
    ($($rule:ident),* $(,)?) => {
        mod jetstream {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    super::$rule::<super::InJetStream>(stringify!($rule)).await;
                }
            )*
        }
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
        #[cfg(feature = "kafka")]
        mod in_kafka {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    super::$rule::<super::InKafka>(stringify!($rule)).await;
                }
            )*
        }
    };
}

battery!(
    every_row_is_told_once_and_each_partition_in_its_order,
    relays_side_by_side_keep_the_order_of_each_partition,
    a_row_that_fails_too_often_is_dead_and_its_partition_goes_on,
    a_row_that_fails_holds_up_its_partition_and_no_other,
    a_row_that_is_refused_is_dead_at_once,
    a_sink_that_is_away_costs_no_row_a_try_and_gets_all_when_it_is_back,
    no_more_rows_are_told_in_a_second_than_the_channel_may,
    only_rows_of_the_channel_are_told,
);

async fn bed<B: Bed>(what: &str) -> Option<(Base, B)> {
    Some((Base::new(what).await?, B::new(what).await?))
}

async fn every_row_is_told_once_and_each_partition_in_its_order<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    base.fill(5, 20).await;
    base.drain(&base.relay(rules(), bed.sink())).await;
    check(&bed.came().await, 5, 20);
    for table in ["steer_outbox_try", "steer_outbox_dead"] {
        assert_eq!(base.count(table).await, 0, "{table}");
    }
}

async fn relays_side_by_side_keep_the_order_of_each_partition<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    let relays: Vec<_> = (0..3).map(|_| base.relay(rules(), bed.sink())).collect();
    let (stop, _) = tokio::sync::broadcast::channel::<()>(1);
    let running: Vec<_> = relays
        .into_iter()
        .map(|relay| {
            let mut stopped = stop.subscribe();
            tokio::spawn(async move { relay.run(2, async { _ = stopped.recv().await }).await })
        })
        .collect();
    // Written while they are at it.
    base.fill(4, 50).await;
    let began = Instant::now();
    while base.count("steer_outbox").await > 0 {
        assert!(began.elapsed() < crate::bed::PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    for relay in running {
        relay.await.unwrap();
    }
    check(&bed.came().await, 4, 50);
}

async fn a_row_that_fails_too_often_is_dead_and_its_partition_goes_on<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    base.row("p0", "0").await;
    base.row("p0", "poison").await;
    base.row("p0", "1").await;
    let error = SinkError::Failed("it cannot be read".to_owned());
    base.drain(&base.relay(rules(), Poisoned::new(bed.sink(), error)))
        .await;
    check(&bed.came().await, 1, 2);
    let dead = base
        .client
        .query_one("SELECT payload, tries, why FROM steer_outbox_dead", &[])
        .await
        .unwrap();
    assert_eq!(dead.get::<_, &[u8]>(0), b"poison");
    assert_eq!(dead.get::<_, i32>(1), 3);
    assert_eq!(dead.get::<_, &str>(2), "it cannot be read");
    assert_eq!(base.count("steer_outbox_try").await, 0);
}

async fn a_row_that_fails_holds_up_its_partition_and_no_other<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    base.row("p0", "poison").await;
    base.row("p0", "0").await;
    base.row("p1", "0").await;
    let poisoned = Poisoned::new(bed.sink(), SinkError::Failed("not now".to_owned()));
    let slow = Rules {
        tries_max: 1000,
        ..rules()
    };
    let relay = base.relay(slow, poisoned.clone());
    for _ in 0..20 {
        relay.turn().await.unwrap();
    }
    let came: Vec<_> = bed.came().await.into_iter().map(|came| came.partition).collect();
    assert_eq!(came, ["p1"]);
    assert_eq!(base.count("steer_outbox").await, 2);
    poisoned.on.store(false, std::sync::atomic::Ordering::SeqCst);
    base.drain(&relay).await;
    let came: Vec<_> = bed.came().await.into_iter().map(|came| came.payload).collect();
    assert_eq!(came, ["0", "poison", "0"]);
}

async fn a_row_that_is_refused_is_dead_at_once<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    base.row("p0", "poison").await;
    base.row("p0", "0").await;
    let refused = Poisoned::new(bed.sink(), SinkError::Refused("never".to_owned()));
    let turn = base.relay(rules(), refused).turn().await.unwrap();
    assert_eq!((turn.told, turn.again, turn.dead), (1, 0, 1));
    check(&bed.came().await, 1, 1);
}

async fn a_sink_that_is_away_costs_no_row_a_try_and_gets_all_when_it_is_back<B: Bed>(what: &str) {
    let Some((base, mut bed)) = bed::<B>(what).await else {
        return;
    };
    base.fill(2, 5).await;
    let relay = base.relay(rules(), bed.sink());
    bed.go().await;
    // More turns than a row has tries.
    let began = Instant::now();
    let mut again = 0;
    while again < 6 {
        assert!(began.elapsed() < crate::bed::PATIENCE);
        let turn = relay.turn().await.unwrap();
        assert_eq!((turn.told, turn.dead), (0, 0));
        again += turn.again;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tries = base
        .client
        .query("SELECT tries FROM steer_outbox_try", &[])
        .await
        .unwrap();
    assert!(tries.iter().all(|row| row.get::<_, i32>(0) == 0));
    bed.come_back().await;
    base.drain(&relay).await;
    check(&bed.came().await, 2, 5);
}

async fn no_more_rows_are_told_in_a_second_than_the_channel_may<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    base.fill(3, 10).await;
    let slow = Rules {
        rate: Rate::per_second(40),
        ..rules()
    };
    let began = Instant::now();
    base.drain(&base.relay(slow, bed.sink())).await;
    // 30 rows, of which 4 may come at once.
    assert!(
        began.elapsed() >= Duration::from_millis(25 * 25),
        "{:?}",
        began.elapsed()
    );
    check(&bed.came().await, 3, 10);
}

async fn only_rows_of_the_channel_are_told<B: Bed>(what: &str) {
    let Some((base, bed)) = bed::<B>(what).await else {
        return;
    };
    base.fill(2, 2).await;
    let other = "INSERT INTO steer_outbox (subject, partition, payload) VALUES ('mail.x', 'p0', 'x'), ('mail.x', 'p7', 'x')";
    base.client.batch_execute(other).await.unwrap();
    let relay = steer_rpc::outbox::Relay::new(&base.config, "shop", "shop.", rules(), bed.sink()).unwrap();
    for _ in 0..20 {
        relay.turn().await.unwrap();
    }
    check(&bed.came().await, 2, 2);
    assert_eq!(base.count("steer_outbox").await, 2, "they are another's");
}
