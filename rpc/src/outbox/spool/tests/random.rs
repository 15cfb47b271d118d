//! A spool against a model of it, with crashes between any two operations.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

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
    Tell(usize, Ending),
    Resend(usize),
    Crash,
}

/// What a sink says of a row.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Told,
    Failed,
    Refused,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0..CHANNELS.len();
    let channels = prop::collection::btree_set(channel(), 0..3);
    let ending = prop_oneof![2 => Just(Ending::Told), 1 => Just(Ending::Failed), 1 => Just(Ending::Refused)];
    prop_oneof![
        6 => (0..4_u8, 0..3_u8, channels, prop::option::of(0..4_u8))
            .prop_map(|(count, partition, channels, told)| Step::Append(count, partition, channels, told)),
        8 => (channel(), ending).prop_map(|(channel, ending)| Step::Tell(channel, ending)),
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
                Step::Tell(index, ending) => {
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
                    let next = match ending {
                        Ending::Told => Next::Told,
                        Ending::Failed => Next::Again { after, tries: counted },
                        Ending::Refused => Next::Dead { tries: counted },
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
