//! The machine against a cache that is written out by hand.

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;

/// A client with a clock.
struct World {
    client: Client,
    now: Instant,
}

const OURS: [&str; 2] = ["192.0.2.53/32", "2001:db8::53/128"];

fn ours() -> BTreeSet<Prefix> {
    OURS.iter().map(|text| text.parse().unwrap()).collect()
}

impl World {
    fn new(ours: BTreeSet<Prefix>) -> Self {
        let now = Instant::now();
        Self {
            client: Client::new(ours, now),
            now,
        }
    }

    /// A world whose client has asked for everything.
    fn asked() -> Self {
        let mut world = Self::new(ours());
        world.tick();
        assert_eq!(world.actions(), ["connect"]);
        world.client.handle(Input::Connected, world.now);
        assert_eq!(world.actions(), ["reset query v1"]);
        world
    }

    /// A world whose client has session 7, serial 1 and one VRP.
    fn current() -> Self {
        let mut world = Self::asked();
        world.hear(Pdu::CacheResponse { session: 7 });
        world.hear(announce("192.0.2.0/24", 24, 64_512));
        world.hear(end(1));
        assert_eq!(world.actions(), ["changed"]);
        world
    }

    fn tick(&mut self) {
        self.client.on_deadline(self.now);
    }

    /// Lets the time pass until the next deadline, and what it brings.
    fn wait(&mut self) -> Duration {
        let deadline = self.client.next_deadline().expect("it never waits for ever");
        let passed = deadline.saturating_duration_since(self.now);
        self.now = deadline;
        self.tick();
        passed
    }

    fn hear(&mut self, pdu: Pdu) {
        self.hear_as(Version::V1, pdu);
    }

    fn hear_as(&mut self, version: Version, pdu: Pdu) {
        self.client.handle(Input::Pdu(version, pdu), self.now);
    }

    /// A word per action.
    fn actions(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.poll_action())
            .map(|action| word(&action))
            .collect()
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Connect => "connect".to_owned(),
        Action::Close => "close".to_owned(),
        Action::Changed => "changed".to_owned(),
        Action::Trouble(_) => "trouble".to_owned(),
        Action::Send(octets) => {
            let (version, pdu) = take_pdu(&mut BytesMut::from(octets.as_ref())).unwrap().unwrap();
            let version = version as u8;
            match pdu {
                Pdu::ResetQuery => format!("reset query v{version}"),
                Pdu::SerialQuery { session, serial } => format!("serial query {session}/{serial} v{version}"),
                Pdu::ErrorReport { code, .. } => format!("error {code} v{version}"),
                other @ (Pdu::SerialNotify { .. }
                | Pdu::CacheResponse { .. }
                | Pdu::Prefix { .. }
                | Pdu::EndOfData { .. }
                | Pdu::CacheReset
                | Pdu::RouterKey) => format!("{other:?}"),
            }
        }
    }
}

fn announce(prefix: &str, max_length: u8, asn: u32) -> Pdu {
    let vrp = vrp(prefix, max_length, asn);
    Pdu::Prefix { announce: true, vrp }
}

fn withdraw(prefix: &str, max_length: u8, asn: u32) -> Pdu {
    let vrp = vrp(prefix, max_length, asn);
    Pdu::Prefix { announce: false, vrp }
}

fn end(serial: u32) -> Pdu {
    Pdu::EndOfData {
        session: 7,
        serial,
        timing: Some(TIMING),
    }
}

/// A client of `ours` that a cache has told `vrps`.
pub(super) fn synced(ours: &BTreeSet<Prefix>, vrps: &BTreeSet<Vrp>) -> Client {
    let mut world = World::new(ours.clone());
    world.tick();
    world.client.handle(Input::Connected, world.now);
    world.hear(Pdu::CacheResponse { session: 7 });
    for vrp in vrps {
        world.hear(Pdu::Prefix {
            announce: true,
            vrp: *vrp,
        });
    }
    world.hear(end(1));
    world.client
}

