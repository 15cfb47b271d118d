//! What the other sites have to say: our checks' verdicts go out to them, and what all agree on comes in.
//!
//! An endpoint elsewhere has two verdicts: that of our own check, which is our vote, and the one agreed on, which the judge
//! gets. One at our own site has the check's alone; but while all reference targets are down for us, one that fails is held as
//! unknown, since it is then more likely us than the service. One at which others look and we do not has the agreed one alone.
//! Without gossip nothing of this is there.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use jiff::Timestamp;
use steer_topology::{EndpointId, Fleet, SiteId};

use crate::gossip::agreement::is_agreed_on;
use crate::gossip::desk::{Desk, Word};
use crate::gossip::isolation;
use crate::gossip::observation::Key;
use crate::gossip::vantage::Lookouts;
use crate::judge::Change;
use crate::snapshot::Verdict;

/// Our end of the gossip.
#[derive(Debug)]
pub struct Peers {
    desk: Desk,
    endpoints: Vec<Named>,
    by_key: HashMap<Key, Vec<EndpointId>>,
    /// Endpoints of our own site.
    own: HashSet<Key>,
    references: Vec<Key>,
}

/// An endpoint.
#[derive(Debug, Clone, Copy)]
struct Named {
    /// Its stable name.
    key: Key,
    is_agreed: bool,
    /// Whether we look at it, or leave that to others.
    looks: bool,
}

impl Peers {
    /// The end of the site `local`, whose gossip lays down and fetches at `desk`.
    #[must_use]
    pub fn new(fleet: &Fleet, local: SiteId, desk: Desk) -> Self {
        let lookouts = Lookouts::of(fleet);
        let one = |id| Named {
            key: Key::of(fleet, id),
            is_agreed: is_agreed_on(fleet, id, Some(local)),
            looks: lookouts.looks(fleet, id, local),
        };
        let endpoints: Vec<_> = fleet.endpoint_ids().map(one).collect();
        let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
        let mut own = HashSet::new();
        for (id, Named { key, is_agreed, .. }) in fleet.endpoint_ids().zip(&endpoints) {
            let is_own = fleet.endpoint(id).site == Some(local);
            if is_own {
                own.insert(*key);
            }
            if *is_agreed || is_own {
                by_key.entry(*key).or_default().push(id);
            }
        }
        let references = isolation::references(fleet);
        Self {
            desk,
            endpoints,
            by_key,
            own,
            references: references.iter().map(|id| Key::of(fleet, *id)).collect(),
        }
    }

    /// Whether we look at an endpoint, or leave that to others.
    pub(super) fn looks_at(&self, endpoint: EndpointId) -> bool {
        self.endpoints[endpoint.0 as usize].looks
    }

    /// What our own check last said, where that is not what the judge knows.
    pub(super) fn own_verdict(&self, endpoint: EndpointId) -> Option<Verdict> {
        let Named { key, is_agreed, .. } = self.endpoints[endpoint.0 as usize];
        let said = || {
            self.desk
                .own
                .look(key)
                .map_or(Verdict::Unknown, |word| word.verdict)
        };
        (is_agreed || self.is_held(key)).then(said)
    }

    /// Since when all reference targets are down for us, if they are.
    fn isolated_since(&self) -> Option<Timestamp> {
        let words: Vec<_> = self
            .references
            .iter()
            .map(|key| self.desk.own.look(*key))
            .collect();
        let verdicts = words.iter().map(|word| word.as_ref().map(|word| word.verdict));
        let since = words.iter().flatten().map(|word| word.since).max();
        since.filter(|_| isolation::all_fail(verdicts))
    }

    /// Whether an endpoint of our own site failed after all reference targets had.
    fn is_held(&self, key: Key) -> bool {
        let after = |since| {
            let word = self.desk.own.look(key);
            word.is_some_and(|word| word.verdict == Verdict::Down && word.since >= since)
        };
        self.own.contains(&key) && self.isolated_since().is_some_and(after)
    }

    /// A reference target is back: what was held is as our check says.
    fn release(&self, since: Timestamp) {
        for key in &self.own {
            if let Some(word) = self.desk.own.look(*key)
                && word.since >= since
            {
                self.desk.agreed.lay(*key, word);
            }
        }
    }

    /// We have come to a verdict at `at`. False: it is not for the judge.
    pub(super) fn say(&self, change: &Change, at: Timestamp) -> bool {
        let Named { key, is_agreed, .. } = self.endpoints[change.endpoint.0 as usize];
        let word = Word {
            verdict: change.verdict,
            cause: change.cause.clone(),
            since: at,
        };
        let isolated = self.isolated_since();
        self.desk.own.lay(key, word.clone());
        if let Some(since) = isolated
            && self.isolated_since().is_none()
        {
            tracing::info!("not isolated any more: what was held is as our checks say");
            self.release(since);
        }
        if self.is_held(key) {
            tracing::warn!(cause = %change.cause, "an endpoint of our own fails, and is held: {}", isolation::REASON);
            self.desk.agreed.lay(key, word);
            return false;
        }
        !is_agreed
    }

    /// What the judge is to know of an endpoint of our own site that was laid down: by now it may be otherwise.
    fn own_word(&self, key: Key) -> Option<Word> {
        let word = self.desk.own.look(key)?;
        if !self.is_held(key) {
            return Some(word);
        }
        Some(Word {
            verdict: Verdict::Unknown,
            cause: format!("{} ({})", isolation::REASON, word.cause),
            ..word
        })
    }

