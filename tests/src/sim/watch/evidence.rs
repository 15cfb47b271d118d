//! Who saw what: the outcomes of every probe, what each site's own check said, and who could hear whom.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use steer_health::gossip::observation::Key;
use steer_health::gossip::store::{BEAT_EVERY, beat_every, ttl};
use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{Check, DetectorRules, EndpointId, Fleet};

use super::{Broken, Rule};
use crate::sim::draw::Loaded;

/// The way of the last beat.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// Two sites that can reach each other for so long know each other's words, where each beats as often as it can.
const KNOWN_AFTER: Duration = Duration::from_secs(45);

/// What one site's own check of one endpoint has seen, and said.
#[derive(Debug, Clone)]
pub struct Own {
    /// The last outcomes, oldest first: whether each was a success.
    last: VecDeque<bool>,
    /// What it says.
    pub verdict: Verdict,
    /// Since when.
    since: Duration,
    /// When it last said so, for what it says no more or nobody is there to say.
    was_up: Option<Duration>,
    was_down: Option<Duration>,
}

/// The records of all sites.
#[derive(Debug)]
pub struct Records {
    /// By endpoint, and then by site.
    own: HashMap<Key, Vec<Own>>,
    sites: usize,
    /// By site: it runs, and is not stopped.
    pub awake: Vec<bool>,
    /// By pair: since when nothing keeps the two from hearing each other.
    pub clean_since: Vec<Vec<Option<Duration>>>,
}

impl Own {
    fn new() -> Self {
        Self {
            last: VecDeque::new(),
            verdict: Verdict::Unknown,
            since: Duration::ZERO,
            was_up: None,
            was_down: None,
        }
    }

    /// Outcomes at the end of which all were `success`.
    fn in_a_row(&self, success: bool) -> usize {
        self.last.iter().rev().take_while(|one| **one == success).count()
    }

    fn longest_run_up(&self) -> usize {
        let outcomes: Vec<_> = self.last.iter().copied().collect();
        let runs = outcomes.split(|success| !success).map(<[bool]>::len);
        runs.max().unwrap_or_default()
    }

    fn fails_a_window(&self, check: &Check) -> bool {
        check.detect.iter().any(|detector| match detector {
            DetectorRules::Window(rules) => {
                let size = usize::from(rules.size);
                let failures = self.last.iter().rev().take(size).filter(|one| !**one).count();
                failures * 100 > size * usize::from(100 - rules.min_success)
            }
            DetectorRules::Threshold | DetectorRules::Phi(_) => false,
        })
    }

    /// Whether what was seen bears out what is said.
    fn bears_out(&self, verdict: Verdict, check: &Check) -> bool {
        match verdict {
            Verdict::Down => {
                self.in_a_row(false) >= usize::from(check.fall.get())
                    || (self.in_a_row(false) > 0 && self.fails_a_window(check))
            }
            // One detector may have been convinced before the other.
            Verdict::Up => {
                let needed = match self.verdict {
                    Verdict::Down => usize::from(check.rise.get()),
                    Verdict::Unknown | Verdict::Up => 1,
                };
                self.in_a_row(true) > 0 && self.longest_run_up() >= needed
            }
            Verdict::Unknown => true,
        }
    }
}

/// Longest memory of outcomes.
const OUTCOMES: usize = 64;

impl Records {
    /// Nobody has seen anything.
    #[must_use]
    pub fn new(sites: usize) -> Self {
        Self {
            own: HashMap::new(),
            sites,
            awake: vec![false; sites],
            clean_since: vec![vec![None; sites]; sites],
        }
    }

    fn own_mut(&mut self, site: usize, key: Key) -> &mut Own {
        let sites = || vec![Own::new(); self.sites];
        &mut self.own.entry(key).or_insert_with(sites)[site]
    }

    fn of_site(&mut self, site: usize) -> impl Iterator<Item = (Key, &mut Own)> {
        self.own
            .iter_mut()
            .map(move |(key, sites)| (*key, &mut sites[site]))
    }

    fn seen(&self, site: usize, key: Key) -> Option<&Own> {
        self.own.get(&key).map(|sites| &sites[site])
    }

    /// A probe of a site ended, and the check counted it.
    pub fn outcome(&mut self, site: usize, key: Key, success: bool) {
        let own = self.own_mut(site, key);
        if own.last.len() == OUTCOMES {
            own.last.pop_front();
        }
        own.last.push_back(success);
    }

