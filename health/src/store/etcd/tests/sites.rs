//! Whole sites around one cluster: store, driver, operator.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_topology::CheckKind;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::Presence;
use super::*;
use crate::judge::Judge;
use crate::operator::{Operator, Order, Refused, What};
use crate::snapshot::SnapshotCell;
use crate::store::WishKind;
use crate::testing::FleetBuilder;

/// What the issue asks for: each site sees what was wished at another within about a second.
const SOON: Duration = Duration::from_secs(1);

struct Site {
    operator: Operator,
    cell: Arc<SnapshotCell>,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl Site {
    /// A site of three whose endpoints are not checked.
    async fn start(members: &[String], folder: &Path, name: &str) -> Self {
        let fleet = FleetBuilder::new(CheckKind::Tcp)
            .guard(1, 9, Duration::from_secs(60))
            .unchecked_pool(&[Some(0), Some(1)])
            .build();
        let me = Presence {
            site: name.to_owned(),
            started: Timestamp::now(),
            steer: "test".to_owned(),
        };
        let place = EtcdStore {
            cache: folder.join(format!("{name}.redb")),
            ..place(members, folder)
        };
        let limits = (Duration::from_millis(500), Duration::from_secs(10));
        let mut store = FleetStore::open_within(&place, Some(me), 1, limits)
            .await
            .unwrap();
        let mut judge = Judge::new(Arc::clone(&fleet), Instant::now(), Timestamp::now());
        store.restore(&mut judge, Instant::now(), Timestamp::now());
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let (operator, commands) = Operator::of_fleet(Arc::clone(&cell), &store);
        let stop = CancellationToken::new();
        let driver = crate::run(fleet, Arc::clone(&cell), judge, commands, 1, None, stop.clone());
        let tasks = [
            tokio::spawn(async move { drop(driver.await) }),
            tokio::spawn(store.run(operator.clone(), Arc::clone(&cell), stop.clone())),
        ];
        Self {
            operator,
            cell,
            stop,
            tasks,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    fn drained(&self) -> Vec<String> {
        let snapshot = self.cell.load();
        let drains = snapshot.drains.iter();
        drains.map(|drain| drain.target.name(&snapshot.fleet)).collect()
    }

    async fn until_drained(&self, want: &[&str], limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.drained() != want {
            assert!(
                Instant::now() < deadline,
                "{:?}, not {want:?}; {:?}",
                self.drained(),
                self.operator.keeping()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A site says that it is there beside what it does, and the others hear of it by the watch.
    async fn until_there(&self, want: &[&str]) {
        let there = || -> Vec<String> {
            let sites = self.operator.keeping().fleet.unwrap().sites;
            sites.into_iter().map(|site| site.site).collect()
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while there() != want {
            assert!(Instant::now() < deadline, "{:?}, not {want:?}", there());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_lost(&self, is_lost: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.operator.keeping().fleet.unwrap().lost.is_some() != is_lost {
            assert!(Instant::now() < deadline, "{:?}", self.operator.keeping());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn order(target: &str) -> Order {
    Order {
        what: What::Drain,
        target: target.to_owned(),
        reason: "kernel update".to_owned(),
        author: "ana".to_owned(),
        time: None,
        force: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_at_one_site_counts_at_all_and_stands_while_the_cluster_is_away() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let members = cluster.members();
    let fra = Site::start(&members, folder.path(), "fra").await;
    let nrt = Site::start(&members, folder.path(), "nrt").await;
    let done = fra.operator.wish(order("fra")).await.unwrap();
    assert!(fra.cell.load().number >= done.snapshot);
    assert_eq!(fra.drained(), ["fra"]);
    nrt.until_drained(&["fra"], SOON).await;
    nrt.until_there(&["fra", "nrt"]).await;

    cluster.kill();
    for site in [&fra, &nrt] {
        site.until_lost(true).await;
        assert_eq!(site.drained(), ["fra"]);
    }
    let refused = nrt
        .operator
        .take_back(WishKind::Drain, "fra", "bo")
        .await
        .unwrap_err();
    assert!(matches!(&refused, Refused::Store(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("is away") && text.contains("goes on standing everywhere"),
        "{text}"
    );
    assert_eq!(nrt.drained(), ["fra"], "nothing is half done");

    fra.stop().await;
    let fra = Site::start(&members, folder.path(), "fra").await;
    assert_eq!(fra.cell.load().number, 1);
    assert_eq!(
        fra.drained(),
        ["fra"],
        "in the very first snapshot, from the cache"
    );

    cluster.run();
    for site in [&fra, &nrt] {
        site.until_lost(false).await;
        assert_eq!(site.drained(), ["fra"]);
    }
    nrt.operator
        .take_back(WishKind::Drain, "fra", "bo")
        .await
        .unwrap();
    assert_eq!(nrt.drained(), [""; 0]);
    fra.until_drained(&[], SOON).await;
    fra.stop().await;
    nrt.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sites_cannot_drain_each_others_last_resort_at_once() {
    let Some(cluster) = Cluster::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let fra = Site::start(&cluster.members(), folder.path(), "fra").await;
    let nrt = Site::start(&cluster.members(), folder.path(), "nrt").await;
    for _ in 0..8 {
        let (one, other) = tokio::join!(fra.operator.wish(order("fra")), nrt.operator.wish(order("nrt")));
        let (done, refused) = match (one, other) {
            (Ok(done), Err(refused)) | (Err(refused), Ok(done)) => (done.wish.key().target, refused),
            both => panic!("one of two sites must stay: {both:?}"),
        };
        assert!(matches!(refused, Refused::Guard(_)), "{refused}");
        for site in [&fra, &nrt] {
            site.until_drained(&[&done], SOON).await;
        }
        fra.operator
            .take_back(WishKind::Drain, &done, "ana")
            .await
            .unwrap();
        nrt.until_drained(&[], SOON).await;
    }
    fra.stop().await;
    nrt.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lost_all_it_knew_is_told_again() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fra = Site::start(&cluster.members(), folder.path(), "fra").await;
    let nrt = Site::start(&cluster.members(), folder.path(), "nrt").await;
    fra.operator.wish(order("fra")).await.unwrap();
    nrt.until_drained(&["fra"], SOON).await;
    cluster.kill();
    cluster.forget();
    for site in [&fra, &nrt] {
        site.until_lost(true).await;
    }
    cluster.run();
    for site in [&fra, &nrt] {
        site.until_lost(false).await;
        assert_eq!(site.drained(), ["fra"]);
    }
    let late = Site::start(&cluster.members(), folder.path(), "jfk").await;
    assert_eq!(late.drained(), ["fra"], "the cluster knows again");
    nrt.operator
        .take_back(WishKind::Drain, "fra", "bo")
        .await
        .unwrap();
    for site in [&fra, &late] {
        site.until_drained(&[], SOON).await;
    }
    for site in [fra, nrt, late] {
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_read_changes_nothing_and_is_shown() {
    let Some(cluster) = Cluster::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let fra = Site::start(&cluster.members(), folder.path(), "fra").await;
    fra.operator.wish(order("fra")).await.unwrap();
    let key = "/steer/test/wishes/drain/fra";
    if !cluster.control(&["put", key, "{\"version\":9}"]) {
        eprintln!("skip: needs /usr/bin/etcdctl (Debian package etcd-client)");
        return;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while fra.operator.keeping().fleet.unwrap().unreadable.is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fra.drained(), ["fra"]);
    let shown = fra.operator.keeping().fleet.unwrap().unreadable;
    assert_eq!(shown, [format!("{key}: it has version 9, and we know 1")]);
    assert!(cluster.control(&["del", key]));
    fra.until_drained(&[], SOON).await;
    fra.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three_goes_on_with_two() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fra = Site::start(&cluster.members(), folder.path(), "fra").await;
    let nrt = Site::start(&cluster.members(), folder.path(), "nrt").await;
    fra.operator.wish(order("fra")).await.unwrap();
    cluster.kill_one(0);
    // The member that both are connected to is gone, and the next takes over.
    let deadline = Instant::now() + Duration::from_secs(10);
    let over = loop {
        match nrt.operator.take_back(WishKind::Drain, "fra", "bo").await {
            Ok(over) => break over,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(over.name, "fra");
    fra.until_drained(&[], Duration::from_secs(5)).await;
    fra.stop().await;
    nrt.stop().await;
}
