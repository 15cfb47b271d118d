//! What a router tells by BMP, as the events of a monitor: no socket, no clock.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use metrics::counter;
use steer_topology::Asn;

use super::message::{Initiation, Message, PeerDown, PeerFlags, PeerHeader, PeerKind, PeerUp, Tlv};
use crate::monitor::{BmpView, Heard, MAX_PREFIXES, MonitorEvent, Only, Rib, Source, Table, TooMany};
use crate::wire::{self, Context, EXTENDED_LENGTH, Frame, Kind, Open};

/// Peers of one router, and views of them, that are followed; messages of more are counted and skipped.
const MAX_VIEWS: usize = 1024;

/// ADD-PATH (RFC 7911 §4): with it NLRI mean something else.
const CAPABILITY_ADD_PATH: u8 = 69;

/// One router's connection.
#[derive(Debug)]
pub struct Reader {
    router: SocketAddr,
    name: Option<String>,
    only: Only,
    peers: HashMap<PeerKey, Told>,
    views: HashMap<(PeerKey, Rib), View>,
    skipped: Skipped,
}

/// A peer of the router, or its Loc-RIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PeerKey {
    kind: PeerKind,
    distinguisher: u64,
    address: IpAddr,
}

/// What a Peer Up told.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// Both OPENs offer ADD-PATH.
    add_path: bool,
}

#[derive(Debug)]
struct View {
    from: Source,
    table: Table,
}

/// What was not read; counted, for the end of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// UPDATEs that are malformed.
    pub malformed: u64,
    /// UPDATEs of sessions with ADD-PATH.
    pub add_path: u64,
    /// Messages of peers and views beyond the most that are followed.
    pub views: u64,
    /// UPDATEs of peers without a Peer Up.
    pub unknown: u64,
}

impl Reader {
    /// A connection that `router` has just opened.
    #[must_use]
    pub fn new(router: SocketAddr, only: Only) -> Self {
        Self {
            router,
            name: None,
            only,
            peers: HashMap::new(),
            views: HashMap::new(),
            skipped: Skipped::default(),
        }
    }

    /// The router's sysName, once it has said it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What was not read so far.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Takes one message. An error is the reason to close the connection.
    pub fn on_message(&mut self, message: Message, now: Timestamp) -> Result<Vec<MonitorEvent>, String> {
        match message {
            Message::Initiation(information) => {
                let name = information.iter().find(|tlv| tlv.kind == Initiation::SYS_NAME);
                self.name = name.map(text_of).or(self.name.take());
                Ok(Vec::new())
            }
            Message::PeerUp(peer, up) => Ok(self.on_up(&peer, &up, now)),
            Message::PeerDown(peer, down) => Ok(self.on_down(&peer, &down, now)),
            Message::RouteMonitoring(peer, update) => self.on_update(&peer, &update, now),
            Message::Termination(information) => {
                let texts = information.iter().filter(|tlv| tlv.kind == 0).map(text_of);
                Err(format!(
                    "the router ends it: {}",
                    texts.collect::<Vec<_>>().join(" ")
                ))
            }
            Message::Statistics(..) | Message::RouteMirroring(..) | Message::Unknown(_) => Ok(Vec::new()),
        }
    }

    /// The connection is over: every view of it is gone.
    pub fn end(&mut self, reason: &str, now: Timestamp) -> Vec<MonitorEvent> {
        let views = std::mem::take(&mut self.views);
        let mut views: Vec<View> = views.into_values().collect();
        views.sort_by_key(|view| view.from);
        views.into_iter().flat_map(|view| view.end(reason, now)).collect()
    }

    /// One Peer Up stands for all views of the peer (RFC 8671 §6.3). A view begins with its first UPDATE, so that
    /// one that is not exported does not show.
    fn on_up(&mut self, peer: &PeerHeader, up: &PeerUp, now: Timestamp) -> Vec<MonitorEvent> {
        let events = self.drop_peer(peer, "up anew", now);
        if self.peers.len() == MAX_VIEWS {
            self.skip(|skipped| &mut skipped.views, "views");
            return events;
        }
        let add_path = offers_add_path(&up.sent_open) && offers_add_path(&up.received_open);
        self.peers.insert(key_of(peer), Told { add_path });
        events
    }

    fn on_down(&mut self, peer: &PeerHeader, down: &PeerDown, now: Timestamp) -> Vec<MonitorEvent> {
        let reason = match down {
            PeerDown::LocalNotification(message) => format!("the router sent {}", notification(message)),
            PeerDown::RemoteNotification(message) => format!("its peer sent {}", notification(message)),
            PeerDown::LocalNoNotification(event) => format!("the router ended it, event {event}"),
            PeerDown::RemoteNoData => "the connection was lost".to_owned(),
            PeerDown::Deconfigured => "not monitored any more".to_owned(),
            PeerDown::LocalTlvs(_) => "the table is not monitored any more".to_owned(),
        };
        self.drop_peer(peer, &reason, peer.at.unwrap_or(now))
    }

