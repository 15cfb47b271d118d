//! Two machines with their reconcilers that talk to each other, at random from a seed, into a capture file.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use steer_anycast::reconcile::{Reconciler, Terms};
use steer_anycast::session::{Action, Config, Event, Negotiated, Peer, SessionId};
use steer_anycast::wanted::{Decision, Wanted};
use steer_anycast::wire::{
    self, Families, Family, Kind, Malformed, NextHop, Notification, Outbound, Reason, RouteRefresh,
};
use steer_topology::{Asn, Community, GracefulRestart, Policy, Prefix, Role, RoleName};

use super::pcap::{Capture, Flow};

/// What was said in all conversations of one seed.
pub(crate) struct Record {
    pub(crate) capture: Capture,
    pub(crate) said: Vec<Bytes>,
    /// Messages by kind.
    pub(crate) sent: BTreeMap<u8, usize>,
    pub(crate) longest: usize,
    /// Sessions that came up.
    pub(crate) sessions: usize,
}

/// Octets that may be sent at once; enough for several of the longest messages.
const ROOM: usize = 400_000;

/// One side: its machine, and what it wants announced.
struct Side {
    config: Config,
    machine: Peer,
    id: Option<SessionId>,
    up: Option<Reconciler>,
    wanted: Wanted,
    local: NextHop,
    policy: Policy,
    flow: Flow,
}

/// Something on its way to a side.
enum Parcel {
    Message(Bytes),
    Fin,
}

struct World {
    rng: StdRng,
    start: Instant,
    now: Instant,
    sides: [Side; 2],
    travelling: VecDeque<(usize, Parcel)>,
    record: Record,
}

/// `count` conversations, one connection each, always the same for a seed; `extended`: with messages of more than
/// 4,096 octets (RFC 8654).
pub(crate) fn conversations(seed: u64, count: u16, extended: bool) -> Record {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut record = Record {
        capture: Capture::new(),
        said: Vec::new(),
        sent: BTreeMap::new(),
        longest: 0,
        sessions: 0,
    };
    let mut now = Instant::now();
    let start = now;
    for number in 0..count {
        let mut world = World::new(rng, record, [start, now], number, extended);
        world.converse();
        (rng, record, now) = (world.rng, world.record, world.now);
    }
    record
}

/// The same wishes as one who speaks to a peer without 4-octet AS numbers says them.
pub(crate) fn two_octet_speech(seed: u64) -> Record {
    let mut rng = StdRng::seed_from_u64(seed);
    let (client, server) = flows(0);
    let mut record = Record {
        capture: Capture::new(),
        said: Vec::new(),
        sent: BTreeMap::new(),
        longest: 0,
        sessions: 0,
    };
    record.capture.connect(Duration::ZERO, &client, &server);
    let terms = Terms {
        outbound: Outbound {
            four_octet: false,
            ..Outbound::PLAIN
        },
        policy: any_policy(&mut rng),
        ..Terms::basic(asn(4_200_000_001), any_next_hop(&mut rng), PEER)
    };
    let mut reconciler = Reconciler::new(terms, Arc::default());
    let (mut wanted, mut flow) = (Wanted::default(), client);
    for _ in 0..20 {
        change(&mut rng, &mut wanted, 300);
        reconciler.touch_all();
        for message in reconciler.reconcile(&wanted, ROOM).messages {
            record.note(&message);
            record.capture.send(Duration::ZERO, &mut flow, &server, &message);
        }
    }
    record
}

impl Record {
    fn note(&mut self, message: &Bytes) {
        *self.sent.entry(message[18]).or_default() += 1;
        self.longest = self.longest.max(message.len());
        self.said.push(message.clone());
    }
}

impl World {
    fn new(
        mut rng: StdRng,
        mut record: Record,
        [start, now]: [Instant; 2],
        number: u16,
        extended: bool,
    ) -> Self {
        let configs = any_configs(&mut rng, extended);
        let (client, server) = flows(number);
        record.capture.connect(now - start, &client, &server);
        let mut flows = [client, server].into_iter();
        let sides = configs.map(|config| Side {
            machine: Peer::new(config.clone(), rng.next_u64()),
            config,
            id: None,
            up: None,
            wanted: Wanted::default(),
            local: any_next_hop(&mut rng),
            policy: any_policy(&mut rng),
            flow: flows.next().expect("two flows"),
        });
        Self {
            rng,
            start,
            now,
            sides,
            travelling: VecDeque::new(),
            record,
        }
    }

