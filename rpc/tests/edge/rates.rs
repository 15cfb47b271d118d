//! Several edges that keep one rate, around a real etcd on 127.0.0.1, where Debian's `etcd-server` is installed.

#[expect(dead_code, reason = "shared with the tests of the store")]
#[path = "../../../health/src/store/etcd/tests/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use steer_health::store::etcd::{News, Slate};
use steer_rpc::edge::{Edge, EdgeConfig, Running};
use steer_topology::EtcdCluster;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::meter::scrape;
use crate::peers::{Backend, PATIENCE, Script, call_on, client, until, within};
use cluster::Cluster;

/// What each client may do.
const RATE: f64 = 40.0;

/// So long is counted.
const SPAN: Duration = Duration::from_secs(2);

fn config(backend: SocketAddr, fleet: &str) -> EdgeConfig {
    let text = format!(
        "admin = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[rate_limit]\nclient = \"header:x-key\"\nper_second = 40\nburst = 8\n\
         {fleet}\n[[pool]]\nname = \"x\"\nbackends = [\"{backend}\"]\n"
    );
    EdgeConfig::parse(&text, Path::new(".")).unwrap()
}

fn fleet(cluster: &Cluster, edge: &str) -> String {
    let members = cluster.members().join(",");
    format!("fleet = {{ store = \"etcd://{members}\", name = \"shop\", edge = \"{edge}\", every_ms = 200 }}")
}

async fn start(config: EdgeConfig) -> Running {
    Edge::bind(config).await.unwrap().run().unwrap()
}

/// A client that calls at some edges as often as it can.
struct Hammer {
    admitted: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Hammer {
    fn start(edges: &[&Running], key: &'static str) -> Self {
        let mut hammer = Self {
            admitted: Arc::default(),
            tasks: JoinSet::new(),
        };
        for edge in edges {
            hammer.also(edge, key);
        }
        hammer
    }

    fn also(&mut self, edge: &Running, key: &'static str) -> AbortHandle {
        let (address, admitted) = (edge.address(), self.admitted.clone());
        self.tasks.spawn(async move {
            let send = client(address).await;
            loop {
                let began = Instant::now();
                let seen = call_on(send.clone(), &[("x-key", key)], b"x").await.unwrap();
                // Nothing asks the store on the way of a call.
                assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
                match seen.status() {
                    "0" => _ = admitted.fetch_add(1, Ordering::SeqCst),
                    "8" => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => unreachable!("status {other}"),
                }
            }
        })
    }

    /// Calls per second, when they have been the same for two spans.
    async fn stable(&mut self, want: f64, what: &str) {
        let began = Instant::now();
        let (mut good, mut last) = (0, 0.0);
        while good < 2 {
            assert!(
                began.elapsed() < PATIENCE * 2,
                "{what}: {last} calls per second, not {want}"
            );
            let (before, since) = (self.admitted.load(Ordering::SeqCst), Instant::now());
            tokio::time::sleep(SPAN).await;
            if let Some(ended) = self.tasks.try_join_next() {
                ended.unwrap();
            }
            let calls = self.admitted.load(Ordering::SeqCst) - before;
            last = calls as f64 / since.elapsed().as_secs_f64();
            let is_good = (last / want - 1.0).abs() < 0.25;
            good = if is_good { good + 1 } else { 0 };
        }
    }
}

/// One that looks at what edges say in the store.
struct Observer {
    news: mpsc::Receiver<News>,
    edges: BTreeSet<String>,
    _says: watch::Sender<Vec<u8>>,
}

impl Observer {
    fn start(cluster: &Cluster) -> Self {
        let place = EtcdCluster {
            members: cluster.members(),
            tls: None,
            user: None,
        };
        let slate = Slate::new(
            place,
            "/steer/rates/shop/",
            "observer",
            Duration::from_secs(60),
            1,
        );
        let (says, words) = watch::channel(Vec::new());
        let (tell, news) = mpsc::channel(64);
        tokio::spawn(slate.run(words, tell, std::future::pending()));
        Self {
            news,
            edges: BTreeSet::new(),
            _says: says,
        }
    }

