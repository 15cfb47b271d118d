//! The thread and its sockets on loopback, with a peer that the test speaks for.
//!
//! Real peers, and both ends ours, are in the black-box tests: two services on one host would want the same port.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::*;
use crate::bfd::session::{PathState, Role, State};
use crate::bfd::target::Hops;
use crate::bfd::wire::{self, Diagnostic, Packet};

const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const INTERVAL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

/// A port for one service: nobody else's, and not one that the kernel gives to clients.
fn ports() -> Ports {
    let free = || {
        let port = rand::random_range(20_000..30_000);
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
            .is_ok()
            .then_some(port)
    };
    let mut ports = std::iter::repeat_with(free).flatten();
    Ports {
        single_hop: ports.next().unwrap(),
        multihop: ports.next().unwrap(),
    }
}

fn target(peer: impl Into<IpAddr>, hops: Hops) -> Target {
    Target {
        peer: peer.into(),
        interface: None,
        source: None,
        hops,
        config: Config {
            intervals: Intervals::both(INTERVAL),
            multiplier: NonZeroU8::new(3).unwrap(),
            role: Role::Active,
            auth: None,
        },
    }
}

/// A running service with one session, and the socket of its peer.
struct Bench {
    bfd: Bfd,
    id: Id,
    peer: UdpSocket,
    port: u16,
}

impl Bench {
    fn new(hops: Hops) -> Self {
        let ports = ports();
        let bfd = Bfd::bind(Vec::new(), ports).unwrap();
        let id = bfd.add(target(PEER, hops)).unwrap();
        bfd.start(1).unwrap();
        let peer = UdpSocket::bind((PEER, 0)).unwrap();
        peer.set_ttl(255).unwrap();
        let port = bfd.port(Kind::from(hops));
        let bench = Self { bfd, id, peer, port };
        bench.until("the first packet", |status| status.packets_out > 0);
        bench
    }

    /// The peer says something; it knows our discriminator.
    fn say(&self, state: State) {
        let packet = Packet {
            diagnostic: Diagnostic::NONE,
            state,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: NonZeroU8::new(3).unwrap(),
            my_discriminator: NonZeroU32::new(77).unwrap(),
            your_discriminator: self.status().local_discriminator,
            desired_min_tx: 50_000,
            required_min_rx: 50_000,
            required_min_echo_rx: 0,
        };
        self.send(&wire::encode(&packet, 0));
    }

    fn send(&self, octets: &[u8]) {
        self.peer
            .send_to(octets, (Ipv4Addr::LOCALHOST, self.port))
            .unwrap();
    }

    fn status(&self) -> BfdStatus {
        self.bfd.status(self.id).unwrap()
    }

