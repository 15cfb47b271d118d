//! Against a real etcd on 127.0.0.1, where Debian's `etcd-server` is installed.

mod cluster;
mod sites;
mod slates;

use std::path::Path;
use std::time::Duration;

use steer_topology::{EtcdCluster, EtcdStore, EtcdTls};

use super::service::FleetStore;
use super::writer::{WriteError, Writer};
use crate::store::tests::{Subject, battery};
use crate::store::{Edit, StoredDrain, StoredWish, WishKey, Wishes};
use cluster::Cluster;

/// A cluster that asks nobody who he is.
fn reach(members: &[String]) -> EtcdCluster {
    EtcdCluster {
        members: members.to_vec(),
        tls: None,
        user: None,
    }
}

/// The members of a cluster, with a cache in a folder.
fn place(members: &[String], folder: &Path) -> EtcdStore {
    EtcdStore {
        cluster: reach(members),
        prefix: "/steer/test/".to_owned(),
        cache: folder.join("cache.redb"),
    }
}

fn drain(target: &str) -> StoredWish {
    StoredWish::Drain(StoredDrain {
        target: target.to_owned(),
        reason: "kernel update".to_owned(),
        author: "ana".to_owned(),
        since: "2026-01-01T12:00:00Z".parse().unwrap(),
        until: None,
    })
}

/// Everything is read anew each time, by a site that begins.
struct Fresh {
    store: EtcdStore,
    runtime: tokio::runtime::Runtime,
}

impl Fresh {
    fn new(store: EtcdStore) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { store, runtime }
    }

    fn write_from(&self, edits: &[Edit], base: Option<i64>) -> Result<i64, WriteError> {
        let writer = Writer::new(self.store.clone());
        self.runtime.block_on(writer.write(edits, base, None))
    }
}

impl Subject for Fresh {
    fn wishes(&mut self) -> Wishes {
        let opened = self
            .runtime
            .block_on(FleetStore::open(&self.store, None, 1))
            .unwrap();
        assert!(opened.keeping().borrow().fleet.as_ref().unwrap().lost.is_none());
        opened.known().clone()
    }

    fn write(&mut self, edits: &[Edit]) {
        self.write_from(edits, None).unwrap();
    }

    fn reopen(&mut self) {}
}

#[test]
fn a_cluster_passes_the_battery() {
    let Some(cluster) = Cluster::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    battery(&mut Fresh::new(place(&cluster.members(), folder.path())));
}

#[test]
fn a_wish_that_was_weighed_against_an_older_picture_is_not_written() {
    let Some(cluster) = Cluster::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let fresh = Fresh::new(place(&cluster.members(), folder.path()));
    let first = fresh.write_from(&[Edit::Put(drain("fra"))], Some(1)).unwrap();
    let late = fresh.write_from(&[Edit::Put(drain("nrt"))], Some(1));
    assert_eq!(late, Err(WriteError::Changed(first)));
    fresh.write_from(&[Edit::Put(drain("nrt"))], Some(first)).unwrap();
    // The same again, as after an answer that was lost, is done.
    fresh.write_from(&[Edit::Put(drain("nrt"))], Some(first)).unwrap();
    fresh
        .write_from(&[Edit::Remove(WishKey::drain("fra"))], None)
        .unwrap();
}

#[test]
fn the_next_member_is_asked_where_one_does_not_answer() {
    let Some(cluster) = Cluster::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let dead = format!("127.0.0.1:{}", cluster::free_port());
    let members = [&[dead][..], &cluster.members()].concat();
    let mut fresh = Fresh::new(place(&members, folder.path()));
    fresh.write(&[Edit::Put(drain("fra"))]);
    assert_eq!(fresh.wishes().len(), 1);
}

