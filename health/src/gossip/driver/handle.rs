//! The gossip as the checks, the status and a reload reach it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use steer_topology::{EndpointId, Fleet, SiteId};
use tokio::sync::Notify;

use super::moment;
use crate::gossip::council::Council;
use crate::gossip::desk::Desk;
use crate::gossip::keys::Keys;
use crate::gossip::quorum::Tally;
use crate::gossip::rollout::{self, Word};
use crate::gossip::site::SiteName;
use crate::gossip::swim::MemberView;
use crate::snapshot::Verdict;

/// What others have to do with the gossip of this process. Cheap to copy.
#[derive(Debug, Clone)]
pub struct GossipHandle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) desk: Desk,
    pub(super) council: Mutex<Council>,
    /// Votes are to be counted anew.
    pub(super) changed: Notify,
}

/// The gossip in the status.
#[derive(Debug, Clone, Serialize)]
pub struct GossipView {
    /// Every site that may take part.
    pub members: Vec<MemberView>,
    /// Is it us? 0: we are well; up to 8, and everything that judges others takes so many times longer.
    pub local_health: u8,
    /// Those that see most of the others down, and count a quarter.
    pub suspects: Vec<SiteName>,
    /// Those of them that are isolated: all reference targets are down for them too.
    pub isolated: Vec<SiteName>,
    /// Words held, our own among them.
    pub observations: usize,
    /// The votes on each endpoint that is agreed on, by its number in the fleet.
    #[serde(skip)]
    pub votes: BTreeMap<EndpointId, Tally>,
}

impl GossipHandle {
    /// What stands, with every vote.
    #[must_use]
    pub fn view(&self) -> GossipView {
        let council = self.shared.lock();
        let (gossip, agreement, now) = (&council.gossip, &council.agreement, Instant::now());
        GossipView {
            members: gossip.view(),
            local_health: gossip.health(),
            suspects: agreement.suspects(),
            isolated: agreement.isolated(),
            observations: gossip.store().len(),
            votes: agreement.tallies(gossip, now),
        }
    }

    /// Goes on with another fleet and other keys, after a reload. Comes before the checks go on.
    pub fn renew(&self, fleet: &Arc<Fleet>, keys: &Keys) {
        self.shared.lock().renew(fleet, keys, moment());
        self.shared.changed.notify_one();
    }

    /// The other sites are told how far we are with our newest file; `None`: there is none of which to speak.
    pub fn say_rollout(&self, word: Option<&Word>) {
        let text = word.map(Word::encode).unwrap_or_default();
        let when = moment();
        let mut council = self.shared.lock();
        council
            .gossip
            .observe(rollout::key(), Verdict::Unknown, &text, when.at, when.now);
        drop(council);
        self.shared.changed.notify_one();
    }

    /// How far each site is with its newest file, where it is there and has one; ours among them.
    #[must_use]
    pub fn rollouts(&self) -> Vec<(SiteName, Word)> {
        let council = self.shared.lock();
        let (gossip, now, key) = (&council.gossip, Instant::now(), rollout::key());
        let word = |site: SiteName| {
            let word = gossip.store().word(site, key, now).filter(|word| !word.expired)?;
            Some((site, Word::decode(&word.observation.reason)?))
        };
        let is_there = |site: &SiteName| *site == gossip.me() || gossip.is_up(*site);
        gossip
            .store()
            .origins()
            .filter(is_there)
            .filter_map(word)
            .collect()
    }

    /// The name of the site of this process.
    #[must_use]
    pub fn me(&self) -> SiteName {
        self.shared.lock().gossip.me()
    }

    /// The site of this process.
    #[must_use]
    pub fn local(&self) -> SiteId {
        self.shared.lock().local
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.shared.desk
    }
}

impl Shared {
    /// A panic while it was held ends the process in good order (a part failed); until then it is as it is.
    pub(super) fn lock(&self) -> MutexGuard<'_, Council> {
        self.council.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
