//! How a speaker ends: for good, or to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a speaker ends when it is told to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopKind {
    /// Every route is withdrawn, then every session closed with a Cease. The default.
    #[default]
    Orderly,
    /// The process comes back at once. A peer that agreed on graceful restart (RFC 4724) keeps our routes: its
    /// session is closed without a word. Any other is left as in an orderly stop.
    Restart,
}

/// Says how a speaker shall end; to be set before its shutdown token is cancelled.
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Decides.
    pub fn set(&self, kind: StopKind) {
        self.0.store(kind == StopKind::Restart, Ordering::Release);
    }

    pub(super) fn kind(&self) -> StopKind {
        if self.0.load(Ordering::Acquire) {
            StopKind::Restart
        } else {
            StopKind::Orderly
        }
    }
}