    /// A site's own check says something else.
    ///
    /// # Errors
    /// Nothing was seen that bears it out.
    pub fn said(
        &mut self,
        site: usize,
        key: Key,
        verdict: Verdict,
        check: &Check,
        now: Duration,
    ) -> Result<(), Broken> {
        let own = self.own_mut(site, key);
        if own.verdict == verdict {
            return Ok(());
        }
        if !own.bears_out(verdict, check) {
            return Err(Rule::Evidence.broken(format!(
                "the own check goes from {} to {} after {:?}",
                own.verdict.as_str(),
                verdict.as_str(),
                own.last
            )));
        }
        own.leaves(now);
        (own.verdict, own.since) = (verdict, now);
        Ok(())
    }

    /// The process of a site is gone; the next one knows nothing.
    pub fn forget(&mut self, site: usize, now: Duration) {
        self.of_site(site).for_each(|(_, own)| own.begins_anew(now));
    }

    /// A file names other endpoints, or other vantage points: what is not looked at any more is unknown.
    pub fn reload(&mut self, site: usize, looks_at: impl Fn(Key) -> bool, now: Duration) {
        let gone = self.of_site(site).filter(|(key, _)| !looks_at(*key));
        gone.for_each(|(_, own)| own.begins_anew(now));
    }

    /// It stops for a while, or goes on: what it said until now is what others may go by.
    pub fn stand_by(&mut self, site: usize, now: Duration) {
        self.of_site(site).for_each(|(_, own)| own.leaves(now));
    }

    /// What a site's own check says.
    #[must_use]
    pub fn own(&self, site: usize, key: Key) -> Verdict {
        self.seen(site, key).map_or(Verdict::Unknown, |own| own.verdict)
    }

    /// Whether somebody may go by a site's word for `verdict` that was said within `back`.
    fn vouches(&self, site: usize, key: Key, verdict: Verdict, now: Duration, back: Duration) -> bool {
        let Some(own) = self.seen(site, key) else {
            return false;
        };
        let was = match verdict {
            Verdict::Down => own.was_down,
            Verdict::Up => own.was_up,
            Verdict::Unknown => return true,
        };
        (own.verdict == verdict && self.awake[site]) || was.is_some_and(|was| was + back >= now)
    }

    /// Whether a site sees more than half of the others down, of two or more.
    fn is_suspect(&self, site: usize, loaded: &Loaded) -> bool {
        let fleet = &loaded.fleet;
        let mut others: BTreeMap<_, bool> = BTreeMap::new();
        for id in fleet.endpoint_ids() {
            let Some(other) = fleet
                .endpoint(id)
                .site
                .filter(|other| usize::from(other.0) != site)
            else {
                continue;
            };
            let is_down = match self.own(site, loaded.keys.key(id)) {
                Verdict::Down => true,
                Verdict::Up => false,
                Verdict::Unknown => continue,
            };
            *others.entry(other).or_insert(true) &= is_down;
        }
        let down = others.values().filter(|down| **down).count();
        others.len() >= 2 && down * 2 > others.len()
    }

    /// A word that its origin stood by is believed so long at most: its lifetime, and the way of the last beat.
    fn believed(&self) -> Duration {
        ttl(self.sites) + ON_ITS_WAY
    }

    /// Sites of a large fleet beat the less often.
    fn known_after(&self) -> Duration {
        KNOWN_AFTER.mul_f64(beat_every(self.sites).div_duration_f64(BEAT_EVERY))
    }

    /// Whether a site must know by now what some other says of an endpoint.
    fn hears_of(&self, site: usize, key: Key, now: Duration) -> Option<usize> {
        (0..self.sites).find(|other| {
            *other != site
                && self.has_long_known(*other, key, now)
                && self.clean_since[site][*other].is_some_and(|since| since + self.known_after() <= now)
        })
    }

    fn has_long_known(&self, site: usize, key: Key, now: Duration) -> bool {
        let own = self.seen(site, key);
        own.is_some_and(|own| own.verdict != Verdict::Unknown && own.since + self.believed() <= now)
    }

    /// Where those who see an endpoint down all stand on one continent: a site of another that has long seen it up, and
    /// is heard.
    fn another_continent(
        &self,
        site: usize,
        fleet: &Fleet,
        down: &[usize],
        key: Key,
        now: Duration,
    ) -> Option<usize> {
        let continent = |site: usize| fleet.sites.get(site)?.country_code()?.continent();
        let first = continent(*down.first()?);
        if down.iter().any(|other| continent(*other) != first) {
            return None;
        }
        let long = |other: &usize| {
            let own = self.seen(*other, key);
            own.is_some_and(|own| own.verdict == Verdict::Up && own.since + self.believed() <= now)
                && self.awake[*other]
        };
        let is_heard = |other: &usize| {
            *other == site
                || self.clean_since[site][*other].is_some_and(|since| since + self.known_after() <= now)
        };
        (0..self.sites).find(|other| continent(*other) != first && long(other) && is_heard(other))
    }

