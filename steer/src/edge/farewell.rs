//! The drain of an edge, by where the routes to it stand. Sans-IO.
//!
//! Whoever is connected over a route that changes is cut off: the next site does not know the connection, and answers RST. Who goes
//! before that comes back here, as there is no other way yet. So the edge has clients go, and takes nobody new, in the moment before
//! each change of a route, and in the moment after it, in which routers find the other way: who is refused then has lost
//! nothing, and comes to the next site.
//!
//! ```text
//! on_drain = ["wait streams 10s", "withdraw"]
//! open ─ 9 s ─► closing: GOAWAY; ends with the last stream, or after 1 s ─► withdrawn ─ 1 s ─► leaving
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use steer_anycast::announcer::PrefixStatus;
use steer_health::{Snapshot, Target};
use steer_rpc::edge::Phase;
use steer_topology::{DrainStep, Fleet, Prefix, SiteId};

/// How long before and after the change of a route nobody new is taken: what calls need to end, and routers to find another way.
const AROUND: Duration = Duration::from_secs(1);

/// A drained route to the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    prefix: Prefix,
    /// The step it is on, from 1.
    step: usize,
    /// Nothing of the route has changed yet: it has only waited.
    is_untouched: bool,
    next_at: Option<Timestamp>,
}

/// What an edge does in a drain.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    /// By prefix.
    steps: Vec<(Prefix, usize)>,
    /// When one of them came.
    changed: Option<Instant>,
}

/// Whether a drain of the snapshot may concern the edge.
pub(super) fn is_drained(snapshot: &Snapshot, site: Option<SiteId>, listen: SocketAddr) -> bool {
    snapshot.drains.iter().any(|drain| match drain.target {
        Target::Site(drained) => Some(drained) == site,
        Target::Endpoint(id) => {
            let endpoint = snapshot.fleet.endpoint(id);
            let is_it = |at: SocketAddr| covers(listen.ip(), at.ip()) && at.port() == listen.port();
            endpoint.site == site && (is_it(endpoint.address) || is_it(endpoint.probe))
        }
    })
}

/// Whether who listens on `listen` is reached at `address`.
fn covers(listen: IpAddr, address: IpAddr) -> bool {
    listen.is_unspecified() || listen == address
}

/// The routes to the edge that step down.
pub(super) fn leaving(routes: &[PrefixStatus], fleet: &Fleet, listen: IpAddr) -> Vec<Leaving> {
    let leads = |prefix: Prefix| listen.is_unspecified() || prefix.contains(listen);
    let drained = routes
        .iter()
        .filter_map(|route| Some((route.prefix, route.drain.as_ref()?)));
    drained
        .filter(|(prefix, _)| leads(*prefix))
        .map(|(prefix, drain)| {
            let config = fleet.anycast.iter().find(|config| config.prefix == prefix);
            let so_far = config.and_then(|config| config.on_drain.get(..drain.step));
            Leaving {
                prefix,
                step: drain.step,
                is_untouched: so_far.is_some_and(|steps| !steps.is_empty() && steps.iter().all(waits)),
                next_at: drain.next_at,
            }
        })
        .collect()
}

fn waits(step: &DrainStep) -> bool {
    match step {
        DrainStep::Wait(_) | DrainStep::WaitDnsHorizon | DrainStep::WaitStreams(_) => true,
        DrainStep::GracefulShutdown | DrainStep::Prepend(_) | DrainStep::Med(_) | DrainStep::Withdraw => {
            false
        }
    }
}

