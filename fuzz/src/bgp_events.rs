//! Any sequence of events against the machine of one peer and the reconciler of its session, in virtual time.
//!
//! What must hold whatever happens: every action speaks of a connection that is open; no session is up without
//! OPEN and KEEPALIVE, nor for longer than its hold time in silence; nothing is announced that is not wanted;
//! an event brings a handful of actions at most; a stop leaves nothing open, and a start begins anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use steer_anycast::reconcile::{Reconciler, Terms};
use steer_anycast::session::{Action, Config, Event, Negotiated, Peer, SessionId, State};
use steer_anycast::wanted::{Decision, Wanted};
use steer_anycast::wire::{
    self, Capabilities, Context, EXTENDED_LENGTH, Families, Family, Kind, Message, Notification, Open,
    Reason, RestartCapability, RouteRefresh,
};
use steer_topology::{Asn, GracefulRestart, Policy, Prefix, Role, RoleName, ToPeer};

/// More actions than this from one event is a queue that grows.
const ACTIONS: usize = 16;

/// More connections than this at once is a leak: one per side, and one that is being replaced.
const CONNECTIONS: usize = 3;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

#[derive(Debug, Arbitrary)]
struct Input {
    passive: bool,
    strict_bfd: bool,
    extended: bool,
    graceful_restart: Option<bool>,
    role: Option<bool>,
    hold_time: HoldTime,
    seed: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum HoldTime {
    Never,
    Short,
    Long,
}

/// `on` chooses among the open connections; beyond them it is a connection that is no longer ours.
#[derive(Debug, Arbitrary)]
enum Step {
    Start,
    Stop,
    /// A planned restart; what comes after it is the next process.
    Restart,
    Recovered,
    Accept,
    PathUp,
    PathDown,
    PathAdminDown,
    /// Octets wait for the socket, or go out.
    Blocked {
        on: u8,
    },
    Progress {
        on: u8,
    },
    TooManyPrefixes {
        on: u8,
        limit: u32,
    },
    Connected {
        on: u8,
    },
    Lost {
        on: u8,
    },
    /// The clock goes on, late or not, and the deadline is told.
    Later {
        by_ms: u16,
    },
    NextDeadline,
    Open {
        on: u8,
        say: Say,
    },
    Keepalive {
        on: u8,
    },
    Notification {
        on: u8,
        code: u8,
        subcode: u8,
    },
    Refresh {
        on: u8,
        afi: u8,
        subtype: u8,
    },
    Update {
        on: u8,
        body: Vec<u8>,
    },
    Octets {
        on: u8,
        octets: Vec<u8>,
    },
    Want {
        prefix: u8,
        announce: Option<bool>,
        next_hop: u8,
        med: Option<u8>,
        /// What our peer gets instead: nothing, or another MED.
        to: Option<Option<u8>>,
    },
    Reconcile {
        room: u16,
    },
}

/// An OPEN, mostly a good one.
#[derive(Debug, Arbitrary)]
struct Say {
    wrong_asn: bool,
    our_identifier: bool,
    high_identifier: bool,
    hold_time: HoldTime,
    families: u8,
    four_octet_as: bool,
    route_refresh: bool,
    enhanced_refresh: bool,
    extended: bool,
    graceful_restart: Option<bool>,
    role: Option<u8>,
}

/// How far a sequence came; a corpus that never gets anywhere proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Sessions that came up.
    pub sessions: usize,
    /// Routes announced and withdrawn.
    pub routes: usize,
}

/// Runs one sequence.
pub fn check(data: &[u8]) -> Reached {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return Reached::default();
    };
    let mut world = World::new(&input);
    for step in &input.steps {
        world.step(step);
    }
    world.wind_down();
    world.reached
}

/// What we know of one connection from outside the machine.
#[derive(Debug, Default)]
struct Line {
    connected: bool,
    opened: bool,
    heard_open: bool,
    heard_keepalive: bool,
}

/// The session that is up, and what its peer believes.
struct Session {
    id: SessionId,
    negotiated: Negotiated,
    last_heard: Instant,
    reconciler: Reconciler,
    routes: BTreeMap<Prefix, Route>,
    end_of_rib: Vec<Family>,
}

/// What the peer believes of a prefix: next hop and MED.
type Route = (IpAddr, Option<u32>);

/// What BFD was said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Unknown,
    Up,
    Down,
    AdminDown,
}

