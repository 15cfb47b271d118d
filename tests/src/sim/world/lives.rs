//! How processes begin, end, stand still and reload.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::{Event, World};
use crate::sim::draw::PEERS;
use crate::sim::process::{Process, Start, for_announcer};
use crate::sim::watch::Rule;
use crate::sim::watch::guard::{Because, GuardWatch};
use crate::sim::watch::routes::RoutesWatch;

/// Peers hold sessions so long without a word.
const HOLD: Duration = Duration::from_secs(9);

impl World {
    /// A process starts, unless its store cannot be read: then somebody tries again.
    pub(super) fn start(&mut self, number: usize) {
        let variant = self.sites[number].variant.clone();
        if self.sites[number].process.is_some() {
            return;
        }
        if self.sites[number].store_is_lost {
            self.push(self.now + Duration::from_secs(1), Event::Start(number));
            return;
        }
        let Some(loaded) = self.load(&variant) else { return };
        let when = self.moment(number);
        let site = &mut self.sites[number];
        site.incarnation += 1;
        let start = Start {
            local: site.id,
            incarnation: site.incarnation,
            loaded,
            kept: &site.kept,
            when,
            now: self.now,
        };
        site.process = Process::start(start, &mut self.random);
        site.guard = GuardWatch::default();
        site.routes = RoutesWatch::default();
        if let Some(process) = &site.process {
            site.routes.observe(&process.snapshot, site.id, self.now);
        }
        let stand = site
            .kept
            .values()
            .filter(|kept| kept.until.is_none_or(|until| until > when.at));
        site.wished = stand.map(|kept| (kept.target.clone(), kept.until)).collect();
        let name = site.name;
        for peer in 0..PEERS {
            let at = self.now + Duration::from_millis(self.random.random_range(50..2_000));
            self.push(at, Event::SessionUp { site: number, peer });
        }
        self.say(format_args!("{name} starts"));
        self.refresh_paths();
        self.turn(number);
    }

    /// The process of a site is gone without a word, or says farewell.
    pub(in crate::sim) fn stop(&mut self, number: usize, in_order: bool) {
        let when = self.moment(number);
        let Some(mut process) = self.sites[number].process.take() else {
            return;
        };
        self.sites[number].wake = None;
        self.sites[number].deferred.clear();
        self.sites[number].paused = false;
        self.together.ends(self.sites[number].id);
        if in_order {
            process.announcer.stop(for_announcer(when));
            let changed = process.announcer.take_changed();
            let broken = self.sites[number]
                .sessions
                .reconcile(process.announcer.wanted(), &changed);
            self.check(number, broken);
            let left = self.sites[number].sessions.held();
            if left > 0 {
                let how = format!("{left} routes are left at a peer after an orderly stop");
                self.check(number, Err(Rule::Routes.broken(how)));
            }
            process.council.gossip.leave(when);
            while let Some(action) = process.council.gossip.poll_action() {
                self.act(number, action);
            }
        }
        self.sites[number].sessions.all_down(); // the kernel closes the connections
        let (site, now) = (number, self.now);
        self.records.forget(site, now);
        self.refresh_paths();
    }

    /// The process stands still: nothing of it runs.
    pub(in crate::sim) fn pause(&mut self, number: usize, time: Duration) {
        let site = &mut self.sites[number];
        if site.process.is_none() || site.paused {
            return;
        }
        site.paused = true;
        let incarnation = site.incarnation;
        self.records.stand_by(number, self.now);
        self.push(self.now + time, Event::Resume(number));
        self.push(
            self.now + HOLD,
            Event::HoldOver {
                site: number,
                incarnation,
            },
        );
        self.refresh_paths();
    }

    /// It goes on, and finds what came meanwhile: answers first, as the loop reads them.
    pub(super) fn resume(&mut self, number: usize) {
        if !std::mem::take(&mut self.sites[number].paused) {
            return;
        }
        let deferred = std::mem::take(&mut self.sites[number].deferred);
        let is_answer = |event: &Event| matches!(event, Event::Outcome { .. });
        let (answers, rest): (Vec<_>, Vec<_>) = deferred.into_iter().partition(is_answer);
        for answer in answers {
            if let Event::Outcome {
                site,
                incarnation,
                round,
                job,
                outcome,
                took,
            } = answer
            {
                self.hear(site, (incarnation, round), job, &outcome, took);
            }
        }
        for event in rest {
            if !matches!(event, Event::Wake(_)) {
                self.push(self.now, event);
            }
        }
        (self.sites[number].wake, self.sites[number].published) = (Some(self.now), self.now);
        self.push(self.now, Event::Wake(number));
        for peer in self.sites[number].sessions.down() {
            let at = self.now + Duration::from_millis(self.random.random_range(500..3_000));
            self.push(at, Event::SessionUp { site: number, peer });
        }
        let name = self.sites[number].name;
        self.say(format_args!("{name} goes on"));
        self.refresh_paths();
    }

    pub(super) fn reload(&mut self, number: usize) {
        let variant = self.sites[number].variant.clone();
        let Some(loaded) = self.load(&variant) else {
            return;
        };
        let when = self.moment(number);
        let Some(process) = self.sites[number].process.take() else {
            return;
        };
        if Arc::ptr_eq(&process.loaded.fleet, &loaded.fleet) {
            self.sites[number].process = Some(process);
            return;
        }
        let name = self.sites[number].name;
        let variant = format!("{:?}", self.sites[number].variant);
        self.say(format_args!("{name} reloads: {variant}"));
        let (process, snapshot) = process.reload(loaded, when, &mut self.random);
        self.records.reload(number, |key| process.looks_at(key), self.now);
        self.sites[number].process = Some(process);
        self.publish(number, &snapshot, Because::Checks);
        self.turn(number);
    }
}