    fn converse(&mut self) {
        for at in [1, 0] {
            self.tell(at, Event::Start);
        }
        let accepted = self.sides[1].machine.accept(self.now);
        self.sides[1].id = Some(accepted.expect("the machine waits for a connection"));
        self.act(1);
        let dialled = self.sides[0].id.expect("the machine dials");
        self.tell(0, Event::Connected(dialled));
        self.deliver();
        for _ in 0..self.rng.random_range(5..30) {
            if self.sides.iter().all(|side| side.id.is_none()) {
                break;
            }
            self.step();
            self.deliver();
        }
        self.end();
        self.deliver();
        self.now += Duration::from_secs(1);
    }

    fn step(&mut self) {
        let at = self.rng.random_range(0..2);
        match self.rng.random_range(0..12) {
            0..6 => {
                let most = if self.rng.random_bool(0.1) { 20_000 } else { 200 };
                change(&mut self.rng, &mut self.sides[at].wanted, most);
                if let Some(reconciler) = &mut self.sides[at].up {
                    reconciler.touch_all();
                }
                self.reconcile(at);
            }
            6..8 => self.ask_again(at),
            8..11 => self.pass_time(),
            _ if self.rng.random_bool(0.2) => self.end(),
            _ => {}
        }
    }

    fn ask_again(&mut self, at: usize) {
        let family = *Family::ALL.choose(&mut self.rng).expect("two");
        if self.sides[at].up.is_some() {
            self.say(at, &wire::encode_route_refresh(RouteRefresh::request(family)));
        }
    }

    fn pass_time(&mut self) {
        let deadlines = self.sides.iter().filter_map(|side| side.machine.next_deadline());
        if let Some(next) = deadlines.min() {
            self.now = self.now.max(next);
        }
        for at in 0..2 {
            self.sides[at].machine.on_deadline(self.now);
            self.act(at);
        }
    }

    /// Every way in which one side ends a session with a word.
    fn end(&mut self) {
        let at = self.rng.random_range(0..2);
        let Some(id) = self.sides[at].id else { return };
        let text = "é".repeat(self.rng.random_range(0..200)); // cut at 255 octets
        let event = match self.rng.random_range(0..6) {
            0 => Event::Stop {
                reason: Reason::AdministrativeShutdown,
                text,
            },
            1 => Event::Stop {
                reason: Reason::PeerDeconfigured,
                text: String::new(),
            },
            2 => Event::Restart { text },
            3 => Event::PathDown,
            4 => Event::TooManyPrefixes {
                id,
                family: Family::Ipv6Unicast,
                limit: 1_000,
            },
            _ => {
                let (reason, ..) = *Reason::TABLE.choose(&mut self.rng).expect("reasons");
                let notification = Notification::bare(reason);
                let text = "made up".to_owned();
                Event::Malformed(id, Malformed { notification, text })
            }
        };
        self.tell(at, event);
    }

    fn tell(&mut self, at: usize, event: Event) {
        self.sides[at].machine.handle(event, self.now);
        self.act(at);
    }

    fn act(&mut self, at: usize) {
        while let Some(action) = self.sides[at].machine.poll_action() {
            match action {
                Action::Dial(id) => self.sides[at].id = self.sides[at].id.or(Some(id)),
                Action::SendOpen(_, open) => self.say(at, &wire::encode_open(&open)),
                Action::SendKeepalive(_) => self.say(at, &wire::encode_keepalive()),
                Action::SendNotification(_, notification) => {
                    self.say(at, &wire::encode_notification(&notification));
                }
                Action::Close(id) if self.sides[at].id == Some(id) => {
                    self.travelling.push_back((1 - at, Parcel::Fin));
                    self.hang_up(at);
                }
                Action::Up(_, negotiated) => self.on_up(at, &negotiated),
                Action::Refresh(_, family) => {
                    if let Some(reconciler) = &mut self.sides[at].up {
                        reconciler.refresh(family);
                    }
                    self.reconcile(at);
                }
                Action::Ended { .. } => self.sides[at].up = None,
                Action::Inbound(_, update) => assert!(update.faults.is_empty(), "{update:?}"),
                // A dial of its own after the end: there is one connection per conversation.
                Action::Close(_) | Action::Demarcation(..) => {}
            }
        }
    }

