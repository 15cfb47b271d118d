//! What each store must do, called by each.

use std::time::{Duration, Instant};

use steer_rpc::fate::{Code, Deadline, Fate};
use steer_rpc::key::{Answer, Claim, Found, Handled, Handler, KeyStore, Reply, StoreError, Terms, serve};

use crate::bed::{
    Bed, ClaimOf, InFile, InMemory, InPostgres, LEASE, call, call_of, fresh, message, replayed, settled,
};

/// Makes a test of each statement for each store.
macro_rules! battery {
    ($($statement:ident),* $(,)?) => {
        mod memory { $(#[tokio::test] async fn $statement() { super::$statement::<super::InMemory>().await; })* }
        mod embedded { $(#[tokio::test] async fn $statement() { super::$statement::<super::InFile>().await; })* }
        mod postgresql { $(#[tokio::test] async fn $statement() { super::$statement::<super::InPostgres>().await; })* }
    };
}

battery!(
    an_answer_is_given_again_byte_for_byte_and_the_effect_is_done_once,
    a_key_that_is_held_is_in_flight_until_it_is_given_back,
    a_claim_that_is_dropped_has_done_nothing_and_its_key_is_free,
    a_key_with_another_payload_is_refused_and_of_another_client_is_another_key,
    who_comes_back_after_its_lease_is_fenced_and_has_done_nothing,
    an_answer_is_forgotten_after_its_time,
    a_refusal_by_the_application_is_an_answer_too,
    epochs_only_grow,
    of_many_calls_with_one_key_one_does_it_and_all_get_its_answer,
    a_key_in_flight_past_the_deadline_is_aborted_and_ambiguous,
    a_handler_that_fails_or_is_late_leaves_nothing,
);

const TERMS: Terms = Terms {
    lease: LEASE,
    keep: Duration::from_secs(3600),
};

async fn an_answer_is_given_again_byte_for_byte_and_the_effect_is_done_once<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let call = call("k", "10 EUR");
    let answer = Answer {
        code: Code::Ok,
        message: "d\u{e9}bit\u{e9}".to_owned(),
        metadata: vec![
            ("receipt-bin".to_owned(), vec![0, 255]),
            ("x".to_owned(), Vec::new()),
        ],
        body: (0..=255).collect::<Vec<u8>>().into(),
    };
    let mut claim = fresh(bed.store(), &call).await;
    B::write(&mut claim, "k").await.unwrap();
    assert_eq!(bed.ledger().await, [""; 0], "nothing counts before the commit");
    claim
        .commit(&answer, &[message("one"), message("two")])
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(replayed(bed.store(), &call).await, answer);
    }
    assert_eq!(bed.ledger().await, ["k"]);
    assert_eq!(bed.outbox().await, [message("one"), message("two")]);
}

async fn a_key_that_is_held_is_in_flight_until_it_is_given_back<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let call = call("k", "10 EUR");
    let mut first = fresh(bed.store(), &call).await;
    B::write(&mut first, "k").await.unwrap();
    assert!(matches!(bed.store().claim(&call).await, Ok(Found::InFlight)));
    let other = call_of("ana", "k", "11 EUR");
    assert!(matches!(bed.store().claim(&other).await, Ok(Found::InFlight)));
    first.release().await;
    let second = fresh(bed.store(), &call).await;
    second.commit(&Answer::ok("done"), &[]).await.unwrap();
    assert_eq!(bed.ledger().await, [""; 0], "what was released was taken back");
}

async fn a_claim_that_is_dropped_has_done_nothing_and_its_key_is_free<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let call = call("k", "10 EUR");
    let mut claim = fresh(bed.store(), &call).await;
    B::write(&mut claim, "k").await.unwrap();
    drop(claim);
    let began = Instant::now();
    let Found::Fresh(claim) = settled(bed.store(), &call).await else {
        panic!("nothing was committed");
    };
    assert!(
        began.elapsed() < LEASE,
        "nobody has to wait for the lease of one that is gone"
    );
    claim.commit(&Answer::ok("done"), &[]).await.unwrap();
    assert_eq!(bed.ledger().await, [""; 0]);
}

async fn a_key_with_another_payload_is_refused_and_of_another_client_is_another_key<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let first = fresh(bed.store(), &call("k", "10 EUR")).await;
    first.commit(&Answer::ok("ten"), &[]).await.unwrap();
    let other = bed.store().claim(&call("k", "11 EUR")).await;
    assert!(matches!(other, Ok(Found::OtherPayload)));
    let bob = fresh(bed.store(), &call_of("bob", "k", "11 EUR")).await;
    bob.commit(&Answer::ok("eleven"), &[]).await.unwrap();
    assert_eq!(
        replayed(bed.store(), &call("k", "10 EUR")).await,
        Answer::ok("ten")
    );
    assert_eq!(
        replayed(bed.store(), &call_of("bob", "k", "11 EUR")).await,
        Answer::ok("eleven")
    );
}

async fn who_comes_back_after_its_lease_is_fenced_and_has_done_nothing<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let call = call("k", "10 EUR");
    let mut late = fresh(bed.store(), &call).await;
    // redb has one writer, so whoever stands still must not do so with its transaction open; see below.
    if !is_single_writer::<B>() {
        B::write(&mut late, "late").await.unwrap();
    }
    bed.pass(LEASE);
    let Found::Fresh(mut quick) = settled(bed.store(), &call).await else {
        panic!("nothing was committed");
    };
    assert!(quick.epoch() > late.epoch());
    B::write(&mut quick, "quick").await.unwrap();
    quick
        .commit(&Answer::ok("quick"), &[message("quick")])
        .await
        .unwrap();
    let fenced = StoreError::Fenced(late.epoch());
    assert_eq!(
        late.commit(&Answer::ok("late"), &[message("late")]).await,
        Err(fenced)
    );
    assert_eq!(bed.ledger().await, ["quick"]);
    assert_eq!(bed.outbox().await, [message("quick")]);
    assert_eq!(replayed(bed.store(), &call).await, Answer::ok("quick"));
}