    fn until(&self, what: &str, mut seen: impl FnMut(&BfdStatus) -> bool) -> BfdStatus {
        let start = Instant::now();
        loop {
            let status = self.status();
            if seen(&status) {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {what}: {status:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn come_up(&self) {
        self.say(State::Down);
        self.until("Init", |status| status.state == State::Init);
        self.say(State::Init);
        self.until("Up", |status| status.state == State::Up);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.bfd.stop();
    }
}

#[test]
fn a_peer_that_speaks_is_up_and_one_that_falls_silent_is_down_in_time() {
    let bench = Bench::new(Hops::Single);
    let mut path = bench.bfd.path(bench.id).unwrap();
    bench.come_up();
    let heard = Instant::now();
    assert_eq!(path.borrow_and_update().state, PathState::Up);
    let status = bench.until("Down", |status| status.state == State::Down);
    let silent = heard.elapsed();
    assert!(
        silent >= INTERVAL * 3 - Duration::from_millis(20),
        "after {silent:?}"
    );
    assert!(silent < Duration::from_secs(1), "after {silent:?}");
    let expired = PathState::Down(Diagnostic::DETECTION_TIME_EXPIRED);
    let told = *path.borrow_and_update();
    assert_eq!((told.state, told.failures), (expired, 1));
    assert_eq!((status.ups, status.downs), (1, 1));
    let last = status.last_down.unwrap();
    assert_eq!(
        (last.diagnostic, last.by_peer),
        (Diagnostic::DETECTION_TIME_EXPIRED, false)
    );
}

#[test]
fn what_waits_in_the_socket_counts_before_the_clock() {
    let bench = Bench::new(Hops::Single);
    bench.come_up();
    let mut said = Instant::now();
    let (end, mut longest) = (said + Duration::from_secs(1), Duration::ZERO);
    while said < end {
        // Two packets at a time, each pair just before the Detection Time would be over on a machine that is late.
        bench.say(State::Up);
        bench.say(State::Up);
        std::thread::sleep(INTERVAL);
        longest = longest.max(said.elapsed());
        said = Instant::now();
    }
    let status = bench.status();
    if longest >= INTERVAL * 3 {
        return println!("skipped: this thread itself was kept waiting for {longest:?}");
    }
    assert_eq!((status.state, status.path.failures), (State::Up, 0));
    assert!(status.worst_gap_out_us > 0 && status.worst_gap_in_us > 0);
}

#[test]
fn a_single_hop_packet_from_behind_a_router_is_refused() {
    let bench = Bench::new(Hops::Single);
    bench.peer.set_ttl(254).unwrap();
    bench.say(State::Down);
    bench.peer.set_ttl(255).unwrap();
    bench.say(State::AdminDown);
    let status = bench.until("AdminDown", |status| status.remote_state == State::AdminDown);
    assert_eq!(status.packets_in, 1, "the one before it was not taken");
    assert_eq!(status.path.state, PathState::PeerAdminDown);
}

#[test]
fn a_multihop_packet_from_too_far_away_is_refused() {
    let bench = Bench::new(Hops::Multi { minimum_ttl: 250 });
    bench.peer.set_ttl(249).unwrap();
    bench.say(State::Down);
    let status = bench.until("the refusal", |status| status.refused == 1);
    assert_eq!((status.state, status.packets_in), (State::Down, 0));
    bench.peer.set_ttl(250).unwrap();
    bench.come_up();
}

#[test]
fn octets_that_are_no_packet_do_no_harm() {
    let bench = Bench::new(Hops::Single);
    for length in 0..300 {
        bench.send(&vec![0x20; length]);
        bench.send(&vec![rand::random(); length]);
    }
    bench.come_up();
}

#[test]
fn our_admin_down_and_back() {
    let bench = Bench::new(Hops::Single);
    bench.come_up();
    bench.bfd.admin_down(bench.id);
    let status = bench.until("AdminDown", |status| status.state == State::AdminDown);
    assert_eq!(
        (status.path.state, status.path.failures),
        (PathState::AdminDown, 0)
    );
    bench.say(State::Down);
    bench.bfd.admin_up(bench.id);
    bench.until("Down", |status| status.state == State::Down);
    bench.come_up();
}

#[test]
fn a_service_that_stops_says_so_and_ends_within_its_limit() {
    let bench = Bench::new(Hops::Single);
    bench.come_up();
    let sent = bench.status().packets_out;
    let start = Instant::now();
    bench.bfd.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
    let status = bench.status();
    assert_eq!(
        (status.state, status.path.state),
        (State::AdminDown, PathState::AdminDown)
    );
    assert!(
        status.packets_out >= sent + 3,
        "once for each packet that may be lost"
    );
}

#[test]
fn a_path_has_one_session_however_many_ask() {
    let bfd = Bfd::bind(Vec::new(), ports()).unwrap();
    let one = bfd.add(target(PEER, Hops::Single)).unwrap();
    assert_eq!(bfd.add(target(PEER, Hops::Single)).unwrap(), one);
    let multi = Hops::Multi { minimum_ttl: 0 };
    assert_ne!(bfd.add(target(PEER, multi)).unwrap(), one);
    let mut other = target(PEER, Hops::Single);
    other.config.intervals = Intervals::both(INTERVAL * 2);
    assert!(matches!(bfd.add(other), Err(BfdError::Conflict { .. })));
    bfd.remove(one);
    assert!(bfd.status(one).is_some());
    bfd.remove(one);
    assert!(bfd.status(one).is_none() && bfd.path(one).is_none());
    assert_eq!(bfd.statuses().len(), 1);
}

#[test]
fn the_number_of_sessions_is_bounded() {
    let bfd = Bfd::bind(Vec::new(), ports()).unwrap();
    let peer = |number: usize| Ipv4Addr::from(0x7f10_0000 + u32::try_from(number).unwrap());
    for number in 0..MAX_SESSIONS {
        bfd.add(target(peer(number), Hops::Single)).unwrap();
    }
    let one_more = bfd.add(target(peer(MAX_SESSIONS), Hops::Single));
    assert!(matches!(one_more, Err(BfdError::TooMany)));
}

#[test]
fn each_session_sends_from_a_port_of_its_own_in_the_range() {
    let mut seen = BTreeSet::new();
    let senders: Vec<_> = (0..100)
        .map(|number| {
            let to: IpAddr = if number % 2 == 0 {
                PEER.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            };
            Sender::bind(None, SocketAddr::new(to, 3784), 0).unwrap()
        })
        .collect();
    for sender in senders.iter().step_by(2) {
        assert!(sender.port() >= 49_152 && seen.insert(sender.port()));
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let ports = ports();
    let _other = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ports.single_hop)).unwrap();
    let error = Bfd::bind(vec![target(PEER, Hops::Single)], ports)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("UDP 0.0.0.0:{}", ports.single_hop)),
        "{error}"
    );
    assert!(error.contains("stop the other BFD daemon"), "{error}");
}

#[test]
fn a_source_that_is_not_there_yet_costs_packets_and_one_that_cannot_be_is_named() {
    let mut later = target(PEER, Hops::Single);
    later.source = Some(Ipv4Addr::new(192, 0, 2, 99).into());
    let bfd = Bfd::bind(vec![later], ports()).unwrap();
    bfd.start(1).unwrap();
    let start = Instant::now();
    while bfd.statuses()[0].send_errors == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut wrong = target(PEER, Hops::Single);
    wrong.source = Some(Ipv6Addr::LOCALHOST.into());
    let error = Bfd::bind(vec![wrong], ports()).unwrap_err().to_string();
    assert!(error.contains("127.0.0.2") && error.contains("::1"), "{error}");
    let mut wrong = target(PEER, Hops::Single);
    wrong.interface = Some("no-such-thing".to_owned());
    let error = Bfd::bind(vec![wrong], ports()).unwrap_err().to_string();
    assert!(error.contains("no-such-thing"), "{error}");
}
