//! The tap with real connections over loopback: what it tells, what it keeps, and what happens when it is full.

use std::net::Ipv4Addr;
use std::path::Path as FilePath;

use steer_topology::{Fleet, Prefix, Resolve};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::wire::tests::{frame, read_update_of};
use crate::wire::{Family, Origin, Outbound, Path, Segment, SegmentKind, encode_reach, encode_withdrawal};

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

pub(crate) const ASN: u32 = 64_512;

/// A tap for two peers.
pub(crate) fn tap(keep: bool) -> Arc<Tap> {
    let text = "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n\
                [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 64500\n\
                [[bgp.peer]]\naddress = \"127.0.0.2\"\nasn = 64501\n";
    let fleet = Fleet::parse(text, FilePath::new("steer.toml"), &NoNames).unwrap();
    let peers = fleet.bgp.unwrap().peers;
    Arc::new(Tap::new(Asn::new(ASN).unwrap(), &peers, keep))
}

/// A connection with nobody at its other end.
pub(crate) async fn connection(id: u64) -> Connection {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    Connection::new(SessionId(id), stream).unwrap()
}

pub(crate) fn negotiated(asn: u32) -> Negotiated {
    Negotiated {
        peer_asn: Asn::new(asn).unwrap(),
        peer_id: Ipv4Addr::new(10, 0, 0, 2),
        hold_time: std::time::Duration::from_secs(90),
        families: Families::ALL,
        four_octet: true,
        internal: false,
        extended_messages: false,
        extended_next_hop: false,
        route_refresh: true,
        enhanced_refresh: false,
        graceful_restart: None,
        retained: Families::default(),
        graceful_notification: false,
        long_lived: Vec::new(),
        role: None,
        peer_role: None,
        only_to_customer: None,
        hostname: None,
        software: None,
    }
}

pub(crate) fn announcement(prefixes: &[&str], med: u32) -> Bytes {
    let prefixes: Vec<Prefix> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    let path = Path {
        origin: Origin::Igp,
        as_path: vec![Segment {
            kind: SegmentKind::Sequence,
            asns: vec![ASN],
        }],
        med: Some(med),
        ..Path::default()
    };
    let family = Family::of(&prefixes[0]);
    let next_hop: IpAddr = match family {
        Family::Ipv4Unicast => "192.0.2.254".parse().unwrap(),
        Family::Ipv6Unicast => "2001:db8::254".parse().unwrap(),
    };
    encode_reach(family, &prefixes, next_hop.into(), &path, &Outbound::PLAIN).0
}

pub(crate) fn withdrawal(prefix: &str) -> Bytes {
    let prefix: Prefix = prefix.parse().unwrap();
    encode_withdrawal(Family::of(&prefix), &[prefix], &Outbound::PLAIN).0
}

/// Every prefix with its MED that some UPDATEs announce.
fn routes(updates: &[Bytes]) -> Vec<(String, u32)> {
    let mut routes = Vec::new();
    for update in updates {
        let update = read_update_of(&frame(update));
        let med = update.path.and_then(|path| path.med).unwrap();
        for prefix in update.reachable.iter().flat_map(|reach| &reach.prefixes) {
            routes.push((prefix.to_string(), med));
        }
    }
    routes.sort();
    routes
}

fn lost() -> End {
    End::Lost("gone".to_owned())
}

#[tokio::test]
async fn nobody_is_told_and_nothing_is_kept_until_somebody_looks_on() {
    let tap = tap(false);
    let connection = connection(1).await;
    tap.up(0, &connection, &negotiated(64_500));
    tap.sent(0, &connection, &announcement(&["192.0.2.1/32"], 1));
    let mut watcher = tap.sample();
    assert!(watcher.try_next().is_none());
    tap.sent(0, &connection, &announcement(&["192.0.2.2/32"], 1));
    let told = watcher.try_next().unwrap();
    let What::Message {
        ends,
        direction,
        four_octet,
        octets,
    } = told.what
    else {
        panic!("{told:?}")
    };
    assert_eq!(octets, announcement(&["192.0.2.2/32"], 1));
    assert_eq!((direction, four_octet), (Direction::Out, Some(true)));
    assert_eq!((ends.local, ends.remote), (connection.local, connection.remote));
    assert_eq!(ends.peer_asn, Asn::new(64_500));
    drop(watcher);
    assert!(!tap.watched.load(Ordering::Relaxed), "the last one has left");
}

#[tokio::test]
async fn what_stands_is_told_first_and_then_what_follows() {
    let tap = tap(true);
    let connection = connection(1).await;
    let (ours, theirs) = (Bytes::from_static(&[0; 29]), [1, 2, 3]);
    let mut open = ours.to_vec();
    open[18] = Kind::Open.octet();
    let open = Bytes::from(open);
    tap.sent(0, &connection, &open);
    let frame = Frame {
        kind: Kind::Open,
        body: Bytes::copy_from_slice(&theirs),
    };
    tap.received(0, &connection, &frame);
    tap.up(0, &connection, &negotiated(64_500));
    tap.sent(
        0,
        &connection,
        &announcement(&["192.0.2.1/32", "192.0.2.2/32"], 1),
    );
    tap.sent(0, &connection, &announcement(&["2001:db8::1/128"], 1));
    tap.sent(0, &connection, &withdrawal("192.0.2.1/32"));
    tap.sent(0, &connection, &announcement(&["192.0.2.2/32"], 7)); // replaces the first one
    let (standing, mut watcher) = tap.follow();
    let [only] = standing.as_slice() else {
        panic!("one session is up: {standing:?}")
    };
    assert_eq!(only.up.sent_open, open);
    assert_eq!(only.up.received_open.len(), HEADER_LENGTH + theirs.len());
    assert_eq!(
        routes(&only.updates),
        [("192.0.2.2/32".to_owned(), 7), ("2001:db8::1/128".to_owned(), 1)]
    );
    assert_eq!(tap.counts(), [(0, RouteCounts { ipv4: 1, ipv6: 1 })]);

    tap.received(0, &connection, &frame); // what comes in does not concern a follower
    tap.sent(0, &connection, &withdrawal("192.0.2.2/32"));
    tap.ended(0, connection.id, &lost());
    assert!(matches!(watcher.try_next().unwrap().what, What::Message { .. }));
    assert!(matches!(
        watcher.try_next().unwrap().what,
        What::Down(_, Down::Lost)
    ));
    assert!(watcher.try_next().is_none());
    assert!(
        tap.follow().0.is_empty(),
        "a session that is over announces nothing"
    );
}

