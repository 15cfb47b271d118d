//! Services with a [`Desk`] per keyed call, and the database that they share.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;
use steer_rpc::fate::{Code, Deadline, Fate, Semantics, parse_timeout};
use steer_rpc::key::{Answer, Book, Desk, Do, Event, Found, Held, IdempotencyKey, KeyedCall, Terms};

use super::{Life, MS, NodeId, OpId, Origin, Request, Trailers, What, World};
use std::time::Duration;

/// What a call does: one line in the ledger, which names who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) op: OpId,
    pub(super) name: String,
}

/// The calls that a service is at.
#[derive(Debug, Default)]
pub(super) struct Service {
    next: u64,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    request: Request,
    origin: Origin,
    deadline: Deadline,
    /// Of a keyed call.
    desk: Option<Desk>,
    held: Option<Held>,
    effect: Effect,
    found: Option<Answer>,
    runs: u32,
}

/// What the database gives back beside the event.
#[derive(Debug)]
pub(super) enum Got {
    Held(Held),
    Answer(Answer),
}

/// An operation on its way to the database.
#[derive(Debug)]
pub(super) struct DbOp {
    from: (NodeId, Life),
    job: u64,
    what: DbWhat,
}

#[derive(Debug)]
enum DbWhat {
    Claim(KeyedCall),
    Stage(Held, Effect),
    Commit(KeyedCall, Held, Answer),
    Release(Held),
    /// One statement that commits by itself.
    Auto(Effect),
}

/// The database: one that does not lose what it has committed.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) book: Book<Effect>,
    pub(super) autos: Vec<Effect>,
    pub(super) down_until: Duration,
    /// Who has claimed what, by session.
    sessions: BTreeMap<(NodeId, Life, u64), Held>,
}

impl Database {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let terms = Terms {
            lease: rng.random_range(300..3000) * MS,
            keep: Duration::from_secs(3600),
        };
        Self {
            book: Book::new(terms),
            autos: Vec::new(),
            down_until: Duration::ZERO,
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn end_sessions(&mut self, node: NodeId, life: Life) {
        let ended = self
            .sessions
            .extract_if(.., |(of, in_life, _), _| (*of, *in_life) == (node, life));
        for (_, held) in ended {
            self.book.release(&held);
        }
    }

    pub(super) fn end_session(&mut self, node: NodeId, life: Life, job: u64) {
        if let Some(held) = self.sessions.remove(&(node, life, job)) {
            self.book.release(&held);
        }
    }
}

impl World {
    pub(super) fn begin_job(&mut self, node: NodeId, origin: Origin, request: Request) {
        let asked = request
            .timeout
            .as_ref()
            .map(|text| parse_timeout(text.as_bytes()).unwrap());
        let deadline = Deadline::of(asked, None, self.instant());
        let service = &mut self.nodes[node.0].service;
        let id = service.next;
        service.next += 1;
        let name = format!(
            "op {} by {}.{} job {id}",
            request.op, node.0, self.nodes[node.0].life
        );
        let (semantics, op) = (request.semantics, request.op);
        let (desk, first) = Desk::new(deadline, self.instant());
        let job = Job {
            request,
            origin,
            deadline,
            desk: (semantics == Semantics::Keyed).then_some(desk),
            held: None,
            effect: Effect { op, name },
            found: None,
            runs: 0,
        };
        let effect = job.effect.clone();
        self.nodes[node.0].service.jobs.insert(id, job);
        match semantics {
            Semantics::Keyed => self.obey(node, id, first),
            Semantics::AtMostOnce | Semantics::AtLeastOnce if deadline.is_over(self.instant()) => {
                self.answer(node, id, refused(Code::DeadlineExceeded, Fate::Unprocessed));
            }
            Semantics::AtMostOnce | Semantics::AtLeastOnce => self.ask(node, id, DbWhat::Auto(effect)),
        }
    }

