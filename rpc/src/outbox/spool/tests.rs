//! A spool on a disk, and what a crash leaves of it.

mod random;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

const CHANNELS: [&str; 2] = ["mail", "hook"];
const LIMITS: Limits = Limits { rows: 5, dead: 2 };

fn post(number: u32, partition: u8, channels: &[&str]) -> Post {
    Post {
        subject: "steer.verdict".to_owned(),
        partition: format!("p{partition}"),
        payload: Box::new(move |id| Bytes::from(format!("{number} {id}"))),
        channels: channels.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A spool in a folder, and how it is after a crash: the file as it lies there at that moment.
struct Bed {
    folder: TempDir,
    file: PathBuf,
    crashes: u32,
    spool: Option<Spool>,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/spool.0");
        let spool = Spool::open(Some(&file), "fra", LIMITS).unwrap();
        Self {
            folder,
            file,
            crashes: 0,
            spool: Some(spool),
        }
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    /// As kill -9 leaves it: nothing is closed.
    fn crash(&mut self) {
        self.crashes += 1;
        let copy = self.folder.path().join(format!("state/spool.{}", self.crashes));
        std::fs::copy(&self.file, &copy).unwrap();
        self.spool = None;
        self.file = copy;
        self.spool = Some(Spool::open(Some(&self.file), "fra", LIMITS).unwrap());
    }
}

/// All rows of a channel that are told, when everything is taken.
fn drained(spool: &Spool, channel: &str, now: Instant) -> Vec<Waiting> {
    let mut all = Vec::new();
    while let Look::Tell(waiting) = spool.look(channel, now).unwrap() {
        spool
            .settle(channel, waiting.number, Next::Told, false, "", now)
            .unwrap();
        all.push(waiting);
    }
    all
}

#[test]
fn an_id_is_the_same_each_time_and_no_other_files() {
    let mut bed = Bed::new();
    let id = |spool: &Spool| match spool.look("mail", Instant::now()).unwrap() {
        Look::Tell(waiting) => waiting.letter.id,
        other @ (Look::Later(_) | Look::Empty) => panic!("{other:?}"),
    };
    bed.spool().append(vec![post(1, 0, &["mail"])], &[]).unwrap();
    let first = id(bed.spool());
    bed.crash();
    assert_eq!(id(bed.spool()), first);
    let other = Bed::new();
    other.spool().append(vec![post(1, 0, &["mail"])], &[]).unwrap();
    assert_ne!(id(other.spool()), first);
    assert!(first.starts_with("fra-") && first.ends_with("-1"), "{first}");
}

#[test]
fn a_channel_that_is_away_holds_up_only_itself_and_loses_nothing_by_it() {
    let bed = Bed::new();
    let (spool, now) = (bed.spool(), Instant::now());
    spool
        .append(vec![post(1, 0, &CHANNELS), post(2, 1, &CHANNELS)], &[])
        .unwrap();
    let after = Duration::from_secs(10);
    let again = Next::Again { after, tries: 0 };
    spool.settle("mail", 1, again, true, "refused", now).unwrap();
    assert_eq!(spool.look("mail", now).unwrap(), Look::Later(now + after));
    assert_eq!(drained(spool, "hook", now).len(), 2);
    let told = drained(spool, "mail", now + after);
    assert_eq!(
        told.iter().map(|waiting| waiting.tries).collect::<Vec<_>>(),
        [0, 0]
    );
}

#[test]
fn dead_letters_are_sent_again_one_by_one_or_all_and_with_their_ids() {
    let bed = Bed::new();
    let (spool, now) = (bed.spool(), Instant::now());
    spool
        .append(vec![post(1, 0, &["mail"]), post(2, 1, &["mail"])], &[])
        .unwrap();
    for number in 1..=2 {
        let dead = Next::Dead { tries: 3 };
        spool
            .settle("mail", number, dead, false, "550 no such user", now)
            .unwrap();
    }
    let dead = spool.dead("mail", 9).unwrap();
    assert_eq!(
        (dead.len(), dead[1].why.as_str(), dead[1].tries),
        (2, "550 no such user", 3)
    );
    let id = dead[1].letter.id.clone();
    assert_eq!(spool.resend("mail", Some(&["fra-0-9".to_owned()])).unwrap(), 0);
    assert_eq!(spool.resend("mail", Some(std::slice::from_ref(&id))).unwrap(), 1);
    let told = drained(spool, "mail", now);
    assert_eq!((told.len(), &told[0].letter.id, told[0].tries), (1, &id, 0));
    assert_eq!(spool.counts("mail"), Counts { waiting: 0, dead: 1 });
}

#[test]
fn what_is_for_a_channel_that_is_not_there_any_more_is_forgotten() {
    let mut bed = Bed::new();
    bed.spool().append(vec![post(1, 0, &CHANNELS)], &[]).unwrap();
    let keep = ["hook".to_owned(), "new".to_owned()];
    let gone = bed.spool().keep_only(&keep).unwrap();
    assert_eq!(gone, [("mail".to_owned(), Counts { waiting: 1, dead: 0 })]);
    assert_eq!(bed.spool().keep_only(&keep).unwrap(), []);
    bed.crash();
    assert_eq!(bed.spool().look("mail", Instant::now()).unwrap(), Look::Empty);
    assert_eq!(bed.spool().counts("hook").waiting, 1);
}

#[test]
fn a_file_that_another_process_has_open_is_named() {
    let bed = Bed::new();
    let error = Spool::open(Some(&bed.file), "fra", LIMITS)
        .unwrap_err()
        .to_string();
    assert!(error.contains("spool.0"), "{error}");
}