#[test]
fn nothing_counts_before_the_end_of_the_data() {
    let mut world = World::asked();
    assert_eq!(world.client.vrps(), None);
    world.hear(Pdu::CacheResponse { session: 7 });
    world.hear(announce("192.0.2.0/24", 24, 64_512));
    world.hear(announce("198.51.100.0/24", 24, 64_512)); // covers nothing of ours
    assert_eq!(world.client.vrps(), None);
    world.hear(end(1));
    assert_eq!(world.actions(), ["changed"]);
    assert_eq!(
        world.client.vrps(),
        Some(&BTreeSet::from([vrp("192.0.2.0/24", 24, 64_512)]))
    );
    assert_eq!(world.client.serial(), Some((Version::V1, 7, 1)));
}

#[test]
fn a_notification_or_the_refresh_timer_brings_the_difference() {
    let mut world = World::current();
    world.hear(Pdu::SerialNotify {
        session: 7,
        serial: 1,
    });
    assert_eq!(world.actions(), [""; 0], "no news");
    world.hear(Pdu::SerialNotify {
        session: 7,
        serial: 2,
    });
    assert_eq!(world.actions(), ["serial query 7/1 v1"]);
    world.hear(Pdu::CacheResponse { session: 7 });
    world.hear(withdraw("192.0.2.0/24", 24, 64_512));
    world.hear(announce("192.0.2.0/24", 32, 64_512));
    world.hear(end(2));
    assert_eq!(world.actions(), ["changed"]);
    assert_eq!(
        world.client.vrps(),
        Some(&BTreeSet::from([vrp("192.0.2.0/24", 32, 64_512)]))
    );
    assert_eq!(world.wait(), TIMING.refresh);
    assert_eq!(world.actions(), ["serial query 7/2 v1"]);
    world.hear(Pdu::CacheResponse { session: 7 });
    world.hear(end(2));
    assert_eq!(world.actions(), [""; 0], "nothing has changed");
}

#[test]
fn a_cache_reset_brings_everything_anew_and_the_old_data_serve_meanwhile() {
    let mut world = World::current();
    world.wait();
    assert_eq!(world.actions(), ["serial query 7/1 v1"]);
    world.hear(Pdu::CacheReset);
    assert_eq!(world.actions(), ["reset query v1"]);
    assert!(world.client.vrps().is_some());
    world.hear(Pdu::CacheResponse { session: 7 });
    world.hear(end(9));
    assert_eq!(world.actions(), ["changed"]);
    assert_eq!(world.client.vrps(), Some(&BTreeSet::new()));
}

#[test]
fn a_new_session_of_the_cache_makes_the_old_data_void() {
    let mut world = World::current();
    world.wait();
    world.actions();
    world.hear(Pdu::CacheResponse { session: 8 });
    assert_eq!(world.actions(), ["trouble", "changed", "close", "trouble"]);
    assert_eq!(world.client.vrps(), None);
    assert_eq!(world.wait(), Duration::ZERO);
    world.client.handle(Input::Connected, world.now);
    assert_eq!(world.actions(), ["connect", "reset query v1"]);
}

#[test]
fn data_outlive_the_connection_until_they_expire() {
    let mut world = World::current();
    let told = world.now;
    world.client.handle(Input::Lost("closed".to_owned()), world.now);
    assert_eq!(world.actions(), ["close", "trouble"]);
    assert_eq!(world.wait(), TIMING.retry);
    world.client.handle(Input::Connected, world.now);
    assert_eq!(
        world.actions(),
        ["connect", "serial query 7/1 v1"],
        "it goes on where it stood"
    );
    let mut seen = Vec::new();
    while world.client.vrps().is_some() {
        world.client.handle(Input::Lost("closed".to_owned()), world.now);
        world.wait();
        seen.extend(world.actions());
    }
    assert_eq!(world.now - told, TIMING.expire);
    assert_eq!(seen.iter().filter(|word| *word == "changed").count(), 1);
}

