//! The operator's wishes, carried out between two turns of the loop.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Driver, moment};
use crate::gossip::Moment;
use crate::load::Load;
use crate::operator::{Adopted, Command, LoadOrder, Order, Refused, Target, Wish};
use crate::outcome::Outcome;
use crate::probe::{Prober, Reporter};
use crate::snapshot::Snapshot;
use crate::store::{Standing, StoredWish, WishKind, Wishes};

impl<P: Prober> Driver<P> {
    pub(super) fn obey(&mut self, command: Command) {
        // Whoever asked may have gone; what was wished is done all the same.
        match command {
            Command::Wish { order, answer } => drop(answer.send(self.wish(order))),
            Command::TakeBack {
                kind,
                target,
                author,
                answer,
            } => drop(answer.send(self.take_back(kind, &target, &author))),
            Command::Weigh { order, answer } => drop(answer.send(self.weigh(order))),
            Command::Adopt { wishes, answer } => drop(answer.send(self.adopt(&wishes))),
            Command::Load { order, answer } => drop(answer.send(self.load(order))),
            Command::ClearFlaps { target, answer } => drop(answer.send(self.clear_flaps(&target))),
            Command::Report {
                target,
                by,
                outcome,
                answer,
            } => drop(answer.send(self.report(&target, by, &outcome))),
        }
    }

    fn wish(&mut self, order: Order) -> Result<(StoredWish, u64), Refused> {
        let (target, force) = (Target::find(&self.fleet, &order.target)?, order.force);
        let Moment { now, at } = moment();
        let mut wish = order.wish(target, at);
        let next = match &wish {
            Wish::Drain(drain) => self.checks.judge_mut().drain(drain.clone(), force, now, at)?,
            Wish::Force(forced) => self.checks.judge_mut().force(forced.clone(), force, now, at)?,
        };
        self.renew(&mut wish);
        Ok((wish.stored(&self.fleet), self.publish_wish(next)))
    }

    fn weigh(&mut self, order: Order) -> Result<StoredWish, Refused> {
        let (target, force) = (Target::find(&self.fleet, &order.target)?, order.force);
        let Moment { now, at } = moment();
        let mut wish = order.wish(target, at);
        match &wish {
            Wish::Drain(drain) => self.checks.judge_mut().weigh_drain(drain, force, now, at)?,
            Wish::Force(forced) => self.checks.judge_mut().weigh_force(forced, force, now, at)?,
        }
        self.renew(&mut wish);
        Ok(wish.stored(&self.fleet))
    }

    /// A drain that stands keeps its beginning.
    fn renew(&self, wish: &mut Wish) {
        if let Wish::Drain(drain) = wish
            && let Some(stands) = self
                .checks
                .judge()
                .drains()
                .iter()
                .find(|one| one.target == drain.target)
        {
            drain.since = stands.since;
        }
    }

    fn adopt(&mut self, wishes: &Wishes) -> Adopted {
        let Moment { now, at } = moment();
        let Standing {
            drains,
            forces,
            orphans,
        } = Standing::of(wishes, &self.fleet, at);
        let next = self.checks.judge_mut().adopt(drains, forces, now, at);
        Adopted {
            snapshot: self.publish_wish(next),
            orphans,
        }
    }

    fn clear_flaps(&mut self, target: &str) -> Result<(String, u64), Refused> {
        let target = Target::find(&self.fleet, target)?;
        let Target::Endpoint(endpoint) = target else {
            return Err(Refused::NoEndpoint(target.name(&self.fleet)));
        };
        let Moment { now, at } = moment();
        let next = self.checks.judge_mut().clear_flaps(endpoint, now, at);
        Ok((target.name(&self.fleet), self.publish_wish(next)))
    }

    fn report(&mut self, target: &str, by: Reporter, outcome: &Outcome) -> Result<(String, u64), Refused> {
        let target = Target::find(&self.fleet, target)?;
        let Target::Endpoint(endpoint) = target else {
            return Err(Refused::NotReported(target.name(&self.fleet)));
        };
        let when = moment();
        let taken = self.prober.reported(endpoint, by, when.now);
        if !(taken && self.checks.on_report(endpoint, outcome, when)) {
            return Err(Refused::NotReported(target.name(&self.fleet)));
        }
        metrics::counter!("steer_health_reports_total").increment(1);
        self.evidence.note(endpoint, outcome, Duration::ZERO);
        self.tell_wires(when.now);
        self.decide(when); // whoever reports is answered when it is published
        Ok((target.name(&self.fleet), self.cell.peek().number))
    }

    fn take_back(&mut self, kind: WishKind, target: &str, author: &str) -> Result<(String, u64), Refused> {
        let target = Target::find(&self.fleet, target)?;
        let Moment { now, at } = moment();
        let next = match kind {
            WishKind::Drain => self.checks.judge_mut().undrain(target, author, now, at)?,
            WishKind::Force => self.checks.judge_mut().unforce(target, author, now, at)?,
        };
        Ok((target.name(&self.fleet), self.publish_wish(next)))
    }

    fn load(&mut self, order: LoadOrder) -> Result<(String, Option<Load>), Refused> {
        let LoadOrder {
            site,
            per_second,
            lease,
            author,
        } = order;
        let Some(id) = self.fleet.site_named(&site) else {
            let names = self.fleet.sites.iter().map(|site| site.name.as_str());
            let known = match names.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "the fleet declares none".to_owned(),
                known => format!("the sites are {known}"),
            };
            return Err(Refused::NoSite { site, known });
        };
        let Moment { now, at } = moment();
        let load = per_second.map(|per_second| Load {
            per_second,
            at,
            until: at.checked_add(lease).unwrap_or(Timestamp::MAX),
            author,
        });
        let next = self.checks.judge_mut().on_load(id, load.clone(), now, at);
        self.publish_wish(next);
        Ok((self.fleet.site(id).name.clone(), load))
    }

    /// Publishes what came of a wish, if anything did, and returns the number of the snapshot that carries it.
    fn publish_wish(&mut self, next: Option<Arc<Snapshot>>) -> u64 {
        match next {
            Some(next) => self.publish(next),
            None => self.cell.peek().number,
        }
    }
}
