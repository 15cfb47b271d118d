//! From the words of all sites to the verdict on each endpoint that stands elsewhere.
//!
//! An endpoint of our own site is not asked about here: whether we may announce it is for our own check, which is next to
//! it, and waits for nobody. Nor is one without a check.
//!
//! Fail static: where nothing is decided, what was so far stays. Where for `own_after` no other site has a word on an
//! endpoint (the gossip is gone, or the others do not know it), our own check decides, unless we see most of
//! the others down: then it is more likely us.
//!
//! A site that was suspect sees again one endpoint after the other, the slower its checks the later. Until all of them have had
//! their time ([`sight`]) what it still says is down is believed no more than before.

mod board;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steer_topology::{Continent, EndpointId, Fleet, SiteId};

use super::core::Gossip;
use super::isolation::references;
use super::observation::Key;
use super::quorum::{self, Ruling, Tally, Void, Vote};
use super::site::SiteName;
use super::vantage::{Lookout, Lookouts};
use crate::judge::Change;
use crate::snapshot::Verdict;

use board::{Board, Standing};

/// How the sites agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Per cent of the weight that must say down; more than this is down.
    pub share: u8,
    /// How long nobody else must have had a word until our own decides.
    pub own_after: Duration,
}

/// The verdicts that the sites come to. Sans-IO.
#[derive(Debug)]
pub struct Agreement {
    fleet: Arc<Fleet>,
    policy: Policy,
    voters: Vec<Voter>,
    /// By endpoint; `None`: not ours to agree on.
    subjects: Vec<Option<Subject>>,
    board: Board,
    /// How long a site needs to see everything again.
    sight: Duration,
}

#[derive(Debug)]
struct Voter {
    id: SiteId,
    site: SiteName,
    region: Option<Continent>,
    /// It is or was suspect: until then it may not see everything again.
    dazed_until: Option<Instant>,
}

#[derive(Debug)]
struct Subject {
    key: Key,
    stands: Verdict,
    /// The voter that is its own site, which decides there whether it serves.
    home: Option<usize>,
    /// What that site last said, where it was up or down.
    at_home: Verdict,
    /// Since when no other site has a word, and we are no suspect.
    alone_since: Option<Instant>,
    /// Who looks at it; `None`: all.
    lookouts: Option<Vec<SiteId>>,
}

