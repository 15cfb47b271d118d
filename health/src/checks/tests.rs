use steer_topology::{CheckKind, SiteId};

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