    /// A site publishes another verdict on an endpoint.
    ///
    /// # Errors
    /// Nobody saw what it says.
    pub fn published(
        &self,
        site: usize,
        loaded: &Loaded,
        id: EndpointId,
        verdict: Verdict,
        (now, late): (Duration, Duration),
    ) -> Result<(), Broken> {
        let (fleet, key) = (&*loaded.fleet, loaded.keys.key(id));
        let endpoint = fleet.endpoint(id);
        let is_own = endpoint.site.is_some_and(|own| usize::from(own.0) == site);
        let name = format!(
            "{} at {}",
            endpoint.address,
            endpoint.site.map_or("", |site| &fleet.site(site).name)
        );
        if is_own {
            let own = self.own(site, key);
            return if own == verdict {
                Ok(())
            } else {
                Err(Rule::Evidence.broken(format!(
                    "it says that {name}, its own, is {}; its own check says {}",
                    verdict.as_str(),
                    own.as_str()
                )))
            };
        }
        let back = self.believed() + late;
        let mut vouching = (0..self.sites).filter(|other| self.vouches(*other, key, verdict, now, back));
        // Of those who see it up one is enough.
        let vouching: Vec<_> = match verdict {
            Verdict::Unknown | Verdict::Up => vouching.next().into_iter().collect(),
            Verdict::Down => vouching.collect(),
        };
        match verdict {
            Verdict::Unknown => Ok(()),
            Verdict::Up if !vouching.is_empty() => Ok(()),
            Verdict::Up => {
                Err(Rule::Evidence.broken(format!("it says that {name} is up, and nobody sees that")))
            }
            Verdict::Down if vouching.len() >= 2 => match self.another_continent(site, fleet, &vouching, key, now) {
                None => Ok(()),
                Some(other) => Err(Rule::Evidence.broken(format!(
                    "it says that {name} is down, which one continent alone sees, and site {other} on another sees it up"
                ))),
            },
            Verdict::Down if !vouching.contains(&site) => Err(Rule::Evidence.broken(format!(
                "it says that {name} is down, and {} others see that",
                vouching.len()
            ))),
            Verdict::Down if !late.is_zero() => Ok(()), // it was decided before, and nobody knows when
            Verdict::Down if self.is_suspect(site, loaded) => Err(Rule::Evidence.broken(format!(
                "it alone says that {name} is down, and sees most of the others down"
            ))),
            Verdict::Down => match self.hears_of(site, key, now) {
                None => Ok(()),
                Some(other) => Err(Rule::Evidence.broken(format!(
                    "it alone says that {name} is down, and has heard from site {other} that it is not"
                ))),
            },
        }
    }
}

impl Own {
    fn begins_anew(&mut self, now: Duration) {
        self.leaves(now);
        (self.verdict, self.since) = (Verdict::Unknown, now);
        self.last.clear();
    }

    fn leaves(&mut self, now: Duration) {
        match self.verdict {
            Verdict::Up => self.was_up = Some(now),
            Verdict::Down => self.was_down = Some(now),
            Verdict::Unknown => {}
        }
    }
}

/// What a snapshot may do with what is unknown.
///
/// # Errors
/// It treats it as down.
pub fn unknown_is_not_down(before: Option<&Snapshot>, after: &Snapshot) -> Result<(), Broken> {
    for id in after.fleet.endpoint_ids() {
        let state = after.endpoint(id);
        let was = before.map(|before| before.endpoint(id));
        let may_be = match (&state.service, state.verdict) {
            (Service::In | Service::Drained, _) | (Service::Out | Service::Held { .. }, Verdict::Down) => {
                true
            }
            // It was down, and went out then.
            (Service::Out, Verdict::Unknown) => was.is_none_or(|was| was.service == Service::Out),
            (Service::Out, Verdict::Up) | (Service::Held { .. }, Verdict::Unknown | Verdict::Up) => false,
        };
        let is_early =
            !(after.settled || state.service.takes_new_clients() || state.service == Service::Drained);
        if !may_be || is_early {
            return Err(Rule::Unknown.broken(format!(
                "{} is {} and {}",
                after.fleet.endpoint(id).address,
                state.verdict.as_str(),
                state.service.as_str()
            )));
        }
    }
    Ok(())
}