impl Agreement {
    /// Agreement on the endpoints of `fleet`, for the site `local`.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, local: SiteId, policy: Policy) -> Self {
        let lookouts = Lookouts::of(&fleet);
        let voter = |lookout: &Lookout| Voter {
            id: lookout.id,
            site: lookout.name,
            region: lookout.continent,
            dazed_until: None,
        };
        let voters: Vec<_> = lookouts.sites.iter().map(voter).collect();
        let keys: Vec<_> = fleet.endpoint_ids().map(|id| Key::of(&fleet, id)).collect();
        let subject = |(id, key): (_, &Key)| {
            is_agreed_on(&fleet, id, Some(local)).then_some(Subject {
                key: *key,
                stands: Verdict::Unknown,
                home: voters
                    .iter()
                    .position(|voter| Some(voter.id) == fleet.endpoint(id).site),
                at_home: Verdict::Unknown,
                alone_since: None,
                lookouts: lookouts.at(&fleet, id),
            })
        };
        let subjects = fleet.endpoint_ids().zip(&keys).map(subject).collect();
        let rows = voters.iter().map(|voter| (voter.id, voter.site, voter.region));
        Self {
            board: Board::new(&fleet, &keys, references(&fleet), rows),
            sight: sight(&fleet),
            fleet,
            policy,
            voters,
            subjects,
        }
    }

    /// The same with another fleet: what stands of an endpoint goes on.
    #[must_use]
    pub fn reload(&self, fleet: Arc<Fleet>, local: SiteId, policy: Policy) -> Self {
        let mut next = Self::new(fleet, local, policy);
        let stands: BTreeMap<_, _> = self
            .subjects
            .iter()
            .flatten()
            .map(|subject| (subject.key, (subject.stands, subject.at_home)))
            .collect();
        let unknown = (Verdict::Unknown, Verdict::Unknown);
        for subject in next.subjects.iter_mut().flatten() {
            (subject.stands, subject.at_home) = stands.get(&subject.key).copied().unwrap_or(unknown);
        }
        for voter in &mut next.voters {
            let before = self.voters.iter().find(|before| before.site == voter.site);
            voter.dazed_until = before.and_then(|before| before.dazed_until);
        }
        next
    }

    /// Counts the votes on every endpoint and returns what changed.
    pub fn rule(&mut self, gossip: &Gossip, now: Instant) -> Vec<Change> {
        self.board.read(gossip.store(), now);
        let electorate = Electorate::new(&self.voters, &self.board, gossip, now);
        for (voter, credit) in self.voters.iter_mut().zip(&electorate.credit) {
            if credit.is_suspect {
                voter.dazed_until = Some(now + self.sight);
            }
        }
        self.board.believe(&electorate.credit, gossip.hears(now));
        let mut decided = Vec::new();
        for (number, subject) in self.subjects.iter_mut().enumerate() {
            let Some(subject) = subject else { continue };
            let standing = self.board.count(number, gossip.me(), self.policy.share);
            let verdict = subject.decide(standing, self.policy.own_after, &electorate);
            if let Some(verdict) = verdict.filter(|verdict| *verdict != subject.stands) {
                subject.stands = verdict;
                decided.push((EndpointId(number as u32), &*subject, verdict));
            }
        }
        // Reasons are for people: they are put together where something changes.
        let change = |(endpoint, subject, verdict)| {
            let votes = electorate.votes(&self.voters, subject);
            Change {
                endpoint,
                verdict,
                cause: cause(&quorum::count(votes, self.policy.share), gossip.me()),
            }
        };
        decided.into_iter().map(change).collect()
    }

    /// What the sites say of their own endpoints, where that changed. Whether such an endpoint serves there follows from this
    /// and not from the votes. Who is not heard any more has said nothing else since; where our own check decides instead (see
    /// [`Policy::own_after`]) it decides here too. By what the votes were counted of last.
    pub fn hear_homes(&mut self, now: Instant) -> Vec<(Key, Verdict)> {
        let own_after = self.policy.own_after;
        let mut changed = Vec::new();
        for (number, subject) in self.subjects.iter_mut().enumerate() {
            let Some(subject) = subject else { continue };
            let word = subject.home.and_then(|home| self.board.word(home, number));
            let is_alone = subject.alone_since.is_some_and(|since| now >= since + own_after);
            let says = match word {
                Some(verdict) => verdict,
                None if is_alone => subject.stands,
                None => continue,
            };
            if std::mem::replace(&mut subject.at_home, says) != says {
                changed.push((subject.key, says));
            }
        }
        changed
    }

    /// The evidence for every endpoint that is agreed on.
    #[must_use]
    pub fn tallies(&self, gossip: &Gossip, now: Instant) -> BTreeMap<EndpointId, Tally> {
        let electorate = Electorate::new(&self.voters, &self.board, gossip, now);
        let tally = |(subject, number): (&Option<Subject>, u32)| {
            let votes = electorate.votes(&self.voters, subject.as_ref()?);
            Some((EndpointId(number), quorum::count(votes, self.policy.share)))
        };
        self.subjects.iter().zip(0..).filter_map(tally).collect()
    }

    /// Whether a site is to look at an endpoint: it is one of few, or all are, or it decides about it alone.
    pub(crate) fn looks_at(&self, endpoint: EndpointId, site: SiteId) -> bool {
        let subject = self.subjects[endpoint.0 as usize].as_ref();
        subject.is_none_or(|subject| subject.asks(site))
    }

    /// The fleet whose endpoints are agreed on.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// The sites that were isolated when the votes were last counted: all reference targets are down for them, and something
    /// else too.
    #[must_use]
    pub fn isolated(&self) -> Vec<SiteName> {
        self.board.isolated().collect()
    }

    /// The sites that saw most of the others down then, or were isolated.
    #[must_use]
    pub fn suspects(&self) -> Vec<SiteName> {
        self.board.suspects().collect()
    }
}

impl Subject {
    fn asks(&self, site: SiteId) -> bool {
        self.lookouts
            .as_ref()
            .is_none_or(|lookouts| lookouts.contains(&site))
    }

