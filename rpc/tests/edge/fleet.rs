//! An edge within a fleet: its backends stand as each snapshot says.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_health::{Judge, Service, Snapshot, Verdict};
use steer_rpc::edge::{Edge, EdgeConfig, View};
use steer_topology::{Fleet, Resolve};

use crate::collector::{Collector, Manner};
use crate::peers::{Backend, Script, call, within};

struct Nobody;

impl Resolve for Nobody {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

/// From fra: the endpoints of `shop`, the first of them there and the others in nrt.
fn view(endpoints: &[SocketAddr]) -> View {
    let sites = ["fra"].into_iter().chain(std::iter::repeat("nrt"));
    let endpoints = endpoints
        .iter()
        .zip(sites)
        .map(|(address, site)| format!("{{ site = \"{site}\", address = \"{address}\" }}"));
    let text = format!(
        "[[site]]\nname = \"fra\"\n[[site]]\nname = \"nrt\"\n[[check]]\nname = \"c\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"shop\"\ncheck = \"c\"\nendpoints = [ {} ]\n",
        endpoints.collect::<Vec<_>>().join(", ")
    );
    let fleet = Fleet::parse(&text, Path::new("steer.toml"), &Nobody).unwrap();
    let site = fleet.site_named("fra");
    let judge = Judge::new(Arc::new(fleet), Instant::now(), Timestamp::UNIX_EPOCH);
    View {
        snapshot: Arc::new(judge.first_snapshot()),
        site,
    }
}

/// The next snapshot: an endpoint is in service, or down and out.
fn next(before: &View, endpoint: usize, is_in: bool) -> View {
    let mut snapshot = Snapshot::clone(&before.snapshot);
    snapshot.number += 1;
    let state = snapshot.endpoints.get_mut(endpoint).unwrap();
    (state.verdict, state.service) = match is_in {
        true => (Verdict::Up, Service::In),
        false => (Verdict::Down, Service::Out),
    };
    View {
        snapshot: Arc::new(snapshot),
        site: before.site,
    }
}

fn config(text: &str) -> EdgeConfig {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 1\n{text}[[pool]]\nname = \"x\"\nbackends = \"pool:shop\"\nslow_start_ms = 0\n"
    );
    EdgeConfig::parse(&text, Path::new(".")).unwrap()
}

#[tokio::test]
async fn calls_go_where_the_newest_snapshot_has_somebody_in_service_and_their_spans_say_its_number() {
    let [local, remote] = [
        Backend::start(&[Script::Echo]).await,
        Backend::start(&[Script::Echo]).await,
    ];
    let collector = Collector::start(Manner::Takes).await;
    let traces = format!(
        "[traces]\nendpoint = \"http://{}\"\nsample = 1\n",
        collector.address
    );
    let first = view(&[local.address, remote.address]);
    let edge = Edge::bind_within(config(&traces), Some(&first))
        .await
        .unwrap()
        .run()
        .unwrap();
    let down = next(&first, 0, false);
    let up = next(&down, 0, true);
    for (view, seen) in [(&first, [1, 0]), (&down, [1, 1]), (&up, [2, 1])] {
        edge.follow(view).unwrap();
        assert_eq!(call(edge.address(), &[], b"").await.status(), "0");
        assert_eq!([local.seen(), remote.seen()], seen);
    }
    within(edge.drain()).await;
    let numbers = collector
        .told()
        .into_iter()
        .filter_map(|told| told.value("steer.snapshot"));
    let expected = [&first, &down, &up].map(|view| view.snapshot.number.to_string());
    assert_eq!(numbers.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn another_fleet_brings_other_backends_and_one_without_the_pool_changes_nothing() {
    let [one, other] = [
        Backend::start(&[Script::Echo]).await,
        Backend::start(&[Script::Echo]).await,
    ];
    let before = view(&[one.address]);
    let edge = Edge::bind_within(config(""), Some(&before))
        .await
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(call(edge.address(), &[], b"").await.status(), "0");
    edge.follow(&view(&[other.address])).unwrap();
    assert_eq!(call(edge.address(), &[], b"").await.status(), "0");
    assert_eq!((one.seen(), other.seen()), (1, 1));
    let without = View {
        snapshot: Arc::new(Snapshot {
            fleet: Arc::new(Fleet {
                pools: Vec::new(),
                ..Fleet::clone(&before.snapshot.fleet)
            }),
            ..Snapshot::clone(&before.snapshot)
        }),
        site: before.site,
    };
    let error = edge.follow(&without).unwrap_err().to_string();
    assert_eq!(error, "\"pool:shop\" names no pool of the fleet; there are none");
    assert_eq!(call(edge.address(), &[], b"").await.status(), "0");
    assert_eq!((one.seen(), other.seen()), (1, 2));
}

#[tokio::test]
async fn an_edge_alone_takes_no_pool_of_a_fleet() {
    let error = Edge::bind(config("")).await.unwrap_err().to_string();
    assert!(
        error.starts_with("backends = \"pool:shop\" is a pool of a fleet; write addresses"),
        "{error}"
    );
}
