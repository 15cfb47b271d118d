//! What a process does in a turn, what it publishes, and what its probes find.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use steer_health::checks::Job;
use steer_health::outcome::{Answer, Failure};
use steer_health::store::StoredDrain;
use steer_health::{Outcome, Snapshot};
use steer_topology::CheckKind;

use super::look::names_of_drains;
use super::{Event, Manner, Site, World};
use crate::sim::draw::{GOOD_PATH, Loaded};
use crate::sim::network::Traffic;
use crate::sim::watch::Rule;
use crate::sim::watch::evidence::unknown_is_not_down;
use crate::sim::watch::guard::Because;

/// Longest time until tables are made of a snapshot.
const COMPILE_MAX_US: u64 = 30_000;

impl World {
    /// A probe ended: the check is told, and nothing is decided yet.
    pub(super) fn hear(
        &mut self,
        site: usize,
        (incarnation, round): (u64, u64),
        job: Job,
        outcome: &Outcome,
        took: Duration,
    ) {
        let when = self.moment(site);
        let Some(process) = self
            .process(site, incarnation)
            .filter(|process| process.round == round)
        else {
            return;
        };
        let heard = process.checks.on_outcome(job, outcome, took, false, when);
        let key = process.loaded.keys.key(job.endpoint);
        if heard.counts {
            self.records
                .outcome(site, key, matches!(outcome, Outcome::Success(_)));
        }
    }

    /// One turn of the loops of a process, and what comes of it.
    pub(in crate::sim) fn turn(&mut self, site: usize) {
        let (when, now) = (self.moment(site), self.now);
        let Some(process) = &mut self.sites[site].process else {
            return;
        };
        let out = process.turn(when, now);
        for (key, verdict) in out.said {
            let Loaded { fleet, keys, .. } = self.loaded_at(site);
            let id = keys.id(key);
            let check = id.and_then(|id| fleet.pool(fleet.endpoint(id).pool).check);
            if let Some(check) = check {
                let said = self.records.said(site, key, verdict, fleet.check(check), now);
                self.check(site, said);
            }
            if self.faults.is_small {
                let (name, id) = (self.sites[site].name, id.map_or(u32::MAX, |id| id.0));
                self.say(format_args!("{name} sees endpoint {id} {}", verdict.as_str()));
            }
        }
        for snapshot in &out.snapshots {
            self.publish(site, snapshot, Because::Checks);
        }
        for job in out.jobs {
            self.probe(site, job);
        }
        for action in out.actions {
            self.act(site, action);
        }
        if let Some(process) = &mut self.sites[site].process {
            process.announce(when);
        }
        self.announce(site);
        self.plan(site);
    }

    fn loaded_at(&self, site: usize) -> Loaded {
        let process = self.sites[site].process.as_ref();
        process
            .map_or(&self.loads[0].1, |process| &process.loaded)
            .clone()
    }

    /// Wakes the process when something is due.
    pub(super) fn plan(&mut self, number: usize) {
        let (when, now) = (self.moment(number), self.now);
        let site = &mut self.sites[number];
        let Some(process) = &mut site.process else { return };
        let at = now.saturating_add(process.due_in(when, now));
        if site.wake.is_none_or(|wake| at < wake) {
            site.wake = Some(at);
            self.push(at, Event::Wake(number));
        }
    }

    /// What is wanted goes to the peers.
    pub(super) fn announce(&mut self, number: usize) {
        let site = &mut self.sites[number];
        let Some(process) = &mut site.process else { return };
        let changed = process.announcer.take_changed();
        let told = process.told();
        let name = site.name;
        let broken = if changed.is_empty() {
            Ok(())
        } else {
            site.sessions.reconcile(process.announcer.wanted(), &changed)
        };
        for line in told {
            self.say(format_args!("{name}: {line}"));
        }
        self.check(number, broken);
    }

    /// A snapshot is out.
    pub(in crate::sim) fn publish(&mut self, number: usize, snapshot: &Arc<Snapshot>, because: Because) {
        let (when, now) = (self.moment(number), self.now);
        let site = &mut self.sites[number];
        let Some(process) = &mut site.process else { return };
        let before = Arc::clone(&process.snapshot);
        process.publish(snapshot, when);
        site.published = now;
        site.routes.observe(snapshot, site.id, now);
        self.counts.snapshots += 1;
        let (incarnation, is_reload) = (process.incarnation, !Arc::ptr_eq(&before.fleet, &snapshot.fleet));
        let in_turn = if snapshot.number == before.number + 1 {
            Ok(())
        } else {
            Err(Rule::Numbers.broken(format!("{} follows {}", snapshot.number, before.number)))
        };
        let guard = site.guard.step(&before, snapshot, because, now);
        self.together.step(site.id, &before, snapshot, now);
        self.counts.back = self.together.back;
        if !site.store_is_lost {
            keep(site, snapshot);
        }
        let stands: Vec<_> = names_of_drains(snapshot);
        site.wished
            .retain(|target, until| stands.contains(target) || until.is_none_or(|until| until > when.at));
        let unknown = unknown_is_not_down((!is_reload).then_some(&*before), snapshot);
        for result in [in_turn, guard, unknown] {
            self.check(number, result);
        }
        self.tell_snapshot(number, &before, snapshot);
        if is_reload {
            return; // its tables are made with it
        }
        let loaded = self.loaded_at(number);
        for id in snapshot.fleet.endpoint_ids() {
            let verdict = snapshot.endpoint(id).verdict;
            if before.endpoint(id).verdict != verdict {
                let late = if before.settled {
                    Duration::ZERO
                } else {
                    Duration::from_secs(30)
                };
                let seen = self.records.published(number, &loaded, id, verdict, (now, late));
                self.check(number, seen);
            }
        }
        let at = now + Duration::from_micros(self.random.random_range(500..COMPILE_MAX_US));
        let snapshot = Arc::clone(snapshot);
        self.push(
            at,
            Event::Compile {
                site: number,
                incarnation,
                snapshot,
            },
        );
    }

