//! One site's gossip, what follows from the votes in it, and the desk between both and the checks. Sans-IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use steer_topology::{Fleet, GossipPolicy, SiteId};

use super::agreement::{Agreement, Policy};
use super::core::{Gossip, Own};
use super::desk::{Desk, Word};
use super::keys::Keys;
use super::moment::Moment;
use super::observation::Key;
use super::site::{Roster, name_of};
use crate::judge::Change;
use crate::snapshot::Verdict;

/// What the sites have to say, and what this one makes of it.
pub struct Council {
    /// Datagrams and streams come and go here.
    pub gossip: Gossip,
    pub(super) agreement: Agreement,
    pub(super) local: SiteId,
    desk: Desk,
}

impl Council {
    /// The council as the site `local` sees it; `None` where the fleet does not gossip, or the site takes no part.
    /// `seed` is 32 octets of chance, never used before.
    #[must_use]
    pub fn new(fleet: &Arc<Fleet>, local: SiteId, keys: Keys, seed: [u8; 32], when: Moment) -> Option<Self> {
        let policy = policy(fleet.gossip.as_ref()?);
        let own = Own {
            site: name_of(fleet, local)?,
            address: fleet.site(local).gossip?,
        };
        let desk = Desk::default();
        let mut gossip = Gossip::new(own, Roster::of(fleet), keys, seed, when);
        gossip.set_standing(desk.standing.clone());
        Some(Self {
            gossip,
            agreement: Agreement::new(Arc::clone(fleet), local, policy),
            local,
            desk,
        })
    }

    /// Where the checks lay down what they say, and fetch what was agreed on.
    #[must_use]
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The other sites are told what our own checks have said since the last time. Returns that.
    pub fn say(&mut self, now: Instant) -> Vec<(Key, Verdict)> {
        let say = |(key, word)| {
            let Word {
                verdict,
                cause,
                since,
            } = word;
            self.gossip.observe(key, verdict, &cause, since, now);
            (key, verdict)
        };
        self.desk.own.fetch().into_iter().map(say).collect()
    }

    /// Counts the votes, and lays down for the checks what changed.
    pub fn rule(&mut self, when: Moment) {
        for Change {
            endpoint,
            verdict,
            cause,
        } in self.agreement.rule(&self.gossip, when.now)
        {
            let word = Word {
                verdict,
                cause,
                since: when.at,
            };
            self.desk
                .agreed
                .lay(Key::of(self.agreement.fleet(), endpoint), word);
        }
        for (key, verdict) in self.agreement.hear_homes(when.now) {
            let word = Word {
                verdict,
                cause: String::new(),
                since: when.at,
            };
            self.desk.homes.lay(key, word);
        }
    }

    /// Goes on with another fleet and other keys, after a reload. Comes before the checks go on.
    pub fn renew(&mut self, fleet: &Arc<Fleet>, keys: &Keys, when: Moment) {
        let Some(policy) = fleet.gossip.as_ref().map(policy) else {
            return;
        };
        self.agreement = self.agreement.reload(Arc::clone(fleet), self.local, policy);
        let one = |id| (Key::of(fleet, id), self.agreement.looks_at(id, self.local));
        // Whether we look at it.
        let endpoints: BTreeMap<Key, bool> = fleet.endpoint_ids().map(one).collect();
        self.gossip.set_roster(Roster::of(fleet), when);
        self.gossip.set_keys(keys);
        // The others must not go by what is not checked any more.
        for gone in self.desk.own.renew(|key| endpoints.get(&key) == Some(&true)) {
            self.gossip.observe(
                gone,
                Verdict::Unknown,
                "no longer checked here",
                when.at,
                when.now,
            );
        }
        self.desk.agreed.renew(|key| endpoints.contains_key(&key));
        self.desk.homes.renew(|key| endpoints.contains_key(&key));
    }
}

impl std::fmt::Debug for Council {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Council")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

fn policy(gossip: &GossipPolicy) -> Policy {
    let GossipPolicy {
        port: _,     // in the addresses already
        key_file: _, // read by who makes us
        share,
        own_after,
        staged: _,    // a reload's
        reference: _, // the agreement reads it from the fleet
    } = gossip;
    Policy {
        share: *share,
        own_after: *own_after,
    }
}
