use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_topology::{CheckKind, SiteId};

use super::*;
use crate::snapshot::Verdict;
use crate::testing::FleetBuilder;

fn load(per_second: u64, at: Timestamp, lease: u64) -> Option<Load> {
    Some(Load {
        per_second,
        at,
        until: at + Duration::from_secs(lease),
        author: "ana".to_owned(),
    })
}

fn judge(now: Instant, at: Timestamp) -> Judge {
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .unchecked_pool(&[Some(0), Some(1)])
        .build();
    Judge::new(fleet, now, at)
}

fn figures(snapshot: &Snapshot) -> Vec<Option<u64>> {
    let sites = (0..2).map(SiteId);
    sites.map(|site| Some(snapshot.load(site)?.per_second)).collect()
}

#[test]
fn figures_that_come_together_are_told_in_one_snapshot_a_second_later_at_most() {
    let (now, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let mut judge = judge(now, at);
    assert!(judge.on_load(SiteId(0), load(70, at, 60), now, at).is_none());
    let later = Duration::from_millis(400);
    assert!(
        judge
            .on_load(SiteId(1), load(30, at + later, 60), now + later, at + later)
            .is_none()
    );
    assert_eq!(judge.next_deadline(), Some(now + GATHER));
    let told = judge.on_deadline(now + GATHER, at + GATHER).unwrap();
    assert_eq!(figures(&told), [Some(70), Some(30)]);
    assert!(told.changed_since(&judge.first_snapshot()).is_empty());
    assert!(judge.on_deadline(now + GATHER, at + GATHER).is_none(), "once");
}

#[test]
fn a_figure_ends_with_its_lease_or_when_it_is_taken_back() {
    let (now, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let mut judge = judge(now, at);
    judge.on_load(SiteId(0), load(70, at, 5), now, at);
    judge.on_load(SiteId(1), load(70, at, 9), now, at);
    judge.on_deadline(now + GATHER, at + GATHER).unwrap();
    let (then, then_at) = (now + Duration::from_secs(5), at + Duration::from_secs(5));
    assert_eq!(judge.next_deadline(), Some(then));
    let ended = judge.on_deadline(then, then_at).unwrap();
    assert_eq!(figures(&ended), [None, Some(70)]);
    judge.on_load(SiteId(1), None, then, then_at);
    let taken = judge.on_deadline(then + GATHER, then_at + GATHER).unwrap();
    assert_eq!(figures(&taken), [None, None]);
    assert_eq!(judge.next_deadline(), None);
}

#[test]
fn a_reload_keeps_the_figures_and_a_site_that_is_not_there_is_nobodys() {
    let (now, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let mut judge = judge(now, at);
    let count = judge.fleet().sites.len() as u16;
    assert!(judge.on_load(SiteId(count), load(1, at, 60), now, at).is_none());
    assert_eq!(judge.next_deadline(), None);
    judge.on_load(SiteId(1), load(30, at, 60), now, at);
    let fleet = Arc::new((**judge.fleet()).clone());
    let (_, snapshot) = judge.reload(fleet, now, at);
    assert_eq!(figures(&snapshot), [None, Some(30)]);
}

#[test]
fn what_a_snapshot_changed_is_known_without_comparing_all() {
    let (now, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .pool(&[Some(0), Some(1), Some(1)])
        .build();
    let mut judge = Judge::new(fleet, now, at);
    let ids: Vec<_> = judge.fleet().endpoint_ids().collect();
    let mut last = Arc::new(judge.first_snapshot());
    let mut all = vec![Arc::clone(&last)];
    let steps = [
        (0, Verdict::Up),
        (1, Verdict::Up),
        (2, Verdict::Up),
        (1, Verdict::Down),
        (2, Verdict::Down),
        (1, Verdict::Up),
    ];
    for (nth, (id, verdict)) in (1..).zip(steps) {
        let then = Duration::from_secs(100 * nth);
        let next = judge.on_verdict(ids[id], verdict, String::new(), now + then, at + then);
        let Some(next) = next else { continue };
        assert!(
            next.number <= 2 || next.trail.since(last.number).is_some(),
            "{}",
            next.number
        );
        for before in &all {
            let compared = Snapshot {
                trail: crate::snapshot::Trail::default(),
                ..(*next).clone()
            };
            assert_eq!(next.changed_since(before), compared.changed_since(before));
        }
        all.push(Arc::clone(&next));
        last = next;
    }
    assert!(all.len() > 3);
}
