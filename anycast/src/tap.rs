//! A tap on the sessions of a speaker: what went in and out, for whoever looks on. It never slows a session.
//!
//! ```text
//! peer tasks ──► Tap ──┬─► Ledger per peer: the Adj-RIB-Out, kept only where a collector is configured
//!                      ├─► Watcher that follows: hears all of it, or is cut off          (BMP)
//!                      └─► Watcher that samples: hears what it has room for, losses counted   (MRT)
//! ```
//!
//! While nobody looks on, a message costs one load and one branch. While somebody does, it costs a short lock and
//! a push per watcher; octets are shared and not copied. All queues are bounded, in messages and in octets.

mod ledger;
mod watcher;

#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use metrics::counter;
use steer_topology::{Asn, Peer};

use crate::connection::Connection;
use crate::session::{End, Negotiated, SessionId, State};
use crate::wire::{self, Families, Frame, HEADER_LENGTH, Kind, Notification, Reason};

use ledger::Ledger;
pub use ledger::RouteCounts;
pub use watcher::Watcher;
use watcher::{Queue, Want};

/// OPENs are remembered for so many connections of one peer; a peer has two at most at a time.
const MAX_OPENS: usize = 4;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer sent it.
    In,
    /// We sent it.
    Out,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Ours; the unspecified address while there is no connection.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// Our AS number.
    pub local_asn: Asn,
    /// Theirs; `None` where it is not known yet.
    pub peer_asn: Option<Asn>,
}

/// One thing that happened to a peer.
#[derive(Debug, Clone)]
pub struct Tapped {
    /// When.
    pub at: Timestamp,
    /// Index of the peer in [`crate::SpeakerStatus::peers`].
    pub peer: usize,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// A whole message, header included.
    Message {
        /// Between whom.
        ends: Ends,
        /// Which way.
        direction: Direction,
        /// AS numbers in an AS_PATH have 4 octets; `None` before that is agreed on.
        four_octet: Option<bool>,
        /// As on the wire.
        octets: Bytes,
    },
    /// The state of the peer changed.
    State {
        /// Between whom.
        ends: Ends,
        /// From.
        from: State,
        /// To.
        to: State,
    },
    /// A session is up.
    Up(Arc<Up>),
    /// It is over.
    Down(Arc<Up>, Down),
}

/// A session that came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// Between whom.
    pub ends: Ends,
    /// The peer's AS number.
    pub peer_asn: Asn,
    /// The peer's BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// 4-octet AS numbers on the wire.
    pub four_octet: bool,
    /// What both carry.
    pub families: Families,
    /// Our OPEN; empty where nobody looked on when it was sent.
    pub sent_open: Bytes,
    /// Theirs; as above.
    pub received_open: Bytes,
    /// Since when.
    pub at: Timestamp,
}

/// How a session ended (RFC 7854 §4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// We ended it with this NOTIFICATION message.
    WeNotified(Bytes),
    /// They ended it with this NOTIFICATION message.
    TheyNotified(Bytes),
    /// We closed it without a word, so that the peer keeps our routes (RFC 4724).
    WeClosed,
    /// The connection was lost without a word.
    Lost,
}

impl Down {
    fn of(end: &End) -> Self {
        match end {
            End::Stopped(notification) | End::Refused(notification, _) => {
                Self::WeNotified(wire::encode_notification(notification))
            }
            End::Collision => Self::WeNotified(wire::encode_notification(&Notification::bare(
                Reason::ConnectionCollision,
            ))),
            End::Notified(notification) => Self::TheyNotified(wire::encode_notification(notification)),
            End::PathDown => {
                Self::WeNotified(wire::encode_notification(&Notification::bare(Reason::BfdDown))) // RFC 9384
            }
            End::Left => Self::WeClosed,
            End::Lost(_) => Self::Lost,
        }
    }
}

/// A session that is up, and the routes that stand announced on it.
#[derive(Debug)]
pub struct Standing {
    /// Index of the peer.
    pub peer: usize,
    /// The session.
    pub up: Arc<Up>,
    /// UPDATEs that announce all of it anew.
    pub updates: Vec<Bytes>,
}

/// The tap of one speaker.
#[derive(Debug)]
pub struct Tap {
    /// Whether anybody looks on.
    watched: AtomicBool,
    local_asn: Asn,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    peers: Vec<Tapping>,
    watchers: Vec<Arc<Queue>>,
    /// Adj-RIB-Outs are kept.
    keep: bool,
}

