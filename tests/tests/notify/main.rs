//! steer tells others what happens: a webhook whose signatures are looked at, a real mail server, crashes in between.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fleet;
mod hook;
mod mail;
mod routes;

use nix::sys::signal::Signal;

use fleet::Fleet;
use hook::Answer;

#[test]
fn an_endpoint_that_goes_down_and_comes_back_is_told_signed_and_in_order() {
    let mut fleet = Fleet::new("");
    let mut steer = fleet.start();
    let web = fleet.name(0);
    fleet.until_told(&mut steer, &[]);
    fleet.down(0);
    let down = format!("verdict changed {web}: up -> down");
    fleet.until_told(&mut steer, std::slice::from_ref(&down));
    fleet.up(0);
    fleet.until_told(&mut steer, &[down, format!("verdict changed {web}: down -> up")]);

    let event = &fleet.hook.taken()[0].event;
    assert_eq!(event["fleet"], "example");
    assert_eq!(event["site"], "fra");
    assert_eq!(event["endpoint_site"], "fra");
    assert_eq!(event["service"], "out");
    assert!(event["cause"].as_str().unwrap().contains("refused"), "{event}");
    assert!(
        event["text"]
            .as_str()
            .unwrap()
            .starts_with("fra: web down at 127.0.0.1:"),
        "{event}"
    );
    let status = fleet.admin.json(&["status"]);
    let channel = &status["notify"][0];
    assert_eq!(
        (
            &channel["channel"],
            &channel["told"],
            &channel["waiting"],
            &channel["dead"]
        ),
        (&"ops".into(), &2.into(), &0.into(), &0.into())
    );
    let text = fleet.admin.done(&["status"]);
    assert!(text.contains("ops") && text.contains("webhook"), "{text}");
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn what_was_on_its_way_when_steer_was_killed_is_told_after_the_restart_with_the_same_id() {
    let mut fleet = Fleet::new("");
    let mut steer = fleet.start();
    let web = fleet.name(0);
    fleet.until_told(&mut steer, &[]);
    fleet.hook.answers(Answer::Silence);
    fleet.down(0);
    let id = steer.until("the letter that is not answered", |_| {
        fleet.hook.came().first().map(|came| came.id.clone())
    });
    steer.signal(Signal::SIGKILL);
    let _ = steer.wait();
    fleet.hook.answers(Answer::Status(204));

    let mut steer = fleet.start();
    let down = format!("verdict changed {web}: up -> down");
    fleet.until_told(&mut steer, std::slice::from_ref(&down));
    assert_eq!(fleet.hook.taken()[0].id, id);

    // What changes while nobody looks is told at the next start, once.
    steer.signal(Signal::SIGKILL);
    let _ = steer.wait();
    fleet.up(0);
    let mut steer = fleet.start();
    let told = [down, format!("verdict changed {web}: down -> up")];
    fleet.until_told(&mut steer, &told);
    assert_eq!(steer.stop().status.code(), Some(0));
    let mut steer = fleet.start();
    fleet.until_told(&mut steer, &told);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_letter_that_failed_comes_again_and_one_that_is_refused_is_kept_and_can_be_sent_again() {
    let mut fleet = Fleet::new("");
    let mut steer = fleet.start();
    let web = fleet.name(0);
    fleet.until_told(&mut steer, &[]);
    fleet.hook.answers(Answer::Status(500));
    fleet.down(0);
    steer.until("the first try", |_| (!fleet.hook.came().is_empty()).then_some(()));
    fleet.hook.answers(Answer::Status(204));
    let down = format!("verdict changed {web}: up -> down");
    fleet.until_told(&mut steer, std::slice::from_ref(&down));
    let came = fleet.hook.came();
    assert!(
        came.len() >= 2 && came.iter().all(|one| one.id == came[0].id),
        "{came:?}"
    );

    fleet.hook.answers(Answer::Status(422));
    fleet.up(0);
    let dead = steer.until("the dead letter", |_| {
        let list = fleet.admin.json(&["notify", "list"]);
        list["dead"].as_array().unwrap().first().cloned()
    });
    assert_eq!((&dead["channel"], &dead["tries"]), (&"ops".into(), &1.into()));
    assert!(dead["why"].as_str().unwrap().contains("422"), "{dead}");
    assert!(dead["text"].as_str().unwrap().contains("web up at"), "{dead}");
    let id = dead["id"].as_str().unwrap();
    let shown = fleet.admin.done(&["notify", "list"]);
    assert!(shown.contains(id) && shown.contains("web up at"), "{shown}");

    fleet
        .admin
        .refused(&["notify", "resend", "opz"], 2, &["opz", "there are ops"]);
    fleet
        .admin
        .refused(&["notify", "resend", "ops", "x-1"], 2, &["no dead letter x-1"]);
    // A crash loses no dead letter.
    steer.signal(Signal::SIGKILL);
    let _ = steer.wait();
    let mut steer = fleet.start();
    fleet.hook.answers(Answer::Status(204));
    let said = fleet.admin.done(&["notify", "resend", "ops", id]);
    assert_eq!(said, "1 letter waits for ops again\n");
    fleet.until_told(&mut steer, &[down, format!("verdict changed {web}: down -> up")]);
    assert_eq!(fleet.hook.taken()[1].id, id);
    assert_eq!(
        fleet.admin.done(&["notify", "resend", "ops"]),
        "ops has no dead letters\n"
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn wishes_of_an_operator_and_refusals_of_the_guard_are_told_with_who_and_why() {
    let mut fleet = Fleet::new("");
    let mut steer = fleet.start();
    let (fra, nrt) = (fleet.name(0), fleet.name(1));
    fleet.until_told(&mut steer, &[]);
    let args = [
        "drain",
        "fra",
        "--for",
        "2h",
        "--reason",
        "kernel update",
        "--author",
        "ana",
    ];
    fleet.admin.done(&args);
    let mut told = vec!["drain begun fra: not-drained -> drained".to_owned()];
    fleet.until_told(&mut steer, &told);
    let event = &fleet.hook.taken()[0].event;
    assert_eq!(
        (&event["author"], &event["reason"]),
        (&"ana".into(), &"kernel update".into())
    );
    assert!(event["until"].is_string() && event["at"].is_string(), "{event}");

    // The last site that is left stays, though it is down.
    fleet.down(1);
    told.push(format!("verdict changed {nrt}: up -> down"));
    told.push(format!("guard refused {nrt}: not-held -> held"));
    fleet.until_told(&mut steer, &told);
    let guard = fleet.hook.taken().pop().unwrap().event;
    assert!(
        guard["cause"].as_str().unwrap().contains("keep_sites is 1"),
        "{guard}"
    );

    fleet.admin.done(&["undrain", "fra", "--author", "ana"]);
    told.push(format!("guard released {nrt}: held -> out"));
    told.push("drain ended fra: drained -> not-drained".to_owned());
    fleet.until_told(&mut steer, &told);
    fleet.admin.done(&[
        "force-up",
        "nrt",
        "--reason",
        "the probe is wrong",
        "--author",
        "bo",
    ]);
    told.push(format!("verdict changed {nrt}: down -> up"));
    told.push("force begun nrt: not-forced -> up".to_owned());
    fleet.until_told(&mut steer, &told);
    assert!(!told.join("\n").contains(&fra), "nothing happened to it");
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_channel_may_come_and_go_by_a_reload_and_tells_only_what_it_is_for() {
    let mut fleet = Fleet::bare("");
    let mut steer = fleet.start();
    let none = fleet.admin.done(&["notify", "list"]);
    assert!(none.contains("has no [[notify]]"), "{none}");
    fleet
        .admin
        .refused(&["notify", "test", "ops"], 2, &["has no [[notify]]"]);
    let without = fleet.text();
    let table = fleet.hook_table("ops");
    fleet.write(&format!(
        "{without}{table}events = [\"verdict\"]\n{}sites = [\"nrt\"]\n",
        fleet.hook_table("there")
    ));
    let said = fleet.admin.done(&["reload"]);
    assert!(said.contains("another fleet"), "{said}");
    steer.until("the channels", |_| {
        let list = fleet.admin.json(&["notify", "list"]);
        (list["channels"].as_array().unwrap().len() == 2).then_some(())
    });
    let tested = fleet.admin.json(&["notify", "test", "ops"]);
    let test = fleet.hook.taken().pop().unwrap();
    assert_eq!(
        (&tested["id"], &test.event["kind"]),
        (&test.id.into(), &"test".into())
    );
    fleet.admin.done(&["drain", "nrt"]);
    fleet.down(0);
    let web = fleet.name(0);
    let told = [
        "test test ops: test -> test".to_owned(),
        format!("verdict changed {web}: up -> down"),
    ];
    fleet.until_told(&mut steer, &told);

    fleet.write(&without);
    fleet.admin.done(&["reload"]);
    steer.until("no channels", |_| {
        let list = fleet.admin.json(&["notify", "list"]);
        list["channels"].as_array().unwrap().is_empty().then_some(())
    });
    fleet.up(0);
    fleet.until_told(&mut steer, &told);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_receiver_that_is_not_there_is_said_and_a_bad_secret_stops_the_start() {
    let fleet = Fleet::new("");
    let text = fleet.text();
    let nobody = steer_tests::free_port();
    fleet.write(&text.replace(&fleet.hook.address.to_string(), &nobody.to_string()));
    let steer = fleet.start();
    fleet
        .admin
        .refused(&["notify", "test", "ops"], 1, &["nobody takes it", "refused"]);
    assert_eq!(steer.stop().status.code(), Some(0));
    std::fs::write(fleet.folder.path().join("hook.secret"), "hush").unwrap();
    let finished = steer_tests::Steer::finish(fleet.folder.path(), &["check"]);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    for part in ["[[notify]] ops", "hook.secret", "whsec_"] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("hush"), "{}", finished.stderr);
}
