//! Clients and edges: what runs a [`Call`].

use std::collections::BTreeMap;

use rand::RngExt;
use steer_rpc::fate::{
    Action, Budget, Call, Code, Deadline, End, Fate, Hedge, How, News, Policy, Report, Semantics,
    parse_timeout,
};

use super::check::Told;
use super::net::{CANCEL, Frame, Stream};
use super::{MS, NodeId, OpId, Origin, Request, Role, Trailers, What, World};
use crate::world::net::ConnId;

/// The calls of a process.
#[derive(Debug)]
pub(super) struct Caller {
    budget: Budget,
    next: u64,
    calls: BTreeMap<u64, Running>,
    streams: BTreeMap<Stream, (u64, usize)>,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            budget: Budget::DEFAULT,
            next: 0,
            calls: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct Running {
    call: Call,
    request: Request,
    origin: Origin,
    deadline: Deadline,
    attempts: Vec<Option<Stream>>,
    /// The end of each attempt, where one has come.
    trailers: BTreeMap<usize, Trailers>,
    /// The attempt whose answer is passed on.
    answering: Option<usize>,
}

impl World {
    /// The application wants something, for the first time or again.
    pub(super) fn begin_op(&mut self, op: OpId) {
        let timeout = self.rng.random_range(100..4000) * MS;
        let what = &mut self.ops[op];
        what.tries += 1;
        let (client, semantics) = (what.client, what.semantics);
        let timeout = Some(steer_rpc::fate::format_timeout(timeout));
        let request = Request {
            op,
            semantics,
            timeout,
        };
        self.begin_call(client, Origin::Op(op), request);
    }

    pub(super) fn begin_call(&mut self, node: NodeId, origin: Origin, request: Request) {
        let asked = request
            .timeout
            .as_ref()
            .map(|text| parse_timeout(text.as_bytes()).unwrap());
        let deadline = Deadline::of(asked, None, self.instant());
        let hedge = self.hedges.then_some(Hedge { after: 60 * MS });
        let policy = Policy {
            hedge,
            ..Policy::new(request.semantics)
        };
        let running = Running {
            call: Call::new(policy, deadline, self.instant()),
            request,
            origin,
            deadline,
            attempts: Vec::new(),
            trailers: BTreeMap::new(),
            answering: None,
        };
        let caller = &mut self.nodes[node.0].caller;
        let id = caller.next;
        caller.next += 1;
        caller.calls.insert(id, running);
        if let Some(at) = deadline.moment() {
            let wait = at - self.instant();
            let life = self.nodes[node.0].life;
            self.at(wait, What::CallTimer(node, life, id));
        }
        self.drive(node, id);
    }

    /// Does what a call wants to be done.
    fn drive(&mut self, node: NodeId, id: u64) {
        loop {
            let Some(running) = self.nodes[node.0].caller.calls.get_mut(&id) else {
                return;
            };
            let Some(action) = running.call.poll_action() else {
                break;
            };
            match action {
                Action::Start { attempt, .. } => self.start(node, id, attempt),
                Action::Cancel { attempt } => self.cancel(node, id, attempt),
                Action::Finish(end) => self.finish(node, id, end),
            }
        }
        let running = &self.nodes[node.0].caller.calls[&id];
        if let Some(at) = running.call.next_deadline() {
            let wait = at.saturating_duration_since(self.instant());
            let life = self.nodes[node.0].life;
            self.at(wait, What::CallTimer(node, life, id));
        }
    }

    fn start(&mut self, node: NodeId, id: u64, attempt: usize) {
        let next_tier = match self.nodes[node.0].role {
            Role::Client => Role::Edge,
            Role::Edge | Role::Service => Role::Service,
        };
        let servers = self.of_role(&next_tier);
        let to = servers[self.rng.random_range(0..servers.len())];
        let stream = self.connect(node, to).map(|conn| self.open_stream(conn));
        let now = self.instant();
        let caller = &mut self.nodes[node.0].caller;
        let running = caller.calls.get_mut(&id).unwrap();
        running.attempts.push(stream);
        let timeout = running.deadline.forwarded(now);
        let request = Request {
            timeout,
            ..running.request.clone()
        };
        match stream {
            None => {
                let life = self.nodes[node.0].life;
                let report = Report::of(News::NoConnection);
                self.at(MS, What::News(node, life, id, attempt, report));
            }
            Some(stream) => {
                caller.streams.insert(stream, (id, attempt));
                self.send(stream.conn, true, Frame::Request(stream.number, request));
                self.feed(node, id, attempt, Report::of(News::Written));
            }
        }
    }

    fn cancel(&mut self, node: NodeId, id: u64, attempt: usize) {
        let stream = self.nodes[node.0].caller.calls[&id].attempts[attempt];
        if let Some(stream) = stream {
            self.send(stream.conn, true, Frame::Reset(stream.number, CANCEL));
        }
    }

    fn feed(&mut self, node: NodeId, id: u64, attempt: usize, report: Report) {
        let now = self.instant();
        let caller = &mut self.nodes[node.0].caller;
        if let Some(running) = caller.calls.get_mut(&id) {
            running
                .call
                .on_news(attempt, report, &mut caller.budget, &mut self.rng, now);
        }
    }

    pub(super) fn on_news(&mut self, node: NodeId, id: u64, attempt: usize, report: Report) {
        self.feed(node, id, attempt, report);
        self.drive(node, id);
    }