/// One peer.
#[derive(Debug)]
struct Tapping {
    address: SocketAddr,
    asn: Asn,
    opens: Vec<Opens>,
    up: Option<(SessionId, Arc<Up>)>,
    ledger: Ledger,
}

#[derive(Debug)]
struct Opens {
    id: SessionId,
    sent: Bytes,
    received: Bytes,
}

impl Tap {
    /// A tap for the peers of a speaker. With `keep` it knows at any time what is announced to whom, which
    /// [`Tap::follow`] needs; that costs work for each UPDATE, after it was sent.
    #[must_use]
    pub fn new(local_asn: Asn, peers: &[Peer], keep: bool) -> Self {
        let peers = peers.iter().map(|peer| Tapping {
            address: SocketAddr::new(peer.address, peer.port),
            asn: peer.asn,
            opens: Vec::new(),
            up: None,
            ledger: Ledger::default(),
        });
        Self {
            watched: AtomicBool::new(keep),
            local_asn,
            inner: Mutex::new(Inner {
                peers: peers.collect(),
                watchers: Vec::new(),
                keep,
            }),
        }
    }

    /// Watches everything from now on. What the watcher has no room for is dropped and counted.
    #[must_use]
    pub fn sample(self: &Arc<Self>) -> Watcher {
        self.watch(&mut self.lock(), Want::Sample)
    }