struct World {
    now: Instant,
    config: Config,
    machine: Peer,
    lines: BTreeMap<SessionId, Line>,
    /// Closed, but the end is still to be told.
    closed: BTreeMap<SessionId, Line>,
    newest: SessionId,
    path: Path,
    up: Option<Session>,
    wanted: Wanted,
    reached: Reached,
}

impl World {
    fn new(input: &Input) -> Self {
        let restart = |notification| GracefulRestart {
            restart_time: Duration::from_secs(120),
            notification,
        };
        let role = |strict| Role {
            name: RoleName::Customer,
            strict,
        };
        let config = Config {
            peer_asn: Some(asn(65_002)),
            hold_time: Duration::from_secs(seconds(input.hold_time).into()),
            passive: input.passive,
            extended_next_hop: input.extended,
            extended_messages: input.extended,
            role: input.role.map(role),
            graceful_restart: input.graceful_restart.map(restart),
            restarted: input.graceful_restart.is_some(),
            strict_bfd: input.strict_bfd,
            ..Config::basic(asn(65_001), Ipv4Addr::new(192, 0, 2, 1))
        };
        Self {
            now: Instant::now(),
            machine: Peer::new(config.clone(), input.seed),
            config,
            lines: BTreeMap::new(),
            closed: BTreeMap::new(),
            newest: SessionId(0),
            path: Path::Unknown,
            up: None,
            wanted: Wanted::default(),
            reached: Reached::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Start => self.tell(Event::Start),
            Step::Stop => self.stop(),
            Step::Restart => {
                self.tell(Event::Restart { text: String::new() });
                self.check_stopped();
            }
            Step::Recovered => self.tell(Event::Recovered),
            Step::PathUp => self.on_path(Path::Up),
            Step::PathDown => self.on_path(Path::Down),
            Step::PathAdminDown => self.on_path(Path::AdminDown),
            Step::Blocked { on } => self.tell(Event::Blocked(self.choose(*on))),
            Step::Progress { on } => self.tell(Event::Progress(self.choose(*on))),
            Step::TooManyPrefixes { on, limit } => {
                let (id, family, limit) = (self.choose(*on), Family::Ipv4Unicast, *limit);
                self.tell(Event::TooManyPrefixes { id, family, limit });
            }
            Step::Accept => self.accept(),
            Step::Connected { on } => {
                let id = self.choose(*on);
                if let Some(line) = self.lines.get_mut(&id) {
                    line.connected = true;
                }
                self.tell(Event::Connected(id));
            }
            Step::Lost { on } => self.tell(Event::Lost(self.choose(*on), "cut".to_owned())),
            Step::Later { by_ms } => {
                self.now += Duration::from_millis(u64::from(*by_ms) * 4);
                self.deadline();
            }
            Step::NextDeadline => {
                if let Some(at) = self.machine.next_deadline() {
                    self.now = self.now.max(at);
                    self.deadline();
                }
            }
            Step::Open { on, say } => {
                let octets = wire::encode_open(&self.open(say));
                self.octets(self.choose(*on), &octets);
            }
            Step::Keepalive { on } => self.octets(self.choose(*on), &wire::encode_keepalive()),
            Step::Notification { on, code, subcode } => {
                let (code, subcode, data) = (*code, *subcode, Vec::new());
                let octets = wire::encode_notification(&Notification { code, subcode, data });
                self.octets(self.choose(*on), &octets);
            }
            Step::Refresh { on, afi, subtype } => {
                let (afi, subtype, safi) = (u16::from(*afi), *subtype, 1);
                let octets = wire::encode_route_refresh(RouteRefresh { afi, subtype, safi });
                self.octets(self.choose(*on), &octets);
            }
            Step::Update { on, body } => self.octets(self.choose(*on), &update(body)),
            Step::Octets { on, octets } => self.octets(self.choose(*on), octets),
            Step::Want {
                prefix,
                announce,
                next_hop,
                med,
                to,
            } => {
                let decision = announce.map(|announce| Decision {
                    announce,
                    next_hop: next_hops(*next_hop),
                    policy: Arc::new(with_med(*med)),
                    to: to.iter().map(|to| instead(*to)).collect(),
                    by: 1,
                });
                self.want(numbered(*prefix), decision);
            }
            Step::Reconcile { room } => self.reconcile(usize::from(*room)),
        }
    }

    /// Mostly an open connection; else one that has ended or never was.
    fn choose(&self, on: u8) -> SessionId {
        let nth = self.lines.keys().nth(usize::from(on) % 4).copied();
        nth.unwrap_or(SessionId(u64::from(on)))
    }