    /// News of a stream that we opened.
    pub(super) fn on_stream(
        &mut self,
        node: NodeId,
        stream: Stream,
        report: Report,
        trailers: Option<Trailers>,
    ) {
        let caller = &mut self.nodes[node.0].caller;
        let Some((id, attempt)) = caller.streams.get(&stream).copied() else {
            return;
        };
        let is_over = !matches!(report.news, News::Headers);
        let Some(running) = caller.calls.get_mut(&id) else {
            return;
        };
        if let Some(trailers) = trailers {
            running.trailers.insert(attempt, trailers);
        }
        if is_over {
            caller.streams.remove(&stream);
        }
        self.feed(node, id, attempt, report);
        self.drive(node, id);
        let answering = self.nodes[node.0]
            .caller
            .calls
            .get(&id)
            .and_then(|running| running.answering);
        if is_over && answering == Some(attempt) {
            self.pass_on(node, id, attempt);
        }
    }

    fn finish(&mut self, node: NodeId, id: u64, end: End) {
        match end.how {
            How::Answer { attempt } => {
                let running = self.nodes[node.0].caller.calls.get_mut(&id).unwrap();
                running.answering = Some(attempt);
                if running.trailers.contains_key(&attempt) {
                    self.pass_on(node, id, attempt);
                } else if let Origin::Stream(stream) = running.origin {
                    self.send(stream.conn, false, Frame::Headers(stream.number));
                }
            }
            How::Failed { code, .. } => {
                let trailers = Trailers {
                    code,
                    fate: Some(end.fate),
                    body: None,
                };
                self.close(node, id, trailers);
            }
        }
    }

    /// The answer of an attempt has ended, in trailers or without.
    fn pass_on(&mut self, node: NodeId, id: u64, attempt: usize) {
        let Some(running) = self.nodes[node.0].caller.calls.get(&id) else {
            return;
        };
        let trailers = running.trailers.get(&attempt).cloned();
        let trailers = trailers.unwrap_or(Trailers {
            code: Code::Unavailable,
            fate: Some(Fate::Ambiguous),
            body: None,
        });
        self.close(node, id, trailers);
    }

    fn close(&mut self, node: NodeId, id: u64, trailers: Trailers) {
        let Some(running) = self.nodes[node.0].caller.calls.remove(&id) else {
            return;
        };
        match running.origin {
            Origin::Stream(stream) => self.send(stream.conn, false, Frame::Trailers(stream.number, trailers)),
            Origin::Op(op) => self.tell(op, trailers),
            Origin::Nobody => {}
        }
    }

    /// The application hears how it ended.
    fn tell(&mut self, op: OpId, trailers: Trailers) {
        let what = &mut self.ops[op];
        let is_done = trailers.code == Code::Ok;
        what.told.push(Told {
            fate: trailers.fate,
            code: trailers.code,
            body: trailers.body,
        });
        let insists = what.insists && what.semantics == Semantics::Keyed;
        if insists && !is_done {
            let wait = self.rng.random_range(10..500) * MS;
            self.at(wait, What::Begin(op));
        }
    }

    pub(super) fn on_call_timer(&mut self, node: NodeId, id: u64) {
        let now = self.instant();
        let caller = &mut self.nodes[node.0].caller;
        let Some(running) = caller.calls.get_mut(&id) else {
            return;
        };
        if let (Some(attempt), true) = (running.answering, running.deadline.is_over(now)) {
            // The answer had begun and did not end in time.
            self.cancel(node, id, attempt);
            let trailers = Trailers {
                code: Code::DeadlineExceeded,
                fate: Some(Fate::Ambiguous),
                body: None,
            };
            self.close(node, id, trailers);
            return;
        }
        running.call.on_deadline(&caller.budget, now);
        self.drive(node, id);
    }

    /// Whoever opened a stream to us has reset it.
    pub(super) fn on_gone(&mut self, node: NodeId, stream: Stream) {
        match self.nodes[node.0].role {
            Role::Service => {} // Gap: a handler that has begun goes on
            Role::Edge | Role::Client => self.abandon(node, |of| of == stream),
        }
    }

    pub(super) fn on_all_gone(&mut self, node: NodeId, conn: ConnId) {
        self.abandon(node, |of| of.conn == conn);
    }

    fn abandon(&mut self, node: NodeId, is: impl Fn(Stream) -> bool) {
        let calls = self.nodes[node.0].caller.calls.iter();
        let gone =
            calls.filter(|(_, running)| matches!(running.origin, Origin::Stream(stream) if is(stream)));
        let gone: Vec<_> = gone.map(|(id, running)| (*id, running.answering)).collect();
        for (id, answering) in gone {
            if let Some(attempt) = answering {
                self.cancel(node, id, attempt);
            }
            if let Some(running) = self.nodes[node.0].caller.calls.get_mut(&id) {
                running.call.on_cancel();
            }
            self.drive(node, id);
            self.nodes[node.0].caller.calls.remove(&id);
        }
    }

    /// The streams that a process has open on a connection.
    pub(super) fn streams_of(&self, node: NodeId, conn: ConnId) -> Vec<u32> {
        let streams = self.nodes[node.0].caller.streams.keys();
        streams
            .filter(|stream| stream.conn == conn)
            .map(|stream| stream.number)
            .collect()
    }

    /// How many calls go on.
    pub(super) fn open_calls(&self, node: NodeId) -> usize {
        self.nodes[node.0].caller.calls.len()
    }
}
