//! What one collector is told, in order: no socket, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::message::{
    Initiation, Message, PeerDown, PeerFlags, PeerHeader, PeerKind, PeerUp, Stat, StatValue, Termination,
    Tlv, encode,
};
use crate::tap::{Direction, Down, RouteCounts, Standing, Tapped, Up, What};
use crate::wire::{self, Family, HEADER_LENGTH, Kind};

/// What a collector is told of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// sysName
    pub name: String,
    /// sysDescr
    pub description: String,
}

/// The telling of one connection; a new connection needs a new one.
#[derive(Debug)]
pub(super) struct Exporter {
    /// Sessions that the collector knows to be up.
    up: BTreeMap<usize, Arc<Up>>,
}

impl Exporter {
    /// Begins: who we are, then for each session that is up its Peer Up, all that stands, and an End-of-RIB
    /// (RFC 7854 §3.3 and §5).
    pub(super) fn begin(identity: &Identity, standing: Vec<Standing>) -> (Self, Vec<Bytes>) {
        let Identity { name, description } = identity;
        let who = [
            Tlv::text(Initiation::SYS_DESCR, description),
            Tlv::text(Initiation::SYS_NAME, name),
        ];
        let mut exporter = Self { up: BTreeMap::new() };
        let mut messages = vec![encode(&Message::Initiation(who.to_vec()))];
        for Standing { peer, up, updates } in standing {
            let families = up.families;
            let header = sent_header(&up, None); // when each was sent is not kept: unavailable
            messages.push(exporter.peer_up(peer, up));
            let ends = families.iter().map(wire::encode_end_of_rib);
            let updates = updates.into_iter().chain(ends);
            messages.extend(updates.map(|update| encode(&Message::RouteMonitoring(header, update))));
        }
        (exporter, messages)
    }

    /// What the collector is told of what happened; most things do not concern it.
    pub(super) fn on(&mut self, tapped: Tapped) -> Option<Bytes> {
        let Tapped { at, peer, what } = tapped;
        match what {
            What::Up(up) => Some(self.peer_up(peer, up)),
            What::Down(up, down) => {
                self.up.remove(&peer)?;
                let down = match down {
                    Down::WeNotified(notification) => PeerDown::LocalNotification(notification),
                    Down::TheyNotified(notification) => PeerDown::RemoteNotification(notification),
                    Down::WeClosed => PeerDown::LocalNoNotification(0), // no event of RFC 4271 §8.1
                    Down::Lost => PeerDown::RemoteNoData,
                };
                Some(encode(&Message::PeerDown(header(&up, Some(at)), down)))
            }
            What::Message {
                direction, octets, ..
            } => {
                let update = octets.get(HEADER_LENGTH - 1) == Some(&Kind::Update.octet());
                let up = self
                    .up
                    .get(&peer)
                    .filter(|_| update && direction == Direction::Out)?;
                Some(encode(&Message::RouteMonitoring(
                    sent_header(up, Some(at)),
                    octets,
                )))
            }
            What::State { .. } => None,
        }
    }

    /// A report for each session that is up (RFC 7854 §4.8).
    // Gap: only the counts of routes that stand announced; what we reject inbound is counted in our metrics.
    pub(super) fn statistics(&self, counts: &[(usize, RouteCounts)], at: Timestamp) -> Vec<Bytes> {
        let report = |(peer, counts): &(usize, RouteCounts)| {
            let up = self.up.get(peer)?;
            let RouteCounts { ipv4, ipv6 } = *counts;
            let total = Stat {
                kind: Stat::ADJ_RIB_OUT,
                value: StatValue::Gauge(ipv4 + ipv6),
            };
            let per_family = up.families.iter().map(|family| {
                let (afi, safi) = family.numbers();
                let value = match family {
                    Family::Ipv4Unicast => ipv4,
                    Family::Ipv6Unicast => ipv6,
                };
                let kind = Stat::ADJ_RIB_OUT_FAMILY;
                let value = StatValue::FamilyGauge { afi, safi, value };
                Stat { kind, value }
            });
            let stats = std::iter::once(total).chain(per_family).collect();
            Some(encode(&Message::Statistics(header(up, Some(at)), stats)))
        };
        counts.iter().filter_map(report).collect()
    }

    /// The last word.
    pub(super) fn end(text: &str) -> Bytes {
        let reason = Tlv {
            kind: Termination::REASON,
            value: Bytes::copy_from_slice(&Termination::ADMINISTRATIVE.to_be_bytes()),
        };
        encode(&Message::Termination(vec![
            Tlv::text(Termination::STRING, text),
            reason,
        ]))
    }

    fn peer_up(&mut self, peer: usize, up: Arc<Up>) -> Bytes {
        let message = PeerUp {
            local: up.ends.local.ip(),
            local_port: up.ends.local.port(),
            remote_port: up.ends.remote.port(),
            sent_open: up.sent_open.clone(),
            received_open: up.received_open.clone(),
            information: Vec::new(),
        };
        let told = encode(&Message::PeerUp(header(&up, Some(up.at)), message));
        self.up.insert(peer, up);
        told
    }
}

/// RFC 8671 §6: in Peer Up, Peer Down and Statistics Report the O flag is zero, and so is L, which qualifies it.
fn header(up: &Up, at: Option<Timestamp>) -> PeerHeader {
    PeerHeader {
        kind: PeerKind::Global,
        flags: PeerFlags {
            two_octet: !up.four_octet,
            ..PeerFlags::default()
        },
        distinguisher: 0,
        address: up.ends.remote.ip(),
        asn: up.peer_asn.get(),
        id: up.peer_id,
        at,
    }
}

/// Of what we have sent: Adj-RIB-Out, after policy (RFC 8671 §4 and §5.1).
fn sent_header(up: &Up, at: Option<Timestamp>) -> PeerHeader {
    let header = header(up, at);
    PeerHeader {
        flags: PeerFlags {
            post_policy: true,
            adj_rib_out: true,
            ..header.flags
        },
        ..header
    }
}
