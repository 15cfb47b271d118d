//! Connections: frames in order, streams by number, GOAWAY, breaks that each side learns of in its own time.

use rand::RngExt;

use steer_rpc::fate::{News, Report};

use super::{Life, MS, NodeId, Origin, Request, Role, Semantics, Trailers, What, World};
use std::time::Duration;

pub(super) type ConnId = usize;

/// A stream of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stream {
    pub(super) conn: ConnId,
    pub(super) number: u32,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    Request(u32, Request),
    Headers(u32),
    Trailers(u32, Trailers),
    Reset(u32, u32),
    GoAway(u32),
}

/// RFC 9113 §7.
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const CANCEL: u32 = 8;

#[derive(Debug)]
pub(super) struct Conn {
    client: (NodeId, Life),
    server: (NodeId, Life),
    next: u32,
    /// Whether frames still pass: to the server, to the client.
    passes: [bool; 2],
    /// Whether a side has learned that it is broken: the server, the client.
    known: [bool; 2],
    /// When the last frame arrives, in each direction.
    last: [Duration; 2],
    /// The highest stream that the server has seen.
    highest: u32,
    /// The last stream that the server said it would look at.
    goaway: Option<u32>,
    /// The client has read a GOAWAY: no new streams.
    retired: bool,
}

impl Conn {
    /// The process at one end.
    pub(super) fn end(&self, server: bool) -> (NodeId, Life) {
        if server { self.server } else { self.client }
    }
}

impl World {
    /// A connection from one process to another on which a stream can be opened, if the other takes any.
    pub(super) fn connect(&mut self, from: NodeId, to: NodeId) -> Option<ConnId> {
        let client = (from, self.nodes[from.0].life);
        let usable =
            |conn: &Conn| conn.client == client && conn.server.0 == to && !conn.retired && !conn.known[0];
        if let Some(conn) = self.conns.iter().position(usable) {
            return Some(conn);
        }
        if !self.nodes[to.0].is_up {
            return None;
        }
        self.conns.push(Conn {
            client,
            server: (to, self.nodes[to.0].life),
            next: 1,
            passes: [true; 2],
            known: [false; 2],
            last: [self.now; 2],
            highest: 0,
            goaway: None,
            retired: false,
        });
        Some(self.conns.len() - 1)
    }

    pub(super) fn open_stream(&mut self, conn: ConnId) -> Stream {
        let number = self.conns[conn].next;
        self.conns[conn].next += 2;
        Stream { conn, number }
    }

    pub(super) fn send(&mut self, conn: ConnId, to_server: bool, frame: Frame) {
        let slow = self.mishap(0.03);
        let delay = if slow {
            self.rng.random_range(50..800)
        } else {
            self.rng.random_range(1..8)
        } * MS;
        let direction = usize::from(!to_server);
        let state = &mut self.conns[conn];
        if !state.passes[direction] {
            return;
        }
        state.last[direction] = state.last[direction].max(self.now + delay);
        let wait = state.last[direction] - self.now;
        self.at(wait, What::Frame(conn, to_server, frame));
    }

    pub(super) fn on_frame(&mut self, conn: ConnId, to_server: bool, frame: Frame) {
        let state = &self.conns[conn];
        let (node, life) = state.end(to_server);
        if !state.passes[usize::from(!to_server)] || !self.lives(node, life) {
            return;
        }
        match frame {
            Frame::Request(number, request) => self.on_request(node, Stream { conn, number }, request),
            Frame::Reset(number, _) if to_server => self.on_gone(node, Stream { conn, number }),
            Frame::Headers(number) => {
                self.on_stream(node, Stream { conn, number }, Report::of(News::Headers), None);
            }
            Frame::Trailers(number, trailers) => {
                let report = Report::of_status(trailers.code, trailers.fate, Default::default());
                self.on_stream(node, Stream { conn, number }, report, Some(trailers));
            }
            Frame::Reset(number, code) => {
                self.on_stream(
                    node,
                    Stream { conn, number },
                    Report::of(News::of_reset(code)),
                    None,
                );
            }
            Frame::GoAway(last) => self.on_goaway(node, conn, last),
        }
    }