    fn open(&self, say: &Say) -> Open {
        let families = Family::ALL.into_iter().enumerate();
        let families = families.filter(|(bit, _)| say.families & (1 << bit) != 0);
        let families = families.fold(Families::default(), |set, (_, family)| set.with(family));
        let identifier = match (say.our_identifier, say.high_identifier) {
            (true, _) => self.config.router_id,
            (false, true) => Ipv4Addr::new(198, 51, 100, 1),
            (false, false) => Ipv4Addr::new(10, 0, 0, 1),
        };
        Open {
            asn: asn(if say.wrong_asn { 65_001 } else { 65_002 }),
            hold_time: seconds(say.hold_time),
            identifier,
            capabilities: Capabilities {
                families: (say.families & 4 == 0).then_some(families),
                four_octet_as: say.four_octet_as,
                route_refresh: say.route_refresh,
                enhanced_refresh: say.enhanced_refresh,
                extended_next_hop: say.extended,
                extended_messages: say.extended,
                roles: say.role.map(|role| role % 6).into_iter().collect(),
                graceful_restart: say.graceful_restart.map(|notification| RestartCapability {
                    notification,
                    families: Families::ALL,
                    ..RestartCapability::default()
                }),
                ..Capabilities::default()
            },
        }
    }

    fn accept(&mut self) {
        let Ok(id) = self.machine.accept(self.now) else {
            return self.act();
        };
        self.add(id, true);
        self.act();
    }

    fn add(&mut self, id: SessionId, connected: bool) {
        assert!(id > self.newest, "a number is never used twice");
        self.newest = id;
        let line = Line {
            connected,
            ..Line::default()
        };
        self.lines.insert(id, line);
    }

    fn octets(&mut self, id: SessionId, octets: &[u8]) {
        let mut buffer = BytesMut::from(octets);
        loop {
            match wire::take_frame(&mut buffer, self.machine.frame_limit(id)) {
                Ok(Some(frame)) => {
                    self.note_heard(id, &frame);
                    self.tell(Event::Frame(id, frame));
                }
                Ok(None) => return,
                Err(malformed) => return self.tell(Event::Malformed(id, malformed)),
            }
        }
    }

    fn note_heard(&mut self, id: SessionId, frame: &wire::Frame) {
        if let Some(session) = self.up.as_mut().filter(|session| session.id == id) {
            session.last_heard = self.now;
        }
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        line.heard_keepalive |= line.heard_open && frame.kind == Kind::Keepalive;
        line.heard_open |= matches!(wire::decode(frame, Context::default()), Ok(Message::Open(_)));
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(event, self.now);
        self.act();
    }

    fn deadline(&mut self) {
        self.machine.on_deadline(self.now);
        self.act();
        let next = self.machine.next_deadline();
        assert!(
            next.is_none_or(|at| at > self.now),
            "a timer that is due stays due"
        );
        if let Some(session) = &self.up {
            let hold = session.negotiated.hold_time;
            let silent = self.now - session.last_heard;
            assert!(
                hold.is_zero() || silent < hold,
                "up, and silent for {silent:?} of {hold:?}"
            );
        }
    }

