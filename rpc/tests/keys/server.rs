//! PostgreSQL itself fails: it crashes between two steps, or an operator ends a session.

use std::time::{Duration, Instant};

use steer_rpc::fate::{Code, Deadline, Fate};
use steer_rpc::key::{
    Answer, Claim, Found, Handled, Handler, KeyStore, PostgresClaim, StoreError, Terms, serve,
};

use crate::bed::{self, call, fresh, message, settled, write_line};
use crate::postgres;

const TERMS: Terms = Terms {
    lease: Duration::from_secs(60),
    keep: Duration::from_secs(3600),
};

#[tokio::test]
async fn a_crash_of_the_server_between_any_two_steps_leaves_all_or_nothing() {
    let Some(cluster) = postgres::private("a crash of the server") else {
        return;
    };
    for step in 0..3 {
        let config = cluster.database();
        let store = bed::open(&config, TERMS).await;
        let call = call("k", "10 EUR");
        let mut claim = fresh(&store, &call).await;
        if step >= 1 {
            write_line(&mut claim, "k").await.unwrap();
        }
        let epoch = claim.epoch();
        if step == 2 {
            claim.commit(&Answer::ok("k"), &[message("k")]).await.unwrap();
            cluster.crash();
        } else {
            cluster.crash();
            let outcome = claim.commit(&Answer::ok("k"), &[message("k")]).await;
            assert_eq!(outcome, Err(StoreError::Fenced(epoch)), "after step {step}");
        }
        assert!(matches!(
            store.claim(&call).await,
            Err(StoreError::Unavailable(_))
        ));
        cluster.restart();
        let there =
            matches!(settled(&store, &call).await, Found::Answered(answer) if answer == Answer::ok("k"));
        assert_eq!(there, step == 2, "after step {step}");
        let lines = bed::lines_of_server(&store).await;
        assert_eq!(lines.len(), usize::from(there), "after step {step}");
        assert_eq!(
            store.outbox(10).await.unwrap().len(),
            lines.len(),
            "after step {step}"
        );
    }
}

/// Writes a line; the first time its session is ended behind its back.
struct Unlucky {
    config: String,
    runs: u32,
}

impl Handler<PostgresClaim> for Unlucky {
    async fn run(&mut self, claim: &mut PostgresClaim) -> Handled {
        self.runs += 1;
        if let Err(error) = write_line(claim, "k").await {
            return Handled::Failed(error);
        }
        if self.runs == 1 {
            end_all_sessions(&self.config).await;
        }
        Handled::Keep(Answer::ok("k"), vec![message("k")])
    }
}

/// What an operator does before a maintenance.
async fn end_all_sessions(config: &str) {
    let (client, connection) = tokio_postgres::connect(config, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.batch_execute(end).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_that_is_ended_before_the_commit_costs_a_second_run_and_nothing_else() {
    let Some(cluster) = postgres::shared("a session that is ended") else {
        return;
    };
    let config = cluster.database();
    let store = bed::open(&config, TERMS).await;
    let mut unlucky = Unlucky { config, runs: 0 };
    let deadline = Deadline::of(Some(bed::PATIENCE), None, Instant::now());
    let reply = serve(&store, &call("k", "10 EUR"), deadline, &mut unlucky).await;
    assert_eq!(
        (reply.answer, reply.fate, reply.replayed),
        (Answer::ok("k"), Fate::Committed, false)
    );
    assert_eq!(unlucky.runs, 2);
    assert_eq!(bed::lines_of_server(&store).await, ["k"]);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable_and_nothing_was_done() {
    let Some(cluster) = postgres::private("a server that is gone") else {
        return;
    };
    let config = cluster.database();
    let store = bed::open(&config, TERMS).await;
    cluster.crash();
    let mut never = Unlucky { config, runs: 0 };
    let deadline = Deadline::of(Some(bed::PATIENCE), None, Instant::now());
    let reply = serve(&store, &call("k", "10 EUR"), deadline, &mut never).await;
    assert_eq!(
        (reply.answer.code, reply.fate),
        (Code::Unavailable, Fate::Unprocessed)
    );
    assert_eq!(never.runs, 0);
}

#[tokio::test]
async fn a_database_without_the_tables_says_so() {
    let Some(cluster) = postgres::shared("a database without tables") else {
        return;
    };
    let error = steer_rpc::key::Postgres::connect(&cluster.database(), 1, TERMS)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("steer_key"), "{error}");
    let error = steer_rpc::key::Postgres::connect("host=/nowhere port=x", 1, TERMS)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("port"), "{error}");
}

#[tokio::test]
async fn more_calls_than_sessions_wait_for_one_and_none_is_lost() {
    let Some(cluster) = postgres::shared("few sessions") else {
        return;
    };
    let config = cluster.database();
    drop(bed::open(&config, TERMS).await);
    let store = steer_rpc::key::Postgres::connect(&config, 2, TERMS)
        .await
        .unwrap();
    let calls = (0..40).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let claim = fresh(&store, &call(&format!("k{number}"), "p")).await;
            claim.commit(&Answer::ok("k"), &[]).await.unwrap();
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}
