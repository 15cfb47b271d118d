use proptest::prelude::*;

use super::*;

const SHARE: u8 = 50;

fn vote(site: &str, region: Continent, verdict: Verdict) -> Vote {
    Vote {
        site: SiteName::new(site).unwrap(),
        region: Some(region),
        verdict,
        suspect: false,
        void: (verdict == Unknown).then_some(Void::Unknown),
        reason: if verdict == Down {
            "refused".to_owned()
        } else {
            String::new()
        },
    }
}

const EU: Continent = Continent::Europe;
const NA: Continent = Continent::NorthAmerica;
const AS: Continent = Continent::Asia;
use Verdict::{Down, Unknown, Up};

fn ruling(votes: &[(&str, Continent, Verdict)]) -> Ruling {
    let votes = votes
        .iter()
        .map(|(site, region, verdict)| vote(site, *region, *verdict));
    count(votes.collect(), SHARE).ruling
}

#[test]
fn the_table_of_rulings() {
    type Row = (&'static [(&'static str, Continent, Verdict)], Ruling);
    let rows: &[Row] = &[
        (&[], Ruling::Undecided),
        (&[("fra", EU, Up)], Ruling::Up),
        (&[("fra", EU, Down)], Ruling::Undecided),
        (&[("fra", EU, Down), ("nrt", AS, Unknown)], Ruling::Undecided),
        (&[("fra", EU, Down), ("nrt", AS, Down)], Ruling::Down),
        (&[("fra", EU, Down), ("ams", EU, Down)], Ruling::Down),
        (&[("fra", EU, Down), ("nrt", AS, Up)], Ruling::Up),
        // Two of three say so, and two of three continents.
        (
            &[("fra", EU, Down), ("nrt", AS, Down), ("jfk", NA, Up)],
            Ruling::Down,
        ),
        // Four of five, but one continent.
        (
            &[
                ("fra", EU, Down),
                ("ams", EU, Down),
                ("cdg", EU, Down),
                ("lhr", EU, Down),
                ("nrt", AS, Up),
            ],
            Ruling::Up,
        ),
        // The half is not more than the half.
        (
            &[
                ("fra", EU, Down),
                ("ams", EU, Up),
                ("nrt", AS, Down),
                ("hnd", AS, Up),
            ],
            Ruling::Up,
        ),
        (
            &[
                ("fra", EU, Down),
                ("ams", EU, Down),
                ("nrt", AS, Down),
                ("hnd", AS, Up),
            ],
            Ruling::Down,
        ),
    ];
    for (votes, want) in rows {
        assert_eq!(ruling(votes), *want, "{votes:?}");
    }
}

#[test]
fn a_suspect_counts_a_quarter_and_suspects_alone_decide_nothing() {
    let with_suspects = |suspects: &[&str]| {
        let mut votes = vec![
            vote("fra", EU, Down),
            vote("ams", EU, Down),
            vote("nrt", AS, Down),
            vote("hnd", AS, Up),
        ];
        for vote in &mut votes {
            vote.suspect = suspects.contains(&vote.site.as_str());
        }
        count(votes, SHARE)
    };
    assert_eq!(with_suspects(&[]).ruling, Ruling::Down);
    assert_eq!(with_suspects(&[]).down_percent, 75);
    assert_eq!(with_suspects(&["nrt"]).down_percent, 60);
    assert_eq!(with_suspects(&["fra", "ams", "nrt"]).ruling, Ruling::Up);
    assert_eq!(
        with_suspects(&["fra", "ams", "nrt", "hnd"]).ruling,
        Ruling::Undecided
    );
}

#[test]
fn who_sees_most_of_the_others_down_is_suspect() {
    let rows: &[(&[bool], bool)] = &[
        (&[], false),
        (&[true], false), // of two sites nobody can tell which one is cut off
        (&[true, false], false),
        (&[true, true], true),
        (&[true, true, false], true),
        (&[true, true, false, false], false),
    ];
    for (others, want) in rows {
        assert_eq!(is_suspect(others.iter().copied()), *want, "{others:?}");
    }
}