    fn act(&mut self) {
        for count in 0.. {
            let Some(action) = self.machine.poll_action() else {
                break;
            };
            assert!(count < ACTIONS, "action {count} from one event: {action:?}");
            self.apply(action);
        }
        let mut silent = std::mem::take(&mut self.closed);
        silent.retain(|_, line| line.connected); // a dial may be given up without a word
        assert!(silent.is_empty(), "a connection ended without a word: {silent:?}");
        assert!(self.lines.len() <= CONNECTIONS, "{:?}", self.lines);
        let established = self.machine.state() == State::Established;
        assert_eq!(established, self.up.is_some());
        let deadline = self.machine.next_deadline();
        let waiting = self.lines.values().any(|line| !line.heard_keepalive);
        assert!(
            !waiting || deadline.is_some(),
            "nothing would end {:?}",
            self.lines
        );
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Dial(id) => {
                assert!(!self.waits_for_path(), "BFD must be up first");
                assert!(!self.config.passive, "a passive peer dials nothing");
                self.add(id, false);
            }
            Action::SendOpen(id, open) => {
                let line = self.line(id);
                assert!(line.connected && !line.opened, "{line:?}");
                line.opened = true;
                assert_eq!(read(&wire::encode_open(&open)), Message::Open(open));
            }
            Action::SendKeepalive(id) => {
                let line = self.line(id);
                assert!(line.opened && line.heard_open, "{line:?}");
            }
            Action::SendNotification(id, notification) => {
                assert!(self.line(id).connected);
                let octets = wire::encode_notification(&notification);
                assert_eq!(read(&octets), Message::Notification(notification));
            }
            Action::Close(id) => {
                let line = self.lines.remove(&id).expect("closed once");
                self.closed.insert(id, line);
            }
            Action::Up(id, negotiated) => self.on_up(id, negotiated),
            Action::Ended { id, established, .. } => {
                assert!(!self.lines.contains_key(&id), "ended, but open");
                self.closed.remove(&id).expect("ended once");
                assert_eq!(established, self.is_up(id));
                self.up = self.up.take().filter(|session| session.id != id);
            }
            Action::Refresh(id, family) => {
                assert!(self.is_up(id));
                if let Some(session) = &mut self.up {
                    session.reconciler.refresh(family);
                }
            }
            Action::Inbound(id, _) | Action::Demarcation(id, ..) => assert!(self.is_up(id)),
        }
    }

    fn line(&mut self, id: SessionId) -> &mut Line {
        self.lines
            .get_mut(&id)
            .expect("an action speaks of an open connection")
    }

    fn is_up(&self, id: SessionId) -> bool {
        self.up.as_ref().is_some_and(|session| session.id == id)
    }

    fn on_up(&mut self, id: SessionId, negotiated: Negotiated) {
        assert!(self.up.is_none(), "two sessions at once");
        let line = self.line(id);
        assert!(line.opened && line.heard_open && line.heard_keepalive, "{line:?}");
        assert!(negotiated.hold_time <= self.config.hold_time);
        self.reached.sessions += 1;
        assert!(!negotiated.families.is_empty(), "nothing to carry");
        assert!(!negotiated.internal);
        let terms = Terms {
            families: negotiated.families,
            outbound: negotiated.outbound(),
            extended_next_hop: negotiated.extended_next_hop,
            enhanced_refresh: negotiated.enhanced_refresh,
            only_to_customer: negotiated.only_to_customer,
            ..Terms::basic(self.config.local_asn, LOCAL.into(), PEER)
        };
        self.up = Some(Session {
            id,
            negotiated,
            last_heard: self.now,
            reconciler: Reconciler::new(terms, Arc::default()),
            routes: BTreeMap::new(),
            end_of_rib: Vec::new(),
        });
    }

    fn want(&mut self, prefix: Prefix, decision: Option<Decision>) {
        self.wanted.prefixes.change([(prefix, decision)].into());
        if let Some(session) = &mut self.up {
            session.reconciler.touch(&[prefix]);
        }
    }

    fn on_path(&mut self, path: Path) {
        let before = std::mem::replace(&mut self.path, path);
        self.tell(match path {
            Path::Up => Event::PathUp,
            Path::AdminDown => Event::PathAdminDown,
            Path::Down | Path::Unknown => Event::PathDown,
        });
        if path == Path::Down && before != Path::Down {
            assert!(
                self.lines.values().all(|line| !line.connected),
                "connected over a path that is down"
            );
        }
    }

    fn waits_for_path(&self) -> bool {
        self.config.strict_bfd && self.path != Path::Up
    }

    fn reconcile(&mut self, room: usize) {
        let Some(session) = &mut self.up else { return };
        let batch = session.reconciler.reconcile(&self.wanted, room);
        for octets in &batch.messages {
            session.hear(octets, &self.wanted);
        }
        self.reached.routes += batch.changes.len();
        if batch.complete {
            let goal = session.goal(&self.wanted);
            assert_eq!(session.routes, goal);
            assert!(
                session
                    .end_of_rib
                    .iter()
                    .copied()
                    .eq(session.negotiated.families.iter())
            );
        }
    }

    fn stop(&mut self) {
        let (reason, text) = (Reason::AdministrativeShutdown, String::new());
        self.tell(Event::Stop { reason, text });
        self.check_stopped();
    }

    fn check_stopped(&self) {
        assert!(self.lines.is_empty() && self.up.is_none(), "open after a stop");
        assert_eq!(
            self.machine.next_deadline(),
            None,
            "nothing to wait for after a stop"
        );
    }

    /// Whatever came before: a stop ends all, and a start tries again.
    fn wind_down(&mut self) {
        self.stop();
        self.on_path(Path::Up);
        self.tell(Event::Start);
        match self.config.passive {
            true => {
                self.accept();
                assert_eq!(self.lines.len(), 1, "a new connection is taken");
            }
            false => assert!(self.lines.values().any(|line| !line.connected), "no dial"),
        }
        self.stop();
    }
}