fn is_single_writer<B: Bed>() -> bool {
    std::any::type_name::<B>() == std::any::type_name::<InFile>()
}

/// The other order at redb: the late one has its transaction open, so the quick one cannot write before it has ended.
#[tokio::test]
async fn in_a_file_who_holds_the_transaction_past_its_lease_is_fenced_too() {
    let bed = InFile::new(TERMS, "").await.unwrap();
    let call = call("k", "10 EUR");
    let mut late = fresh(bed.store(), &call).await;
    InFile::write(&mut late, "late").await.unwrap();
    bed.pass(LEASE);
    let mut quick = fresh(bed.store(), &call).await;
    let fenced = StoreError::Fenced(late.epoch());
    assert_eq!(late.commit(&Answer::ok("late"), &[]).await, Err(fenced));
    InFile::write(&mut quick, "quick").await.unwrap();
    quick.commit(&Answer::ok("quick"), &[]).await.unwrap();
    assert_eq!(bed.ledger().await, ["quick"]);
}

async fn an_answer_is_forgotten_after_its_time<B: Bed>() {
    let keep = Duration::from_secs(2);
    let Some(bed) = B::new(Terms { keep, ..TERMS }, "the battery of keys").await else {
        return;
    };
    let call = call("k", "10 EUR");
    fresh(bed.store(), &call)
        .await
        .commit(&Answer::ok("1"), &[])
        .await
        .unwrap();
    assert_eq!(bed.store().expire(10).await, Ok(0), "not yet");
    assert_eq!(replayed(bed.store(), &call).await, Answer::ok("1"));
    bed.pass(keep);
    // Unknown by its time alone, before anybody has removed it; and with another payload.
    let other = call_of("ana", "k", "11 EUR");
    let claim = crate::bed::until(|| async {
        match bed.store().claim(&other).await.unwrap() {
            Found::Fresh(claim) => Some(claim),
            Found::OtherPayload => None,
            Found::InFlight | Found::Answered(_) => panic!("it is over, or it is not"),
        }
    })
    .await;
    claim.commit(&Answer::ok("2"), &[]).await.unwrap();
    assert_eq!(replayed(bed.store(), &other).await, Answer::ok("2"));
    bed.pass(keep);
    let forgotten = crate::bed::until(|| async {
        let count = bed.store().expire(10).await.unwrap();
        (count > 0).then_some(count)
    });
    assert_eq!(forgotten.await, 1);
    assert_eq!(bed.store().expire(10).await, Ok(0));
}

async fn a_refusal_by_the_application_is_an_answer_too<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let refusal = Answer::refusal(Code::FailedPrecondition, "no money");
    fresh(bed.store(), &call("k", "p"))
        .await
        .commit(&refusal, &[])
        .await
        .unwrap();
    assert_eq!(replayed(bed.store(), &call("k", "p")).await, refusal);
}

async fn epochs_only_grow<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let mut last = None;
    for round in 0..10 {
        let claim = fresh(bed.store(), &call(&format!("k{}", round % 3), "p")).await;
        assert!(
            last < Some(claim.epoch()),
            "{last:?} and then {:?}",
            claim.epoch()
        );
        last = Some(claim.epoch());
        claim.release().await;
    }
}

