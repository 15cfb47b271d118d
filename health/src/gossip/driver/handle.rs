//! The gossip as the checks, the status and a reload reach it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use steer_topology::{EndpointId, Fleet, SiteId};
use tokio::sync::Notify;

use super::{moment, policy};
use crate::gossip::agreement::Agreement;
use crate::gossip::core::Gossip;
use crate::gossip::desk::Desk;
use crate::gossip::keys::Keys;
use crate::gossip::observation::Key;
use crate::gossip::quorum::Tally;
use crate::gossip::site::{Roster, SiteName};
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
    pub(super) state: Mutex<State>,
    /// Votes are to be counted anew.
    pub(super) changed: Notify,
}

pub(super) struct State {
    pub(super) gossip: Gossip,
    pub(super) agreement: Agreement,
    pub(super) local: SiteId,
}

/// The gossip in the status.
#[derive(Debug, Clone, Serialize)]
pub struct GossipView {
    /// Every site that may take part.
    pub members: Vec<MemberView>,
    /// Those that see most of the others down, and count a quarter.
    pub suspects: Vec<SiteName>,
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
        let state = self.shared.lock();
        let (gossip, agreement, now) = (&state.gossip, &state.agreement, Instant::now());
        GossipView {
            members: gossip.view(),
            suspects: agreement.suspects(gossip, now),
            observations: gossip.store().len(),
            votes: agreement.tallies(gossip, now),
        }
    }

    /// Goes on with another fleet and other keys, after a reload. Comes before the checks go on.
    pub fn renew(&self, fleet: &Arc<Fleet>, keys: &Keys) {
        let mut state = self.shared.lock();
        let moment = moment();
        let Some(policy) = fleet.gossip.as_ref().map(policy) else {
            return;
        };
        let keys_of_fleet: BTreeMap<Key, EndpointId> =
            fleet.endpoint_ids().map(|id| (Key::of(fleet, id), id)).collect();
        state.agreement = state.agreement.reload(Arc::clone(fleet), state.local, policy);
        state.gossip.set_roster(Roster::of(fleet), moment);
        state.gossip.set_keys(keys);
        // The others must not go by what is not checked any more.
        for gone in self.shared.desk.own.renew(|key| keys_of_fleet.contains_key(&key)) {
            let reason = "no longer checked";
            state
                .gossip
                .observe(gone, Verdict::Unknown, reason, moment.at, moment.now);
        }
        self.shared
            .desk
            .agreed
            .renew(|key| keys_of_fleet.contains_key(&key));
        drop(state);
        self.shared.changed.notify_one();
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
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
