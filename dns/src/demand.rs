//! What the clients of each site ask for, for `overflow`. No clock: a snapshot says when it is.
//!
//! A site that gives clients away gets less than its own clients ask for, and those that take them get more. So what is
//! counted at the sites is not what steers, but what follows from it: the demand, of which the shares make what is
//! counted. Let `d` be the demand and `x` the shares, then site `s` should get `e(s) = sum of d(h) x(h, s)`. Where a
//! count `m` is off by more than the band, each demand is corrected by what became of its clients, `d(h) *= sum of
//! x(h, s) m(s) / e(s)` (Richardson 1972, Lucy 1974). That keeps the sum of all counts, and ends where `m = e`.
//!
//! Against swinging: within the band nothing changes; after each change of the shares no count is looked at until
//! resolvers have followed (`settle`); all sites are corrected together or none; and a site begins to give clients away
//! above `enter` and ends below `leave`.
//!
//! Against falling one after the other: what a lost site's clients ask for is kept while it is lost, and goes to the
//! others by what they have free below `enter`, and below their capacity only where that is not enough. As long as all
//! together have room, none is sent more than it can serve.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use steer_health::Snapshot;
use steer_topology::{EndpointId, Filter, Fleet, OverflowPolicy, SiteId};

use crate::filter::{Room, Site, shares_among};

/// What is known of the demand, and since when its shares stand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Demand {
    /// Whether some chain has `overflow`; else nothing is followed.
    is_asked_for: bool,
    /// By site.
    figures: Box<[Figure]>,
    /// Counts of before say something of older shares.
    settled_at: Timestamp,
}

/// Of one site.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figure {
    /// Its endpoints that take new clients.
    serving: u32,
    room: Room,
    /// It gives clients away until its load is below `leave`.
    sheds: bool,
}

/// By what figures `overflow` steers the clients of a site; requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DemandView {
    /// What its own clients ask for.
    pub load: u64,
    /// What it keeps of that, where others have room for the rest.
    pub keeps: u64,
    /// What it takes of others; absent: whatever comes.
    pub takes: Option<u64>,
    /// Whether `load` follows from what is counted, and is not as written.
    pub counted: bool,
    /// Counts of before say nothing, since they are of older shares.
    pub settled_at: Timestamp,
}

/// Whether some chain asks.
fn is_asked_for(fleet: &Fleet) -> bool {
    fleet
        .steers
        .iter()
        .any(|steer| steer.chain.contains(&Filter::Overflow))
}