/// Writes a line, after a while.
struct Charge<B> {
    line: String,
    takes: Duration,
    fails: bool,
    bed: std::marker::PhantomData<fn() -> B>,
}

impl<B> Charge<B> {
    fn new(line: &str, takes: Duration) -> Self {
        Self {
            line: line.to_owned(),
            takes,
            fails: false,
            bed: std::marker::PhantomData,
        }
    }
}

impl<B: Bed> Handler<ClaimOf<B>> for Charge<B> {
    async fn run(&mut self, claim: &mut ClaimOf<B>) -> Handled {
        if let Err(error) = B::write(claim, &self.line).await {
            return Handled::Failed(error);
        }
        tokio::time::sleep(self.takes).await;
        if self.fails {
            return Handled::Drop(Answer::refusal(Code::Internal, "the card reader is gone"));
        }
        Handled::Keep(Answer::ok(self.line.clone()), vec![message(&self.line)])
    }
}

fn within(time: Duration) -> Deadline {
    Deadline::of(Some(time), None, Instant::now())
}

async fn of_many_calls_with_one_key_one_does_it_and_all_get_its_answer<B: Bed + 'static>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let calls = (0..8).map(|number| {
        let store = bed.store().clone();
        tokio::spawn(async move {
            let mut charge = Charge::<B>::new(&format!("by {number}"), Duration::from_millis(30));
            serve(
                &store,
                &call("k", "10 EUR"),
                within(crate::bed::PATIENCE),
                &mut charge,
            )
            .await
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut replies: Vec<Reply> = Vec::new();
    for call in calls {
        replies.push(call.await.unwrap());
    }
    let lines = bed.ledger().await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    for reply in &replies {
        assert_eq!(reply.answer, Answer::ok(lines[0].clone()));
        assert_eq!(reply.fate, Fate::Committed);
    }
    assert_eq!(replies.iter().filter(|reply| !reply.replayed).count(), 1);
    assert_eq!(bed.outbox().await, [message(&lines[0])]);
}

async fn a_key_in_flight_past_the_deadline_is_aborted_and_ambiguous<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let held = fresh(bed.store(), &call("k", "10 EUR")).await;
    let began = Instant::now();
    let mut charge = Charge::<B>::new("second", Duration::ZERO);
    let deadline = Duration::from_millis(200);
    let reply = serve(bed.store(), &call("k", "10 EUR"), within(deadline), &mut charge).await;
    assert_eq!((reply.answer.code, reply.fate), (Code::Aborted, Fate::Ambiguous));
    assert!(began.elapsed() >= deadline / 2, "it waited");
    held.commit(&Answer::ok("first"), &[]).await.unwrap();
    let reply = serve(
        bed.store(),
        &call("k", "10 EUR"),
        within(crate::bed::PATIENCE),
        &mut charge,
    )
    .await;
    assert_eq!((reply.answer, reply.replayed), (Answer::ok("first"), true));
    let reply = serve(
        bed.store(),
        &call("k", "11 EUR"),
        within(crate::bed::PATIENCE),
        &mut charge,
    )
    .await;
    assert_eq!(reply.answer.code, Code::FailedPrecondition);
}

async fn a_handler_that_fails_or_is_late_leaves_nothing<B: Bed>() {
    let Some(bed) = B::new(TERMS, "the battery of keys").await else {
        return;
    };
    let mut fails = Charge::<B> {
        fails: true,
        ..Charge::new("fails", Duration::ZERO)
    };
    let reply = serve(
        bed.store(),
        &call("k", "p"),
        within(crate::bed::PATIENCE),
        &mut fails,
    )
    .await;
    assert_eq!(
        (reply.answer.code, reply.fate),
        (Code::Internal, Fate::Unprocessed)
    );

    let mut late = Charge::<B>::new("late", Duration::from_secs(600));
    let reply = serve(
        bed.store(),
        &call("k", "p"),
        within(Duration::from_millis(300)),
        &mut late,
    )
    .await;
    assert_eq!(
        (reply.answer.code, reply.fate),
        (Code::DeadlineExceeded, Fate::Unprocessed)
    );

    let mut fine = Charge::<B>::new("fine", Duration::ZERO);
    let reply = serve(
        bed.store(),
        &call("k", "p"),
        within(crate::bed::PATIENCE),
        &mut fine,
    )
    .await;
    assert_eq!((reply.answer, reply.replayed), (Answer::ok("fine"), false));
    assert_eq!(bed.ledger().await, ["fine"]);
    assert_eq!(bed.outbox().await, [message("fine")]);
}
