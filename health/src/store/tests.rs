//! One battery for every backend, and what is particular to a file.

use proptest::prelude::*;

use super::*;

fn drain(target: &str, reason: &str) -> StoredDrain {
    StoredDrain {
        target: target.to_owned(),
        reason: reason.to_owned(),
        author: "ana".to_owned(),
        since: "2026-01-01T12:00:00Z".parse().unwrap(),
        until: "2026-01-01T14:00:00.25Z".parse().ok(),
    }
}

fn put(target: &str, reason: &str) -> Edit {
    Edit::Put(StoredWish::Drain(drain(target, reason)))
}

fn force(target: &str, to: Forced) -> StoredWish {
    let StoredDrain {
        target,
        reason,
        author,
        since,
        until,
    } = drain(target, "forced");
    StoredWish::Force(StoredForce {
        target,
        to,
        reason,
        author,
        since,
        until,
    })
}

/// What a battery asks of a store, wherever it is.
pub(crate) trait Subject {
    fn wishes(&mut self) -> Wishes;
    fn write(&mut self, edits: &[Edit]);
    /// Begins anew with the same place.
    fn reopen(&mut self);
}

impl Subject for Store {
    fn wishes(&mut self) -> Wishes {
        Self::check(self).unwrap();
        Self::wishes(self).unwrap()
    }

    fn write(&mut self, edits: &[Edit]) {
        Self::write(self, edits).unwrap();
    }

    fn reopen(&mut self) {
        Self::reopen(self).unwrap();
    }
}

fn reasons(store: &mut impl Subject) -> Vec<(String, String)> {
    let wishes = store.wishes().into_iter();
    let drains = wishes.filter_map(|(key, wish)| match wish {
        StoredWish::Drain(drain) => Some((key, drain)),
        StoredWish::Force(_) => None,
    });
    drains
        .map(|(key, drain)| {
            assert_eq!(key, WishKey::drain(&drain.target));
            (drain.target, drain.reason)
        })
        .collect()
}

/// What every store must do.
pub(crate) fn battery(store: &mut impl Subject) {
    assert_eq!(reasons(store), [], "a new store is empty");

    store.write(&[put("fra", "one"), put("nrt", "two")]);
    let told = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
    assert_eq!(reasons(store), [told("fra", "one"), told("nrt", "two")]);
    let kept = &store.wishes()[&WishKey::drain("fra")];
    assert_eq!(*kept, StoredWish::Drain(drain("fra", "one")), "nothing is lost");

    store.write(&[put("fra", "three")]);
    assert_eq!(reasons(store), [told("fra", "three"), told("nrt", "two")]);

    let nowhere = Edit::Remove(WishKey::drain("nowhere"));
    let nrt = Edit::Remove(WishKey::drain("nrt"));
    store.write(&[nrt, nowhere, put("jfk", "")]);
    assert_eq!(reasons(store), [told("fra", "three"), told("jfk", "")]);

    let odd = "web/[2001:db8::1]:443@fra";
    let long = "ü\"\n\0".repeat(500);
    store.write(&[put(odd, &long)]);
    assert!(reasons(store).contains(&told(odd, &long)));

    let endless = StoredWish::Drain(StoredDrain {
        until: None,
        ..drain("gru", "endless")
    });
    store.write(&[Edit::Put(endless.clone())]);
    assert_eq!(store.wishes()[&WishKey::drain("gru")], endless);

    let up = force("fra", Forced::Up);
    store.write(&[Edit::Put(up.clone()), Edit::Put(force("nrt", Forced::Down))]);
    assert_eq!(store.wishes()[&WishKey::force("fra")], up);
    assert!(
        reasons(store).contains(&told("fra", "three")),
        "a target may be drained and forced"
    );
    store.write(&[Edit::Remove(WishKey::force("nrt"))]);
    assert!(!store.wishes().contains_key(&WishKey::force("nrt")));

    store.write(&[]);
    let before = store.wishes();
    store.reopen();
    assert_eq!(store.wishes(), before, "to begin anew loses nothing");
}

#[test]
fn memory_passes_the_battery() {
    let mut store = Store::open(None).unwrap();
    assert!(!store.outlives_us());
    battery(&mut store);
}

#[test]
fn a_file_passes_the_battery() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(Some(&folder.path().join("steer.redb"))).unwrap();
    assert!(store.outlives_us());
    battery(&mut store);
}

/// A file with two drains, closed.
fn written(file: &Path) {
    let mut store = Store::open(Some(file)).unwrap();
    store.write(&[put("fra", "one"), put("nrt", "two")]).unwrap();
}

