//! A world from one seed: clients, edges, services and a database under virtual time.
//!
//! ```text
//! client ─┐                ┌─ service ─┐
//! client ─┼─ edge, edge ───┼─ service ─┼─ database (key::Book)
//! client ─┘                └─ service ─┘
//!   fate::Call    fate::Call    key::Desk
//! ```
//!
//! The machines are the product's; sockets, threads and the SQL are not here. Whatever happens is an event of the queue, so
//! a crash, a stop or a break can come between any two steps.

mod caller;
mod check;
mod faults;
mod net;
mod service;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_rpc::fate::{Fate, Report, Semantics};

use caller::Caller;
pub(crate) use check::Tally;
use check::Told;
use net::{Conn, ConnId, Frame, Stream};
use service::{Database, DbOp, Service};
use steer_rpc::key::Event;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Faults begin until then; calls, too.
const CHAOS: Duration = Duration::from_secs(20);

/// By then everything that goes on must have ended.
const END: Duration = Duration::from_secs(120);

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(usize);

/// Which of its lives: a crash begins another one.
type Life = u32;

#[derive(Debug)]
enum Role {
    Client,
    Edge,
    Service,
}

#[derive(Debug)]
struct Node {
    role: Role,
    life: Life,
    is_up: bool,
    /// It stands still until then.
    paused: Option<Duration>,
    caller: Caller,
    service: Service,
}

/// One intention of an application: what it wants to be done.
#[derive(Debug)]
pub(crate) struct Op {
    semantics: Semantics,
    client: NodeId,
    /// Tries again until it has an answer.
    insists: bool,
    tries: u32,
    /// Somebody between has sent it twice, so what one stream is told does not hold for the other.
    copied: bool,
    told: Vec<Told>,
}

pub(crate) type OpId = usize;

/// What happens, to whom.
#[derive(Debug)]
enum What {
    /// A frame arrives at the server or at the client of a connection.
    Frame(ConnId, bool, Frame),
    /// A side of a connection learns that it is broken.
    Broken(ConnId, bool),
    News(NodeId, Life, u64, usize, Report),
    CallTimer(NodeId, Life, u64),
    DeskTimer(NodeId, Life, u64),
    /// An operation reaches the database.
    Db(DbOp),
    /// Its outcome reaches the service.
    DbBack(NodeId, Life, u64, Event, Option<service::Got>),
    /// The database learns that the sessions of a life have ended.
    SessionsEnd(NodeId, Life),
    /// A session of one job ends.
    SessionEnd(NodeId, Life, u64),
    Begin(OpId),
    Fault,
    Restart(NodeId),
}

/// The whole of it.
pub(crate) struct World {
    rng: StdRng,
    zero: Instant,
    now: Duration,
    sequence: u64,
    queue: BTreeMap<(Duration, u64), What>,
    nodes: Vec<Node>,
    conns: Vec<Conn>,
    db: Database,
    ops: Vec<Op>,
    hedges: bool,
    events: u64,
    digest: u64,
    log: VecDeque<String>,
    broken: Vec<String>,
}

/// Lines of the log that are kept.
const LOG: usize = 200;

