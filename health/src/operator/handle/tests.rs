use std::path::Path;
use std::time::Instant;

use steer_topology::CheckKind;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::judge::Judge;
use crate::operator::Target;
use crate::store::Store;
use crate::testing::FleetBuilder;

/// A whole health side: driver, keeper, operator; a fleet that is not checked, so that it is settled at once.
struct World {
    operator: Operator,
    cell: Arc<SnapshotCell>,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl World {
    fn start(store: Option<&Path>) -> Self {
        Self::start_with(store, &[Some(0), Some(1), Some(2)])
    }

    fn start_with(store: Option<&Path>, sites: &[Option<u16>]) -> Self {
        let fleet = FleetBuilder::new(CheckKind::Tcp)
            .guard(1, 9, Duration::from_secs(60))
            .unchecked_pool(sites)
            .build();
        let mut keeper = Keeper::new(Store::open(store).unwrap()).unwrap();
        let mut judge = Judge::new(Arc::clone(&fleet), Instant::now(), Timestamp::now());
        keeper.restore(&mut judge, Instant::now(), Timestamp::now());
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let (operator, commands) = Operator::new(Arc::clone(&cell), &keeper);
        let stop = CancellationToken::new();
        let driver = crate::run(fleet, Arc::clone(&cell), judge, commands, 1, None, stop.clone());
        let tasks = [
            tokio::spawn(async move { drop(driver.await) }),
            tokio::spawn(keeper.run(Arc::clone(&cell), stop.clone())),
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

    async fn undrained(&self) {
        let mut news = self.cell.subscribe();
        let gone = async {
            while !self.cell.load().drains.is_empty() {
                news.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
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

#[tokio::test]
async fn a_wish_is_answered_when_its_snapshot_is_published() {
    let world = World::start(None);
    let drained = world.operator.wish(order("fra")).await.unwrap();
    assert_eq!(
        (drained.wish.key(), drained.kept),
        (WishKey::drain("fra"), Kept::NoStore)
    );
    let snapshot = world.cell.load();
    assert!(snapshot.number >= drained.snapshot);
    let StoredWish::Drain(stands) = drained.wish else {
        panic!("a drain was wished");
    };
    assert_eq!(snapshot.drains, [stands.on(&snapshot.fleet).unwrap()]);
    let over = world
        .operator
        .take_back(WishKind::Drain, "fra", "bo")
        .await
        .unwrap();
    assert!(over.snapshot > drained.snapshot && world.cell.load().drains.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_is_said_and_changes_nothing() {
    let world = World::start(None);
    let refused = |order| {
        let operator = world.operator.clone();
        async move { operator.wish(order).await.unwrap_err().to_string() }
    };
    assert!(
        refused(order("frx"))
            .await
            .contains("sites are fra, nrt, jfk, gru")
    );
    let endless = Order {
        time: Some(Duration::MAX),
        ..order("fra")
    };
    assert!(refused(endless).await.contains("at most ten years"));
    let nothing = Order {
        time: Some(Duration::ZERO),
        ..order("fra")
    };
    assert!(refused(nothing).await.contains("more than nothing"));
    let long = Order {
        reason: "x".repeat(501),
        ..order("fra")
    };
    assert_eq!(
        refused(long).await,
        "the reason has 501 bytes, and at most 500 are kept"
    );
    let over = world
        .operator
        .take_back(WishKind::Drain, "nrt", "ana")
        .await
        .unwrap_err();
    assert_eq!(over.to_string(), "nrt is not drained");
    assert_eq!(world.cell.load().number, 1);

    world.operator.wish(order("fra")).await.unwrap();
    world.operator.wish(order("nrt")).await.unwrap();
    assert!(refused(order("jfk")).await.contains("--force"));
    let forced = Order {
        force: true,
        ..order("jfk")
    };
    world.operator.wish(forced).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_drain_survives_a_restart_and_ends_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state/steer.redb");
    let world = World::start(Some(&file));
    let short = Order {
        time: Some(Duration::from_secs(2)),
        ..order("nrt")
    };
    for order in [order("fra"), short] {
        assert_eq!(world.operator.wish(order).await.unwrap().kept, Kept::Yes);
    }
    let stood = world.cell.load().drains.clone();
    world.stop().await;

    let world = World::start(Some(&file));
    assert_eq!(world.cell.load().drains, stood, "in the very first snapshot");
    assert_eq!(
        world
            .operator
            .take_back(WishKind::Drain, "fra", "ana")
            .await
            .unwrap()
            .kept,
        Kept::Yes
    );
    world.undrained().await;
    world.stop().await;
    let store = Store::open(Some(&file)).unwrap();
    assert!(store.wishes().unwrap().is_empty(), "what ended is not kept");
}

#[tokio::test]
async fn a_kept_drain_of_a_site_that_is_gone_waits_for_its_return_or_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("steer.redb");
    let world = World::start(Some(&file));
    let endpoint = Order {
        target: "127.0.0.1:9@jfk".to_owned(),
        ..order("")
    };
    let name = world.operator.wish(endpoint).await.unwrap().wish.key().target;
    world.stop().await;

    let world = World::start_with(Some(&file), &[Some(0), Some(1)]);
    assert!(world.cell.load().drains.is_empty());
    let drained = world.operator.wish(order("fra")).await.unwrap();
    assert_eq!(drained.kept, Kept::Yes);
    assert_eq!(world.operator.keeping().orphans[0].key().target, name);
    world.stop().await;

    let world = World::start(Some(&file));
    assert_eq!(world.cell.load().drains.len(), 2, "the endpoint is back");
    world.stop().await;

    let world = World::start_with(Some(&file), &[Some(0), Some(1)]);
    assert!(
        world
            .operator
            .take_back(WishKind::Drain, "127.0.0.1:9", "ana")
            .await
            .is_err(),
        "by its full name only"
    );
    world
        .operator
        .take_back(WishKind::Drain, &name, "ana")
        .await
        .unwrap();
    world.stop().await;
    let world = World::start(Some(&file));
    assert_eq!(world.cell.load().drains.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_store_that_is_lost_changes_nothing_and_is_said_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let file = state.join("steer.redb");
    let world = World::start(Some(&file));
    assert_eq!(world.operator.wish(order("fra")).await.unwrap().kept, Kept::Yes);

    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "in the way").unwrap();
    let drained = world.operator.wish(order("nrt")).await.unwrap();
    match drained.kept {
        Kept::No(why) => assert!(why.contains("steer.redb"), "{why}"),
        other @ (Kept::Yes | Kept::NoStore) => panic!("{other:?}"),
    }
    assert_eq!(world.cell.load().drains.len(), 2, "what is known stays in force");

    std::fs::remove_file(&state).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.operator.keeping().trouble.is_some() {
        assert!(Instant::now() < deadline, "{:?}", world.operator.keeping());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop().await;
    let world = World::start(Some(&file));
    assert_eq!(world.cell.load().drains.len(), 2, "all of it is written anew");
    world.stop().await;
}

#[tokio::test]
async fn many_operators_at_once_are_all_answered() {
    let world = World::start(None);
    let wishes = (0..200).map(|number| {
        let operator = world.operator.clone();
        tokio::spawn(async move {
            let renewed = Order {
                reason: number.to_string(),
                ..order("fra")
            };
            operator.wish(renewed).await.is_ok()
        })
    });
    for wish in wishes.collect::<Vec<_>>() {
        assert!(wish.await.unwrap());
    }
    assert_eq!(world.cell.load().drains.len(), 1);
    let target = world.cell.load().drains[0].target;
    assert_eq!(target, Target::find(&world.cell.load().fleet, "fra").unwrap());
    let operator = world.operator.clone();
    world.stop().await;
    let late = operator.wish(order("nrt")).await.unwrap_err();
    assert_eq!(late, Refused::Stopping);
}