#[test]
fn a_file_outlives_its_process_and_its_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("var/lib/state/steer.redb");
    written(&file);
    assert_eq!(reasons(&mut Store::open(Some(&file)).unwrap()).len(), 2);
}

#[test]
fn what_is_written_is_there_after_a_crash_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("steer.redb");
    let mut store = Store::open(Some(&file)).unwrap();
    for round in 0..20 {
        store.write(&[put("fra", &round.to_string())]).unwrap();
        // The picture that a crash would leave: the file as it is, never closed.
        let crashed = folder.path().join(format!("crashed-{round}.redb"));
        std::fs::copy(&file, &crashed).unwrap();
        let mut after = Store::open(Some(&crashed)).unwrap();
        assert_eq!(reasons(&mut after), [("fra".to_owned(), round.to_string())]);
    }
}

#[test]
fn a_second_process_is_refused_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("steer.redb");
    let first = Store::open(Some(&file)).unwrap();
    let error = Store::open(Some(&file)).unwrap_err().to_string();
    assert!(error.contains("another process has it open"), "{error}");
    assert!(error.contains("steer.redb"), "{error}");
    drop(first);
    Store::open(Some(&file)).unwrap();
}

#[test]
fn a_file_that_is_no_store_is_named_with_a_remedy_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("steer.redb");
    for contents in [
        "[fleet]\n".to_owned(),
        "[fleet]\nname = \"example\"\n".repeat(2_000),
    ] {
        std::fs::write(&file, &contents).unwrap();
        let error = Store::open(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("steer.redb: it is no store"), "{error}");
        assert!(error.contains("move the file away"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), contents);
    }
}

#[test]
fn a_place_where_no_file_can_be_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    for place in ["plain/steer.redb", "."] {
        let file = folder.path().join(place);
        let error = Store::open(Some(&file)).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(error.contains("name another file"), "{error}");
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let newer = br#"{"version":2,"drain":{}}"#;
    let error = StoredWish::from_bytes(newer).unwrap_err();
    assert_eq!(error.to_string(), "it has version 2, and we know 1");
    for bad in [
        &b"{}"[..],
        b"",
        b"null",
        b"{\"version\":1}",
        b"{\"version\":1,\"drain\":{\"target\":1}}",
    ] {
        assert!(StoredWish::from_bytes(bad).is_err(), "{bad:?}");
    }
    assert_eq!(
        StoredWish::from_bytes(br#"{"version":1,"drain":{"target":"fra","reason":"x","author":"ana","since":"2026-01-01T12:00:00Z","until":"2026-01-01T14:00:00.25Z"}}"#).unwrap(),
        StoredWish::Drain(drain("fra", "x"))
    );
    let forced = force("fra", Forced::Down);
    assert_eq!(
        StoredWish::from_bytes(&forced.to_bytes().unwrap()).unwrap(),
        forced
    );
}

#[test]
fn a_file_that_is_removed_or_replaced_is_noticed_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state/steer.redb");
    let mut store = Store::open(Some(&file)).unwrap();
    store.write(&[put("fra", "one")]).unwrap();
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    let error = store.check().unwrap_err().to_string();
    assert!(error.contains("steer.redb: it is gone"), "{error}");
    assert!(
        store.write(&[put("nrt", "two")]).is_err(),
        "a write to nowhere is none"
    );
    store.reopen().unwrap();
    assert_eq!(reasons(&mut store), []);

    std::fs::rename(&file, folder.path().join("old")).unwrap();
    written(&file);
    let error = store.check().unwrap_err().to_string();
    assert!(error.contains("another file in its place"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_damaged_file_is_read_as_it_was_or_refused_but_never_kills_us(
        damage in prop::collection::vec((0.0f64..1.0, any::<u8>()), 1..40), cut in prop::option::of(0.0f64..1.0)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("steer.redb");
        written(&file);
        let mut bytes = std::fs::read(&file).unwrap();
        // Most of the file is empty; what is hit lies in the pages that hold something.
        let full = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for (place, value) in damage {
            bytes[(place * full as f64) as usize] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(1 + (cut * (bytes.len() - 1) as f64) as usize);
        }
        std::fs::write(&file, bytes).unwrap();
        match Store::open(Some(&file)).and_then(|store| store.wishes()) {
            Ok(drains) => prop_assert!(drains.len() <= 2),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("steer.redb: ") && text.contains("; "), "{}", text);
            }
        }
    }
}