    /// Watches sessions and the messages that we send, without a gap: what stands now, and all that follows.
    /// A watcher that does not keep up is cut off ([`Watcher::cut_off`]) and has to begin anew.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> (Vec<Standing>, Watcher) {
        let mut inner = self.lock();
        let standing = inner.peers.iter_mut().enumerate();
        let standing = standing.filter_map(|(peer, tapping)| {
            let (_, up) = tapping.up.as_ref()?;
            Some(Standing {
                peer,
                up: Arc::clone(up),
                updates: tapping.ledger.updates(),
            })
        });
        let standing = standing.collect();
        (standing, self.watch(&mut inner, Want::Follow))
    }

    /// Routes that stand announced, for each session that is up. Only with `keep`.
    #[must_use]
    pub fn counts(&self) -> Vec<(usize, RouteCounts)> {
        let mut inner = self.lock();
        let up = inner.peers.iter_mut().enumerate();
        let up = up.filter(|(_, tapping)| tapping.up.is_some());
        up.map(|(peer, tapping)| (peer, tapping.ledger.counts()))
            .collect()
    }

    /// A message was handed to the socket.
    #[inline]
    pub(crate) fn sent(&self, peer: usize, connection: &Connection, message: &Bytes) {
        if self.watched.load(Ordering::Relaxed) {
            let kind = message.get(HEADER_LENGTH - 1).copied();
            self.note_message(peer, connection, Direction::Out, kind, message.clone());
        }
    }

    /// Messages were handed to the socket.
    #[inline]
    pub(crate) fn sent_all(&self, peer: usize, connection: &Connection, messages: &[Bytes]) {
        if self.watched.load(Ordering::Relaxed) {
            for message in messages {
                self.sent(peer, connection, message);
            }
        }
    }

    /// A message was read from the socket.
    #[inline]
    pub(crate) fn received(&self, peer: usize, connection: &Connection, frame: &Frame) {
        if self.watched.load(Ordering::Relaxed) {
            let message = whole(frame);
            self.note_message(peer, connection, Direction::In, Some(frame.kind.octet()), message);
        }
    }

    /// A session came up.
    pub(crate) fn up(&self, peer: usize, connection: &Connection, negotiated: &Negotiated) {
        let at = Timestamp::now();
        let mut inner = self.lock();
        let Some(tapping) = inner.peers.get_mut(peer) else {
            return;
        };
        let opens = tapping.opens.iter().find(|opens| opens.id == connection.id);
        let up = Arc::new(Up {
            ends: Ends {
                peer_asn: Some(negotiated.peer_asn),
                ..self.ends(tapping, connection)
            },
            peer_asn: negotiated.peer_asn,
            peer_id: negotiated.peer_id,
            four_octet: negotiated.four_octet,
            families: negotiated.families,
            sent_open: opens.map(|opens| opens.sent.clone()).unwrap_or_default(),
            received_open: opens.map(|opens| opens.received.clone()).unwrap_or_default(),
            at,
        });
        tapping.up = Some((connection.id, Arc::clone(&up)));
        tapping.ledger.clear();
        let what = What::Up(up);
        self.tell(&mut inner, &Tapped { at, peer, what });
    }

    /// An attempt or a session is over.
    pub(crate) fn ended(&self, peer: usize, id: SessionId, end: &End) {
        let mut inner = self.lock();
        let Some(tapping) = inner.peers.get_mut(peer) else {
            return;
        };
        tapping.opens.retain(|opens| opens.id != id);
        let Some((_, up)) = tapping.up.take_if(|(up, _)| *up == id) else {
            return;
        };
        tapping.ledger.clear();
        let (at, what) = (Timestamp::now(), What::Down(up, Down::of(end)));
        self.tell(&mut inner, &Tapped { at, peer, what });
    }

    /// The state of a peer changed.
    pub(crate) fn state(&self, peer: usize, from: State, to: State) {
        if !self.watched.load(Ordering::Relaxed) {
            return;
        }
        let mut inner = self.lock();
        let Some(tapping) = inner.peers.get(peer) else {
            return;
        };
        let none = SocketAddr::new(unspecified(tapping.address.ip()), 0);
        let apart = Ends {
            local: none,
            remote: tapping.address,
            local_asn: self.local_asn,
            peer_asn: Some(tapping.asn),
        };
        let ends = tapping.up.as_ref().map_or(apart, |(_, up)| up.ends);
        let (at, what) = (Timestamp::now(), What::State { ends, from, to });
        self.tell(&mut inner, &Tapped { at, peer, what });
    }

    fn note_message(
        &self,
        peer: usize,
        connection: &Connection,
        direction: Direction,
        kind: Option<u8>,
        octets: Bytes,
    ) {
        let at = Timestamp::now();
        let mut inner = self.lock();
        let keep = inner.keep;
        let Some(tapping) = inner.peers.get_mut(peer) else {
            return;
        };
        let is = |wanted: Kind| kind == Some(wanted.octet());
        if keep && is(Kind::Open) {
            tapping.note_open(connection.id, direction, &octets);
        }
        if keep && is(Kind::Update) && direction == Direction::Out {
            tapping.ledger.note(octets.clone());
        }
        let up = tapping.up.as_ref().filter(|(id, _)| *id == connection.id);
        let four_octet = up.map(|(_, up)| up.four_octet);
        let ends = up.map_or_else(|| self.ends(tapping, connection), |(_, up)| up.ends);
        let what = What::Message {
            ends,
            direction,
            four_octet,
            octets,
        };
        self.tell(&mut inner, &Tapped { at, peer, what });
    }

    fn ends(&self, tapping: &Tapping, connection: &Connection) -> Ends {
        Ends {
            local: connection.local,
            remote: connection.remote,
            local_asn: self.local_asn,
            peer_asn: Some(tapping.asn),
        }
    }

    fn tell(&self, inner: &mut Inner, tapped: &Tapped) {
        inner.watchers.retain(|watcher| watcher.offer(tapped));
        self.note_watched(inner);
    }

    fn watch(self: &Arc<Self>, inner: &mut Inner, want: Want) -> Watcher {
        let (queue, watcher) = watcher::channel(want, Arc::clone(self));
        inner.watchers.push(queue);
        self.note_watched(inner);
        watcher
    }

    /// A watcher is gone.
    fn unwatch(&self, queue: &Arc<Queue>) {
        let mut inner = self.lock();
        inner.watchers.retain(|other| !Arc::ptr_eq(other, queue));
        self.note_watched(&inner);
    }

    fn note_watched(&self, inner: &Inner) {
        let watched = inner.keep || !inner.watchers.is_empty();
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// A panic elsewhere leaves state that is still worth telling.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tapping {
    fn note_open(&mut self, id: SessionId, direction: Direction, octets: &Bytes) {
        if !self.opens.iter().any(|opens| opens.id == id) {
            if self.opens.len() == MAX_OPENS {
                self.opens.remove(0); // of a connection whose end we have missed
                counter!("steer_anycast_tap_opens_forgotten_total").increment(1);
            }
            let (sent, received) = (Bytes::new(), Bytes::new());
            self.opens.push(Opens { id, sent, received });
        }
        for opens in self.opens.iter_mut().filter(|opens| opens.id == id) {
            match direction {
                Direction::In => opens.received = octets.clone(),
                Direction::Out => opens.sent = octets.clone(),
            }
        }
    }
}

/// The message that a frame was cut from.
pub(crate) fn whole(frame: &Frame) -> Bytes {
    let length = HEADER_LENGTH + frame.body.len();
    let mut message = BytesMut::with_capacity(length);
    message.put_bytes(0xff, 16);
    message.put_u16(u16::try_from(length).unwrap_or(u16::MAX)); // it came from a header with such a field
    message.put_u8(frame.kind.octet());
    message.put_slice(&frame.body);
    message.freeze()
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
