use std::collections::BTreeSet;
use std::num::NonZeroU16;

use steer_topology::{CheckId, CheckKind, SiteId};

use super::*;
use crate::gossip::desk::Desk;
use crate::judge::Judge;
use crate::testing::FleetBuilder;

#[test]
fn checks_that_were_not_let_run_stand_by_nothing_newer_until_they_have_looked_again() {
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .sites(2)
        .pool(&[Some(0), Some(1)])
        .build();
    let start = Instant::now();
    let (desk, at) = (Desk::default(), jiff::Timestamp::now());
    let peers = Peers::new(&fleet, SiteId(0), desk.clone());
    let judge = Judge::new(Arc::clone(&fleet), start, at);
    let mut checks = Checks::new(judge, Some(peers), 1, 0, start);
    let mut turn = |now| {
        let when = Moment { now, at };
        checks.on_deadline(when);
        let _ = checks.decide(when);
        checks.next_deadline().unwrap()
    };
    let mut due = turn(start);
    while due < start + Duration::from_secs(3) {
        due = turn(due);
    }
    assert_eq!(desk.standing.as_of(due), due);
    let back = due + Duration::from_secs(40);
    assert_eq!(
        desk.standing.as_of(back),
        due + LATE_MAX,
        "before anybody has noticed"
    );
    let mut next = turn(back);
    assert_eq!(desk.standing.as_of(back), due);
    let round = fleet.checks[0].interval + fleet.checks[0].timeout;
    while next < back + round {
        assert_eq!(desk.standing.as_of(next), due);
        next = turn(next);
    }
    turn(next);
    assert_eq!(desk.standing.as_of(next), next, "all have looked again");
}

#[test]
fn what_others_look_at_is_not_probed_here_but_what_decides_alone_is() {
    let at = |number: u8| ([192, 0, 2, number], 443).into();
    let endpoints: Vec<_> = (0..8)
        .map(|number| (Some(u16::from(number)), at(number)))
        .collect();
    let built = FleetBuilder::new(CheckKind::Tcp)
        .sites(8)
        .check(|check| check.vantage_points = NonZeroU16::new(3))
        .pool_at(&endpoints, Some(CheckId(0)))
        .pool(&[None])
        .build();
    let mut fleet = Arc::unwrap_or_clone(built);
    for (site, number) in fleet.sites.iter_mut().zip(1..) {
        site.gossip = Some(([10, 0, 0, number], 7946).into());
    }
    let fleet = Arc::new(fleet);
    let (start, at) = (Instant::now(), jiff::Timestamp::now());
    let mut probed_by = vec![0; fleet.endpoints.len()];
    for local in (0..8).map(SiteId) {
        let probed = |peers| {
            let judge = Judge::new(Arc::clone(&fleet), start, at);
            let mut checks = Checks::new(judge, peers, 1, 0, start);
            let now = start + fleet.checks[0].interval;
            checks.on_deadline(Moment { now, at });
            let jobs = checks.take_jobs().into_iter();
            jobs.map(|job| job.endpoint).collect::<BTreeSet<_>>()
        };
        let jobs = probed(Some(Peers::new(&fleet, local, Desk::default())));
        assert!(jobs.contains(&EndpointId(u32::from(local.0))), "its own");
        jobs.into_iter().for_each(|id| probed_by[id.0 as usize] += 1);
        let alone = probed(None);
        assert_eq!(
            alone.len(),
            fleet.endpoints.len(),
            "who hears nobody sees for itself"
        );
    }
    assert_eq!(probed_by, [3, 3, 3, 3, 3, 3, 3, 3, 8]);
}
