use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DIGEST: Digest = Digest(0xfeed);
const TAKES: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn site(name: &str) -> SiteName {
    SiteName::new(name).unwrap()
}

fn said(words: &[(&str, Stage)]) -> Vec<(SiteName, Word)> {
    let word = |(name, stage): &(&str, Stage)| {
        let (digest, stage) = (DIGEST, stage.clone());
        (site(name), Word { digest, stage })
    };
    words.iter().map(word).collect()
}

fn rollout(name: &str, now: Instant) -> Rollout {
    Rollout::new(site(name), DIGEST, TAKES, now)
}

#[test]
fn a_word_is_read_as_it_was_told() {
    for stage in [
        Stage::Waiting,
        Stage::Trial,
        Stage::Good,
        Stage::Bad("web/192.0.2.1:80 is down: 404".to_owned()),
        Stage::Bad(String::new()),
    ] {
        let word = Word {
            digest: DIGEST,
            stage,
        };
        let text = word.encode();
        assert!(text.len() <= REASON_MAX, "{text}");
        assert_eq!(Word::decode(&text), Some(word), "{text}");
    }
    let long = Word {
        digest: DIGEST,
        stage: Stage::Bad("ä".repeat(100)),
    };
    assert!(Word::decode(&long.encode()).is_some_and(|word| word.digest == DIGEST));
    for wrong in [
        "",
        "feed trial",
        "000000000000feed",
        "000000000000FEED trial",
        "000000000000feed perhaps",
        "000000000000feed trial of",
        "+00000000000feed trial",
    ] {
        assert_eq!(Word::decode(wrong), None, "{wrong:?}");
    }
}

#[test]
fn who_is_alone_with_a_file_hears_the_others_out_and_tries_it() {
    let now = Instant::now();
    let mut fra = rollout("fra", now);
    assert_eq!(fra.step(&[], now + SECOND), Next::Wait(vec![]));
    assert_eq!(fra.step(&[], now + LISTEN), Next::Begin);
    assert_eq!(fra.word().stage, Stage::Trial);
    let until = now + LISTEN + TAKES;
    assert_eq!(fra.step(&[], until - SECOND), Next::Trial(until));
    assert_eq!(fra.step(&[], until), Next::Good);
    assert_eq!(fra.word().stage, Stage::Good);
}

#[test]
fn the_smallest_name_goes_first_and_then_as_many_as_did_well() {
    let now = Instant::now();
    let later = now + LISTEN;
    let others = said(&[("fra", Stage::Waiting), ("nrt", Stage::Waiting)]);
    assert_eq!(
        rollout("jfk", now).step(&others, later),
        Next::Wait(vec![site("fra")])
    );
    assert_eq!(rollout("ams", now).step(&others, later), Next::Begin);
    let others = said(&[("fra", Stage::Good), ("ams", Stage::Good), ("nrt", Stage::Trial)]);
    assert_eq!(rollout("zrh", now).step(&others, later), Next::Begin);
    let others = said(&[("fra", Stage::Good), ("nrt", Stage::Trial)]);
    assert_eq!(
        rollout("zrh", now).step(&others, later),
        Next::Wait(vec![site("nrt")])
    );
}

#[test]
fn who_hears_that_it_is_bad_does_not_begin_and_another_file_is_another_matter() {
    let now = Instant::now();
    let bad = said(&[("fra", Stage::Bad("404".to_owned()))]);
    let stopped = Next::Stopped {
        by: site("fra"),
        reason: "404".to_owned(),
    };
    assert_eq!(rollout("jfk", now).step(&bad, now), stopped);
    let mut other = Rollout::new(site("jfk"), Digest(1), TAKES, now);
    assert_eq!(other.step(&bad, now + LISTEN), Next::Begin);
    other.goes_bad("lost web");
    assert_eq!(other.word().stage, Stage::Bad("lost web".to_owned()));
}

