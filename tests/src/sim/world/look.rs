//! Once a second: what is announced, answered and drained, and whether all sites agree.

use std::sync::Arc;
use std::time::Duration;

use steer_health::gossip::SiteName;
use steer_health::{Drain, Snapshot, Target, Verdict};
use steer_topology::{EndpointId, Fleet};

use super::{AGREE_WITHIN, Event, Manner, Process, Site, World};
use crate::sim::watch::routes::Now;
use crate::sim::watch::{Broken, Rule, names};

/// What stands so long after they agreed is to stand.
const STEADY: Duration = Duration::from_secs(10);

/// Answers follow a snapshot within this.
const COMPILE_WITHIN: Duration = Duration::from_millis(500);

impl World {
    /// Every second: what has no moment of its own.
    pub(super) fn look(&mut self) {
        self.push(self.now + Duration::from_secs(1), Event::Look);
        for number in 0..self.sites.len() {
            if !self.sites[number].paused {
                self.look_at(number);
            }
        }
        self.look_together();
        match self.agreed() {
            Ok(()) => {
                let since = *self.agreed_since.get_or_insert(self.now);
                if let Some(healed) = self.healed.filter(|_| self.now - since >= STEADY) {
                    let took = since.saturating_sub(healed);
                    self.say(format_args!(
                        "all sites agree since {took:?} after the last fault ended"
                    ));
                    self.counts.agreed_in.push(took);
                    (self.healed, self.calm) = (None, true);
                }
            }
            Err((site, how)) => {
                self.agreed_since = None;
                let is_late = self.healed.is_some_and(|healed| self.now - healed > AGREE_WITHIN);
                if is_late || self.calm {
                    let how = if self.calm {
                        format!("though nothing is wrong any more: {how}")
                    } else {
                        format!("{AGREE_WITHIN:?} after the last fault ended: {how}")
                    };
                    self.check(site, Err(Rule::Agreement.broken(how)));
                }
            }
        }
    }

    /// What the sites of each pool do together, where nothing keeps them from hearing of each other.
    fn look_together(&mut self) {
        let is_whole = self.network.is_whole() && self.sites.iter().all(|site| self.hears_all(site));
        let snapshot = |site: &Site| {
            site.process
                .as_ref()
                .map(|process| (site.id, Arc::clone(&process.snapshot)))
        };
        let all: Vec<_> = self.sites.iter().filter_map(snapshot).collect();
        let all: Vec<_> = all.iter().map(|(site, snapshot)| (*site, &**snapshot)).collect();
        let is_settled = all.iter().all(|(_, one)| one.settled && one.drains.is_empty());
        let result = self
            .together
            .look((is_whole && is_settled).then_some(&all), self.now);
        self.check(0, result);
    }

    fn hears_all(&self, site: &Site) -> bool {
        let is_known = |process: &Process, other: &Site| {
            let name = SiteName::new(other.name);
            name.is_some_and(|name| process.council.gossip.is_up(name))
        };
        let knows_all = |process: &Process| self.sites.iter().all(|other| is_known(process, other));
        !site.paused && site.skew.is_zero() && site.process.as_ref().is_some_and(knows_all)
    }

    pub(super) fn look_at(&mut self, number: usize) {
        let (when, now) = (self.moment(number), self.now);
        let site = &mut self.sites[number];
        let Some(process) = &site.process else { return };
        let snapshot = &process.snapshot;
        let age = now - process.began;
        let routes = site
            .routes
            .check(&process.announcer, snapshot, site.id, Now { now, age, when });
        let sessions = site.sessions.check(process.announcer.wanted());
        // Tables may be on their way for a moment.
        let is_fresh = process.tables.snapshot_number() == snapshot.number;
        let is_late = now - site.published > COMPILE_WITHIN;
        let names = if is_fresh || is_late {
            names::check(&process.tables, snapshot, &mut self.random)
        } else {
            Ok(())
        };
        let kept = still_drained(site);
        for result in [routes, sessions, names, kept] {
            self.check(number, result);
        }
    }

    /// Whether every site runs and says what is true of every endpoint.
    pub(super) fn agreed(&self) -> Result<(), (usize, String)> {
        for (number, site) in self.sites.iter().enumerate() {
            let Some(process) = &site.process else {
                return Err((number, "it does not run".to_owned()));
            };
            let snapshot = &process.snapshot;
            if !snapshot.settled {
                return Err((number, "its first round is not over".to_owned()));
            }
            let stranger = |other: &&Site| {
                let name = SiteName::new(other.name);
                name.is_some_and(|name| !process.council.gossip.is_up(name))
            };
            if let Some(other) = self.sites.iter().find(stranger) {
                return Err((number, format!("it does not know that {} is there", other.name)));
            }
            for id in snapshot.fleet.endpoint_ids() {
                let (says, is) = (snapshot.endpoint(id).verdict, self.truth(&snapshot.fleet, id));
                if says != is {
                    let (says, is) = (says.as_str(), is.as_str());
                    return Err((number, format!("endpoint {} is {is}, and it says {says}", id.0)));
                }
            }
        }
        Ok(())
    }

    pub(super) fn truth(&self, fleet: &Fleet, id: EndpointId) -> Verdict {
        match self.manners.get(&fleet.endpoint(id).address) {
            Some(Manner::Answers) => Verdict::Up,
            Some(Manner::Refuses | Manner::Hangs | Manner::Slow(_) | Manner::Flaky(_)) | None => {
                Verdict::Down
            }
        }
    }
}

pub(super) fn names_of_drains(snapshot: &Snapshot) -> Vec<String> {
    let name = |drain: &Drain| drain.target.name(&snapshot.fleet);
    snapshot.drains.iter().map(name).collect()
}

/// What operators wished stands, as long as its target is in the file.
fn still_drained(site: &mut Site) -> Result<(), Broken> {
    let Some(process) = &site.process else {
        return Ok(());
    };
    let snapshot = &process.snapshot;
    let stands = names_of_drains(snapshot);
    let has_target = |target: &str| Target::find(&snapshot.fleet, target).is_ok();
    site.wished.retain(|target, _| has_target(target));
    match site.wished.keys().find(|target| !stands.contains(target)) {
        Some(target) => Err(Rule::Kept.broken(format!("the drain of {target} is gone"))),
        None => Ok(()),
    }
}
