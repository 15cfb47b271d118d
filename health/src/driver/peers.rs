//! What the other sites have to say: our checks' verdicts go out to them, and what all agree on comes in.
//!
//! An endpoint elsewhere has two verdicts: that of our own check, which is our vote, and the one agreed on, which the judge
//! gets. One at our own site has the check's alone. Without gossip nothing of this is there.

use std::collections::HashMap;

use jiff::Timestamp;
use steer_topology::{EndpointId, Fleet};

use crate::gossip::GossipHandle;
use crate::gossip::agreement::is_agreed_on;
use crate::gossip::desk::{Desk, Word};
use crate::gossip::observation::Key;
use crate::judge::Change;
use crate::snapshot::Verdict;

/// Our end of the gossip.
pub(super) struct Peers {
    desk: Desk,
    /// By endpoint: its stable name, and whether it is agreed on.
    endpoints: Vec<(Key, bool)>,
    by_key: HashMap<Key, Vec<EndpointId>>,
}

impl Peers {
    pub(super) fn new(fleet: &Fleet, gossip: &GossipHandle) -> Self {
        let local = Some(gossip.local());
        let one = |id| (Key::of(fleet, id), is_agreed_on(fleet, id, local));
        let endpoints: Vec<_> = fleet.endpoint_ids().map(one).collect();
        let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
        for (id, (key, is_agreed)) in fleet.endpoint_ids().zip(&endpoints) {
            if *is_agreed {
                by_key.entry(*key).or_default().push(id);
            }
        }
        Self {
            desk: gossip.desk().clone(),
            endpoints,
            by_key,
        }
    }

    /// What our own check last said, where that is not what the judge knows.
    pub(super) fn own_verdict(&self, endpoint: EndpointId) -> Option<Verdict> {
        let (key, is_agreed) = self.endpoints[endpoint.0 as usize];
        let said = || {
            self.desk
                .own
                .look(key)
                .map_or(Verdict::Unknown, |word| word.verdict)
        };
        is_agreed.then(said)
    }

    /// We have come to a verdict. False: it is not for the judge.
    pub(super) fn say(&self, change: &Change) -> bool {
        let (key, is_agreed) = self.endpoints[change.endpoint.0 as usize];
        let word = Word {
            verdict: change.verdict,
            cause: change.cause.clone(),
            since: Timestamp::now(),
        };
        self.desk.own.lay(key, word);
        !is_agreed
    }

    /// Returns when something was agreed on.
    pub(super) async fn news(&self) {
        self.desk.agreed.news().await;
    }

    /// What was agreed on since the last time.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, Word { verdict, cause, .. }) in self.desk.agreed.fetch() {
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