impl Farewell {
    /// What the edge is to do; `drained`: a drain concerns it, whatever its routes do.
    pub(super) fn phase(&mut self, drained: bool, routes: &[Leaving], at: Timestamp, now: Instant) -> Phase {
        let touched = routes.iter().filter(|route| !route.is_untouched);
        let steps: Vec<_> = touched.map(|route| (route.prefix, route.step)).collect();
        if steps != self.steps {
            self.changed = (!steps.is_empty()).then_some(now);
            self.steps = steps;
        }
        let is_soon = |next: Timestamp| {
            let left = next.duration_since(at);
            left <= SignedDuration::try_from(AROUND).unwrap_or(SignedDuration::MAX)
        };
        let has_changed = self
            .changed
            .is_some_and(|then| now.saturating_duration_since(then) < AROUND);
        let changes_soon = routes.iter().any(|route| route.next_at.is_some_and(is_soon));
        match (has_changed || changes_soon, routes.is_empty()) {
            (true, _) => Phase::Closing,
            (false, true) if drained => Phase::Leaving,
            (false, true) => Phase::Open,
            (false, false) if self.steps.is_empty() => Phase::Open,
            (false, false) => Phase::Leaving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Phase = Phase::Open;
    const CLOSING: Phase = Phase::Closing;
    const LEAVING: Phase = Phase::Leaving;

    fn second(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    /// A route on a step, and when the next one comes.
    fn route(step: usize, is_untouched: bool, next: Option<i64>) -> Leaving {
        Leaving {
            prefix: "192.0.2.53/32".parse().unwrap(),
            step,
            is_untouched,
            next_at: next.map(second),
        }
    }

    /// Phases by second; no route: none leads to the edge.
    fn phases(rows: &[(u32, Option<Leaving>)]) -> Vec<Phase> {
        let (mut farewell, began) = (Farewell::default(), Instant::now());
        let mut phase = |(at, route): &(u32, Option<Leaving>)| {
            let now = began + Duration::from_secs((*at).into());
            farewell.phase(true, route.as_slice(), second((*at).into()), now)
        };
        rows.iter().map(&mut phase).collect()
    }

    #[test]
    fn who_could_only_come_back_stays_until_just_before_the_route_goes() {
        let waits = || Some(route(1, true, Some(10)));
        let gone = || Some(route(2, false, None));
        let rows = [
            (0, waits()),
            (8, waits()),
            (9, waits()),
            (10, gone()),
            (11, gone()),
        ];
        assert_eq!(phases(&rows), [OPEN, OPEN, CLOSING, CLOSING, LEAVING]);
    }

    #[test]
    fn a_route_that_is_withdrawn_at_once_closes_the_edge_at_once() {
        let gone = || Some(route(0, false, None));
        assert_eq!(phases(&[(0, gone()), (1, gone())]), [CLOSING, LEAVING]);
    }

    #[test]
    fn nobody_is_taken_around_each_change_and_who_comes_between_them_is_served() {
        // graceful-shutdown at once, withdrawn after 35 s.
        let worse = || Some(route(2, false, Some(35)));
        let gone = || Some(route(3, false, None));
        let rows = [
            (0, worse()),
            (1, worse()),
            (33, worse()),
            (34, worse()),
            (35, gone()),
            (36, gone()),
        ];
        assert_eq!(
            phases(&rows),
            [CLOSING, LEAVING, LEAVING, CLOSING, CLOSING, LEAVING]
        );
    }

    #[test]
    fn without_a_route_clients_are_told_to_go_and_served_meanwhile() {
        assert_eq!(phases(&[(0, None), (1, None)]), [LEAVING; 2]);
    }

    #[test]
    fn an_undrain_opens_and_the_next_drain_begins_anew() {
        let (mut farewell, now) = (Farewell::default(), Instant::now());
        let routes = [route(1, false, None)];
        let mut phase = |drained, routes: &[Leaving], now| farewell.phase(drained, routes, second(0), now);
        assert_eq!(phase(true, &routes, now), CLOSING);
        assert_eq!(phase(true, &routes, now + AROUND), LEAVING);
        assert_eq!(phase(false, &[], now + AROUND), OPEN);
        assert_eq!(phase(true, &routes, now + AROUND * 2), CLOSING);
    }
}