#[test]
fn a_cache_that_knows_only_version_0_is_asked_in_version_0() {
    // RFC 8210 §7: it says so by an Error Report ...
    let mut world = World::asked();
    let report = Pdu::ErrorReport {
        code: code::UNSUPPORTED_VERSION,
        quoted: Bytes::new(),
        text: String::new(),
    };
    world.hear_as(Version::V0, report);
    assert_eq!(world.actions(), ["close", "trouble"]);
    assert_eq!(world.wait(), Duration::ZERO, "at once");
    world.client.handle(Input::Connected, world.now);
    assert_eq!(world.actions(), ["connect", "reset query v0"]);
    world.hear_as(Version::V0, Pdu::CacheResponse { session: 7 });
    let end = Pdu::EndOfData {
        session: 7,
        serial: 1,
        timing: None,
    };
    world.hear_as(Version::V0, end.clone());
    assert_eq!(world.actions(), ["changed"]);
    assert_eq!(world.wait(), Timing::DEFAULT.refresh);
    assert_eq!(world.actions(), ["serial query 7/1 v0"]);
    // ... or by answering in version 0.
    let mut world = World::asked();
    world.hear_as(Version::V0, Pdu::CacheResponse { session: 7 });
    world.hear_as(Version::V0, end);
    assert_eq!(world.actions(), ["changed"]);
}

#[test]
fn the_version_does_not_change_within_a_session() {
    let mut world = World::current();
    world.hear_as(
        Version::V0,
        Pdu::SerialNotify {
            session: 7,
            serial: 2,
        },
    );
    assert_eq!(world.actions(), ["error 8 v1", "close", "trouble"]);
}

#[test]
fn a_cache_without_data_is_asked_again_later() {
    let mut world = World::asked();
    world.hear(Pdu::ErrorReport {
        code: code::NO_DATA,
        quoted: Bytes::new(),
        text: "warming up".to_owned(),
    });
    assert_eq!(world.actions(), ["trouble"], "the connection stays");
    world.wait();
    assert_eq!(world.actions(), ["reset query v1"]);
}

#[test]
fn a_cache_that_does_not_answer_is_left() {
    let mut world = World::asked();
    assert_eq!(world.wait(), Duration::from_secs(60));
    assert_eq!(world.actions(), ["close", "trouble"]);
    world.wait();
    assert_eq!(world.actions(), ["connect"]);
    world.wait(); // nor does it take the connection
    assert_eq!(world.actions(), ["close", "trouble"]);
}

#[test]
fn every_breach_is_reported_by_its_code_and_ends_the_connection() {
    let receiving = || {
        let mut world = World::asked();
        world.hear(Pdu::CacheResponse { session: 7 });
        world
    };
    let wrong_session = Pdu::EndOfData {
        session: 8,
        serial: 1,
        timing: Some(TIMING),
    };
    let rows: Vec<(World, Pdu, u16)> = vec![
        (
            World::asked(),
            announce("192.0.2.0/24", 24, 1),
            code::CORRUPT_DATA,
        ),
        (World::asked(), end(1), code::CORRUPT_DATA),
        (World::asked(), Pdu::CacheReset, code::CORRUPT_DATA), // we asked for everything
        (World::asked(), Pdu::RouterKey, code::CORRUPT_DATA),
        (World::asked(), Pdu::ResetQuery, code::UNSUPPORTED_PDU),
        (receiving(), Pdu::CacheReset, code::CORRUPT_DATA),
        (receiving(), Pdu::CacheResponse { session: 7 }, code::CORRUPT_DATA),
        (receiving(), wrong_session, code::CORRUPT_DATA),
        (
            receiving(),
            withdraw("192.0.2.0/24", 24, 1),
            code::UNKNOWN_WITHDRAWAL,
        ),
        (World::current(), end(1), code::CORRUPT_DATA),
        (
            World::current(),
            announce("192.0.2.0/24", 24, 1),
            code::CORRUPT_DATA,
        ),
    ];
    for (mut world, pdu, code) in rows {
        world.actions();
        world.hear(pdu.clone());
        let report = format!("error {code} v1");
        assert_eq!(world.actions(), [report.as_str(), "close", "trouble"], "{pdu:?}");
        assert_eq!(world.client.state(), State::Waiting);
    }
    let mut world = receiving();
    world.actions();
    world.hear(announce("192.0.2.0/24", 24, 1));
    world.hear(announce("192.0.2.0/24", 24, 1));
    assert_eq!(world.actions(), ["error 7 v1", "close", "trouble"]);
}

