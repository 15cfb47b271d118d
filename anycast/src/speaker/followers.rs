//! The tasks of the peers, as the announcer's driver sees them.

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
    pub(super) fn new(driver: &Driver, status: Arc<SpeakerStatus>) -> Self {
        let first = Wish::first(Arc::clone(driver.wanted()), driver.is_settled());
        Self {
            wishes: watch::Sender::new(Arc::new(first)),
            status,
        }
    }
}

impl Sessions for Followers {
    fn want(&self, wanted: &Arc<Wanted>, settled: bool) {
        let next = self.wishes.borrow().next(Arc::clone(wanted), settled);
        if let Some(next) = next {
            self.wishes.send_replace(Arc::new(next));
        }
    }

    fn announce(&self, prefix: &Prefix) -> bool {
        self.status.is_announced(prefix)
    }
}
