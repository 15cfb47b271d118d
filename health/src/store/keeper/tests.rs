use steer_topology::{CheckKind, Fleet, SiteId};

use super::*;
use crate::operator::{Drain, Target};
use crate::testing::FleetBuilder;

fn fleet() -> Arc<Fleet> {
    FleetBuilder::new(CheckKind::Tcp)
        .unchecked_pool(&[Some(0), Some(1)])
        .build()
}

fn drain(site: u16, until: Option<&str>) -> Drain {
    Drain {
        target: Target::Site(SiteId(site)),
        reason: String::new(),
        author: "ana".to_owned(),
        since: Timestamp::UNIX_EPOCH,
        until: until.map(|until| until.parse().unwrap()),
    }
}

fn snapshot(number: u64, drains: Vec<Drain>) -> Arc<Snapshot> {
    let judge = Judge::new(fleet(), Instant::now(), Timestamp::UNIX_EPOCH);
    Arc::new(Snapshot {
        number,
        drains,
        ..judge.first_snapshot()
    })
}

fn kept(keeper: &Keeper) -> Vec<String> {
    keeper
        .store
        .wishes()
        .unwrap()
        .into_keys()
        .map(|key| key.target)
        .collect()
}

#[tokio::test]
async fn the_store_follows_the_newest_snapshot_whatever_was_missed_between() {
    let mut keeper = Keeper::new(Store::open(None).unwrap()).unwrap();
    keeper = keeper.keep(snapshot(2, vec![drain(0, None)])).await;
    assert_eq!(kept(&keeper), ["fra"]);
    keeper = keeper.keep(snapshot(7, vec![drain(1, None)])).await;
    assert_eq!(kept(&keeper), ["nrt"]);
    assert_eq!(keeper.handle().keeping().snapshot, 7);
    let edits = keeper.edits(&snapshot(8, vec![drain(1, None)]));
    assert_eq!(edits, [], "nothing is written twice");
    let renewed = snapshot(9, vec![drain(1, Some("2026-01-01T00:00:00Z"))]);
    assert_eq!(keeper.edits(&renewed).len(), 1, "a new end is news");
}

#[tokio::test]
async fn what_is_over_at_start_is_not_restored_and_leaves_the_store() {
    let mut store = Store::open(None).unwrap();
    let fleet = fleet();
    let put = |drain: Drain| Edit::Put(StoredWish::Drain(StoredDrain::of(&drain, &fleet)));
    let over = drain(0, Some("2026-01-01T00:00:00Z"));
    let stands = drain(1, Some("2026-01-03T00:00:00Z"));
    store.write(&[put(over), put(stands)]).unwrap();
    let mut keeper = Keeper::new(store).unwrap();
    let at = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut judge = Judge::new(Arc::clone(&fleet), Instant::now(), at);
    keeper.restore(&mut judge, Instant::now(), at);
    assert_eq!(judge.drains().len(), 1);
    let first = Arc::new(judge.first_snapshot());
    keeper = keeper.keep(first).await;
    assert_eq!(kept(&keeper), ["nrt"]);
}

#[tokio::test]
async fn an_orphan_is_kept_until_it_is_over() {
    let mut store = Store::open(None).unwrap();
    let orphan = StoredDrain {
        target: "lhr".to_owned(),
        reason: String::new(),
        author: String::new(),
        since: Timestamp::UNIX_EPOCH,
        until: Some(Timestamp::UNIX_EPOCH + Duration::from_secs(60)),
    };
    store.write(&[Edit::Put(StoredWish::Drain(orphan))]).unwrap();
    let mut keeper = Keeper::new(store).unwrap();
    let mut judge = Judge::new(fleet(), Instant::now(), Timestamp::UNIX_EPOCH);
    keeper.restore(&mut judge, Instant::now(), Timestamp::UNIX_EPOCH);
    keeper = keeper.keep(snapshot(2, Vec::new())).await;
    assert_eq!(kept(&keeper), ["lhr"]);
    let later = Snapshot {
        at: Timestamp::UNIX_EPOCH + Duration::from_secs(61),
        ..(*snapshot(3, Vec::new())).clone()
    };
    keeper = keeper.keep(Arc::new(later)).await;
    assert_eq!(kept(&keeper), [""; 0]);
}
