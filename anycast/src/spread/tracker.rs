//! The tracker: changes and sightings go in, reports come out; no socket, no clock.
//!
//! For each prefix the newest change counts. A vantage is *wrong* while it does not show that change; how long it
//! has been wrong decides whether the route is astray there. The delay of a vantage is that of its last turn: one
//! that turns back, as in path hunting, is counted anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use steer_topology::{Community, Prefix};

use super::Vantage;
use super::report::{Outcome, Report, Stray, StrayKind, Summary};
use crate::monitor::{Heard, MonitorEvent};

/// Prefixes that are followed; changes and sightings of more are ignored and counted.
pub const MAX_PREFIXES: usize = 4_096;

/// Vantages that are listened to; more are ignored and counted.
pub const MAX_VANTAGES: usize = 64;

/// Reports that are kept.
const HISTORY: usize = 256;

/// What a tracker has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A route that is wrong for so long is astray, and a change is judged.
    pub grace: Duration,
    /// Only a route with this community is ours; another one for the same prefix is another site's.
    pub tag: Option<Community>,
}

impl Default for Settings {
    fn default() -> Self {
        // Path hunting after a withdrawal takes up to some minutes with the MRAI of 30 s that many still have.
        let grace = Duration::from_secs(180);
        Self { grace, tag: None }
    }
}

/// A change that we made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of which prefix.
    pub prefix: Prefix,
    /// It is announced; false: withdrawn.
    pub announced: bool,
    /// The snapshot that decided so.
    pub snapshot: u64,
    /// When it was sent.
    pub at: Timestamp,
}

/// What the tracker has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Output {
    /// A change has spread, or its time is over.
    Spread(Report),
    /// A route is astray.
    Astray(Stray),
    /// It is not any more.
    Settled(Stray),
}

/// Follows the prefixes of one speaker, or of several that announce the same.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    vantages: BTreeMap<Vantage, Presence>,
    tracks: BTreeMap<Prefix, Track>,
    reports: VecDeque<Report>,
    outputs: VecDeque<Output>,
    ignored: u64,
}

/// A vantage that tells us something.
#[derive(Debug)]
struct Presence {
    /// Connections of it; two where it dials and is dialled.
    connections: u32,
}

/// One prefix.
#[derive(Debug, Default)]
struct Track {
    /// Who has it, or had it; since when.
    seen: BTreeMap<Vantage, Sighting>,
    newest: Option<Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    present: bool,
    at: Timestamp,
}

/// The newest change of a prefix.
#[derive(Debug)]
struct Watched {
    change: Change,
    /// Its report is out.
    reported: bool,
    already: BTreeSet<Vantage>,
    reached: BTreeMap<Vantage, Duration>,
    wrong: BTreeMap<Vantage, Wrong>,
}

/// A vantage that does not show the change.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    since: Timestamp,
    /// It could see the change, so it is part of the report.
    counted: bool,
    /// It was told of as astray.
    astray: bool,
}

