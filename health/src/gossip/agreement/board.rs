//! What each site says of each endpoint, as it counts at the moment.
//!
//! The store is asked anew about a site only when that has said something, has stood by what it said, or something of it
//! expires; and the votes on an endpoint are counted anew only where one of them is another one now. In a fleet of 200 sites
//! with 2,000 endpoints there are 400,000 of them, and a second brings a few dozen.

use std::time::Instant;

use rustc_hash::FxHashMap;
use steer_topology::{Continent, EndpointId, Fleet, SiteId};

use crate::gossip::isolation::all_fail;
use crate::gossip::observation::Key;
use crate::gossip::quorum::{self, Ballot, Count};
use crate::gossip::site::SiteName;
use crate::gossip::store::Store;
use crate::snapshot::Verdict;

use super::Credit;

/// What the sites say. A site has a row, an endpoint a place in it.
#[derive(Debug)]
pub(super) struct Board {
    /// Of each key, the endpoints that have it: one, unless a pool names it twice.
    places: FxHashMap<Key, Vec<u32>>,
    /// Where each endpoint stands.
    sites: Vec<Option<SiteId>>,
    /// The reference targets.
    targets: Vec<EndpointId>,
    rows: Vec<Row>,
    /// The credit that was counted with.
    credit: Vec<Credit>,
    /// Whether we heard the others then.
    hears: bool,
    /// By endpoint: whether the votes are to be counted anew.
    stale: Vec<bool>,
    tallies: Vec<Standing>,
}

/// What one site says.
#[derive(Debug)]
struct Row {
    site: SiteId,
    name: SiteName,
    region: Option<Continent>,
    /// Of what the store has; `None`: nothing.
    revision: Option<u64>,
    /// When something of it expires.
    expires: Option<Instant>,
    /// By endpoint; `None`: it has no verdict that counts.
    says: Vec<Option<Says>>,
    /// All reference targets are down for it, and something else too.
    is_isolated: bool,
    /// It sees most of the other sites down, or is isolated.
    is_suspect: bool,
}

/// A verdict that is none but these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Up,
    Down,
}

/// What the votes on an endpoint come to, and what of it is our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) count: Count,
    /// Our own vote, where it counts.
    pub(super) own: Option<Verdict>,
}

impl Board {
    /// For the sites that vote, each with the continent that it stands for.
    pub(super) fn new(
        fleet: &Fleet,
        keys: &[Key],
        targets: &[EndpointId],
        voters: impl Iterator<Item = (SiteId, SiteName, Option<Continent>)>,
    ) -> Self {
        let mut places: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for (key, number) in keys.iter().zip(0..) {
            places.entry(*key).or_default().push(number);
        }
        let row = |(site, name, region)| Row {
            site,
            name,
            region,
            revision: None,
            expires: None,
            says: vec![None; keys.len()],
            is_isolated: false,
            is_suspect: false,
        };
        let nobody = Standing {
            count: quorum::weigh([], 0),
            own: None,
        };
        Self {
            places,
            sites: fleet.endpoint_ids().map(|id| fleet.endpoint(id).site).collect(),
            targets: targets.to_vec(),
            rows: voters.map(row).collect(),
            credit: Vec::new(),
            hears: false,
            stale: vec![true; keys.len()],
            tallies: vec![nobody; keys.len()],
        }
    }

    /// Takes what the store has by now.
    pub(super) fn read(&mut self, store: &Store, now: Instant) {
        for row in &mut self.rows {
            let revision = store.revision(row.name);
            let is_over = row.expires.is_some_and(|at| now >= at);
            if revision == row.revision && !is_over {
                continue;
            }
            row.revision = revision;
            let says = row.read(store, &self.places, now);
            for ((was, is), stale) in row.says.iter().zip(&says).zip(&mut self.stale) {
                *stale |= was != is;
            }
            row.says = says;
            row.is_isolated = row.looks_isolated(&self.targets);
            row.is_suspect = row.is_isolated || quorum::is_suspect(row.others(&self.sites));
        }
    }

