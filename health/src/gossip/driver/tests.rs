//! Real sockets on loopback, and a clock that nobody holds.

use steer_topology::{CheckId, CheckKind, EndpointId, SiteId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::gossip::site::name_of;
use crate::snapshot::Verdict;
use crate::testing::FleetBuilder;

const PATIENCE: Duration = Duration::from_secs(20);

/// A fleet of so many sites, each with an endpoint, gossiping on free ports of loopback.
fn fleet(count: u16) -> Arc<Fleet> {
    let endpoint = |site: u16| (Some(site), SocketAddr::from(([192, 0, 2, site as u8 + 1], 443)));
    let endpoints: Vec<_> = (0..count).map(endpoint).collect();
    let built = FleetBuilder::new(CheckKind::Tcp);
    let fleet = built.sites(count).pool_at(&endpoints, Some(CheckId(0))).build();
    let mut fleet = Arc::unwrap_or_clone(fleet);
    // Held all at once, so that they differ; UDP and TCP of one number.
    let held: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    for (site, held) in fleet.sites.iter_mut().zip(&held) {
        site.gossip = Some(held.local_addr().unwrap());
    }
    fleet.gossip = Some(GossipPolicy {
        port: 7946,
        key_file: "gossip.key".into(),
        share: 50,
        own_after: Duration::from_secs(10),
    });
    Arc::new(fleet)
}

struct Site {
    handle: GossipHandle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn begin(fleet: &Arc<Fleet>, site: u16, key: u8) -> Site {
    let sockets = GossipSockets::bind(fleet, SiteId(site)).await.unwrap().unwrap();
    let keys = Keys::one([key; 32]);
    let (service, handle) = GossipService::new(sockets, fleet, keys, rand::random()).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(service.run(stop.clone()));
    Site { handle, stop, task }
}

impl Site {
    /// What our check says of the endpoint of `of`.
    fn say(&self, fleet: &Fleet, of: u32, verdict: Verdict) {
        let word = Word {
            verdict,
            cause: "connection refused".to_owned(),
            since: Timestamp::now(),
        };
        self.handle.desk().own.lay(Key::of(fleet, EndpointId(of)), word);
    }

    fn agreed(&self, fleet: &Fleet, of: u32) -> Option<Verdict> {
        self.handle
            .desk()
            .agreed
            .look(Key::of(fleet, EndpointId(of)))
            .map(|word| word.verdict)
    }

    fn up(&self) -> usize {
        let members = self.handle.view().members;
        members
            .iter()
            .filter(|member| member.state == MemberState::Up)
            .count()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{what}: {:?}", start.elapsed());
}

#[tokio::test]
async fn three_sites_meet_agree_and_see_one_leave() {
    let fleet = fleet(3);
    let mut sites = Vec::new();
    for site in 0..3 {
        sites.push(begin(&fleet, site, 1).await);
    }
    until("all have met", || sites.iter().all(|site| site.up() == 2)).await;
    for site in &sites {
        (0..3).for_each(|of| site.say(&fleet, of, Verdict::Up));
    }
    until("up for all", || {
        sites[..2]
            .iter()
            .all(|site| site.agreed(&fleet, 2) == Some(Verdict::Up))
    })
    .await;
    sites[0].say(&fleet, 2, Verdict::Down);
    let known = || sites[1].handle.view().votes[&EndpointId(2)].down == 1;
    until("one says down, and the others know", known).await;
    assert_eq!(
        sites[0].agreed(&fleet, 2),
        Some(Verdict::Up),
        "one alone takes nothing down"
    );
    sites[1].say(&fleet, 2, Verdict::Down);
    until("two say down", || {
        sites[..2]
            .iter()
            .all(|site| site.agreed(&fleet, 2) == Some(Verdict::Down))
    })
    .await;
    assert_eq!(sites[2].agreed(&fleet, 2), None, "its own is its own");
    let leaves = sites.pop().unwrap();
    leaves.stop.cancel();
    leaves.task.await.unwrap();
    until("one has left", || sites.iter().all(|site| site.up() == 1)).await;
}

#[tokio::test]
async fn a_newcomer_is_told_everything_by_a_stream() {
    let fleet = fleet(2);
    let first = begin(&fleet, 0, 1).await;
    {
        let mut state = first.handle.shared.lock();
        for key in 0..5_000 {
            state.gossip.observe(
                Key(key),
                Verdict::Down,
                "connection refused",
                Timestamp::now(),
                Instant::now(),
            );
        }
    }
    let second = begin(&fleet, 1, 1).await;
    until("5,000 words", || second.handle.view().observations == 5_000).await;
}

#[tokio::test]
async fn who_has_another_key_meets_nobody_and_gets_no_answer() {
    let fleet = fleet(3);
    let (ours, theirs) = (begin(&fleet, 0, 1).await, begin(&fleet, 1, 2).await);
    let address = fleet.sites[0].gossip.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_u32(100).await.unwrap();
    stream.write_all(&[1; 100]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap_or_default();
    assert!(answer.is_empty());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_u32(u32::MAX).await.unwrap();
    stream.read_to_end(&mut answer).await.unwrap_or_default();
    assert!(answer.is_empty());
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.send_to(&[1; 1300], address).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_secs(1), udp.recv_from(&mut [0; 2000])).await;
    assert!(silence.is_err(), "{silence:?}");
    let friend = begin(&fleet, 2, 1).await;
    until("friends meet", || ours.up() == 1 && friend.up() == 1).await;
    assert_eq!(theirs.up(), 0);
}

#[tokio::test]
async fn a_reload_changes_fleet_and_key_and_goes_on() {
    let mut of_two = fleet(2);
    let sites = [begin(&of_two, 0, 1).await, begin(&of_two, 1, 1).await];
    sites
        .iter()
        .for_each(|site| (0..2).for_each(|of| site.say(&of_two, of, Verdict::Up)));
    let up = || sites[0].agreed(&of_two, 1) == Some(Verdict::Up) && sites[0].up() == 1 && sites[1].up() == 1;
    until("up", up).await;
    let old = Arc::clone(&of_two);
    Arc::make_mut(&mut of_two).endpoints[1].address = ([192, 0, 2, 77], 443).into();
    let line = |octet: u8| format!("{octet:02x}").repeat(32);
    let both = Keys::parse(&format!("{}\n{}", line(1), line(2))).unwrap();
    let swapped = Keys::parse(&format!("{}\n{}", line(2), line(1))).unwrap();
    for keys in [both, swapped, Keys::one([2; 32])] {
        sites.iter().for_each(|site| site.handle.renew(&of_two, &keys));
    }
    assert_eq!(sites[0].agreed(&old, 1), None, "it is not of the fleet any more");
    sites.iter().for_each(|site| site.say(&of_two, 1, Verdict::Up));
    until("up under the new name and key", || {
        sites[0].agreed(&of_two, 1) == Some(Verdict::Up)
    })
    .await;
    let gone = Key::of(&old, EndpointId(1));
    let told = || {
        let state = sites[0].handle.shared.lock();
        let word = state
            .gossip
            .store()
            .word(name_of(&old, SiteId(1)).unwrap(), gone, Instant::now());
        word.is_some_and(|word| word.observation.verdict == Verdict::Unknown)
    };
    until("what is not checked any more is told", told).await;
}

#[tokio::test]
async fn who_takes_no_part_opens_nothing() {
    let mut fleet = fleet(2);
    Arc::make_mut(&mut fleet).sites[0].gossip = None;
    assert!(GossipSockets::bind(&fleet, SiteId(0)).await.unwrap().is_none());
    let first = GossipSockets::bind(&fleet, SiteId(1)).await.unwrap();
    let second = GossipSockets::bind(&fleet, SiteId(1)).await.unwrap_err();
    assert!(second.to_string().contains("free the port"), "{second}");
    drop(first);
}
