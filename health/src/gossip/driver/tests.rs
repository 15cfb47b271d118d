//! Real sockets on loopback, and a clock that nobody holds.

use steer_topology::{CheckId, CheckKind, EndpointId, SiteId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::gossip::desk::Word;
use crate::gossip::observation::Key;
use crate::gossip::site::name_of;
use crate::snapshot::Verdict;
use crate::testing::{FleetBuilder, gossip_policy};

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
    fleet.gossip = Some(gossip_policy());
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

/// What looks like a packet of `sender` from a session that nobody knows, `number` by `number`.
fn forged(sender: &str, number: u64) -> [u8; 200] {
    let mut packet = [0x5a; 200];
    packet[..2].copy_from_slice(&[1, 1]);
    packet[2..5].copy_from_slice(sender.as_bytes());
    packet[5..13].copy_from_slice(&number.to_be_bytes());
    packet[21..29].copy_from_slice(&1_u64.to_be_bytes());
    packet[29..37].copy_from_slice(&Timestamp::now().as_millisecond().to_be_bytes());
    packet
}

/// Sends forged packets, so many a second, from an address of its own until it is told to stop; how many it sent, and whether
/// anything came back.
fn flood(to: SocketAddr, sender: &str, per_second: u64, stop: &CancellationToken) -> (u64, bool) {
    let socket = std::net::UdpSocket::bind("127.0.0.66:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let (start, mut sent) = (Instant::now(), 0);
    while !stop.is_cancelled() {
        let due = start.elapsed().as_millis() as u64 * per_second / 1_000;
        for number in sent..due {
            // What the kernel does not take is lost.
            let _ = socket.send_to(&forged(sender, number), to);
        }
        sent = due.max(sent);
        std::thread::sleep(Duration::from_millis(1));
    }
    let answered = socket.recv_from(&mut [0; 1500]).is_ok();
    (sent, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_forged_packets_makes_nobody_suspect_and_is_answered_by_nothing() {
    const PER_SECOND: u64 = 20_000;
    let fleet = fleet(3);
    let mut sites = Vec::new();
    for site in 0..2 {
        sites.push(begin(&fleet, site, 1).await);
    }
    until("two have met", || sites.iter().all(|site| site.up() == 1)).await;
    let stop = CancellationToken::new();
    let (victim, sender) = (fleet.sites[0].gossip.unwrap(), fleet.sites[1].name.clone());
    let flooding = {
        let stop = stop.clone();
        tokio::task::spawn_blocking(move || flood(victim, &sender, PER_SECOND, &stop))
    };
    let start = Instant::now();
    let mut worst = 0;
    while start.elapsed() < Duration::from_secs(10) {
        for site in &sites {
            let view = site.handle.view();
            worst = worst.max(view.local_health);
            let gone = |member: &&crate::gossip::swim::MemberView| {
                matches!(member.state, MemberState::Suspect | MemberState::Down)
            };
            assert_eq!(view.members.iter().find(gone), None, "{:?}", start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A newcomer from another address than the flood's is let in meanwhile.
    sites.push(begin(&fleet, 2, 1).await);
    until("a third has come in the flood", || {
        sites.iter().all(|site| site.up() == 2)
    })
    .await;
    stop.cancel();
    let (sent, answered) = flooding.await.unwrap();
    println!(
        "{sent} forged packets in {:?}; worst local health {worst}",
        start.elapsed()
    );
    assert!(sent >= 9 * PER_SECOND && !answered);
}

#[tokio::test]
async fn what_is_bad_is_counted_by_its_cause_and_answered_by_nothing() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let fleet = fleet(3);
    let site = begin(&fleet, 0, 1).await;
    let me = site.handle.view().members[0].site;
    let member = name_of(&fleet, SiteId(1)).unwrap();
    let stranger = SiteName::new("zzz").unwrap();
    let seal = |sender, key, session, to, content: &[u8], at| {
        crate::gossip::seal::Sealer::new(sender, &Keys::one([key; 32]), [session; 16]).seal(
            crate::gossip::seal::Kind::Datagram,
            to,
            None,
            content,
            at,
        )
    };
    let now = Timestamp::now();
    let good = seal(member, 1, 1, me, &[0, 0], now);
    let bad = [
        ("oversized", vec![1; DATAGRAM_MAX + 1]),
        ("malformed", good[..40].to_vec()),
        ("malformed", seal(member, 1, 2, me, &[0, 9, 1], now)),
        ("version", vec![7; 100]),
        ("unknown-member", seal(stranger, 1, 3, me, &[0, 0], now)),
        ("reflected", seal(me, 1, 4, me, &[0, 0], now)),
        (
            "stale",
            seal(member, 1, 5, me, &[0, 0], now - Duration::from_secs(90)),
        ),
        ("wrong-key", seal(member, 2, 6, me, &[0, 0], now)),
        ("wrong-key", seal(member, 1, 7, stranger, &[0, 0], now)),
        ("replayed", good.clone()),
    ];
    let socket = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let to = fleet.sites[0].gossip.unwrap();
    socket.send_to(&good, to).await.unwrap();
    let mut expected: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    for (cause, packet) in &bad {
        socket.send_to(packet, to).await.unwrap();
        *expected.entry(cause).or_default() += 1;
    }
    let count = |cause: &str| {
        let label = format!("steer_health_gossip_dropped_total{{cause=\"{cause}\"}} ");
        let text = metrics.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&label).map(str::to_owned));
        line.and_then(|count| count.parse::<u32>().ok())
    };
    until("every cause is counted", || {
        expected.iter().all(|(cause, times)| count(cause) == Some(*times))
    })
    .await;
    assert_eq!(
        socket.try_recv(&mut [0; 1500]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn strangers_who_hold_streams_leave_some_to_members() {
    let fleet = fleet(2);
    let first = begin(&fleet, 0, 1).await;
    {
        let mut state = first.handle.shared.lock();
        for key in 0..5_000 {
            state.gossip.observe(
                Key(key),
                Verdict::Down,
                "refused",
                Timestamp::now(),
                Instant::now(),
            );
        }
    }
    let to = fleet.sites[0].gossip.unwrap();
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        held.push(socket.connect(to).await.unwrap());
    }
    let second = begin(&fleet, 1, 1).await;
    let start = Instant::now();
    until("5,000 words", || second.handle.view().observations == 5_000).await;
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}: the strangers were gone",
        start.elapsed()
    );
    drop(held);
}
