//! The store that `[fleet] store` names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_health::memory::{self, Moment, Remembered};
use steer_health::store::etcd::{FleetStore, Presence};
use steer_health::store::keeper::Keeper;
use steer_health::store::{Store, StoreError};
use steer_health::{Commands, Judge, Operator, SnapshotCell};
use steer_topology::{Fleet, SiteId, StorePlace};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// Where the operator's wishes are kept.
pub(crate) enum Wishes {
    /// In this process, or a file of its own.
    Own(Keeper),
    /// In a cluster, for the whole fleet.
    Fleet(Box<FleetStore>),
}

impl Wishes {
    /// Opens the store and reads what it keeps. A cluster that does not answer is waited for.
    pub(crate) async fn open(fleet: Arc<Fleet>, sites: Vec<Option<SiteId>>) -> Result<Self, Failure> {
        let failed = |error: StoreError| Failure::Runtime(error.to_string());
        let own = |file| Store::open(file).and_then(Keeper::new).map_err(failed);
        match &fleet.store {
            None => own(None).map(Self::Own),
            Some(StorePlace::Embedded(file)) => own(Some(file)).map(Self::Own),
            Some(StorePlace::Etcd(etcd)) => {
                let me = match sites.as_slice() {
                    [Some(site)] => Some(Presence {
                        site: fleet.site(*site).name.clone(),
                        started: Timestamp::now(),
                        steer: env!("CARGO_PKG_VERSION").to_owned(),
                    }),
                    _ => None, // as several sites, or none
                };
                let store = FleetStore::open(etcd, me, rand::random()).await.map_err(failed)?;
                Ok(Self::Fleet(Box::new(store)))
            }
        }
    }

    /// Gives what is kept to the judge, before its first snapshot.
    pub(crate) fn restore(&mut self, judge: &mut Judge, now: Instant, at: Timestamp) {
        match self {
            Self::Own(keeper) => keeper.restore(judge, now, at),
            Self::Fleet(store) => store.restore(judge, now, at),
        }
    }

    /// Who carries wishes to the judge, and where they come out.
    pub(crate) fn operator(&self, cell: Arc<SnapshotCell>) -> (Operator, Commands) {
        match self {
            Self::Own(keeper) => Operator::new(cell, keeper),
            Self::Fleet(store) => Operator::of_fleet(cell, store),
        }
    }

    /// What was out of service seconds ago, if this is a restart. Nothing without a file to keep it in.
    pub(crate) fn remembered(fleet: &Fleet) -> Vec<Remembered> {
        let Some(file) = memory_file(fleet) else {
            return Vec::new();
        };
        match Moment::now() {
            Ok(now) => memory::read(&file, &now),
            Err(error) => {
                tracing::warn!(%error, "nobody knows how long ago the machine was started; all begin unknown");
                Vec::new()
            }
        }
    }

    /// Keeps them until `stop`.
    pub(crate) async fn run(self, operator: Operator, cell: Arc<SnapshotCell>, stop: CancellationToken) {
        match self {
            Self::Own(keeper) => keeper.run(cell, stop).await,
            Self::Fleet(store) => store.run(operator, cell, stop).await,
        }
    }
}

/// Where verdicts are kept: beside the file of the store.
pub(crate) fn memory_file(fleet: &Fleet) -> Option<PathBuf> {
    fleet.store.as_ref().map(|store| match store {
        StorePlace::Embedded(file) => memory::beside(file),
        StorePlace::Etcd(etcd) => memory::beside(&etcd.cache),
    })
}