impl Demand {
    /// As it is written, and as far as it is counted already.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let first = Self::written(snapshot);
        match first.is_asked_for {
            true => first.looked_at(snapshot).unwrap_or(first),
            false => first,
        }
    }

    /// After a reload. What is known of a site is known of the one by its name: what is counted now came by the shares
    /// of before, and says nothing without them.
    pub(crate) fn renewed(&self, before: &Fleet, snapshot: &Snapshot) -> Self {
        let mut next = Self::written(snapshot);
        if !(self.is_asked_for && next.is_asked_for) {
            return Self::new(snapshot);
        }
        let known: HashMap<&str, &Figure> = before
            .sites
            .iter()
            .map(|site| site.name.as_str())
            .zip(&self.figures)
            .collect();
        for (figure, site) in next.figures.iter_mut().zip(&snapshot.fleet.sites) {
            if let Some(old) = known.get(site.name.as_str()).filter(|old| old.room.is_counted) {
                let capacity = figure.room.capacity;
                figure.room = Room { capacity, ..old.room };
                figure.sheds = old.sheds;
            }
        }
        next.share_out(snapshot);
        let names = |fleet: &Fleet| {
            fleet
                .sites
                .iter()
                .map(|site| site.name.clone())
                .collect::<Vec<_>>()
        };
        let is_same = names(before) == names(&snapshot.fleet) && !next.shares_differ(self);
        next.settled_at = if is_same {
            self.settled_at
        } else {
            settled_at(snapshot)
        };
        next
    }

    /// As it is written.
    fn written(snapshot: &Snapshot) -> Self {
        let fleet = &snapshot.fleet;
        let mut figures: Box<[Figure]> = fleet
            .sites
            .iter()
            .map(|site| Figure {
                serving: 0,
                room: Room::written(site.capacity, site.load.unwrap_or(0)),
                sheds: false,
            })
            .collect();
        // Where nobody asks, nothing is counted.
        let is_asked_for = is_asked_for(fleet);
        let counted = fleet.endpoint_ids().filter(|_| is_asked_for);
        for endpoint in counted.filter(|id| takes(snapshot, *id)) {
            if let Some(figure) = figure_of(&mut figures, fleet.endpoint(endpoint).site) {
                figure.serving += 1;
            }
        }
        Self {
            is_asked_for,
            figures,
            settled_at: Timestamp::MIN,
        }
    }

    /// What a later snapshot of the same fleet makes of it; `None`: the same shares as before. `changed`: the endpoints
    /// that differ from `before`.
    pub(crate) fn next(
        &self,
        before: &Snapshot,
        snapshot: &Snapshot,
        changed: &[EndpointId],
    ) -> Option<Self> {
        if !self.is_asked_for {
            return None;
        }
        let mut next = self.clone();
        for id in changed {
            let site = snapshot.fleet.endpoint(*id).site;
            let Some(figure) = figure_of(&mut next.figures, site) else {
                continue;
            };
            match (takes(before, *id), takes(snapshot, *id)) {
                (false, true) => figure.serving += 1,
                (true, false) => figure.serving = figure.serving.saturating_sub(1),
                (true, true) | (false, false) => {}
            }
        }
        let stands = |of: &Self| {
            of.figures
                .iter()
                .map(|figure| figure.serving > 0)
                .collect::<Vec<_>>()
        };
        let is_other = stands(self) != stands(&next);
        if is_other {
            next.settled_at = settled_at(snapshot);
            next.share_out(snapshot);
        }
        match next.looked_at(snapshot) {
            Some(later) => Some(later),
            None if next == *self => None,
            None => Some(next),
        }
    }

    /// Whether the shares are others than those of `before`.
    pub(crate) fn shares_differ(&self, before: &Self) -> bool {
        let rooms = |of: &Self| of.figures.iter().map(|figure| figure.room).collect::<Vec<_>>();
        rooms(self) != rooms(before)
    }

    /// What a site has to give and to take.
    pub(crate) fn room(&self, site: SiteId) -> Room {
        let figure = self.figures.get(usize::from(site.0));
        figure.map_or(Room::default(), |figure| figure.room)
    }

    pub(crate) fn view(&self, site: SiteId) -> DemandView {
        let Room {
            capacity: _,
            load,
            keeps,
            takes,
            is_counted,
        } = self.room(site);
        DemandView {
            load,
            keeps,
            takes,
            counted: is_counted,
            settled_at: self.settled_at,
        }
    }

    /// Takes in what was counted; `None`: it says nothing new.
    fn looked_at(&self, snapshot: &Snapshot) -> Option<Self> {
        let mut next = self.clone();
        next.follow_leases(snapshot);
        if next.correct(snapshot) || next.figures != self.figures {
            next.share_out(snapshot);
        }
        if next.figures == self.figures {
            return None;
        }
        if next.shares_differ(self) {
            next.settled_at = settled_at(snapshot);
        }
        Some(next)
    }

    /// A site in service that nobody counts any more is as it is written. One that is lost keeps its figure: its
    /// clients are still there.
    fn follow_leases(&mut self, snapshot: &Snapshot) {
        // One that is just back has had no time to be counted.
        if snapshot.at < self.settled_at {
            return;
        }
        for ((index, figure), site) in (0..).zip(&mut self.figures).zip(&snapshot.fleet.sites) {
            if figure.room.is_counted && figure.serving > 0 && snapshot.load(SiteId(index)).is_none() {
                figure.room = Room::written(site.capacity, site.load.unwrap_or(0));
                figure.sheds = false;
            }
        }
    }

    /// Corrects the demand by what was counted, where that is off and of these shares.
    fn correct(&mut self, snapshot: &Snapshot) -> bool {
        let policy = &snapshot.fleet.overflow;
        let is_counted = |(index, figure): (u16, &Figure)| {
            let load = snapshot.load(SiteId(index)).filter(|_| figure.serving > 0)?;
            Some((load.per_second, load.at))
        };
        let counts: Vec<Option<(u64, Timestamp)>> = (0..).zip(&self.figures).map(is_counted).collect();
        let is_early = |(_, at): &(u64, Timestamp)| *at < self.settled_at;
        if counts.iter().all(Option::is_none) || counts.iter().flatten().any(is_early) {
            return false;
        }
        let shares = self.shares();
        let first = self.take_first(&counts, &shares);
        let expected = self.expected(&shares);
        let all = || self.figures.iter().zip(&counts).zip(&expected);
        let is_news = all().any(|((figure, count), expected)| {
            count.is_some_and(|(count, _)| is_off(policy, figure, count as f64, *expected))
        });
        if !is_news {
            return first;
        }
        let ratios: Vec<f64> = all()
            .map(|((_, count), expected)| match count {
                Some((count, _)) if *expected > 0.0 => *count as f64 / expected,
                Some(_) | None => 1.0,
            })
            .collect();
        for (figure, row) in self.figures.iter_mut().zip(&shares) {
            let factor: f64 = row.iter().zip(&ratios).map(|(share, ratio)| share * ratio).sum();
            // What is nothing could never grow again.
            figure.room.load = (figure.room.load as f64 * factor).round().max(1.0) as u64;
        }
        true
    }

    /// Of a site that is counted for the first time all is its own but what was expected to come from others.
    fn take_first(&mut self, counts: &[Option<(u64, Timestamp)>], shares: &[Vec<f64>]) -> bool {
        let expected = self.expected(shares);
        let mut any = false;
        for (index, (figure, count)) in self.figures.iter_mut().zip(counts).enumerate() {
            let Some((count, _)) = count.filter(|_| !figure.room.is_counted) else {
                continue;
            };
            let at = |list: &[f64]| list.get(index).copied().unwrap_or(0.0);
            let own = figure.room.load as f64 * shares.get(index).map_or(0.0, |row| at(row));
            let others = at(&expected) - own;
            figure.room.load = (count as f64 - others).round().max(1.0) as u64;
            figure.room.is_counted = true;
            any = true;
        }
        any
    }

    /// What each site should get by these shares.
    fn expected(&self, shares: &[Vec<f64>]) -> Vec<f64> {
        let part = |(figure, row): (&Figure, &Vec<f64>), to: usize| {
            figure.room.load as f64 * row.get(to).copied().unwrap_or(0.0)
        };
        let at = |to| self.figures.iter().zip(shares).map(|one| part(one, to)).sum();
        (0..self.figures.len()).map(at).collect()
    }

    /// By home, then by site: which part of its clients goes where.
    fn shares(&self) -> Vec<Vec<f64>> {
        let standing: Vec<Site> = (0..)
            .zip(&self.figures)
            .filter(|(_, figure)| figure.serving > 0)
            .map(|(index, figure)| Site {
                site: Some(SiteId(index)),
                room: figure.room,
            })
            .collect();
        let of_home = |home: u16| {
            let mut row = vec![0.0; self.figures.len()];
            let shares = shares_among(&standing, Some(Some(SiteId(home))));
            let total: u128 = shares.iter().map(|(_, share)| share).sum();
            for (site, share) in shares {
                let place = site.and_then(|site| row.get_mut(usize::from(site.0)));
                if let Some(cell) = place.filter(|_| total > 0) {
                    *cell = share as f64 / total as f64;
                }
            }
            row
        };
        (0..).take(self.figures.len()).map(of_home).collect()
    }

    /// Who gives how much away, and who takes how much.
    fn share_out(&mut self, snapshot: &Snapshot) {
        let policy = &snapshot.fleet.overflow;
        for figure in &mut self.figures {
            figure.sheds = figure.serving > 0 && sheds(policy, figure);
        }
        let standing = || self.figures.iter().filter(|figure| figure.serving > 0);
        let lost: u128 = self
            .figures
            .iter()
            .filter(|figure| figure.serving == 0)
            .map(load)
            .sum();
        let must: u128 = standing()
            .map(|figure| load(figure).saturating_sub(limit(figure, 100)))
            .sum();
        let below = |percent| -> u128 { standing().map(|figure| spare(figure, percent)).sum() };
        // Below `enter` a count within the band stays below the capacity too.
        let (percent, budget) = match below(policy.enter).checked_sub(lost + must) {
            Some(left) => (policy.enter, left),
            None => (100, 0),
        };
        let may = |figure: &Figure| -> u128 {
            let kept = load(figure).min(limit(figure, 100));
            if figure.sheds {
                kept.saturating_sub(limit(figure, policy.leave))
            } else {
                0
            }
        };
        let all_may: u128 = standing().map(may).sum();
        let part = all_may.min(budget);
        for figure in &mut self.figures {
            // A fleet where nobody counts is as it was written.
            if !figure.room.is_counted {
                continue;
            }
            let sheds = (may(figure) * part).checked_div(all_may).unwrap_or(0);
            let kept = load(figure).min(limit(figure, 100)) - sheds;
            figure.room.keeps = u64::try_from(kept).unwrap_or(u64::MAX);
            figure.room.takes = match figure.room.capacity {
                Some(_) if figure.room.keeps < figure.room.load => Some(0),
                Some(_) => Some(u64::try_from(spare(figure, percent)).unwrap_or(u64::MAX)),
                None => None,
            };
        }
    }
}