    /// Our checks had a turn.
    pub(super) fn stand_by(&self, as_of: Option<Instant>, good_until: Option<Instant>) {
        self.desk.standing.renew(as_of, good_until);
    }

    /// Returns when something was agreed on, or a site has said something else of its own.
    pub(crate) async fn news(&self) {
        tokio::select! {
            () = self.desk.agreed.news() => {}
            () = self.desk.homes.news() => {}
        }
    }

    /// The endpoints of our own site.
    pub(super) fn own(&self) -> Vec<EndpointId> {
        let ids = self.own.iter().filter_map(|key| self.by_key.get(key));
        ids.flatten().copied().collect()
    }

    /// What other sites have said of their own endpoints since the last time.
    pub(super) fn said_at_home(&self) -> Vec<(EndpointId, Verdict)> {
        let mut said = Vec::new();
        for (key, word) in self.desk.homes.fetch() {
            let endpoints = self.by_key.get(&key).into_iter().flatten();
            said.extend(endpoints.map(|endpoint| (*endpoint, word.verdict)));
        }
        said
    }

    /// What was agreed on since the last time.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, word) in self.desk.agreed.fetch() {
            let word = if self.own.contains(&key) {
                self.own_word(key)
            } else {
                Some(word)
            };
            let Some(Word { verdict, cause, .. }) = word else {
                continue;
            };
            let endpoints = self.by_key.get(&key).into_iter().flatten();
            changes.extend(endpoints.map(|endpoint| Change {
                endpoint: *endpoint,
                verdict,
                cause: cause.clone(),
            }));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use steer_topology::{CheckId, CheckKind, GossipPolicy, PoolId};

    use super::*;
    use crate::testing::{FleetBuilder, gossip_policy};

    const OWN: EndpointId = EndpointId(0);
    const TARGETS: [EndpointId; 2] = [EndpointId(2), EndpointId(3)];

    /// Our endpoint, one elsewhere, and two reference targets.
    fn peers() -> Peers {
        let at = |number: u8| ([192, 0, 2, number], 443).into();
        let built = FleetBuilder::new(CheckKind::Tcp)
            .sites(2)
            .pool_at(&[(Some(0), at(1)), (Some(1), at(2))], Some(CheckId(0)))
            .pool_at(&[(None, at(3)), (None, at(4))], Some(CheckId(0)))
            .build();
        let mut fleet = Arc::unwrap_or_clone(built);
        fleet.gossip = Some(GossipPolicy {
            reference: Some(PoolId(1)),
            ..gossip_policy()
        });
        Peers::new(&fleet, SiteId(0), Desk::default())
    }

    fn change(endpoint: EndpointId, verdict: Verdict) -> Change {
        Change {
            endpoint,
            verdict,
            cause: "connection refused".to_owned(),
        }
    }

    fn told(peers: &Peers) -> Vec<(EndpointId, Verdict, String)> {
        let changes = peers.changes().into_iter();
        changes
            .map(|change| (change.endpoint, change.verdict, change.cause))
            .collect()
    }

    #[test]
    fn who_sees_its_reference_targets_fail_too_holds_what_it_thinks_of_its_own() {
        let peers = peers();
        assert!(peers.say(&change(OWN, Verdict::Up), Timestamp::now()));
        TARGETS
            .iter()
            .for_each(|target| assert!(peers.say(&change(*target, Verdict::Up), Timestamp::now())));
        // One of two targets: nothing.
        assert!(peers.say(&change(TARGETS[0], Verdict::Down), Timestamp::now()));
        assert!(
            peers.say(&change(OWN, Verdict::Down), Timestamp::now()),
            "the judge knows at once"
        );
        assert!(peers.say(&change(OWN, Verdict::Up), Timestamp::now()));
        // Both.
        assert!(peers.say(&change(TARGETS[1], Verdict::Down), Timestamp::now()));
        assert_eq!(told(&peers), [], "our own are fine");
        assert!(!peers.say(&change(OWN, Verdict::Down), Timestamp::now()));
        let reason = "isolated: reference targets fail too (connection refused)".to_owned();
        assert_eq!(told(&peers), [(OWN, Verdict::Unknown, reason)]);
        assert_eq!(
            peers.own_verdict(OWN),
            Some(Verdict::Down),
            "our check stays where it was"
        );
        // One is back.
        assert!(peers.say(&change(TARGETS[0], Verdict::Up), Timestamp::now()));
        assert_eq!(
            told(&peers),
            [(OWN, Verdict::Down, "connection refused".to_owned())]
        );
        assert_eq!(peers.own_verdict(OWN), None);
    }

    #[test]
    fn what_is_held_and_comes_up_again_is_up_whatever_was_laid_down_before() {
        let peers = peers();
        TARGETS
            .iter()
            .for_each(|target| assert!(peers.say(&change(*target, Verdict::Down), Timestamp::now())));
        assert!(!peers.say(&change(OWN, Verdict::Down), Timestamp::now()));
        assert!(peers.say(&change(OWN, Verdict::Up), Timestamp::now()));
        assert_eq!(
            told(&peers),
            [(OWN, Verdict::Up, "connection refused".to_owned())]
        );
    }

    #[test]
    fn what_failed_before_the_targets_did_is_not_held() {
        let peers = peers();
        assert!(peers.say(&change(OWN, Verdict::Down), Timestamp::now()));
        std::thread::sleep(Duration::from_millis(2));
        TARGETS
            .iter()
            .for_each(|target| assert!(peers.say(&change(*target, Verdict::Down), Timestamp::now())));
        assert_eq!(told(&peers), []);
        assert_eq!(peers.own_verdict(OWN), None);
    }
}
