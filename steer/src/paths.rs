//! What BFD sees, for the endpoints under checks of kind `bfd`: health knows no neighbours, BFD knows no endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use steer_anycast::bfd::{Path, PathState};
use steer_anycast::{Detections, Speaker};
use steer_health::{Operator, SnapshotCell, Target};
use steer_topology::{CheckKind, Fleet, SiteId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The BFD sessions of one site.
pub(crate) struct Paths {
    site: Option<SiteId>,
    detections: Arc<Detections>,
}

impl Paths {
    pub(crate) fn of(speaker: &Speaker, site: Option<SiteId>) -> Self {
        Self {
            site,
            detections: speaker.detections(),
        }
    }

    /// Tells each change at once, and everything to each new fleet, until `stop`. To be called on the control thread.
    pub(crate) fn tell(
        &self,
        cell: &Arc<SnapshotCell>,
        operator: &Operator,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for (peer, paths) in self.detections.paths() {
            let teller = Teller {
                site: self.site,
                peer,
                failures: 0,
                cell: Arc::clone(cell),
                operator: operator.clone(),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                // An end before that of the process would end the process.
                stop.run_until_cancelled(teller.run(paths)).await;
                stop.cancelled().await;
            });
        }
    }
}

/// One path, on its way to the checks.
struct Teller {
    site: Option<SiteId>,
    peer: IpAddr,
    /// So many were told.
    failures: u64,
    cell: Arc<SnapshotCell>,
    operator: Operator,
}

impl Teller {
    async fn run(mut self, mut paths: watch::Receiver<Path>) {
        let mut snapshots = self.cell.subscribe();
        let mut fleet = Arc::clone(&self.cell.load().fleet);
        loop {
            let path = *paths.borrow_and_update();
            self.tell(&fleet, path).await;
            loop {
                tokio::select! {
                    biased;
                    changed = paths.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return, // BFD ends with the process
                    },
                    changed = snapshots.changed() => {
                        let now = Arc::clone(&self.cell.load().fleet);
                        if changed.is_err() {
                            return;
                        }
                        if !Arc::ptr_eq(&fleet, &now) {
                            fleet = now; // its checks know nothing yet
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn tell(&mut self, fleet: &Fleet, path: Path) {
        let peer = self.peer;
        for word in words(path, std::mem::replace(&mut self.failures, path.failures)) {
            for target in targets(fleet, self.site, peer) {
                let failure = match word {
                    Word::Up => None,
                    Word::Failed(Some(why)) => Some(format!("BFD with {peer} is down: {why}")),
                    Word::Failed(None) => Some(format!("BFD with {peer} was down")),
                };
                let seen = format!("BFD with {peer} is up");
                if let Err(error) = self.operator.path(&target, failure, seen).await {
                    warn!(%peer, target, %error, "what BFD sees could not be told");
                }
            }
        }
    }
}

/// What a check is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Up,
    /// A failure, with its diagnostic where it is not over again.
    Failed(Option<steer_anycast::bfd::wire::Diagnostic>),
}

/// A failure that is over again is still told. A path that somebody holds down, or that never came up, says nothing.
fn words(path: Path, failures: u64) -> Vec<Word> {
    let failed = path.failures > failures;
    match path.state {
        PathState::Up if failed => vec![Word::Failed(None), Word::Up],
        PathState::Up => vec![Word::Up],
        PathState::Down(diagnostic) if path.failures > 0 => vec![Word::Failed(Some(diagnostic))],
        PathState::AdminDown | PathState::PeerAdminDown if failed => vec![Word::Failed(None)],
        PathState::Down(_) | PathState::AdminDown | PathState::PeerAdminDown => Vec::new(),
    }
}

/// The endpoints that the path of a site speaks of, by name.
fn targets(fleet: &Fleet, site: Option<SiteId>, peer: IpAddr) -> Vec<String> {
    let is_meant = |id: &steer_topology::EndpointId| {
        let endpoint = fleet.endpoint(*id);
        let check = fleet.pool(endpoint.pool).check.map(|id| &fleet.check(id).kind);
        let here = endpoint.site.is_none() || site.is_none() || endpoint.site == site;
        here && matches!(check, Some(CheckKind::Bfd { peer: of }) if *of == peer)
    };
    let ids = fleet.endpoint_ids().filter(is_meant);
    ids.map(|id| Target::Endpoint(id).name(fleet)).collect()
}

#[cfg(test)]
mod tests {
    use steer_anycast::bfd::wire::Diagnostic;

    use super::*;

    #[test]
    fn only_a_failure_is_down_and_a_short_one_is_not_missed() {
        const EXPIRED: PathState = PathState::Down(Diagnostic::DETECTION_TIME_EXPIRED);
        let never = PathState::Down(Diagnostic::NONE);
        let expired = Word::Failed(Some(Diagnostic::DETECTION_TIME_EXPIRED));
        let rows: [(PathState, u64, u64, &[Word]); 7] = [
            (never, 0, 0, &[]),
            (PathState::Up, 0, 0, &[Word::Up]),
            (EXPIRED, 1, 0, &[expired]),
            (EXPIRED, 1, 1, &[expired]), // told again to another fleet
            (PathState::Up, 1, 0, &[Word::Failed(None), Word::Up]),
            (PathState::PeerAdminDown, 0, 0, &[]),
            (PathState::AdminDown, 2, 1, &[Word::Failed(None)]),
        ];
        for (state, failures, told, want) in rows {
            assert_eq!(
                words(Path { state, failures }, told),
                want,
                "{state:?} {failures} {told}"
            );
        }
    }
}