/// Small fleets whose words take up to a second.
#[derive(Debug, Clone)]
struct Fleet {
    /// By site: when it gets the file, in tenths of a second, and whether the file is bad there, and after how long.
    sites: Vec<(u32, Option<u32>)>,
    delays: Vec<u32>,
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let site = (0u32..80, prop::option::weighted(0.15, 1u32..300));
    let delays = prop::collection::vec(1u32..10, 64);
    (prop::collection::vec(site, 1..8), delays).prop_map(|(sites, delays)| Fleet { sites, delays })
}

proptest! {
    #[test]
    fn never_more_try_at_once_than_did_well_and_nobody_begins_after_it_was_heard_to_be_bad(fleet in fleet()) {
        let start = Instant::now();
        let at = |tenth: u32| start + Duration::from_millis(100) * tenth;
        let names: Vec<_> = (0..fleet.sites.len()).map(|n| site(&format!("a{n:02}"))).collect();
        let mut sites: Vec<Option<Rollout>> = vec![None; names.len()];
        let mut begun: Vec<Option<u32>> = vec![None; names.len()];
        // What is on its way: when it arrives, at whom, from whom. A word may overtake the one before it; the newer one counts,
        // as it does in the store.
        let mut on_the_way: Vec<(u32, usize, usize, (usize, Word))> = vec![];
        let mut known: Vec<BTreeMap<SiteName, (usize, Word)>> = vec![BTreeMap::new(); names.len()];
        let (mut sent, mut first_bad) = (0, None);
        for tenth in 0..4_000 {
            on_the_way.sort_by_key(|(due, ..)| *due);
            let due = on_the_way.partition_point(|(due, ..)| *due <= tenth);
            for (_, to, from, (version, word)) in on_the_way.drain(..due) {
                if known[to].get(&names[from]).is_none_or(|(old, _)| *old < version) {
                    known[to].insert(names[from], (version, word));
                }
            }
            for number in 0..names.len() {
                let (gets, fails) = fleet.sites[number];
                if tenth < gets {
                    continue;
                }
                let before = sites[number].as_ref().map(Rollout::word);
                let one = sites[number].get_or_insert_with(|| Rollout::new(names[number], DIGEST, TAKES, at(tenth)));
                let others: Vec<_> = known[number].iter().map(|(name, (_, word))| (*name, word.clone())).collect();
                match one.step(&others, at(tenth)) {
                    Next::Begin => begun[number] = Some(tenth),
                    Next::Trial(_) => {
                        let since = begun[number].unwrap();
                        if fails.is_some_and(|after| tenth >= since + after) {
                            one.goes_bad("lost");
                            first_bad.get_or_insert(tenth);
                        }
                    }
                    Next::Wait(_) | Next::Good | Next::Stopped { .. } => {}
                }
                let word = one.word();
                if before.as_ref() != Some(&word) {
                    for to in (0..names.len()).filter(|to| *to != number) {
                        sent += 1;
                        let delay = fleet.delays[sent % fleet.delays.len()];
                        on_the_way.push((tenth + delay, to, number, (sent, word.clone())));
                    }
                }
            }
            let stages = || sites.iter().flatten().map(|one| one.word().stage);
            let (trials, good) = (
                stages().filter(|stage| *stage == Stage::Trial).count(),
                stages().filter(|stage| *stage == Stage::Good).count(),
            );
            prop_assert!(trials <= good.max(1), "{trials} try it, and {good} found it good");
        }
        match first_bad {
            None => {
                let words: Vec<_> = sites.iter().flatten().map(|one| one.word().stage).collect();
                prop_assert_eq!(words, vec![Stage::Good; names.len()], "a good file reaches all");
            }
            Some(bad) => {
                let heard = |tenth: &u32| *tenth > bad + 10;
                prop_assert!(!begun.iter().flatten().any(heard), "began after {bad}: {begun:?}");
            }
        }
    }
}