    fn on_goaway(&mut self, node: NodeId, conn: ConnId, last: u32) {
        self.conns[conn].retired = true;
        for number in self.streams_of(node, conn) {
            if let Some(news) = News::of_goaway(last, number) {
                self.on_stream(node, Stream { conn, number }, Report::of(news), None);
            }
        }
    }

    fn on_request(&mut self, node: NodeId, stream: Stream, request: Request) {
        let state = &mut self.conns[stream.conn];
        if state.goaway.is_some_and(|last| stream.number > last) {
            return; // the client is told by the GOAWAY that is on its way
        }
        state.highest = state.highest.max(stream.number);
        if self.mishap(0.03) {
            self.send(stream.conn, false, Frame::Reset(stream.number, REFUSED_STREAM));
            return;
        }
        // Somebody between who sends what he has kept once more, where that may be done.
        let copied = request.semantics != Semantics::AtMostOnce && self.mishap(0.02);
        if copied {
            self.ops[request.op].copied = true;
            self.take(node, Origin::Nobody, request.clone());
        }
        self.take(node, Origin::Stream(stream), request);
        // A server that loses sight of what it has begun: the stream is reset, and the work goes on.
        if self.mishap(0.03) {
            self.send(stream.conn, false, Frame::Reset(stream.number, INTERNAL_ERROR));
        }
    }

    fn take(&mut self, node: NodeId, origin: Origin, request: Request) {
        match self.nodes[node.0].role {
            Role::Edge => self.begin_call(node, origin, request),
            Role::Service => self.begin_job(node, origin, request),
            Role::Client => self.breaks(format!("{node:?} is a client and was called")),
        }
    }

    /// Sends the end of a stream to whoever opened it.
    pub(super) fn reply(&mut self, stream: Stream, trailers: Trailers) {
        if trailers.body.is_some() && self.rng.random_bool(0.3) {
            self.send(stream.conn, false, Frame::Headers(stream.number));
        }
        self.send(stream.conn, false, Frame::Trailers(stream.number, trailers));
    }

    /// A server says that it will look at no more streams than it has seen.
    pub(super) fn drain(&mut self, node: NodeId) {
        let life = self.nodes[node.0].life;
        for conn in 0..self.conns.len() {
            if self.conns[conn].server == (node, life) && self.conns[conn].goaway.is_none() {
                let last = self.conns[conn].highest;
                self.conns[conn].goaway = Some(last);
                self.send(conn, false, Frame::GoAway(last));
            }
        }
    }

    /// Breaks a connection: what is under way is lost, in both directions or in one for a time.
    pub(super) fn break_conn(&mut self, conn: ConnId) {
        let one_way = self.rng.random_bool(0.3);
        let direction = self.rng.random_range(0..2_usize);
        self.conns[conn].passes[direction] = false;
        if !one_way {
            self.conns[conn].passes[1 - direction] = false;
        }
        for to_server in [true, false] {
            let quick = self.rng.random_bool(0.5);
            let wait = if quick {
                self.rng.random_range(1..30)
            } else {
                self.rng.random_range(30..3000)
            } * MS;
            self.at(wait, What::Broken(conn, to_server));
        }
    }

    pub(super) fn on_broken(&mut self, conn: ConnId, to_server: bool) {
        self.conns[conn].passes = [false; 2];
        self.conns[conn].known[usize::from(!to_server)] = true;
        let (node, life) = self.conns[conn].end(to_server);
        if !self.lives(node, life) {
            return;
        }
        if to_server {
            self.on_all_gone(node, conn);
        } else {
            // `connect` looks at the first; it is the client that has to know.
            self.conns[conn].known[0] = true;
            for number in self.streams_of(node, conn) {
                self.on_stream(node, Stream { conn, number }, Report::of(News::Lost), None);
            }
        }
    }

    /// Breaks every connection of a process that died.
    pub(super) fn break_all(&mut self, node: NodeId) {
        let life = self.nodes[node.0].life;
        for conn in 0..self.conns.len() {
            let is_end = |end: (NodeId, Life)| end == (node, life);
            if is_end(self.conns[conn].client) || is_end(self.conns[conn].server) {
                self.break_conn(conn);
            }
        }
    }
}