impl World {
    /// What the seed makes of it.
    pub(crate) fn with_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (clients, edges, services) = (
            rng.random_range(2..5),
            rng.random_range(2..4),
            rng.random_range(2..4),
        );
        let roles = (0..clients)
            .map(|_| Role::Client)
            .chain((0..edges).map(|_| Role::Edge))
            .chain((0..services).map(|_| Role::Service));
        let nodes: Vec<_> = roles.map(Node::new).collect();
        let hedges = rng.random_bool(0.3);
        let mut world = Self {
            zero: Instant::now(),
            now: Duration::ZERO,
            sequence: 0,
            queue: BTreeMap::new(),
            conns: Vec::new(),
            db: Database::new(&mut rng),
            ops: Vec::new(),
            hedges,
            events: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            log: VecDeque::new(),
            broken: Vec::new(),
            nodes,
            rng,
        };
        for _ in 0..world.rng.random_range(30..90) {
            world.plan_op(clients);
        }
        let first = world.rng.random_range(0..500) * MS;
        world.at(first, What::Fault);
        world
    }

    fn plan_op(&mut self, clients: usize) {
        let semantics = match self.rng.random_range(0..10) {
            0..6 => Semantics::Keyed,
            6..9 => Semantics::AtMostOnce,
            _ => Semantics::AtLeastOnce,
        };
        let client = NodeId(self.rng.random_range(0..clients));
        let insists = semantics == Semantics::Keyed && self.rng.random_bool(0.6);
        self.ops.push(Op {
            semantics,
            client,
            insists,
            tries: 0,
            copied: false,
            told: Vec::new(),
        });
        let at = CHAOS.mul_f64(self.rng.random());
        self.at(at, What::Begin(self.ops.len() - 1));
    }

    /// Runs to the end, and looks whether a rule was broken.
    pub(crate) fn run(mut self) -> Result<Tally, String> {
        while let Some(((at, _), what)) = self.queue.pop_first() {
            if at > END {
                break;
            }
            self.now = at;
            self.events += 1;
            if let Some(what) = self.postponed(what) {
                self.happen(what);
            }
        }
        self.check()
    }

    /// An event of a process that stands still waits for it.
    fn postponed(&mut self, what: What) -> Option<What> {
        let node = match &what {
            What::Frame(conn, to_server, _) | What::Broken(conn, to_server) => {
                self.conns[*conn].end(*to_server).0
            }
            What::News(node, ..)
            | What::CallTimer(node, ..)
            | What::DeskTimer(node, ..)
            | What::DbBack(node, ..) => *node,
            What::Begin(op) => self.ops[*op].client,
            What::Db(_) | What::SessionsEnd(..) | What::SessionEnd(..) | What::Fault | What::Restart(_) => {
                return Some(what);
            }
        };
        match self.nodes[node.0].paused {
            Some(until) if until > self.now => {
                self.at(until - self.now, what);
                None
            }
            Some(_) | None => Some(what),
        }
    }

    fn happen(&mut self, what: What) {
        self.note(&what);
        match what {
            What::Frame(conn, to_server, frame) => self.on_frame(conn, to_server, frame),
            What::Broken(conn, to_server) => self.on_broken(conn, to_server),
            What::News(node, life, call, attempt, report) if self.lives(node, life) => {
                self.on_news(node, call, attempt, report);
            }
            What::CallTimer(node, life, call) if self.lives(node, life) => self.on_call_timer(node, call),
            What::DeskTimer(node, life, job) if self.lives(node, life) => self.on_desk_timer(node, job),
            What::DbBack(node, life, job, event, got) if self.lives(node, life) => {
                self.on_db_back(node, job, event, got);
            }
            What::News(..) | What::CallTimer(..) | What::DeskTimer(..) | What::DbBack(..) => {}
            What::Db(op) => self.on_db(op),
            What::SessionsEnd(node, life) => self.db.end_sessions(node, life),
            What::SessionEnd(node, life, job) => self.db.end_session(node, life, job),
            What::Begin(op) => self.begin_op(op),
            What::Fault => self.fault(),
            What::Restart(node) => self.nodes[node.0].is_up = true,
        }
    }

    fn lives(&self, node: NodeId, life: Life) -> bool {
        self.nodes[node.0].is_up && self.nodes[node.0].life == life
    }

    fn at(&mut self, wait: Duration, what: What) {
        self.sequence += 1;
        self.queue.insert((self.now + wait, self.sequence), what);
    }

    fn instant(&self) -> Instant {
        self.zero + self.now
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now
    }

    fn is_chaos(&self) -> bool {
        self.now < CHAOS
    }

    /// A chance that there is only in chaos.
    fn mishap(&mut self, chance: f64) -> bool {
        self.rng.random_bool(chance) && self.is_chaos()
    }

    fn of_role(&self, wanted: &Role) -> Vec<NodeId> {
        let is = |node: &Node| std::mem::discriminant(&node.role) == std::mem::discriminant(wanted);
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| is(node))
            .map(|(number, _)| NodeId(number))
            .collect()
    }

    fn note(&mut self, what: &What) {
        let line = format!("{:?} {what:?}", self.now);
        for octet in line.bytes() {
            self.digest = (self.digest ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    fn breaks(&mut self, rule: String) {
        self.broken.push(rule);
    }

    fn story(&self) -> String {
        let mut story = String::new();
        for line in &self.log {
            let _ = writeln!(story, "{line}");
        }
        story
    }
}

impl Node {
    fn new(role: Role) -> Self {
        Self {
            role,
            life: 0,
            is_up: true,
            paused: None,
            caller: Caller::default(),
            service: Service::default(),
        }
    }
}

/// What the request of an operation is.
#[derive(Debug, Clone)]
struct Request {
    op: OpId,
    semantics: Semantics,
    /// `grpc-timeout`, as it was written.
    timeout: Option<String>,
}

/// The end of a stream.
#[derive(Debug, Clone)]
struct Trailers {
    code: steer_rpc::fate::Code,
    fate: Option<Fate>,
    body: Option<String>,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Op(OpId),
    Stream(Stream),
    /// A copy that somebody between made: nobody waits for its answer.
    Nobody,
}
