use proptest::prelude::*;

use super::*;
use crate::store::StoredDrain;

const PAST: Past = Past {
    cluster: 7,
    revision: 10,
};

fn follower(past: Option<Past>, wishes: &[&str]) -> Follower {
    let wishes = wishes.iter().map(|target| drain(target, ""));
    let wishes = wishes.map(|wish| (wish.key(), wish)).collect();
    Follower::new(Names::new("/s/"), past, wishes)
}

fn drain(target: &str, reason: &str) -> StoredWish {
    StoredWish::Drain(StoredDrain {
        target: target.to_owned(),
        reason: reason.to_owned(),
        author: "ana".to_owned(),
        since: "2026-01-01T12:00:00Z".parse().unwrap(),
        until: None,
    })
}

fn key(target: &str, value: Vec<u8>, revision: i64) -> KeyValue {
    KeyValue {
        key: Names::new("/s/").wish(&WishKey::drain(target)),
        value,
        mod_revision: revision,
        ..KeyValue::default()
    }
}

fn kept(target: &str, revision: i64) -> KeyValue {
    key(target, drain(target, "").to_bytes().unwrap(), revision)
}

fn event(kind: EventType, kv: KeyValue) -> Event {
    Event {
        r#type: kind.into(),
        kv: Some(kv),
    }
}

fn targets(follower: &Follower) -> Vec<&str> {
    follower.wishes().keys().map(|key| key.target.as_str()).collect()
}

#[test]
fn what_is_read_and_watched_is_what_is_known() {
    let mut follower = follower(None, &[]);
    assert_eq!(follower.on_read(PAST, &[kept("fra", 3), kept("nrt", 9)]), None);
    assert_eq!(targets(&follower), ["fra", "nrt"]);
    assert_eq!(follower.revision_of(&WishKey::drain("nrt")), Some(9));
    let gone = event(EventType::Delete, kept("fra", 11));
    let new = event(EventType::Put, kept("jfk", 12));
    assert!(follower.on_events(12, &[gone, new]));
    assert_eq!(targets(&follower), ["jfk", "nrt"]);
    assert_eq!(follower.past().unwrap().revision, 12);
    assert!(!follower.on_events(15, &[]), "progress is no news");
    assert_eq!(follower.past().unwrap().revision, 15);
}

#[test]
fn what_ended_while_we_were_away_is_over() {
    let mut follower = follower(Some(PAST), &["fra", "nrt"]);
    let later = Past { revision: 20, ..PAST };
    assert_eq!(follower.on_read(later, &[kept("nrt", 9)]), None);
    assert_eq!(targets(&follower), ["nrt"]);
}

#[test]
fn a_cluster_that_lost_its_past_takes_nothing_back() {
    for now in [
        Past { revision: 9, ..PAST },
        Past {
            cluster: 8,
            revision: 900,
        },
    ] {
        let mut follower = follower(Some(PAST), &["fra", "nrt"]);
        let forgot = follower.on_read(now, &[kept("nrt", 2), kept("jfk", 3)]).unwrap();
        assert_eq!(forgot.lost, [drain("fra", "")], "{now:?}");
        assert!(forgot.why.contains("it is "), "{}", forgot.why);
        assert_eq!(targets(&follower), ["fra", "jfk", "nrt"]);
        assert_eq!(follower.past(), Some(now));
    }
}

#[test]
fn what_cannot_be_read_leaves_what_was_known_and_is_shown() {
    let mut follower = follower(Some(PAST), &["fra"]);
    let bad = || key("fra", b"{}".to_vec(), 11);
    follower.on_read(
        Past { revision: 11, ..PAST },
        &[bad(), key("nrt", b"\xff".to_vec(), 11)],
    );
    assert_eq!(targets(&follower), ["fra"]);
    assert_eq!(follower.unreadable().len(), 2);
    assert!(follower.unreadable()[0].starts_with("/s/wishes/drain/fra: it has no version"));
    follower.on_events(12, &[event(EventType::Put, kept("fra", 12))]);
    follower.on_events(13, &[event(EventType::Delete, key("nrt", Vec::new(), 13))]);
    assert_eq!(follower.unreadable(), [""; 0]);
    let elsewhere = key("gru", drain("fra", "x").to_bytes().unwrap(), 14);
    follower.on_events(14, &[event(EventType::Put, elsewhere)]);
    assert!(follower.unreadable()[0].contains("something else than its key says"));
    assert_eq!(targets(&follower), ["fra"]);
}

proptest! {
    #[test]
    fn a_read_and_the_events_after_it_give_what_a_later_read_gives(
        steps in prop::collection::vec((0..5usize, any::<bool>()), 0..40), cut in 0..40usize
    ) {
        const NAMES: [&str; 5] = ["fra", "nrt", "jfk", "gru", "lhr"];
        let mut truth: BTreeMap<&str, KeyValue> = BTreeMap::new();
        let mut watching = follower(None, &[]);
        for (revision, (name, put)) in (1_i64..).zip(&steps) {
            let name = NAMES[*name];
            let kv = kept(name, revision);
            if *put {
                truth.insert(name, kv.clone());
            } else {
                truth.remove(name);
            }
            let at = Past { cluster: 7, revision };
            if revision as usize == cut + 1 {
                // Compacted, or a lost watch: everything is read anew.
                let keys: Vec<_> = truth.values().cloned().collect();
                prop_assert_eq!(watching.on_read(at, &keys), None);
            } else if revision as usize > cut + 1 {
                let kind = if *put { EventType::Put } else { EventType::Delete };
                watching.on_events(revision, &[event(kind, kv)]);
            }
        }
        let mut reading = follower(None, &[]);
        let keys: Vec<_> = truth.values().cloned().collect();
        reading.on_read(Past { cluster: 7, revision: steps.len() as i64 }, &keys);
        if steps.len() > cut {
            prop_assert_eq!(watching.wishes(), reading.wishes());
            prop_assert_eq!(watching.past(), reading.past());
        }
    }
}
