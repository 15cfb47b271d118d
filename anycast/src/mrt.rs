//! MRT (RFC 6396): messages and states as records, and files of them that stay small.
//!
//! ```text
//! Tapped ──► encode ──► BGP4MP_ET record      microseconds; what we sent is marked as local
//! records ──► File: bounded size, rotated; a record is in it whole or not at all
//! Tap ──► dump: a while of everything, in memory, on request
//! ```
//!
//! RFC 8050 is not needed: ADD-PATH is never agreed on.

mod dump;
mod file;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use steer_topology::Asn;

use crate::session::State;
use crate::tap::{Direction, Ends, Tapped, What};

pub use dump::{Dump, DumpEnd, dump};
pub use file::{File, Limits};

/// RFC 6396 §3: type BGP4MP with a timestamp of microseconds.
const BGP4MP_ET: u16 = 17;

/// RFC 6396 §4.4: subtypes.
mod subtype {
    pub(super) const MESSAGE: u16 = 1;
    pub(super) const MESSAGE_AS4: u16 = 4;
    pub(super) const STATE_CHANGE_AS4: u16 = 5;
    pub(super) const MESSAGE_LOCAL: u16 = 6;
    pub(super) const MESSAGE_AS4_LOCAL: u16 = 7;
}

/// The record of what happened; `None` for what MRT has no record for.
#[must_use]
pub fn encode(tapped: &Tapped) -> Option<Bytes> {
    let at = tapped.at;
    match &tapped.what {
        What::Message {
            ends,
            direction,
            four_octet,
            octets,
        } => {
            // RFC 6396 §4.4.3: in an AS4 record every AS_PATH has 4-octet numbers; where the session has not
            // agreed on them the older record is the true one. Before that there is no AS_PATH.
            let wide = four_octet.unwrap_or(true);
            let subtype = match (wide, direction) {
                (true, Direction::In) => subtype::MESSAGE_AS4,
                (true, Direction::Out) => subtype::MESSAGE_AS4_LOCAL,
                (false, Direction::In) => subtype::MESSAGE,
                (false, Direction::Out) => subtype::MESSAGE_LOCAL,
            };
            Some(record(at, subtype, |out| {
                put_ends(out, ends, wide);
                out.put_slice(octets);
            }))
        }
        What::State { ends, from, to } => Some(record(at, subtype::STATE_CHANGE_AS4, |out| {
            put_ends(out, ends, true);
            out.put_u16(number(*from));
            out.put_u16(number(*to));
        })),
        What::Up(_) | What::Down(..) => None,
    }
}

/// RFC 6396 §2 and §3: seconds, type, subtype, length, microseconds; the length counts the microseconds.
fn record(at: Timestamp, subtype: u16, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    let (seconds, micros) = timestamp(at);
    out.put_u32(seconds);
    out.put_u16(BGP4MP_ET);
    out.put_u16(subtype);
    out.put_u32(0);
    out.put_u32(micros);
    body(&mut out);
    let length = u32::try_from(out.len().saturating_sub(12)).unwrap_or(u32::MAX);
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// Both AS numbers, an interface index that is never told, the family, and both addresses of that family.
fn put_ends(out: &mut BytesMut, ends: &Ends, wide: bool) {
    let peer = ends.peer_asn.map_or(0, Asn::get);
    for asn in [peer, ends.local_asn.get()] {
        if wide {
            out.put_u32(asn);
        } else {
            out.put_u16(u16::try_from(asn).unwrap_or(Asn::TRANS.get() as u16)); // RFC 6793 §9
        }
    }
    out.put_u16(0);
    match (ends.remote.ip(), ends.local.ip()) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => {
            out.put_u16(1);
            out.put_u32(remote.to_bits());
            out.put_u32(local.to_bits());
        }
        (remote, local) => {
            out.put_u16(2);
            out.put_u128(in_v6(remote));
            out.put_u128(in_v6(local));
        }
    }
}

fn in_v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// RFC 6396 §4.4.1: the states in the order of RFC 4271, from 1.
fn number(state: State) -> u16 {
    match state {
        State::Idle => 1,
        State::Connect => 2,
        State::Active => 3,
        State::OpenSent => 4,
        State::OpenConfirm => 5,
        State::Established => 6,
    }
}

/// Seconds and microseconds since 1970, as MRT and BMP write them.
pub(crate) fn timestamp(at: Timestamp) -> (u32, u32) {
    let seconds = u32::try_from(at.as_second()).unwrap_or(0);
    let micros = u32::try_from(at.subsec_microsecond()).unwrap_or(0);
    (seconds, micros)
}