    pub(super) fn tell_snapshot(&mut self, number: usize, before: &Snapshot, after: &Snapshot) {
        let mut changed: Vec<String> = Vec::new();
        if before.settled != after.settled {
            changed.push("settled".to_owned());
        }
        for id in after.fleet.endpoint_ids() {
            let state = after.endpoint(id);
            let was = before.endpoints.get(id.0 as usize);
            if was.is_none_or(|was| (was.verdict, &was.service) != (state.verdict, &state.service)) {
                let (verdict, service) = (state.verdict.as_str(), state.service.as_str());
                changed.push(format!("{} {verdict} {service} ({})", id.0, state.cause));
            }
        }
        let name = self.sites[number].name;
        let shown = changed.iter().take(8).cloned().collect::<Vec<_>>().join("; ");
        let drains = after.drains.len();
        self.say(format_args!(
            "{name} publishes {}: {shown}{}{}",
            after.number,
            if changed.len() > 8 {
                format!("; and {} more", changed.len() - 8)
            } else {
                String::new()
            },
            if drains > 0 {
                format!("; {drains} drains")
            } else {
                String::new()
            }
        ));
    }

    pub(super) fn compile(&mut self, site: usize, incarnation: u64, snapshot: Arc<Snapshot>) {
        let Some(process) = self.process(site, incarnation) else {
            return;
        };
        // Only the newest matters, and a reload makes its own.
        if snapshot.number > process.tables.snapshot_number()
            && Arc::ptr_eq(&snapshot.fleet, &process.loaded.fleet)
        {
            process.tables = Arc::new(process.tables.next(snapshot));
        }
    }

    pub(super) fn probe(&mut self, site: usize, job: Job) {
        self.counts.probes += 1;
        let Some(process) = &self.sites[site].process else {
            return;
        };
        let (incarnation, round) = (process.incarnation, process.round);
        let fleet = Arc::clone(&process.loaded.fleet);
        let endpoint = fleet.endpoint(job.endpoint);
        let there = endpoint.site.map_or(site, |site| usize::from(site.0));
        let manner = self
            .manners
            .get(&endpoint.address)
            .copied()
            .unwrap_or(Manner::Refuses);
        let finds = fleet
            .pool(endpoint.pool)
            .check
            .is_none_or(|check| match &fleet.check(check).kind {
                CheckKind::Http(http) => http.path == GOOD_PATH,
                // No fleet that is drawn has one of these.
                CheckKind::Tcp
                | CheckKind::Tls(_)
                | CheckKind::Dns(_)
                | CheckKind::Grpc(_)
                | CheckKind::Icmp
                | CheckKind::Exec { .. }
                | CheckKind::External { .. }
                | CheckKind::Bfd { .. }
                | CheckKind::Load(_)
                | CheckKind::Calculated { .. } => true,
            });
        let (outcome, took) = self.ask(site, there, manner, finds, job.timeout);
        self.push(
            self.now + took,
            Event::Outcome {
                site,
                incarnation,
                round,
                job,
                outcome,
                took,
            },
        );
    }

    /// A connection, and a request on it: four ways.
    pub(super) fn ask(
        &mut self,
        site: usize,
        there: usize,
        manner: Manner,
        finds: bool,
        timeout: Duration,
    ) -> (Outcome, Duration) {
        let mut takes = Duration::ZERO;
        let mut ways = [(site, there), (there, site), (site, there), (there, site)].into_iter();
        let refused = |took| (Outcome::Failure(Failure::Refused), took);
        for (number, (from, to)) in (0..).zip(ways.by_ref()) {
            match self.network.arrives(from, to, Traffic::Probe, &mut self.random) {
                Some(delay) => takes += delay,
                None => return (Outcome::no_answer(timeout), timeout),
            }
            if number == 1 && manner == Manner::Refuses && takes < timeout {
                return refused(takes);
            }
        }
        let (outcome, more) = match manner {
            Manner::Refuses => return (Outcome::no_answer(timeout), timeout),
            Manner::Hangs => return (Outcome::no_answer(timeout), timeout),
            Manner::Flaky(of) if self.random.random_bool(of) => {
                (Outcome::Failure(Failure::Reset), Duration::ZERO)
            }
            Manner::Slow(time) => (status(finds), time),
            Manner::Answers | Manner::Flaky(_) => (status(finds), Duration::ZERO),
        };
        let takes = takes + more;
        if takes < timeout {
            (outcome, takes)
        } else {
            (Outcome::no_answer(timeout), timeout)
        }
    }
}

/// The store has what the snapshot has.
pub(in crate::sim) fn keep(site: &mut Site, snapshot: &Snapshot) {
    let kept = snapshot
        .drains
        .iter()
        .map(|drain| StoredDrain::of(drain, &snapshot.fleet));
    site.kept = kept.map(|drain| (drain.target.clone(), drain)).collect();
}

fn status(finds: bool) -> Outcome {
    if finds {
        Outcome::Success(Answer::Status(200))
    } else {
        Outcome::Failure(Failure::Status {
            got: 404,
            want: "200-299".to_owned(),
        })
    }
}
