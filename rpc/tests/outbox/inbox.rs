//! A consumer with an inbox: whatever comes twice, its effect happens once.

use std::time::Duration;

use steer_rpc::outbox::Inbox;
use tokio_postgres::NoTls;

use crate::bed::Base;

#[tokio::test]
async fn a_message_that_comes_again_is_known_and_one_whose_effect_was_taken_back_is_new() {
    let Some(base) = Base::new("the inbox of a consumer").await else {
        return;
    };
    let (inbox, other) = (Inbox::of("mail"), Inbox::of("bill"));
    base.client
        .batch_execute("CREATE TABLE done (what text)")
        .await
        .unwrap();
    for (ends, is_new) in [("ROLLBACK", true), ("COMMIT", true), ("COMMIT", false)] {
        base.client.batch_execute("BEGIN").await.unwrap();
        let new = inbox.is_new(&base.client, "shop-1").await.unwrap();
        assert_eq!(new, is_new);
        if new {
            base.client
                .batch_execute("INSERT INTO done VALUES ('shop-1')")
                .await
                .unwrap();
        }
        base.client.batch_execute(ends).await.unwrap();
    }
    assert_eq!(base.count("done").await, 1);
    assert!(
        other.is_new(&base.client, "shop-1").await.unwrap(),
        "another's inbox"
    );
    assert_eq!(
        inbox
            .forget(&base.client, Duration::from_secs(3600), 10)
            .await
            .unwrap(),
        0
    );
    assert_eq!(inbox.forget(&base.client, Duration::ZERO, 10).await.unwrap(), 1);
}

#[tokio::test]
async fn of_two_consumers_that_get_the_same_message_at_the_same_time_one_does_it() {
    let Some(base) = Base::new("the inbox of two consumers").await else {
        return;
    };
    let (second, connection) = tokio_postgres::connect(&base.config, NoTls).await.unwrap();
    tokio::spawn(connection);
    let inbox = Inbox::of("mail");
    for client in [&base.client, &second] {
        client.batch_execute("BEGIN").await.unwrap();
    }
    assert!(inbox.is_new(&base.client, "shop-1").await.unwrap());
    let waiting = inbox.is_new(&second, "shop-1");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "it waits for the other's end");
    base.client.batch_execute("COMMIT").await.unwrap();
    assert!(!waiting.await.unwrap());
    second.batch_execute("COMMIT").await.unwrap();
}