#[test]
fn the_evidence_is_told_in_a_line() {
    let tally = |votes: &[(&str, Verdict)]| {
        count(
            votes
                .iter()
                .map(|(site, verdict)| vote(site, EU, *verdict))
                .collect(),
            SHARE,
        )
        .to_string()
    };
    assert_eq!(
        tally(&[("fra", Up), ("ams", Unknown)]),
        "none of 1 site sees it down"
    );
    assert_eq!(
        tally(&[("nrt", Up), ("fra", Down), ("ams", Down)]),
        "2 of 3 sites see it down (ams, fra), 66 %: refused"
    );
    let many: Vec<_> = (0..9).map(|n| format!("s0{n}")).collect();
    let many: Vec<_> = many.iter().map(|site| (site.as_str(), Down)).collect();
    assert!(
        tally(&many).contains("s07, and 1 more), 100 %"),
        "{}",
        tally(&many)
    );
}

fn any_votes() -> impl Strategy<Value = Vec<Vote>> {
    let region = prop_oneof![Just(None), Just(Some(EU)), Just(Some(NA)), Just(Some(AS))];
    let verdict = prop_oneof![Just(Up), Just(Down), Just(Unknown)];
    let void = prop_oneof![4 => Just(None), 1 => Just(Some(Void::Expired)), 1 => Just(Some(Void::Gone))];
    prop::collection::vec((region, verdict, prop::bool::weighted(0.2), void), 0..40).prop_map(|votes| {
        let vote = |(number, (region, verdict, suspect, void))| Vote {
            site: SiteName::new(&format!("x{number:02}")).unwrap(),
            region,
            verdict,
            suspect,
            void: if verdict == Unknown {
                Some(Void::Unknown)
            } else {
                void
            },
            reason: String::new(),
        };
        (0..).zip(votes).map(vote).collect()
    })
}

fn counting(votes: &[Vote]) -> impl Iterator<Item = &Vote> {
    votes.iter().filter(|vote| vote.void.is_none())
}

proptest! {
    #[test]
    fn one_vantage_point_alone_takes_nothing_down(votes in any_votes(), share in 0..100_u8, one in any::<prop::sample::Index>()) {
        let mut votes = votes;
        prop_assume!(!votes.is_empty());
        let one = one.index(votes.len());
        for (number, vote) in votes.iter_mut().enumerate() {
            vote.verdict = if number == one { Down } else if vote.verdict == Down { Up } else { vote.verdict };
        }
        prop_assert_ne!(count(votes, share).ruling, Ruling::Down);
    }

    #[test]
    fn one_continent_takes_nothing_down_that_another_sees_up(votes in any_votes(), share in 0..100_u8) {
        let votes: Vec<_> = votes
            .into_iter()
            .map(|vote| match (vote.region, vote.verdict) {
                (Some(EU), Up | Down) => Vote { verdict: Down, ..vote },
                (_, Up | Down) => Vote { verdict: Up, ..vote },
                (_, Unknown) => vote,
            })
            .collect();
        prop_assume!(counting(&votes).any(|vote| vote.region != Some(EU)));
        prop_assert_ne!(count(votes, share).ruling, Ruling::Down);
    }

    #[test]
    fn one_more_who_says_down_never_brings_it_up(votes in any_votes(), share in 0..100_u8, one in any::<prop::sample::Index>()) {
        prop_assume!(!votes.is_empty());
        let one = one.index(votes.len());
        prop_assume!(votes[one].verdict == Up);
        let before = count(votes.clone(), share);
        let mut votes = votes;
        votes[one].verdict = Down;
        let after = count(votes, share);
        prop_assert!(after.ruling >= before.ruling, "{:?} {:?}", before, after);
        prop_assert!(after.down_percent >= before.down_percent);
    }

    #[test]
    fn the_order_of_the_votes_is_nothing(votes in any_votes(), share in 0..100_u8) {
        let mut turned = votes.clone();
        turned.reverse();
        prop_assert_eq!(count(votes, share), count(turned, share));
    }

    #[test]
    fn who_does_not_count_changes_nothing(votes in any_votes(), share in 0..100_u8) {
        let alone: Vec<_> = counting(&votes).cloned().collect();
        let (all, alone) = (count(votes, share), count(alone, share));
        prop_assert_eq!((all.ruling, all.down, all.counted, all.down_percent), (alone.ruling, alone.down, alone.counted, alone.down_percent));
    }

    #[test]
    fn the_verdict_of_all_is_the_verdict(votes in any_votes(), share in 0..100_u8, down in any::<bool>()) {
        let verdict = if down { Down } else { Up };
        let votes: Vec<_> = votes.into_iter().map(|vote| Vote { verdict, suspect: false, void: None, ..vote }).collect();
        prop_assume!(votes.len() >= 2);
        prop_assert_eq!(count(votes, share).ruling, if down { Ruling::Down } else { Ruling::Up });
    }
}
