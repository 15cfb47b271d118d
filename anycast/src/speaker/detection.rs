//! BFD of a speaker: which peer has which session, and what the peer's task is told of it.

use std::net::IpAddr;
use std::sync::Arc;

use steer_topology::{Bgp, Peer};
use tokio::sync::watch;
use tracing::error;

use crate::bfd::{Bfd, BfdError, BfdService, BfdStatus, Id, Path, PathState, Ports, Target, TargetError};
use crate::session::Event;

/// The BFD sessions of a speaker's peers.
#[derive(Debug, Default)]
pub struct Detections {
    /// Absent where no peer has BFD: no port is bound, no thread runs.
    bfd: Option<Arc<Bfd>>,
    /// By peer.
    ids: Vec<Option<Id>>,
}

/// Why there can be no BFD.
#[derive(Debug, thiserror::Error)]
pub enum DetectionError {
    /// A peer's settings.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its sockets.
    #[error(transparent)]
    Bfd(#[from] BfdError),
}

impl Detections {
    /// Binds what the peers' sessions need, and reads their keys.
    pub(super) fn bind(bgp: &Bgp, peers: &[Peer]) -> Result<Self, DetectionError> {
        let targets = peers.iter().map(|peer| Target::of(peer, peer.asn == bgp.asn));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        if targets.iter().all(Option::is_none) {
            return Ok(Self::default());
        }
        let bfd = Bfd::bind(Vec::new(), Ports::default())?;
        let ids = targets
            .into_iter()
            .map(|target| target.map(|target| bfd.add(target)).transpose());
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            bfd: Some(Arc::new(bfd)),
            ids,
        })
    }

    pub(super) fn start(&self, seed: u64) {
        if let Some(bfd) = &self.bfd
            && let Err(error) = bfd.start(seed)
        {
            // Without it every path stays down: sessions stand on their hold timers, and strict ones never begin.
            error!(%error, "no BFD");
        }
    }

    /// After the last word of BGP: a peer whose BFD is told AdminDown first may drop the session before it has
    /// read our withdrawals and our Cease.
    pub(super) async fn stop(&self) {
        if let Some(bfd) = self.bfd.clone() {
            // Fails only where the runtime is going down, and the thread says its AdminDown all the same.
            let _ = tokio::task::spawn_blocking(move || bfd.stop()).await;
        }
    }

    pub(super) fn watch(&self, peer: usize) -> Option<PathWatch> {
        let (bfd, id) = self.session(peer)?;
        let paths = bfd.path(id)?;
        Some(PathWatch { paths, failures: 0 })
    }

    /// Holds the BFD session of a peer down (AdminDown, no failure), or lets it come up again. The peer is named
    /// by its place in the status.
    pub fn hold_down(&self, peer: usize, down: bool) {
        if let Some((bfd, id)) = self.session(peer) {
            match down {
                true => bfd.admin_down(id),
                false => bfd.admin_up(id),
            }
        }
    }

    /// Every path and where it leads, as it changes.
    #[must_use]
    pub fn paths(&self) -> Vec<(IpAddr, watch::Receiver<Path>)> {
        let path = |peer| {
            let (bfd, id) = self.session(peer)?;
            Some((bfd.status(id)?.peer, bfd.path(id)?))
        };
        (0..self.ids.len()).filter_map(path).collect()
    }

    /// The session of a peer, where it has one.
    #[must_use]
    pub fn status(&self, peer: usize) -> Option<BfdStatus> {
        let (bfd, id) = self.session(peer)?;
        bfd.status(id)
    }

    /// The thread that runs them, where there is one.
    #[must_use]
    pub fn service(&self) -> Option<BfdService> {
        self.bfd.as_ref().map(|bfd| bfd.service())
    }

    fn session(&self, peer: usize) -> Option<(&Bfd, Id)> {
        let id = *self.ids.get(peer)?;
        self.bfd.as_deref().zip(id)
    }
}

/// The path to one peer, for its task.
#[derive(Debug)]
pub(super) struct PathWatch {
    paths: watch::Receiver<Path>,
    /// As many were told.
    failures: u64,
}

impl PathWatch {
    /// What the newest value means for the machine. A failure that is over again is still told.
    fn news(&mut self) -> [Option<Event>; 2] {
        let Path { state, failures } = *self.paths.borrow_and_update();
        let failed = failures > self.failures;
        self.failures = failures;
        let now = match state {
            PathState::Up => Some(Event::PathUp),
            PathState::AdminDown | PathState::PeerAdminDown => Some(Event::PathAdminDown),
            // Not up any more, or not yet, without a failure: nothing is known.
            PathState::Down(_) => Some(Event::PathAdminDown).filter(|_| !failed),
        };
        [Some(Event::PathDown).filter(|_| failed), now]
    }
}

/// Waits for news of the path; for ever where there is no BFD.
pub(super) async fn path_news(watch: &mut Option<PathWatch>) -> [Option<Event>; 2] {
    if let Some(path) = watch
        && path.paths.changed().await.is_ok()
    {
        return path.news();
    }
    if watch.take().is_some() {
        return [None, Some(Event::PathAdminDown)]; // the session was taken away
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfd::wire::Diagnostic;

    const EXPIRED: PathState = PathState::Down(Diagnostic::DETECTION_TIME_EXPIRED);

    /// The names of what each value of the path tells the machine.
    fn told(values: &[(PathState, u64)]) -> Vec<Vec<String>> {
        let (state, failures) = (PathState::Down(Diagnostic::NONE), 0);
        let (sender, paths) = watch::channel(Path { state, failures });
        let mut watch = PathWatch { paths, failures: 0 };
        let mut tell = |(state, failures): &(PathState, u64)| {
            sender.send_replace(Path {
                state: *state,
                failures: *failures,
            });
            let events = watch.news().into_iter().flatten();
            events.map(|event| format!("{event:?}")).collect()
        };
        values.iter().map(&mut tell).collect()
    }

    #[test]
    fn only_a_failure_is_told_as_one() {
        let values = [
            (PathState::Up, 0),
            (PathState::PeerAdminDown, 0),
            (PathState::Down(Diagnostic::NEIGHBOR_SIGNALED), 0),
            (PathState::Up, 0),
            (PathState::AdminDown, 0),
            (PathState::Down(Diagnostic::NONE), 0),
            (PathState::Up, 0),
            (EXPIRED, 1),
        ];
        let (up, wish, down) = ("PathUp", "PathAdminDown", "PathDown");
        let expected = [up, wish, wish, up, wish, wish, up, down].map(|event| vec![event.to_owned()]);
        assert_eq!(told(&values), expected);
    }

    #[test]
    fn a_failure_that_nobody_looked_at_in_time_is_told_all_the_same() {
        let values = [(PathState::Up, 0), (PathState::Up, 1), (PathState::Up, 1)];
        assert_eq!(
            told(&values),
            [vec!["PathUp"], vec!["PathDown", "PathUp"], vec!["PathUp"]]
        );
    }
}
