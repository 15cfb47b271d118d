//! Leases: who may have one, how long, and what their end does.

use steer_topology::Community;

use super::*;
use crate::announcer::{Granted, RequestError};

fn leased(on_expiry: &str) -> World {
    let lines = format!("lease = {{ max = \"60s\", on_expiry = \"{on_expiry}\" }}");
    World::new(one(&lines))
}

impl World {
    fn lease(&mut self, ttl: Duration, owner: &str) -> Result<Granted, RequestError> {
        let moment = self.moment();
        let granted = self.announcer.lease(prefix(P), ttl, owner, moment);
        self.collect();
        granted
    }

    fn renew(&mut self, ttl: Duration, owner: &str) -> Result<Granted, RequestError> {
        let moment = self.moment();
        let granted = self.announcer.renew(prefix(P), ttl, owner, moment);
        self.collect();
        granted
    }

    fn delete(&mut self, owner: &str) -> Result<(), RequestError> {
        let moment = self.moment();
        let deleted = self.announcer.delete(prefix(P), owner, moment);
        self.collect();
        deleted
    }
}

#[test]
fn a_leased_prefix_is_announced_while_the_lease_lives() {
    let mut world = leased("withdraw");
    assert!(!world.announced());
    assert_eq!(
        world.status().reason.as_deref(),
        Some("nobody holds a lease on it")
    );
    world.run(s(5));
    let granted = world.lease(s(30), "deploy").unwrap();
    assert_eq!((granted.ttl, granted.until), (s(30), world.moment().after(s(30))));
    world.run(s(20));
    world.renew(s(30), "deploy").unwrap();
    let lease = world.status().lease.unwrap();
    assert_eq!(
        (lease.owner.as_deref(), lease.until, lease.expired),
        (Some("deploy"), Some(world.moment().after(s(30))), false)
    );
    world.run(s(100));
    assert_eq!(world.flips(), [(s(5), true), (s(55), false)]);
    assert_eq!(world.status().lease.unwrap().owner, None);
}

#[test]
fn a_lease_is_capped_at_the_configured_time() {
    let mut world = leased("withdraw");
    assert_eq!(world.lease(s(3_600), "deploy").unwrap().ttl, s(60));
    assert_eq!(world.renew(s(61), "deploy").unwrap().ttl, s(60));
}

#[test]
fn deleting_a_lease_withdraws_at_once() {
    let mut world = leased("keep");
    world.lease(s(30), "deploy").unwrap();
    world.run(s(1));
    world.delete("deploy").unwrap();
    assert_eq!(world.flips(), [(s(0), true), (s(1), false)]);
}

#[test]
fn a_lease_has_one_owner_until_it_ends() {
    let mut world = leased("withdraw");
    world.lease(s(30), "a").unwrap();
    let taken = world.lease(s(30), "b").unwrap_err();
    assert!(matches!(&taken, RequestError::Taken { owner, .. } if owner == "a"));
    assert_eq!(
        taken.to_string(),
        "192.0.2.1/32 is leased to \"a\" until 2026-01-01T12:00:30Z; let that one delete it, or wait"
    );
    assert!(matches!(world.renew(s(30), "b"), Err(RequestError::Taken { .. })));
    assert!(matches!(world.delete("b"), Err(RequestError::Taken { .. })));
    world.lease(s(30), "a").unwrap();
    world.run(s(31));
    assert!(matches!(
        world.renew(s(30), "a"),
        Err(RequestError::NoLease { .. })
    ));
    world.lease(s(30), "b").unwrap();
    assert!(world.announced());
}

#[test]
fn what_cannot_be_leased_is_refused_with_the_reason() {
    let mut plain = World::new(one(""));
    assert_eq!(plain.lease(s(1), "a"), Err(RequestError::NotLeased(prefix(P))));
    let mut world = leased("withdraw");
    assert_eq!(world.lease(s(0), "a"), Err(RequestError::NoTime));
    assert_eq!(world.lease(s(1), ""), Err(RequestError::Owner { length: 0 }));
    let long = "x".repeat(129);
    assert_eq!(world.lease(s(1), &long), Err(RequestError::Owner { length: 129 }));
    let (other, moment) = (prefix("192.0.2.9/32"), world.moment());
    assert_eq!(
        world.announcer.lease(other, s(1), "a", moment),
        Err(RequestError::UnknownPrefix(other))
    );
    assert!(matches!(world.delete("a"), Err(RequestError::NoLease { .. })));
    assert!(!world.announced());
}

#[test]
fn an_expired_lease_may_leave_the_route_as_a_last_resort() {
    let mut world = leased("deprefer");
    world.lease(s(10), "deploy").unwrap();
    assert_eq!(world.decision(P).policy.communities, []);
    world.run(s(20));
    assert!(world.announced());
    assert_eq!(
        world.decision(P).policy.communities,
        [Community::GRACEFUL_SHUTDOWN]
    );
    let lease = world.status().lease.unwrap();
    assert_eq!((lease.owner.as_deref(), lease.expired), (Some("deploy"), true));
    world.renew(s(10), "deploy").unwrap();
    assert_eq!(
        world.decision(P).policy.communities,
        [],
        "a renewal takes it back"
    );
    world.run(s(20));
    world.lease(s(10), "other").unwrap();
    assert_eq!(
        world.status().lease.unwrap().owner.as_deref(),
        Some("other"),
        "anyone may take it over"
    );
    world.run(s(20));
    world.delete("other").unwrap();
    assert!(!world.announced());
    assert_eq!(world.flips(), [(s(0), true), (s(60), false)]);
}

#[test]
fn an_expired_lease_may_leave_the_route_as_it_is_and_that_is_told() {
    let mut world = leased("keep");
    world.lease(s(10), "deploy").unwrap();
    let before = world.decision(P).clone();
    world.run(s(1_000));
    assert_eq!(*world.decision(P), before);
    let expired = |(at, what): &&(Duration, What)| {
        *at == s(10) && matches!(what, What::LeaseExpired { owner, .. } if owner == "deploy")
    };
    assert_eq!(world.told.iter().filter(expired).count(), 1);
    world.delete("deploy").unwrap();
    assert!(!world.announced());
}

#[test]
fn a_lease_does_not_outweigh_the_conditions() {
    let mut world = World::new(one("while_up = \"pool:web@local\"\nlease = { max = \"60s\" }"));
    world.lease(s(30), "deploy").unwrap();
    world.run(s(1));
    world.fra(DOWN);
    world.run(s(1));
    world.fra(UP);
    assert_eq!(world.flips(), [(s(0), true), (s(1), false), (s(2), true)]);
}

#[test]
fn a_reload_that_takes_the_lease_out_announces_by_conditions_alone() {
    let mut world = leased("withdraw");
    assert!(!world.announced());
    world.fleet = one("");
    world.look();
    assert!(world.announced());
    assert_eq!(world.status().lease, None);
    world.fleet = one("lease = { max = \"60s\" }");
    world.look();
    assert!(!world.announced(), "and one that puts it in wants a lease");
}