    fn decide(
        &mut self,
        standing: Standing,
        own_after: Duration,
        electorate: &Electorate<'_>,
    ) -> Option<Verdict> {
        let now = electorate.now;
        // While we are suspect our own word is nothing to wait for; when we see again, the others are soon heard too.
        if standing.others_speak() || electorate.own_is_suspect {
            self.alone_since = None;
        } else {
            self.alone_since.get_or_insert(now);
        }
        match standing.count.ruling {
            Ruling::Up => Some(Verdict::Up),
            Ruling::Down => Some(Verdict::Down),
            Ruling::Undecided => {
                let is_alone = self.alone_since.is_some_and(|since| now >= since + own_after);
                standing.own.filter(|_| is_alone)
            }
        }
    }
}

/// The way of a site's last words to the others.
const ON_THEIR_WAY: Duration = Duration::from_secs(5);

/// How long a site needs to see everything again that it took for down: the slowest check, from anywhere in its interval on.
#[must_use]
pub fn sight(fleet: &Fleet) -> Duration {
    let again =
        |check: &steer_topology::Check| check.interval * (u32::from(check.rise.get()) + 1) + check.timeout;
    let slowest = fleet.checks.iter().map(again).max();
    slowest.unwrap_or_default() + ON_THEIR_WAY
}

/// Why it was decided so.
fn cause(tally: &Tally, me: SiteName) -> String {
    match tally.ruling {
        Ruling::Up | Ruling::Down => tally.to_string(),
        Ruling::Undecided => {
            let own = tally.votes.iter().find(|vote| vote.site == me);
            let reason = own.map_or("", |own| &own.reason);
            format!("{reason} (no other site has a word)")
        }
    }
}

/// Whether the verdict on an endpoint is agreed on with the others, and not our own check's alone.
#[must_use]
pub fn is_agreed_on(fleet: &Fleet, id: EndpointId, local: Option<SiteId>) -> bool {
    let endpoint = fleet.endpoint(id);
    let is_elsewhere = endpoint.site.is_some() && endpoint.site != local;
    is_elsewhere && fleet.pool(endpoint.pool).check.is_some()
}

/// Who may vote at the moment, and how much it is believed: the same for all endpoints.
struct Electorate<'g> {
    gossip: &'g Gossip,
    now: Instant,
    /// By voter.
    credit: Vec<Credit>,
    own_is_suspect: bool,
}

/// How much a site is believed at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Credit {
    /// It is there.
    is_up: bool,
    /// It sees most of the others down.
    is_suspect: bool,
    /// It did of late, and may not see everything again.
    is_dazed: bool,
}

impl<'g> Electorate<'g> {
    fn new(voters: &[Voter], board: &Board, gossip: &'g Gossip, now: Instant) -> Self {
        let one = |(voter, is_suspect): (&Voter, bool)| Credit {
            is_up: gossip.is_up(voter.site),
            is_suspect,
            is_dazed: voter.dazed_until.is_some_and(|until| now < until),
        };
        let credit: Vec<_> = voters.iter().zip(board.are_suspect()).map(one).collect();
        let me = gossip.me();
        let own_is_suspect = voters
            .iter()
            .zip(&credit)
            .any(|(voter, credit)| voter.site == me && credit.is_suspect);
        Self {
            gossip,
            now,
            credit,
            own_is_suspect,
        }
    }

    /// With the reasons of their sites. Who is not to look has none, unless it goes by another file.
    fn votes(&self, voters: &[Voter], subject: &Subject) -> Vec<Vote> {
        let (me, hears) = (self.gossip.me(), self.gossip.hears(self.now));
        let vote = |(voter, credit): (&Voter, &Credit)| {
            let word = self.gossip.store().word(voter.site, subject.key, self.now);
            if word.is_none() && !subject.asks(voter.id) {
                return None;
            }
            let verdict = word.map_or(Verdict::Unknown, |word| word.observation.verdict);
            let void = match word {
                None => Some(Void::Unknown),
                Some(_) if verdict == Verdict::Unknown => Some(Void::Unknown),
                Some(_) if !credit.is_up => Some(Void::Gone),
                Some(_) if voter.site != me && !hears => Some(Void::Expired),
                Some(word) => word.expired.then_some(Void::Expired),
            };
            Some(Vote {
                site: voter.site,
                region: voter.region,
                verdict,
                suspect: credit.is_suspect || (credit.is_dazed && verdict == Verdict::Down),
                void,
                reason: word.map_or_else(String::new, |word| word.observation.reason.clone()),
            })
        };
        voters.iter().zip(&self.credit).filter_map(vote).collect()
    }
}

#[cfg(test)]
mod tests;