    /// By voter: whether it is suspect, by what was read.
    pub(super) fn are_suspect(&self) -> impl Iterator<Item = bool> + '_ {
        self.rows.iter().map(|row| row.is_suspect)
    }

    /// The voters that are.
    pub(super) fn suspects(&self) -> impl Iterator<Item = SiteName> + '_ {
        let suspects = self.rows.iter().filter(|row| row.is_suspect);
        suspects.map(|row| row.name)
    }

    /// Those of them that are isolated.
    pub(super) fn isolated(&self) -> impl Iterator<Item = SiteName> + '_ {
        let isolated = self.rows.iter().filter(|row| row.is_isolated);
        isolated.map(|row| row.name)
    }

    /// Who is believed how much from now on. What is said counts as long as its site is there, and of others while we hear any.
    pub(super) fn believe(&mut self, credit: &[Credit], hears: bool) {
        if self.credit != credit || self.hears != hears {
            self.credit = credit.to_vec();
            self.hears = hears;
            self.stale.fill(true);
        }
    }

    /// What the votes on an endpoint come to.
    pub(super) fn count(&mut self, endpoint: usize, me: SiteName, share: u8) -> Standing {
        if std::mem::take(&mut self.stale[endpoint]) {
            self.tallies[endpoint] = self.count_anew(endpoint, me, share);
        }
        self.tallies[endpoint]
    }

    /// What another site than we says of an endpoint, if that counts: up or down.
    pub(super) fn word(&self, row: usize, endpoint: usize) -> Option<Verdict> {
        let is_up = self.credit.get(row).is_some_and(|credit| credit.is_up);
        let says = self.rows[row].says[endpoint].filter(|_| is_up && self.hears)?;
        Some(says.verdict())
    }

    fn count_anew(&self, endpoint: usize, me: SiteName, share: u8) -> Standing {
        let mut own = None;
        let ballot = |(row, credit): (&Row, &Credit)| {
            let says = row.says[endpoint]?;
            if !credit.is_up || (row.name != me && !self.hears) {
                return None;
            }
            if row.name == me {
                own = Some(says.verdict());
            }
            let is_down = says == Says::Down;
            Some(Ballot {
                region: row.region,
                is_down,
                suspect: credit.is_suspect || (credit.is_dazed && is_down),
            })
        };
        let ballots = self.rows.iter().zip(&self.credit).filter_map(ballot);
        let count = quorum::weigh(ballots, share);
        Standing { count, own }
    }
}

impl Row {
    /// What the site says, by endpoint, as far as it counts; and notes when something of it does not any more.
    fn read(&mut self, store: &Store, places: &FxHashMap<Key, Vec<u32>>, now: Instant) -> Vec<Option<Says>> {
        let mut says = vec![None; self.says.len()];
        self.expires = None;
        for (key, verdict, until) in store.said(self.name) {
            let (Some(endpoints), Some(verdict)) = (places.get(&key), Says::of(verdict)) else {
                continue;
            };
            if until.is_some_and(|until| now >= until) {
                continue;
            }
            self.expires = [self.expires, until].into_iter().flatten().min();
            for endpoint in endpoints {
                says[*endpoint as usize] = Some(verdict);
            }
        }
        says
    }

    /// For each other site of which it has a verdict: whether all that it knows there is down.
    fn others(&self, sites: &[Option<SiteId>]) -> Vec<bool> {
        let mut others: FxHashMap<SiteId, bool> = FxHashMap::default();
        for (says, site) in self.says.iter().zip(sites) {
            let (Some(says), Some(site)) = (says, site) else {
                continue;
            };
            if *site != self.site {
                *others.entry(*site).or_insert(true) &= *says == Says::Down;
            }
        }
        others.into_values().collect()
    }

    /// All reference targets are down for it, and something else too.
    fn looks_isolated(&self, targets: &[EndpointId]) -> bool {
        let of_targets = targets
            .iter()
            .map(|id| self.says[id.0 as usize].map(Says::verdict));
        let down = || self.says.iter().filter(|says| **says == Some(Says::Down)).count();
        all_fail(of_targets) && down() > targets.len()
    }
}

impl Says {
    fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Up => Some(Self::Up),
            Verdict::Down => Some(Self::Down),
            Verdict::Unknown => None,
        }
    }

    fn verdict(self) -> Verdict {
        match self {
            Self::Up => Verdict::Up,
            Self::Down => Verdict::Down,
        }
    }
}

impl Standing {
    /// Whether another site than we has a word that counts.
    pub(super) fn others_speak(&self) -> bool {
        self.count.counted > usize::from(self.own.is_some())
    }
}
