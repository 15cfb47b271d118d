//! The store of the fleet in the status.

use std::fmt::Write;

use serde::Serialize;
use steer_health::store::etcd::{FleetKeeping, Lost, Presence};

use crate::moment::ago;

/// How the cluster is that keeps the wishes of the whole fleet.
#[derive(Debug, Serialize)]
pub(super) struct StoreRow {
    #[serde(flatten)]
    fleet: FleetKeeping,
}

impl StoreRow {
    pub(super) fn new(fleet: FleetKeeping) -> Self {
        Self { fleet }
    }

    pub(super) fn render(&self) -> String {
        let FleetKeeping {
            cluster,
            revision,
            member,
            lost,
            sites,
            unreadable,
        } = &self.fleet;
        let cluster = cluster.as_deref().unwrap_or("unknown");
        let mut text = format!("\nstore: etcd cluster {cluster}, revision {revision}");
        match (lost, member) {
            (Some(Lost { since, why }), _) => {
                let since = since.map_or_else(
                    || "not reached since the start".to_owned(),
                    |since| format!("away, last heard {} ago", ago(since)),
                );
                // Writing to a string does not fail.
                let _ = write!(
                    text,
                    "\n  {since}: what it said last stands, and nothing can be wished\n  {why}"
                );
            }
            (None, Some(member)) => {
                let _ = write!(text, ", by {member}");
            }
            (None, None) => text.push_str(", looking for another member"),
        }
        if !sites.is_empty() {
            let names = sites
                .iter()
                .map(|Presence { site, started, .. }| format!("{site} (up {})", ago(*started)));
            let _ = write!(text, "\n  sites there: {}", names.collect::<Vec<_>>().join(", "));
        }
        for key in unreadable {
            let _ = write!(text, "\n  cannot be read: {key}");
        }
        text.push('\n');
        text
    }
}