#[tokio::test]
async fn a_new_session_begins_with_nothing_and_late_news_of_the_old_one_changes_nothing() {
    let tap = tap(true);
    let (old, new) = (connection(1).await, connection(2).await);
    tap.up(0, &old, &negotiated(64_500));
    tap.sent(0, &old, &announcement(&["192.0.2.1/32"], 1));
    tap.ended(0, old.id, &lost());
    tap.up(0, &new, &negotiated(64_500));
    tap.ended(0, old.id, &lost());
    let (standing, _watcher) = tap.follow();
    assert_eq!(standing.len(), 1);
    assert!(standing[0].updates.is_empty());
}

#[tokio::test]
async fn a_follower_that_does_not_keep_up_is_cut_off_and_a_sampler_only_misses() {
    let tap = tap(true);
    let connection = connection(1).await;
    tap.up(0, &connection, &negotiated(64_500));
    let (_, mut follower) = tap.follow();
    let mut sampler = tap.sample();
    let message = announcement(&["192.0.2.1/32"], 1);
    let mut sent = 0;
    while !follower.cut_off().is_cancelled() {
        tap.sent(0, &connection, &message);
        sent += 1;
        assert!(sent < 1_000_000, "a queue is bounded");
    }
    tap.sent(0, &connection, &message);
    sent += 1;
    assert_eq!(follower.lost(), 1, "after the first loss it is not offered more");
    assert_eq!(sampler.lost(), 2);
    let mut heard = 0;
    while sampler.try_next().is_some() {
        heard += 1;
    }
    assert_eq!(heard + sampler.lost(), sent);
    let mut kept = 0;
    while follower.try_next().is_some() {
        kept += 1;
    }
    assert_eq!(kept, sent - 2);
    // Room again: the sampler hears what comes next; the follower begins anew.
    tap.sent(0, &connection, &message);
    assert!(sampler.try_next().is_some());
    let (standing, _follower) = tap.follow();
    assert_eq!(routes(&standing[0].updates), [("192.0.2.1/32".to_owned(), 1)]);
}

#[tokio::test]
async fn octets_are_bounded_too() {
    let tap = tap(false);
    let connection = connection(1).await;
    let mut watcher = tap.sample();
    let message = Bytes::from(vec![0; 1024 * 1024]);
    for _ in 0..20 {
        tap.sent(0, &connection, &message);
    }
    let mut heard = 0;
    while watcher.try_next().is_some() {
        heard += 1;
    }
    assert_eq!((heard, watcher.lost()), (8, 12));
}

#[tokio::test]
async fn states_are_told_with_the_ends_that_are_known() {
    let tap = tap(false);
    let mut watcher = tap.sample();
    tap.state(1, State::Idle, State::Connect);
    let What::State { ends, from, to } = watcher.try_next().unwrap().what else {
        panic!("a state")
    };
    assert_eq!((from, to), (State::Idle, State::Connect));
    assert_eq!(ends.remote, "127.0.0.2:179".parse().unwrap());
    assert_eq!(ends.local, "0.0.0.0:0".parse().unwrap());
}

mod model {
    //! Random announcements and withdrawals against a map.

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tap::ledger::Ledger;

    proptest! {
        #[test]
        fn what_the_ledger_tells_is_what_a_peer_would_have(
            steps in prop::collection::vec((0_u8..24, any::<bool>(), 0_u32..3, any::<bool>()), 0..120),
        ) {
            let mut ledger = Ledger::default();
            let mut model = BTreeMap::new();
            for (number, announce, med, look) in steps {
                let prefix = if number % 2 == 0 {
                    format!("10.0.{number}.0/24")
                } else {
                    format!("2001:db8:{number:x}::/48")
                };
                if announce {
                    ledger.note(announcement(&[&prefix], med));
                    model.insert(prefix, med);
                } else {
                    ledger.note(withdrawal(&prefix));
                    model.remove(&prefix);
                }
                if look {
                    let mut wanted: Vec<_> = model.clone().into_iter().collect();
                    wanted.sort();
                    prop_assert_eq!(routes(&ledger.updates()), wanted);
                }
            }
        }
    }

    #[test]
    fn a_log_that_nobody_reads_stays_short() {
        let mut ledger = Ledger::default();
        for step in 0..50_000 {
            ledger.note(announcement(&["192.0.2.1/32"], step));
        }
        assert!(ledger.log_octets() <= 1024 * 1024);
        assert_eq!(routes(&ledger.updates()), [("192.0.2.1/32".to_owned(), 49_999)]);
    }
}