    fn keyed_call(&self, op: OpId) -> KeyedCall {
        let key = IdempotencyKey::parse(format!("op-{op}").as_bytes()).unwrap();
        KeyedCall::new("client", "/pay.Payment/Charge", key, op.to_string().as_bytes()).unwrap()
    }

    fn obey(&mut self, node: NodeId, id: u64, mut next: Do) {
        let now = self.instant();
        let Some(job) = self.nodes[node.0].service.jobs.get_mut(&id) else {
            return;
        };
        let (op, held) = (job.request.op, job.held.clone());
        match (next, held) {
            (Do::Claim, _) => self.ask(node, id, DbWhat::Claim(self.keyed_call(op))),
            (Do::Run, Some(held)) => {
                job.runs += 1;
                job.effect.name = format!("{} run {}", job.effect.name, job.runs);
                let (effect, is_over) = (job.effect.clone(), job.deadline.is_over(now));
                if is_over {
                    self.breaks(format!("{} began after its deadline", effect.name));
                }
                self.ask(node, id, DbWhat::Stage(held, effect));
            }
            (Do::Commit, Some(held)) => {
                let answer = Answer::ok(job.effect.name.clone());
                self.ask(node, id, DbWhat::Commit(self.keyed_call(op), held, answer));
            }
            (Do::Release, held) => {
                if let Some(held) = held {
                    self.ask(node, id, DbWhat::Release(held));
                }
                if let Some(desk) = self.desk(node, id) {
                    next = desk.on_event(Event::Released, now);
                    self.obey(node, id, next);
                }
            }
            (Do::Answer, _) => {
                let body = job.effect.name.clone();
                self.answer(node, id, done(body));
            }
            (Do::Replay, _) => {
                let answer = job.found.take().unwrap();
                let body = String::from_utf8(answer.body.to_vec()).unwrap();
                self.answer(node, id, done(body));
            }
            (Do::Refuse(refusal), _) => {
                let (code, fate, _) = refusal.told();
                self.answer(node, id, refused(code, fate));
            }
            (Do::Wait | Do::Nothing, _) => {}
            (Do::Fail | Do::Run | Do::Commit, _) => {
                self.breaks(format!("{node:?} job {id} was told to {next:?}"));
            }
        }
        let at = self.desk(node, id).and_then(|desk| desk.next_deadline());
        if let Some(at) = at {
            let wait = at.saturating_duration_since(now);
            let life = self.nodes[node.0].life;
            self.at(wait, What::DeskTimer(node, life, id));
        }
    }

    fn desk(&mut self, node: NodeId, id: u64) -> Option<&mut Desk> {
        self.nodes[node.0].service.jobs.get_mut(&id)?.desk.as_mut()
    }

    pub(super) fn on_desk_timer(&mut self, node: NodeId, id: u64) {
        let now = self.instant();
        if let Some(desk) = self.desk(node, id) {
            let next = desk.on_deadline(now);
            if next != Do::Nothing {
                self.obey(node, id, next);
            }
        }
    }

    fn answer(&mut self, node: NodeId, id: u64, trailers: Trailers) {
        let Some(job) = self.nodes[node.0].service.jobs.remove(&id) else {
            return;
        };
        if let Origin::Stream(stream) = job.origin {
            self.reply(stream, trailers);
        }
    }

    /// Sends an operation to the database. It may be lost on its way, and so may its outcome.
    fn ask(&mut self, node: NodeId, job: u64, what: DbWhat) {
        let life = self.nodes[node.0].life;
        let slow = self.mishap(0.02);
        let delay = if slow {
            self.rng.random_range(100..2000)
        } else {
            self.rng.random_range(0..4)
        } * MS;
        if self.mishap(0.02) {
            self.lose_session(node, life, job, &what, delay);
            return;
        }
        let op = DbOp {
            from: (node, life),
            job,
            what,
        };
        self.at(delay, What::Db(op));
    }