    fn hang_up(&mut self, at: usize) {
        self.sides[at].id = None;
        self.sides[at].up = None;
        let (reason, text) = (Reason::AdministrativeShutdown, String::new());
        self.sides[at]
            .machine
            .handle(Event::Stop { reason, text }, self.now);
    }

    fn on_up(&mut self, at: usize, negotiated: &Negotiated) {
        let side = &mut self.sides[at];
        let terms = Terms {
            policy: side.policy.clone(),
            families: negotiated.families,
            outbound: negotiated.outbound(),
            internal: negotiated.internal,
            extended_next_hop: negotiated.extended_next_hop,
            enhanced_refresh: negotiated.enhanced_refresh,
            only_to_customer: negotiated.only_to_customer,
            ..Terms::basic(side.config.local_asn, side.local, PEER)
        };
        side.up = Some(Reconciler::new(terms, Arc::default()));
        self.record.sessions += 1;
        self.reconcile(at);
    }

    fn reconcile(&mut self, at: usize) {
        let side = &mut self.sides[at];
        let batch = side
            .up
            .as_mut()
            .map(|reconciler| reconciler.reconcile(&side.wanted, ROOM));
        for message in batch.unwrap_or_default().messages {
            self.say(at, &message);
        }
    }

    fn say(&mut self, at: usize, message: &Bytes) {
        if self.sides[at].id.is_none() {
            return;
        }
        self.record.note(message);
        let other = self.sides[1 - at].flow;
        let since = self.now - self.start;
        self.record
            .capture
            .send(since, &mut self.sides[at].flow, &other, message);
        self.travelling
            .push_back((1 - at, Parcel::Message(message.clone())));
    }

    fn deliver(&mut self) {
        while let Some((to, parcel)) = self.travelling.pop_front() {
            self.now += Duration::from_micros(50);
            let Some(id) = self.sides[to].id else { continue };
            match parcel {
                Parcel::Fin => {
                    self.tell(to, Event::Lost(id, "closed".to_owned()));
                    self.hang_up(to);
                }
                Parcel::Message(octets) => {
                    let limit = self.sides[to].machine.frame_limit(id);
                    let frame = wire::take_frame(&mut BytesMut::from(octets.as_ref()), limit);
                    let frame = frame.expect("we frame well").expect("whole");
                    self.tell(to, Event::Frame(id, frame));
                }
            }
        }
    }
}

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

fn asn(number: u32) -> Asn {
    Asn::new(number).expect("not 0")
}

/// The client has another port in each conversation.
fn flows(number: u16) -> (Flow, Flow) {
    let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 20_000 + number);
    let server = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 179);
    (Flow::new(client, server), Flow::new(server, client))
}

/// Two that mostly get along.
fn any_configs(rng: &mut StdRng, extended: bool) -> [Config; 2] {
    let internal = rng.random_bool(0.3);
    let asns = match internal {
        true => [65_001, 65_001],
        false => [65_001, 4_200_000_000],
    };
    let roles = *[
        None,
        Some([RoleName::Provider, RoleName::Customer]),
        Some([RoleName::Peer, RoleName::Peer]),
        Some([RoleName::RouteServerClient, RoleName::RouteServer]),
        Some([RoleName::Customer, RoleName::Customer]), // a mismatch
    ]
    .choose(rng)
    .expect("some");
    [0, 1].map(|at| {
        let extra = rng.random_bool(0.05);
        let name = |rng: &mut StdRng| {
            "edge-1.example.net"
                .get(..rng.random_range(1..18))
                .map(str::to_owned)
        };
        Config {
            peer_asn: Some(asn(if extra { 64_999 } else { asns[1 - at] })),
            hold_time: Duration::from_secs(*[0, 3, 9, 90].choose(rng).expect("some")),
            passive: at == 1,
            families: if rng.random_bool(0.8) {
                Families::ALL
            } else {
                Families::IPV4
            },
            extended_next_hop: rng.random(),
            extended_messages: extended,
            role: roles.map(|roles| Role {
                name: roles[at],
                strict: rng.random(),
            }),
            graceful_restart: rng.random::<bool>().then(|| GracefulRestart {
                restart_time: Duration::from_secs(120),
                notification: rng.random(),
            }),
            restarted: rng.random(),
            hostname: rng.random::<bool>().then(|| name(rng)).flatten(),
            software: rng.random::<bool>().then(|| "steer/0.1.0".to_owned()),
            ..Config::basic(asn(asns[at]), Ipv4Addr::new(10, 0, 0, at as u8 + 1))
        }
    })
}