#[test]
fn an_error_report_is_never_answered_with_another() {
    let mut world = World::current();
    world.hear(Pdu::ErrorReport {
        code: code::CORRUPT_DATA,
        quoted: Bytes::new(),
        text: "you are wrong".to_owned(),
    });
    assert_eq!(world.actions(), ["close", "trouble"]);
    let mut world = World::current();
    let malformed = take_pdu(&mut BytesMut::from(hex("01 0a 0000 00000009 00").as_ref())).unwrap_err();
    world.client.handle(Input::Malformed(malformed), world.now);
    assert_eq!(world.actions(), ["close", "trouble"]);
}

#[test]
fn a_mad_cache_costs_bounded_memory() {
    let mut world = World::asked();
    world.hear(Pdu::CacheResponse { session: 7 });
    for asn in 0..u32::try_from(MAX_VRPS).unwrap() + 100 {
        world.hear(announce("192.0.2.0/24", 32, asn));
    }
    world.hear(withdraw("192.0.2.0/24", 32, 1_000_000)); // nobody knows what was dropped
    world.hear(end(1));
    assert_eq!(world.client.vrps().unwrap().len(), MAX_VRPS);
    assert!(world.client.truncated());
}

#[test]
fn late_news_of_a_connection_that_is_gone_changes_nothing() {
    let mut world = World::current();
    world.client.handle(Input::Lost("closed".to_owned()), world.now);
    world.actions();
    world.hear(Pdu::CacheResponse { session: 7 });
    world.client.handle(Input::Lost("again".to_owned()), world.now);
    assert_eq!(world.actions(), [""; 0]);
}

proptest! {
    /// Whatever comes, in whatever order: there is always a next deadline, and data only after a whole answer.
    #[test]
    fn no_order_of_news_leaves_the_client_stuck(steps in prop::collection::vec(0_u8..14, 0..60)) {
        let mut world = World::new(ours());
        let mut whole = false;
        for step in steps {
            match step {
                0 => world.client.handle(Input::Connected, world.now),
                1 => world.client.handle(Input::Lost("gone".to_owned()), world.now),
                2 => { world.wait(); }
                3 => world.hear(Pdu::CacheResponse { session: 7 }),
                4 => world.hear(Pdu::CacheReset),
                5 => world.hear(announce("192.0.2.0/24", 24, 1)),
                6 => world.hear(withdraw("192.0.2.0/24", 24, 1)),
                7 => { whole |= world.client.state() == State::Receiving; world.hear(end(u32::from(step))) }
                8 => world.hear(Pdu::SerialNotify { session: 7, serial: 3 }),
                9 => world.hear(Pdu::ErrorReport { code: 2, quoted: Bytes::new(), text: String::new() }),
                10 => world.hear_as(Version::V0, Pdu::CacheResponse { session: 7 }),
                11 => world.hear(Pdu::ErrorReport { code: 4, quoted: Bytes::new(), text: String::new() }),
                12 => world.hear(Pdu::CacheResponse { session: 8 }),
                _ => world.now += Duration::from_secs(100),
            }
            world.actions();
            prop_assert!(world.client.next_deadline().is_some());
            prop_assert!(whole || world.client.vrps().is_none());
        }
    }
}