    async fn until(&mut self, want: &[&str]) {
        let names = |edges: &BTreeSet<String>| -> Vec<_> {
            let names = edges
                .iter()
                .map(|edge| edge.split('/').next().unwrap().to_owned());
            names.collect()
        };
        within(async {
            while names(&self.edges) != want {
                match self.news.recv().await.unwrap() {
                    News::All(all) => self.edges = all.into_iter().map(|(name, _)| name).collect(),
                    News::Put(name, _) => _ = self.edges.insert(name),
                    News::Gone(name) => _ = self.edges.remove(&name),
                    News::Lost(_) => {}
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_one_rate_from_all_edges_and_without_the_store_its_share_of_each() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    let backend = Backend::start(&[Script::Echo]).await;
    let fra = start(config(backend.address, &fleet(&cluster, "fra"))).await;
    let nrt = start(config(backend.address, &fleet(&cluster, "nrt"))).await;
    let jfk = start(config(backend.address, &fleet(&cluster, "jfk"))).await;
    let mut observer = Observer::start(&cluster);
    observer.until(&["fra", "jfk", "nrt"]).await;

    let mut everywhere = Hammer::start(&[&fra, &nrt, &jfk], "a");
    let mut at_one = Hammer::start(&[&fra], "b");
    everywhere.stable(RATE, "at three edges together").await;
    at_one.stable(RATE, "another client, at one of them").await;

    cluster.kill();
    at_one
        .stable(RATE / 3.0, "without the store, at one of three")
        .await;
    everywhere.stable(RATE, "without the store, at all three").await;

    cluster.run();
    at_one.stable(RATE, "with the store again, at one of three").await;
    everywhere
        .stable(RATE, "with the store again, at all three")
        .await;

    drop(everywhere);
    jfk.drain().await;
    observer.until(&["fra", "nrt"]).await;
    let mut everywhere = Hammer::start(&[&fra, &nrt], "a");
    everywhere.stable(RATE, "at the two that are left").await;
    cluster.kill();
    at_one
        .stable(RATE / 2.0, "without the store, at one of two")
        .await;
    everywhere.stable(RATE, "without the store, at both").await;
    drop((everywhere, at_one));
    for edge in [fra, nrt] {
        // It gives nothing back where there is nobody to take it, and does not wait for that either.
        within(edge.drain()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_an_edge_out_of_the_fleet_and_into_it() {
    let Some(cluster) = Cluster::start(1) else { return };
    let backend = Backend::start(&[Script::Echo]).await;
    let fra = start(config(backend.address, &fleet(&cluster, "fra"))).await;
    let nrt = start(config(backend.address, "")).await;
    let mut observer = Observer::start(&cluster);
    observer.until(&["fra"]).await;
    let mut hammer = Hammer::start(&[&fra, &nrt], "a");
    hammer.stable(2.0 * RATE, "each for itself").await;

    nrt.reload(config(backend.address, &fleet(&cluster, "nrt")))
        .unwrap();
    observer.until(&["fra", "nrt"]).await;
    hammer.stable(RATE, "both together").await;
    // The same again: nobody leaves, and nothing is forgotten.
    let before = observer.edges.clone();
    nrt.reload(config(backend.address, &fleet(&cluster, "nrt")))
        .unwrap();
    hammer
        .stable(RATE, "both together after a reload of the same")
        .await;
    observer.until(&["fra", "nrt"]).await;
    assert_eq!(observer.edges, before);

    fra.reload(config(backend.address, "")).unwrap();
    observer.until(&["nrt"]).await;
    hammer.stable(2.0 * RATE, "each for itself again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_begins_without_the_store_and_takes_no_word_that_is_none() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    if !cluster.has_control() {
        return;
    }
    cluster.kill();
    let backend = Backend::start(&[Script::Echo]).await;
    let fra = start(config(backend.address, &fleet(&cluster, "fra"))).await;
    let mut hammer = Hammer::start(&[&fra], "a");
    hammer.stable(RATE, "alone from the start").await;
    cluster.run();
    let mut observer = Observer::start(&cluster);
    observer.until(&["fra"]).await;
    for wrong in ["no word", "\u{8}\u{1}"] {
        assert!(cluster.control(&["put", "/steer/rates/shop/nrt/1", wrong]));
    }
    within(async {
        while !scrape(fra.admin().unwrap())
            .await
            .contains("steer_rpc_rate_fleet_refused_total 2")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    hammer.stable(RATE, "beside one that says nothing of sense").await;
    let seen = backend.seen();
    until("calls go on", || backend.seen() > seen).await;
}
