//! The tasks of the peers, as the announcer's driver sees them.

use std::collections::BTreeSet;
use std::sync::Arc;

use steer_topology::Prefix;
use tokio::sync::watch;

use super::status::SpeakerStatus;
use super::wish::Wish;
use crate::announcer::{Driver, Sessions};
use crate::wanted::Wanted;

/// Whoever obeys the newest wish.
pub(super) struct Followers {
    pub(super) wishes: watch::Sender<Arc<Wish>>,
    status: Arc<SpeakerStatus>,
}

impl Followers {
    /// The first wish is the driver's of this moment.
    pub(super) fn new(driver: &mut Driver, status: Arc<SpeakerStatus>) -> Self {
        let (wanted, settled) = driver.begin();
        Self {
            wishes: watch::Sender::new(Arc::new(Wish::first(wanted, settled))),
            status,
        }
    }
}

impl Sessions for Followers {
    fn want(&self, wanted: &Arc<Wanted>, changed: BTreeSet<Prefix>, settled: bool) {
        let next = self.wishes.borrow().next(Arc::clone(wanted), changed, settled);
        self.wishes.send_replace(Arc::new(next));
    }

    fn announce(&self, prefix: &Prefix) -> bool {
        self.status.is_announced(prefix)
    }
}