#[test]
fn a_user_is_asked_for_the_password_and_a_wrong_one_is_said() {
    let Some(cluster) = Cluster::start(1) else { return };
    if !cluster.has_users("s3cret") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let mut store = place(&cluster.members(), folder.path());
    let nobody = Fresh::new(store.clone()).write_from(&[Edit::Put(drain("fra"))], None);
    assert!(
        matches!(&nobody, Err(WriteError::Away(why)) if why.contains("user name is empty")),
        "{nobody:?}"
    );

    store.cluster.user = Some(("root".to_owned(), password.clone()));
    let mut fresh = Fresh::new(store);
    fresh.write(&[Edit::Put(drain("fra"))]);
    assert_eq!(fresh.wishes().len(), 1);

    std::fs::write(&password, "wrong\n").unwrap();
    let wrong = fresh.write_from(&[Edit::Put(drain("nrt"))], None);
    let said = matches!(&wrong, Err(WriteError::Away(why)) if why.contains("authentication failed") && !why.contains("wrong"));
    assert!(said, "{wrong:?}");
    std::fs::write(&password, "").unwrap();
    let empty = fresh.write_from(&[Edit::Put(drain("nrt"))], None);
    let said =
        matches!(&empty, Err(WriteError::Away(why)) if why.contains("its first line must be the password"));
    assert!(said, "{empty:?}");
}

#[test]
fn with_tls_each_side_shows_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let keys = cluster::Keys::make(folder.path());
    let Some(cluster) = Cluster::start_tls(&keys) else {
        return;
    };
    let with = |ca: &Path, client: Option<()>| EtcdStore {
        cluster: EtcdCluster {
            tls: Some(EtcdTls {
                ca_file: Some(ca.to_owned()),
                client: client.map(|()| (keys.client_cert.clone(), keys.client_key.clone())),
            }),
            ..reach(&cluster.members())
        },
        ..place(&cluster.members(), folder.path())
    };
    let mut fresh = Fresh::new(with(&keys.ca, Some(())));
    fresh.write(&[Edit::Put(drain("fra"))]);
    assert_eq!(fresh.wishes().len(), 1);

    let stranger = Fresh::new(with(&keys.ca, None)).write_from(&[Edit::Put(drain("nrt"))], None);
    assert!(
        matches!(stranger, Err(WriteError::Away(_) | WriteError::Doubt(_))),
        "{stranger:?}"
    );
    let other = Fresh::new(with(&keys.other_ca, Some(()))).write_from(&[Edit::Put(drain("nrt"))], None);
    let said = matches!(&other, Err(WriteError::Away(why)) if why.contains("invalid peer certificate"));
    assert!(said, "{other:?}");
    let plain = Fresh::new(place(&cluster.members(), folder.path()));
    let plain = plain.write_from(&[Edit::Put(drain("nrt"))], None);
    assert!(
        matches!(plain, Err(WriteError::Away(_) | WriteError::Doubt(_))),
        "{plain:?}"
    );
    assert_eq!(fresh.wishes().len(), 1);
}

#[tokio::test]
async fn a_start_without_the_cluster_needs_a_cache_that_saw_it() {
    let folder = tempfile::tempdir().unwrap();
    let dead = format!("127.0.0.1:{}", cluster::free_port());
    let store = place(std::slice::from_ref(&dead), folder.path());
    let limits = (Duration::from_millis(300), Duration::from_millis(500));
    let refused = FleetStore::open_within(&store, None, 1, limits)
        .await
        .unwrap_err();
    let text = refused.to_string();
    for part in [
        &format!("etcd://{dead}"),
        "no member answers within 500ms",
        "start the cluster first",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let Some(cluster) = Cluster::start(1) else { return };
    let alive = EtcdStore {
        cluster: reach(&cluster.members()),
        ..store.clone()
    };
    Writer::new(alive.clone())
        .write(&[Edit::Put(drain("fra"))], None, None)
        .await
        .unwrap();
    drop(FleetStore::open(&alive, None, 1).await.unwrap());
    let opened = FleetStore::open_within(&store, None, 1, limits).await.unwrap();
    assert_eq!(opened.known().len(), 1, "as the cluster said last");
    let keeping = opened.keeping().borrow().clone();
    let lost = keeping.fleet.unwrap().lost.unwrap();
    assert!(lost.since.is_none() && lost.why.contains("refused"), "{lost:?}");
}
