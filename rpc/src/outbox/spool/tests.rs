//! A spool against a model of it, with crashes between any two operations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
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

/// What a spool is: rows in order, the dead, and what was told.
#[derive(Default)]
struct Model {
    next: u64,
    /// By channel: number, partition, what it says, tries.
    rows: BTreeMap<String, BTreeMap<u64, (u8, u32, u32)>>,
    dead: BTreeMap<String, BTreeMap<u64, (u8, u32, u32)>>,
    told: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Step {
    /// So many rows for these channels, and what is told of a subject.
    Append(u8, u8, BTreeSet<usize>, Option<u8>),
    Told(usize),
    Failed(usize),
    Refused(usize),
    Resend(usize),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0..CHANNELS.len();
    let channels = prop::collection::btree_set(channel(), 0..3);
    prop_oneof![
        6 => (0..4_u8, 0..3_u8, channels, prop::option::of(0..4_u8))
            .prop_map(|(count, partition, channels, told)| Step::Append(count, partition, channels, told)),
        4 => channel().prop_map(Step::Told),
        2 => channel().prop_map(Step::Failed),
        2 => channel().prop_map(Step::Refused),
        1 => channel().prop_map(Step::Resend),
        2 => Just(Step::Crash),
    ]
}

impl Model {
    fn new() -> Self {
        Self {
            next: 1,
            ..Self::default()
        }
    }

    fn cut(rows: &mut BTreeMap<u64, (u8, u32, u32)>, limit: usize) {
        while rows.len() > limit {
            rows.pop_first();
        }
    }

    fn append(&mut self, rows: &[(u8, u32)], channels: &[&str], told: Option<u8>) {
        for (partition, says) in rows {
            for channel in channels {
                let of_channel = self.rows.entry((*channel).to_owned()).or_default();
                of_channel.insert(self.next, (*partition, *says, 0));
                Self::cut(of_channel, LIMITS.rows);
            }
            self.next += 1;
        }
        if let Some(told) = told {
            match told {
                0 => drop(self.told.remove("subject")),
                told => drop(self.told.insert("subject".to_owned(), vec![told])),
            }
        }
    }

    fn bury(&mut self, channel: &str, number: u64, tries: u32) {
        let (partition, says, _) = self.rows.get_mut(channel).unwrap().remove(&number).unwrap();
        let dead = self.dead.entry(channel.to_owned()).or_default();
        dead.insert(number, (partition, says, tries));
        Self::cut(dead, LIMITS.dead);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_keeps_what_the_model_keeps_whenever_it_crashes(steps in prop::collection::vec(step(), 0..30)) {
        let (mut bed, mut model) = (Bed::new(), Model::new());
        let (mut says, mut now) = (0, Instant::now());
        let hour = Duration::from_secs(3600);
        for step in steps {
            // Whatever was held is due again.
            now += hour;
            match step {
                Step::Append(count, partition, channels, told) => {
                    let channels: Vec<_> = channels.into_iter().map(|index| CHANNELS[index]).collect();
                    let rows: Vec<_> = (0..u32::from(count)).map(|n| ((partition + n as u8) % 3, says + n)).collect();
                    says += u32::from(count);
                    let posts = rows.iter().map(|(partition, says)| post(*says, *partition, &channels));
                    let state = told.map(|told| ("subject".to_owned(), Some(vec![told]).filter(|_| told > 0)));
                    bed.spool().append(posts.collect(), state.as_slice()).unwrap();
                    model.append(&rows, &channels, told);
                }
                Step::Told(index) | Step::Failed(index) | Step::Refused(index) => {
                    let channel = CHANNELS[index];
                    let rows = model.rows.entry(channel.to_owned()).or_default();
                    let first = rows.iter().next().map(|(number, row)| (*number, *row));
                    let look = bed.spool().look(channel, now).unwrap();
                    let Some((number, (_, says, tries))) = first else {
                        prop_assert_eq!(look, Look::Empty);
                        continue;
                    };
                    let Look::Tell(waiting) = look else { panic!("{look:?}") };
                    prop_assert_eq!((waiting.number, waiting.tries), (number, tries));
                    let text = format!("{says} {}", waiting.letter.id);
                    prop_assert_eq!(&waiting.letter.payload[..], text.as_bytes());
                    let (after, counted) = (hour / 2, tries + 1);
                    let next = match step {
                        Step::Told(_) => Next::Told,
                        Step::Failed(_) => Next::Again { after, tries: counted },
                        _ => Next::Dead { tries: counted },
                    };
                    bed.spool().settle(channel, number, next, false, "why", now).unwrap();
                    match next {
                        Next::Told => drop(rows.remove(&number)),
                        Next::Again { .. } => rows.get_mut(&number).unwrap().2 = counted,
                        Next::Dead { .. } => model.bury(channel, number, counted),
                    }
                }
                Step::Resend(index) => {
                    let channel = CHANNELS[index];
                    let dead = model.dead.remove(channel).unwrap_or_default();
                    let back = dead.into_iter().map(|(number, (partition, says, _))| (number, (partition, says, 0)));
                    let back: Vec<_> = back.collect();
                    prop_assert_eq!(bed.spool().resend(channel, None).unwrap(), back.len());
                    model.rows.entry(channel.to_owned()).or_default().extend(back);
                }
                Step::Crash => bed.crash(),
            }
            prop_assert_eq!(bed.spool().told().unwrap(), model.told.clone());
            for channel in CHANNELS {
                let (rows, dead) = (model.rows.get(channel), model.dead.get(channel));
                let counts = Counts { waiting: rows.map_or(0, BTreeMap::len), dead: dead.map_or(0, BTreeMap::len) };
                prop_assert_eq!(bed.spool().counts(channel), counts);
                let kept = bed.spool().dead(channel, 99).unwrap().into_iter().map(|letter| (letter.number, letter.tries));
                let expected = dead.into_iter().flatten().map(|(number, (_, _, tries))| (*number, *tries));
                prop_assert_eq!(kept.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
        bed.crash();
        for channel in CHANNELS {
            let told = drained(bed.spool(), channel, now).into_iter().map(|waiting| (waiting.number, waiting.tries));
            let expected = model.rows.remove(channel).unwrap_or_default();
            let expected = expected.into_iter().map(|(number, (_, _, tries))| (number, tries));
            prop_assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn an_id_is_the_same_each_time_and_no_other_files() {
    let mut bed = Bed::new();
    let id = |spool: &Spool| match spool.look("mail", Instant::now()).unwrap() {
        Look::Tell(waiting) => waiting.letter.id,
        other => panic!("{other:?}"),
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