fn any_next_hop(rng: &mut StdRng) -> NextHop {
    let global = Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(rng.random::<u32>()));
    let link_local = Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(rng.random::<u32>()));
    match rng.random_range(0..3) {
        0 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, rng.random())).into(),
        1 => IpAddr::V6(global).into(),
        _ => NextHop {
            address: global.into(),
            link_local: Some(link_local),
        },
    }
}

fn any_policy(rng: &mut StdRng) -> Policy {
    const KNOWN: [Community; 4] = [
        Community::GRACEFUL_SHUTDOWN,
        Community::BLACKHOLE,
        Community::NO_EXPORT,
        Community::NO_ADVERTISE,
    ];
    let count = if rng.random_bool(0.1) {
        600
    } else {
        rng.random_range(0..6)
    };
    let community = |rng: &mut StdRng| match rng.random_range(0..4) {
        0 => *KNOWN.choose(rng).expect("four"),
        1 => Community::Standard(rng.random()),
        2 => Community::Large(rng.random()),
        _ => Community::Extended([0, 2, 0xfb, 0xf4, 0, 0, rng.random(), rng.random()]),
    };
    Policy {
        prepend: if rng.random_bool(0.1) {
            255
        } else {
            rng.random_range(0..4)
        },
        med: rng.random::<bool>().then(|| rng.random()),
        local_pref: rng.random::<bool>().then(|| rng.random()),
        communities: (0..count).map(|_| community(rng)).collect(),
    }
}

/// Changes up to `most` prefixes of what is wanted.
fn change(rng: &mut StdRng, wanted: &mut Wanted, most: u32) {
    let policy = Arc::new(if rng.random_bool(0.3) {
        any_policy(rng)
    } else {
        Policy::default()
    });
    let next_hop = rng.random_bool(0.3).then(|| any_next_hop(rng).address);
    for _ in 0..rng.random_range(1..=most) {
        let decision = Decision {
            announce: rng.random_bool(0.8),
            next_hop,
            policy: Arc::clone(&policy),
            to: Vec::new(),
            by: 1,
        };
        wanted.prefixes.change([(any_prefix(rng), Some(decision))].into());
    }
}

/// Few enough that some come again. No default route: tshark takes its length for a path identifier.
fn any_prefix(rng: &mut StdRng) -> Prefix {
    let number = rng.random_range(0..30_000_u32);
    let (address, length): (IpAddr, u8) = match number % 2 {
        0 => (
            Ipv4Addr::from_bits(0x0a00_0000 + (number << 8)).into(),
            24 + (number % 9) as u8,
        ),
        _ => {
            let bits = (0x2001_0db8_u128 << 96) | (u128::from(number) << 80);
            (Ipv6Addr::from_bits(bits).into(), 48 + (number % 81) as u8)
        }
    };
    Prefix::covering(address, length).expect("not too long")
}

/// Names for a message that tells what was sent.
pub(crate) fn kinds(sent: &BTreeMap<u8, usize>) -> String {
    let name = |octet: &u8| {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.octet() == *octet)
            .map_or("?", Kind::name)
    };
    let parts: Vec<String> = sent
        .iter()
        .map(|(kind, count)| format!("{count} {}", name(kind)))
        .collect();
    parts.join(", ")
}
