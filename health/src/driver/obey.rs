//! The operator's wishes, carried out between two turns of the loop.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Driver, now};
use crate::load::Load;
use crate::operator::{Command, Drain, LoadOrder, Order, Refused, Target};
use crate::outcome::Outcome;
use crate::probe::Prober;
use crate::snapshot::Snapshot;

impl<P: Prober> Driver<P> {
    pub(super) fn obey(&mut self, command: Command) {
        // Whoever asked may have gone; what was wished is done all the same.
        match command {
            Command::Drain { order, answer } => drop(answer.send(self.drain(order))),
            Command::Undrain {
                target,
                author,
                answer,
            } => drop(answer.send(self.undrain(&target, &author))),
            Command::Load { order, answer } => drop(answer.send(self.load(order))),
            Command::Report {
                target,
                outcome,
                answer,
            } => drop(answer.send(self.report(&target, &outcome))),
        }
    }

    fn drain(&mut self, order: Order) -> Result<(String, Drain, u64), Refused> {
        let (target, force) = (Target::find(&self.fleet, &order.target)?, order.force);
        let at = Timestamp::now();
        let next = self.judge.drain(order.drain(target, at), force, now(), at)?;
        let stands = self.judge.drains().iter().find(|drain| drain.target == target);
        let stands = stands.cloned().ok_or(Refused::Time)?;
        Ok((target.name(&self.fleet), stands, self.publish_wish(next)))
    }

    fn report(&mut self, target: &str, outcome: &Outcome) -> Result<(String, u64), Refused> {
        let target = Target::find(&self.fleet, target)?;
        let Target::Endpoint(endpoint) = target else {
            return Err(Refused::NotReported(target.name(&self.fleet)));
        };
        let now = now();
        let taken = self.prober.reported(endpoint, now);
        let Some(check) = self.checks[endpoint.0 as usize].as_mut().filter(|_| taken) else {
            return Err(Refused::NotReported(target.name(&self.fleet)));
        };
        check.on_report(outcome, now);
        metrics::counter!("steer_health_reports_total").increment(1);
        self.evidence.note(endpoint, outcome, Duration::ZERO);
        self.pools.observe(endpoint, outcome, Duration::ZERO);
        self.collect(endpoint, now);
        self.decide(now); // whoever reports is answered when it is published
        Ok((target.name(&self.fleet), self.cell.peek().number))
    }

    fn undrain(&mut self, target: &str, author: &str) -> Result<(String, u64), Refused> {
        let target = Target::find(&self.fleet, target)?;
        let next = self.judge.undrain(target, author, now(), Timestamp::now())?;
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
        let at = Timestamp::now();
        let load = per_second.map(|per_second| Load {
            per_second,
            at,
            until: at.checked_add(lease).unwrap_or(Timestamp::MAX),
            author,
        });
        let next = self.judge.on_load(id, load.clone(), now(), at);
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