    fn on_update(
        &mut self,
        peer: &PeerHeader,
        update: &Bytes,
        now: Timestamp,
    ) -> Result<Vec<MonitorEvent>, String> {
        let key = key_of(peer);
        match self.peers.get(&key) {
            None => {
                self.skip(|skipped| &mut skipped.unknown, "unknown-peer");
                return Ok(Vec::new());
            }
            // Gap: RFC 7911: such an UPDATE is not read; read as one without path identifiers it would lie.
            Some(Told { add_path: true }) => {
                self.skip(|skipped| &mut skipped.add_path, "add-path");
                return Ok(Vec::new());
            }
            Some(Told { add_path: false }) => {}
        }
        let Some(update) = read_update(update, peer.flags) else {
            self.skip(|skipped| &mut skipped.malformed, "malformed");
            return Ok(Vec::new());
        };
        let (at, view) = (peer.at.unwrap_or(now), (key, rib_of(peer)));
        let mut events = Vec::new();
        if !self.views.contains_key(&view) {
            if self.views.len() == MAX_VIEWS {
                self.skip(|skipped| &mut skipped.views, "views");
                return Ok(events);
            }
            let new = self.open(peer);
            events.push(new.event(Heard::SessionUp, at));
            self.views.insert(view, new);
        }
        if let Some(view) = self.views.get_mut(&view) {
            let heard = view
                .table
                .hear(update)
                .map_err(|TooMany| format!("{} tells of more than {MAX_PREFIXES} prefixes", view.from))?;
            events.extend(heard.into_iter().map(|heard| view.event(heard, at)));
        }
        Ok(events)
    }

    fn open(&self, peer: &PeerHeader) -> View {
        let from = Source {
            remote: SocketAddr::new(peer.address, 0),
            // RFC 7607: 0 is no AS number; the Loc-RIB of a router without BGP may say it.
            asn: Asn::new(peer.asn).unwrap_or(Asn::TRANS),
            peer_id: peer.id,
            bmp: Some(BmpView {
                router: self.router,
                rib: rib_of(peer),
            }),
        };
        View {
            from,
            table: Table::new(self.only.clone()),
        }
    }

    fn skip(&mut self, which: impl FnOnce(&mut Skipped) -> &mut u64, cause: &'static str) {
        *which(&mut self.skipped) += 1;
        counter!("steer_anycast_bmp_skipped_total", "cause" => cause).increment(1);
    }

    fn drop_peer(&mut self, peer: &PeerHeader, reason: &str, at: Timestamp) -> Vec<MonitorEvent> {
        let key = key_of(peer);
        self.peers.remove(&key);
        let gone = self.views.extract_if(|(peer, _), _| *peer == key);
        let mut gone: Vec<View> = gone.map(|(_, view)| view).collect();
        gone.sort_by_key(|view| view.from);
        gone.into_iter().flat_map(|view| view.end(reason, at)).collect()
    }
}

impl View {
    fn event(&self, heard: Heard, at: Timestamp) -> MonitorEvent {
        let from = self.from;
        MonitorEvent { at, from, heard }
    }

    fn end(mut self, reason: &str, at: Timestamp) -> Vec<MonitorEvent> {
        let mut events: Vec<_> = self.table.clear().map(|gone| self.event(gone, at)).collect();
        let reason = reason.to_owned();
        events.push(self.event(Heard::SessionDown { reason }, at));
        events
    }
}

fn key_of(peer: &PeerHeader) -> PeerKey {
    PeerKey {
        kind: peer.kind,
        distinguisher: peer.distinguisher,
        address: peer.address,
    }
}

fn rib_of(peer: &PeerHeader) -> Rib {
    let PeerFlags {
        post_policy,
        adj_rib_out,
        ..
    } = peer.flags;
    match (peer.kind, adj_rib_out, post_policy) {
        (PeerKind::LocRib, ..) => Rib::LocRib,
        (_, false, false) => Rib::AdjRibInPre,
        (_, false, true) => Rib::AdjRibInPost,
        (_, true, false) => Rib::AdjRibOutPre,
        (_, true, true) => Rib::AdjRibOutPost,
    }
}

/// The one frame of a whole message.
fn frame_of(message: &Bytes) -> Option<Frame> {
    let mut buffer = BytesMut::from(message.as_ref());
    wire::take_frame(&mut buffer, EXTENDED_LENGTH)
        .ok()?
        .filter(|_| buffer.is_empty())
}

fn read_update(message: &Bytes, flags: PeerFlags) -> Option<wire::Update> {
    let frame = frame_of(message).filter(|frame| frame.kind == Kind::Update)?;
    // LOCAL_PREF and the like are part of what a router shows of itself.
    let context = Context {
        four_octet: !flags.two_octet,
        internal: true,
        extended_next_hop: true,
        ..Context::default()
    };
    match wire::decode(&frame, context).ok()? {
        wire::Message::Update(update) => Some(*update),
        wire::Message::Open(_)
        | wire::Message::Notification(_)
        | wire::Message::Keepalive
        | wire::Message::RouteRefresh(_) => None,
    }
}

fn offers_add_path(open: &Bytes) -> bool {
    let message = frame_of(open).and_then(|frame| wire::decode(&frame, Context::default()).ok());
    let Some(wire::Message::Open(Open { capabilities, .. })) = message else {
        return false;
    };
    capabilities
        .others
        .iter()
        .any(|(code, _)| *code == CAPABILITY_ADD_PATH)
}

fn notification(message: &Bytes) -> String {
    let decoded = frame_of(message).and_then(|frame| wire::decode(&frame, Context::default()).ok());
    match decoded {
        Some(wire::Message::Notification(notification)) => notification.to_string(),
        _ => "something that is no NOTIFICATION".to_owned(),
    }
}

fn text_of(tlv: &Tlv) -> String {
    // It goes to a terminal: nothing of a router may control that.
    String::from_utf8_lossy(&tlv.value).escape_debug().to_string()
}