impl Session {
    /// The peer believes what it decodes.
    fn hear(&mut self, octets: &[u8], wanted: &Wanted) {
        let context = Context {
            four_octet: self.negotiated.four_octet,
            internal: self.negotiated.internal,
            extended_next_hop: self.negotiated.extended_next_hop,
            enhanced_refresh: self.negotiated.enhanced_refresh,
            ..Context::default()
        };
        let limit = self.negotiated.outbound().max_length;
        let frame = wire::take_frame(&mut BytesMut::from(octets), limit);
        let frame = frame.expect("framed").expect("whole");
        let update = match wire::decode(&frame, context) {
            Ok(Message::Update(update)) => update,
            Ok(Message::RouteRefresh(refresh)) if self.negotiated.enhanced_refresh && refresh.subtype > 0 => {
                return;
            }
            other => panic!("{other:?}"),
        };
        assert!(update.faults.is_empty());
        let goal = self.goal(wanted);
        self.end_of_rib.extend(update.end_of_rib);
        for prefix in update.withdrawn {
            assert!(
                self.routes.remove(&prefix).is_some(),
                "{prefix} was not announced"
            );
            assert!(!goal.contains_key(&prefix), "{prefix} is wanted");
        }
        let med = update.path.and_then(|path| path.med);
        for reach in update.reachable {
            for prefix in reach.prefixes {
                let route = (reach.next_hop.address, med);
                assert_eq!(goal.get(&prefix), Some(&route), "{prefix} is not wanted so");
                self.routes.insert(prefix, route);
            }
        }
    }

    /// What the peer shall have in the end, by the rules in words and not by the code under test.
    fn goal(&self, wanted: &Wanted) -> BTreeMap<Prefix, Route> {
        let routes = wanted.prefixes.iter();
        routes
            .filter_map(|(prefix, decision)| Some((*prefix, self.route(prefix, decision)?)))
            .collect()
    }

    fn route(&self, prefix: &Prefix, decision: &Decision) -> Option<Route> {
        let next_hop = decision.next_hop.unwrap_or(LOCAL);
        let fits =
            prefix.is_ipv4() == next_hop.is_ipv4() || (prefix.is_ipv4() && self.negotiated.extended_next_hop);
        let carried = self.negotiated.families.contains(Family::of(prefix));
        let to = decision.to.first();
        let kept_from = to.is_some_and(|to| !to.announce);
        let med = to.and_then(|to| to.policy.med).or(decision.policy.med);
        (decision.announce && fits && carried && !kept_from).then_some((next_hop, med))
    }
}

fn with_med(med: Option<u8>) -> Policy {
    Policy {
        med: med.map(u32::from),
        ..Policy::default()
    }
}

fn instead(med: Option<u8>) -> ToPeer {
    ToPeer {
        peer: PEER,
        announce: med.is_some(),
        policy: with_med(med),
    }
}

fn read(octets: &[u8]) -> Message {
    let frame = wire::take_frame(&mut BytesMut::from(octets), EXTENDED_LENGTH)
        .expect("framed")
        .expect("whole");
    wire::decode(&frame, Context::default()).expect("we read what we write")
}

/// An UPDATE in a good frame; what is in it is up to the fuzzer.
fn update(body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    let body = &body[..body.len().min(4_000)];
    let length = u16::try_from(wire::HEADER_LENGTH + body.len()).expect("short");
    octets.extend_from_slice(&length.to_be_bytes());
    octets.push(Kind::Update.octet());
    octets.extend_from_slice(body);
    octets
}

fn asn(number: u32) -> Asn {
    Asn::new(number).expect("not 0")
}

fn seconds(hold_time: HoldTime) -> u16 {
    match hold_time {
        HoldTime::Never => 0,
        HoldTime::Short => 3,
        HoldTime::Long => 90,
    }
}

fn numbered(number: u8) -> Prefix {
    let text = match number % 2 {
        0 => format!("10.{number}.0.0/16"),
        _ => format!("2001:db8:{number:x}::/48"),
    };
    text.parse().expect("a prefix")
}

fn next_hops(number: u8) -> Option<IpAddr> {
    const CHOICE: [Option<&str>; 4] = [None, Some("192.0.2.8"), Some("2001:db8::8"), Some("2001:db8::9")];
    CHOICE[usize::from(number) % CHOICE.len()].map(|text| text.parse().expect("an address"))
}