fn takes(snapshot: &Snapshot, id: EndpointId) -> bool {
    snapshot.endpoint(id).service.takes_new_clients()
}

fn figure_of(figures: &mut [Figure], site: Option<SiteId>) -> Option<&mut Figure> {
    figures.get_mut(usize::from(site?.0))
}

fn settled_at(snapshot: &Snapshot) -> Timestamp {
    let settle = snapshot.fleet.overflow.settle;
    snapshot.at.checked_add(settle).unwrap_or(Timestamp::MAX)
}

/// Whether a count says more than noise: it is off by more than the band, or beyond what the site can serve.
fn is_off(policy: &OverflowPolicy, figure: &Figure, count: f64, expected: f64) -> bool {
    let whole = figure
        .room
        .capacity
        .map_or(expected.max(1.0), |capacity| capacity as f64);
    let beyond = figure
        .room
        .capacity
        .is_some_and(|capacity| count > capacity as f64);
    (count - expected).abs() > whole * f64::from(policy.band) / 100.0 || (beyond && count > expected.ceil())
}

/// With hysteresis. A site that nobody counts gives away what is above its capacity, and is no case for that.
fn sheds(policy: &OverflowPolicy, figure: &Figure) -> bool {
    let border = if figure.sheds { policy.leave } else { policy.enter };
    figure.room.is_counted && load(figure) > limit(figure, border)
}

fn load(figure: &Figure) -> u128 {
    figure.room.load.into()
}

/// So many per cent of what it can serve.
fn limit(figure: &Figure, percent: u8) -> u128 {
    match figure.room.capacity {
        Some(capacity) => u128::from(capacity) * u128::from(percent) / 100,
        None => u64::MAX.into(),
    }
}

/// What a site could take below a limit; one that gives away takes nothing.
fn spare(figure: &Figure, percent: u8) -> u128 {
    if figure.sheds {
        0
    } else {
        limit(figure, percent).saturating_sub(load(figure))
    }
}

#[cfg(test)]
mod tests;