impl Tracker {
    /// A tracker that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            vantages: BTreeMap::new(),
            tracks: BTreeMap::new(),
            reports: VecDeque::new(),
            outputs: VecDeque::new(),
            ignored: 0,
        }
    }

    /// The next thing to say.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Everything at this moment.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            vantages: self.vantages.keys().copied().collect(),
            reports: self.reports.iter().cloned().collect(),
            strays: self.strays().collect(),
            ignored: self.ignored,
        }
    }

    /// What is astray now.
    pub fn strays(&self) -> impl Iterator<Item = Stray> + '_ {
        let watched = self.tracks.values().filter_map(|track| track.newest.as_ref());
        watched.flat_map(|watched| {
            let astray = watched.wrong.iter().filter(|(_, wrong)| wrong.astray);
            astray.map(|(vantage, wrong)| watched.stray(*vantage, wrong.since))
        })
    }

    /// How many vantages tell us something.
    #[must_use]
    pub fn vantages(&self) -> usize {
        self.vantages.len()
    }

    /// We made a change.
    pub fn change(&mut self, change: Change) {
        self.begin(change, false);
    }

    /// What stood before we looked: nothing is timed, but what is astray is told.
    pub fn baseline(&mut self, change: Change) {
        self.begin(change, true);
    }

    /// A monitor heard something.
    pub fn hear(&mut self, event: &MonitorEvent) {
        let (vantage, at) = (Vantage::from(event.from), event.at);
        match &event.heard {
            Heard::SessionUp => self.vantage_up(vantage, at),
            Heard::SessionDown { .. } => self.vantage_down(vantage, at),
            Heard::Announced {
                prefix, attributes, ..
            } => {
                let ours = |tag| attributes.communities.contains(&tag);
                let present = self.settings.tag.is_none_or(ours);
                self.sighting(vantage, *prefix, present, at);
            }
            // A session that is lost tells nothing of what the vantage has.
            Heard::Withdrawn { lost: true, .. } => {}
            Heard::Withdrawn { prefix, lost: false } => self.sighting(vantage, *prefix, false, at),
        }
    }

    /// A vantage begins to tell.
    pub fn vantage_up(&mut self, vantage: Vantage, at: Timestamp) {
        if !self.vantages.contains_key(&vantage) {
            if self.vantages.len() == MAX_VANTAGES {
                self.ignored += 1;
                return;
            }
            for watched in self.tracks.values_mut().filter_map(|track| track.newest.as_mut()) {
                // It may have it: its table is still to come. It did not see the change itself.
                if watched.change.announced {
                    watched.wrong.insert(vantage, Wrong::new(at, false));
                }
            }
        }
        let presence = self.vantages.entry(vantage);
        presence.or_insert(Presence { connections: 0 }).connections += 1;
    }

    /// A vantage tells no more.
    pub fn vantage_down(&mut self, vantage: Vantage, at: Timestamp) {
        let Some(presence) = self.vantages.get_mut(&vantage) else {
            return;
        };
        presence.connections -= 1;
        if presence.connections > 0 {
            return;
        }
        self.vantages.remove(&vantage);
        let mut complete = Vec::new();
        for (prefix, track) in &mut self.tracks {
            track.seen.remove(&vantage);
            let Some(watched) = &mut track.newest else {
                continue;
            };
            watched.already.remove(&vantage);
            let wrong = watched.wrong.remove(&vantage);
            if wrong.is_some_and(|wrong| wrong.astray) {
                self.outputs
                    .push_back(Output::Settled(watched.stray(vantage, at)));
            }
            if wrong.is_some_and(|wrong| wrong.counted) && watched.is_complete() {
                complete.push(*prefix);
            }
        }
        for prefix in complete {
            self.report(prefix, Outcome::Complete);
        }
        // A prefix that nobody speaks of any more takes no room.
        self.tracks
            .retain(|_, track| track.newest.is_some() || !track.seen.is_empty());
    }

    /// A vantage has a prefix, or has it no more.
    pub fn sighting(&mut self, vantage: Vantage, prefix: Prefix, present: bool, at: Timestamp) {
        if !self.vantages.contains_key(&vantage) {
            self.ignored += 1;
            return;
        }
        let Some(track) = self.track(prefix) else { return };
        let seen = track.seen.get(&vantage);
        if seen.map_or(!present, |seen| seen.present == present) {
            return; // other attributes, or a withdrawal of what was never there
        }
        track.seen.insert(vantage, Sighting { present, at });
        let Some(watched) = &mut track.newest else { return };
        if present == watched.change.announced {
            self.on_right(vantage, prefix, at);
        } else {
            watched.turn_wrong(vantage, at);
        }
    }

    /// The time has come.
    pub fn on_deadline(&mut self, now: Timestamp) {
        let grace = self.settings.grace;
        let mut due = Vec::new();
        for (prefix, track) in &mut self.tracks {
            let Some(watched) = &mut track.newest else {
                continue;
            };
            if !watched.reported && since(watched.change.at, now) >= grace {
                due.push(*prefix);
            }
            let change = watched.change;
            for (vantage, wrong) in &mut watched.wrong {
                if !wrong.astray && since(wrong.since, now) >= grace {
                    wrong.astray = true;
                    let stray = stray(change, *vantage, wrong.since);
                    self.outputs.push_back(Output::Astray(stray));
                }
            }
        }
        for prefix in due {
            self.report(prefix, Outcome::Incomplete);
        }
    }

    /// When to call [`Tracker::on_deadline`] next, unless something is heard before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let watched = self.tracks.values().filter_map(|track| track.newest.as_ref());
        let pending = watched.flat_map(|watched| {
            let report = (!watched.reported).then_some(watched.change.at);
            let quiet = watched.wrong.values().filter(|wrong| !wrong.astray);
            report.into_iter().chain(quiet.map(|wrong| wrong.since))
        });
        let grace = SignedDuration::try_from(self.settings.grace).ok()?;
        pending.min()?.checked_add(grace).ok()
    }

    fn begin(&mut self, change: Change, baseline: bool) {
        let prefix = change.prefix;
        let before = self.tracks.get(&prefix).and_then(|track| track.newest.as_ref());
        if let Some(watched) = before {
            if watched.change.announced == change.announced && watched.change.at >= change.at {
                return; // known
            }
            if !watched.reported {
                self.report(prefix, Outcome::Superseded);
            }
            self.settle_all(prefix);
        }
        let vantages: Vec<Vantage> = self.vantages.keys().copied().collect();
        let Some(track) = self.track(prefix) else { return };
        let mut watched = Watched {
            change,
            reported: baseline,
            already: BTreeSet::new(),
            reached: BTreeMap::new(),
            wrong: BTreeMap::new(),
        };
        for vantage in vantages {
            let seen = track.seen.get(&vantage).copied();
            let present = seen.is_some_and(|seen| seen.present);
            match seen.filter(|seen| seen.at >= change.at) {
                _ if present != change.announced => {
                    let since = seen.map_or(change.at, |seen| seen.at.max(change.at));
                    watched.wrong.insert(vantage, Wrong::new(since, !baseline));
                }
                // It was seen before we were told of our own change.
                Some(seen) => drop(watched.reached.insert(vantage, since(change.at, seen.at))),
                None => drop(watched.already.insert(vantage)),
            }
        }
        let complete = watched.is_complete();
        track.newest = Some(watched);
        if complete {
            self.report(prefix, Outcome::Complete);
        }
    }

    /// A vantage shows the change.
    fn on_right(&mut self, vantage: Vantage, prefix: Prefix, at: Timestamp) {
        let newest = self
            .tracks
            .get_mut(&prefix)
            .and_then(|track| track.newest.as_mut());
        let Some(watched) = newest else { return };
        let Some(wrong) = watched.wrong.remove(&vantage) else {
            return;
        };
        if wrong.counted {
            watched.reached.insert(vantage, since(watched.change.at, at));
        }
        if wrong.astray {
            let stray = watched.stray(vantage, wrong.since);
            self.outputs.push_back(Output::Settled(stray));
        }
        if watched.is_complete() {
            self.report(prefix, Outcome::Complete);
        }
    }

    /// The change is history: nothing is astray by it any more.
    fn settle_all(&mut self, prefix: Prefix) {
        let newest = self
            .tracks
            .get_mut(&prefix)
            .and_then(|track| track.newest.as_mut());
        let Some(watched) = newest else { return };
        let change = watched.change;
        for (vantage, wrong) in std::mem::take(&mut watched.wrong) {
            if wrong.astray {
                let stray = stray(change, vantage, wrong.since);
                self.outputs.push_back(Output::Settled(stray));
            }
        }
    }

    fn report(&mut self, prefix: Prefix, outcome: Outcome) {
        let newest = self
            .tracks
            .get_mut(&prefix)
            .and_then(|track| track.newest.as_mut());
        let Some(watched) = newest.filter(|watched| !watched.reported) else {
            return;
        };
        watched.reported = true;
        let unreached = watched.wrong.iter().filter(|(_, wrong)| wrong.counted);
        let report = Report::new(
            watched.change,
            outcome,
            watched.already.len(),
            watched.reached.values().copied().collect(),
            unreached.map(|(vantage, _)| *vantage).collect(),
        );
        if self.reports.len() == HISTORY {
            self.reports.pop_front();
        }
        self.reports.push_back(report.clone());
        self.outputs.push_back(Output::Spread(report));
    }

    fn track(&mut self, prefix: Prefix) -> Option<&mut Track> {
        if !self.tracks.contains_key(&prefix) && self.tracks.len() == MAX_PREFIXES {
            self.ignored += 1;
            return None;
        }
        Some(self.tracks.entry(prefix).or_default())
    }
}

impl Watched {
    fn is_complete(&self) -> bool {
        !self.reported && self.wrong.values().all(|wrong| !wrong.counted)
    }

    fn turn_wrong(&mut self, vantage: Vantage, at: Timestamp) {
        if self.wrong.contains_key(&vantage) {
            return;
        }
        let saw = self.reached.remove(&vantage).is_some() | self.already.remove(&vantage);
        self.wrong.insert(vantage, Wrong::new(at, saw && !self.reported));
    }

    fn stray(&self, vantage: Vantage, since: Timestamp) -> Stray {
        stray(self.change, vantage, since)
    }
}

impl Wrong {
    fn new(since: Timestamp, counted: bool) -> Self {
        Self {
            since,
            counted,
            astray: false,
        }
    }
}

fn stray(change: Change, vantage: Vantage, since: Timestamp) -> Stray {
    let kind = if change.announced {
        StrayKind::Missing
    } else {
        StrayKind::Zombie
    };
    Stray {
        change,
        kind,
        vantage,
        since,
    }
}

/// Time that passed; clocks of two hosts may disagree by a little, and nothing comes before its cause.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