    /// The session breaks: the service hears it, and the database as well, each in its time.
    fn lose_session(&mut self, node: NodeId, life: Life, job: u64, what: &DbWhat, delay: Duration) {
        let event = match what {
            DbWhat::Claim(_) => Event::Unavailable,
            DbWhat::Stage(..) => Event::Fenced,
            DbWhat::Commit(..) | DbWhat::Auto(_) => Event::InDoubt,
            DbWhat::Release(_) => Event::Released,
        };
        self.at(delay, What::DbBack(node, life, job, event, None));
        let noticed = self.rng.random_range(1..1500) * MS;
        self.at(delay + noticed, What::SessionEnd(node, life, job));
    }

    pub(super) fn on_db(&mut self, op: DbOp) {
        let DbOp {
            from: (node, life),
            job,
            what,
        } = op;
        if self.now < self.db.down_until {
            self.lose_session(node, life, job, &what, MS);
            return;
        }
        // The database crashes right after it has committed, and is away for a while: nobody can ask what became of it.
        let crashes = matches!(what, DbWhat::Commit(..)) && self.mishap(0.05);
        if crashes {
            self.db.down_until = self.now + self.rng.random_range(500..6000) * MS;
        }
        let lost = crashes || self.mishap(0.02);
        if lost {
            // Done, and nobody hears of it.
            self.lose_session(node, life, job, &what, MS);
        }
        let (event, got) = self.apply((node, life, job), what);
        if !lost {
            let delay = self.rng.random_range(0..4) * MS;
            self.at(delay, What::DbBack(node, life, job, event, got));
        }
    }

    fn apply(&mut self, session: (NodeId, Life, u64), what: DbWhat) -> (Event, Option<Got>) {
        let wall = self.wall();
        match what {
            DbWhat::Claim(call) => match self.db.book.claim(&call, wall) {
                Found::Fresh(held) => {
                    self.db.sessions.insert(session, held.clone());
                    (Event::Fresh, Some(Got::Held(held)))
                }
                Found::InFlight => (Event::InFlight, None),
                Found::Answered(answer) => (Event::Answered, Some(Got::Answer(answer))),
                Found::OtherPayload => (Event::OtherPayload, None),
            },
            DbWhat::Stage(held, effect) => {
                self.db.book.stage(&held, effect);
                (Event::Kept, None)
            }
            DbWhat::Commit(call, held, answer) => {
                self.db.sessions.remove(&session);
                match self.db.book.commit(&call, &held, &answer, &[], wall) {
                    Ok(()) => (Event::Committed, None),
                    Err(_) => (Event::Fenced, None),
                }
            }
            DbWhat::Release(held) => {
                self.db.sessions.remove(&session);
                self.db.book.release(&held);
                (Event::Released, None)
            }
            DbWhat::Auto(effect) => {
                self.db.autos.push(effect);
                (Event::Committed, None)
            }
        }
    }

    pub(super) fn on_db_back(&mut self, node: NodeId, id: u64, event: Event, got: Option<Got>) {
        let now = self.instant();
        let Some(job) = self.nodes[node.0].service.jobs.get_mut(&id) else {
            return;
        };
        match got {
            Some(Got::Held(held)) => job.held = Some(held),
            Some(Got::Answer(answer)) => job.found = Some(answer),
            None => {}
        }
        match &mut job.desk {
            Some(desk) => {
                let next = desk.on_event(event, now);
                if next != Do::Nothing {
                    self.obey(node, id, next);
                }
            }
            None if event == Event::Committed => {
                let body = job.effect.name.clone();
                self.answer(node, id, done(body));
            }
            None => self.answer(node, id, refused(Code::Unavailable, Fate::Ambiguous)),
        }
    }

    /// How many jobs go on.
    pub(super) fn open_jobs(&self, node: NodeId) -> usize {
        self.nodes[node.0].service.jobs.len()
    }
}

fn done(body: String) -> Trailers {
    Trailers {
        code: Code::Ok,
        fate: None,
        body: Some(body),
    }
}

fn refused(code: Code, fate: Fate) -> Trailers {
    Trailers {
        code,
        fate: Some(fate),
        body: None,
    }
}
