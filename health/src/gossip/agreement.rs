//! From the words of all sites to the verdict on each endpoint that stands elsewhere.
//!
//! An endpoint of our own site is not asked about here: whether we may announce it is for our own check, which is next to
//! it, and waits for nobody. Nor is one without a check.
//!
//! Fail static: where nothing is decided, what was so far stays. Where for `own_after` no other site has a word on an
//! endpoint (the gossip is gone, or the others do not know it), our own check decides, unless we see most of
//! the others down: then it is more likely us.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steer_topology::{Continent, CountryCode, EndpointId, Fleet, SiteId};

use super::core::Gossip;
use super::observation::Key;
use super::quorum::{self, Ruling, Tally, Void, Vote};
use super::site::{SiteName, name_of};
use crate::judge::Change;
use crate::snapshot::Verdict;

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
    /// By endpoint.
    keys: Vec<Key>,
    /// By endpoint; `None`: not ours to agree on.
    subjects: Vec<Option<Subject>>,
}

#[derive(Debug)]
struct Voter {
    id: SiteId,
    site: SiteName,
    region: Option<Continent>,
}

#[derive(Debug)]
struct Subject {
    key: Key,
    stands: Verdict,
    /// Since when no other site has a word, and we are no suspect.
    alone_since: Option<Instant>,
}

impl Agreement {
    /// Agreement on the endpoints of `fleet`, for the site `local`.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, local: SiteId, policy: Policy) -> Self {
        let voter = |(id, site): (u16, &steer_topology::Site)| {
            let id = SiteId(id);
            site.gossip?;
            Some(Voter {
                id,
                site: name_of(&fleet, id)?,
                region: site.country_code().and_then(CountryCode::continent),
            })
        };
        let voters = (0..).zip(&fleet.sites).filter_map(voter).collect();
        let keys: Vec<_> = fleet.endpoint_ids().map(|id| Key::of(&fleet, id)).collect();
        let subject = |(id, key): (_, &Key)| {
            is_agreed_on(&fleet, id, Some(local)).then_some(Subject {
                key: *key,
                stands: Verdict::Unknown,
                alone_since: None,
            })
        };
        let subjects = fleet.endpoint_ids().zip(&keys).map(subject).collect();
        Self {
            fleet,
            policy,
            voters,
            keys,
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
            .map(|subject| (subject.key, subject.stands))
            .collect();
        for subject in next.subjects.iter_mut().flatten() {
            subject.stands = stands.get(&subject.key).copied().unwrap_or(Verdict::Unknown);
        }
        next
    }

    /// Counts the votes on every endpoint and returns what changed.
    pub fn rule(&mut self, gossip: &Gossip, now: Instant) -> Vec<Change> {
        let suspects = self.suspects(gossip, now);
        let own_is_suspect = suspects.contains(&gossip.me());
        let mut changes = Vec::new();
        for (subject, number) in self.subjects.iter_mut().zip(0..) {
            let Some(subject) = subject else { continue };
            let votes = votes(&self.voters, subject.key, &suspects, gossip, now);
            let tally = quorum::count(votes, self.policy.share);
            let decided = subject.decide(&tally, self.policy.own_after, own_is_suspect, gossip.me(), now);
            if let Some((verdict, cause)) = decided.filter(|(verdict, _)| *verdict != subject.stands) {
                subject.stands = verdict;
                let endpoint = EndpointId(number);
                changes.push(Change {
                    endpoint,
                    verdict,
                    cause,
                });
            }
        }
        changes
    }

    /// The evidence for every endpoint that is agreed on.
    #[must_use]
    pub fn tallies(&self, gossip: &Gossip, now: Instant) -> BTreeMap<EndpointId, Tally> {
        let suspects = self.suspects(gossip, now);
        let tally = |(subject, number): (&Option<Subject>, u32)| {
            let votes = votes(&self.voters, subject.as_ref()?.key, &suspects, gossip, now);
            Some((EndpointId(number), quorum::count(votes, self.policy.share)))
        };
        self.subjects.iter().zip(0..).filter_map(tally).collect()
    }

    /// The fleet whose endpoints are agreed on.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// The sites that see most of the others down.
    #[must_use]
    pub fn suspects(&self, gossip: &Gossip, now: Instant) -> Vec<SiteName> {
        let suspect = |voter: &&Voter| quorum::is_suspect(self.others_seen_by(voter, gossip, now));
        self.voters
            .iter()
            .filter(suspect)
            .map(|voter| voter.site)
            .collect()
    }

    /// For each other site of which `voter` has a verdict: whether all that it knows there is down.
    fn others_seen_by(&self, voter: &Voter, gossip: &Gossip, now: Instant) -> Vec<bool> {
        let mut sites: BTreeMap<SiteId, bool> = BTreeMap::new();
        for id in self.fleet.endpoint_ids() {
            let Some(site) = self.fleet.endpoint(id).site.filter(|site| *site != voter.id) else {
                continue;
            };
            let key = self.keys[id.0 as usize];
            let word = gossip
                .store()
                .word(voter.site, key, now)
                .filter(|word| !word.expired);
            let is_down = match word.map(|word| word.observation.verdict) {
                Some(Verdict::Down) => true,
                Some(Verdict::Up) => false,
                Some(Verdict::Unknown) | None => continue,
            };
            sites
                .entry(site)
                .and_modify(|all| *all &= is_down)
                .or_insert(is_down);
        }
        sites.into_values().collect()
    }
}

impl Subject {
    fn decide(
        &mut self,
        tally: &Tally,
        own_after: Duration,
        own_is_suspect: bool,
        me: SiteName,
        now: Instant,
    ) -> Option<(Verdict, String)> {
        let counts = |vote: &&Vote| vote.void.is_none();
        let others_speak = tally.votes.iter().filter(counts).any(|vote| vote.site != me);
        // While we are suspect our own word is nothing to wait for; when we see again, the others are soon heard too.
        if others_speak || own_is_suspect {
            self.alone_since = None;
        } else {
            self.alone_since.get_or_insert(now);
        }
        match tally.ruling {
            Ruling::Up => Some((Verdict::Up, tally.to_string())),
            Ruling::Down => Some((Verdict::Down, tally.to_string())),
            Ruling::Undecided => {
                let is_alone = self.alone_since.is_some_and(|since| now >= since + own_after);
                let own = tally.votes.iter().filter(counts).find(|vote| vote.site == me)?;
                is_alone.then(|| (own.verdict, format!("{} (no other site has a word)", own.reason)))
            }
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

fn votes(voters: &[Voter], key: Key, suspects: &[SiteName], gossip: &Gossip, now: Instant) -> Vec<Vote> {
    let vote = |voter: &Voter| {
        let word = gossip.store().word(voter.site, key, now);
        let verdict = word.map_or(Verdict::Unknown, |word| word.observation.verdict);
        let void = match word {
            None => Some(Void::Unknown),
            Some(_) if verdict == Verdict::Unknown => Some(Void::Unknown),
            Some(_) if !gossip.is_up(voter.site) => Some(Void::Gone),
            Some(word) => word.expired.then_some(Void::Expired),
        };
        Vote {
            site: voter.site,
            region: voter.region,
            verdict,
            suspect: suspects.contains(&voter.site),
            void,
            reason: word.map_or_else(String::new, |word| word.observation.reason.clone()),
        }
    };
    voters.iter().map(vote).collect()
}

#[cfg(test)]
mod tests;
