//! A member as SWIM sees it, and the octets of it.
//!
//! ```text
//! member:  site (3)  start (8)  family (1)  address (4 or 16)  port (2)  incarnation (2)  state (1)
//! header:  source  its incarnation (2)  receiver  message (1)  what belongs to it
//! packet:  header  count (2)  members
//! ```

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

use super::seal::Dropped;
use super::site::{Roster, SiteName};

/// One start of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Which site; the identity proper.
    pub site: SiteName,
    /// Milliseconds since 1970 when it started, raised by one when the others took it for dead: the later one is it.
    pub start: u64,
    /// Where it hears.
    pub address: SocketAddr,
}

impl Identity for Instance {
    type Addr = SiteName;

    fn renew(&self) -> Option<Self> {
        let start = self.start.checked_add(1)?;
        Some(Self { start, ..*self })
    }

    fn addr(&self) -> SiteName {
        self.site
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.start > adversary.start
    }
}

/// The octets. Without state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Octets;

/// A packet that does not hold together, or has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed")]
pub(super) struct Malformed;

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Self
    }
}

impl From<Malformed> for Dropped {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// Longest instance: that with an IPv6 address.
const INSTANCE_MAX: usize = SiteName::LENGTH + 8 + 1 + 16 + 2;

/// Longest member.
const MEMBER_MAX: usize = INSTANCE_MAX + 3;

/// Longest message: a tag, an instance and the number of a probe.
const MESSAGE_MAX: usize = 1 + INSTANCE_MAX + 1;

impl Codec<Instance> for Octets {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Instance>, mut buf: impl BufMut) -> Result<(), Malformed> {
        if buf.remaining_mut() < 2 * INSTANCE_MAX + 2 + MESSAGE_MAX {
            return Err(Malformed);
        }
        put_instance(&header.src, &mut buf);
        buf.put_u16(header.src_incarnation);
        put_instance(&header.dst, &mut buf);
        put_message(&header.message, &mut buf);
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Instance>, Malformed> {
        Ok(Header {
            src: instance(&mut buf)?,
            src_incarnation: buf.try_get_u16()?,
            dst: instance(&mut buf)?,
            message: message(&mut buf)?,
        })
    }

    fn encode_member(&mut self, member: &Member<Instance>, mut buf: impl BufMut) -> Result<(), Malformed> {
        if buf.remaining_mut() < MEMBER_MAX {
            return Err(Malformed);
        }
        put_instance(member.id(), &mut buf);
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Instance>, Malformed> {
        let instance = instance(&mut buf)?;
        let incarnation = buf.try_get_u16()?;
        let state = match buf.try_get_u8()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(Malformed),
        };
        Ok(Member::new(instance, incarnation, state))
    }
}

/// A packet of SWIM without the members that the fleet does not name.
#[derive(Debug)]
pub(super) struct Known {
    /// For foca.
    pub(super) octets: Vec<u8>,
    /// What it is.
    pub(super) message: Message<Instance>,
    /// The latest start of our own site that it speaks of.
    pub(super) own_start: Option<u64>,
}

/// Reads a packet of `sender`, leaves out whom the fleet does not name (a file that is being rolled out knows sites that
/// another does not), and refuses what is about such a site as a whole.
pub(super) fn filter(
    packet: &[u8],
    sender: SiteName,
    me: SiteName,
    roster: &Roster,
) -> Result<Known, Dropped> {
    let mut rest = packet;
    let header = Octets.decode_header(&mut rest)?;
    if header.src.site != sender || header.dst.site != me {
        return Err(Dropped::Malformed);
    }
    if subject(&header.message).is_some_and(|site| !roster.has(site)) {
        return Err(Dropped::UnknownMember);
    }
    let head = packet.len() - rest.len();
    let mut own_start = Some(header.dst.start);
    let message = header.message;
    let mut octets = packet[..head].to_vec();
    if rest.is_empty() {
        return Ok(Known {
            octets,
            message,
            own_start,
        });
    }
    let count = rest.try_get_u16().map_err(Malformed::from)?;
    let mut members = Vec::with_capacity(rest.len());
    let mut kept = 0_u16;
    for _ in 0..count {
        let member = Octets.decode_member(&mut rest)?;
        if member.id().site == me {
            own_start = own_start.max(Some(member.id().start));
        }
        if roster.has(member.id().site) {
            Octets.encode_member(&member, &mut members)?;
            kept += 1;
        }
    }
    if !rest.is_empty() {
        return Err(Dropped::Malformed);
    }
    octets.put_u16(kept);
    octets.append(&mut members);
    Ok(Known {
        octets,
        message,
        own_start,
    })
}

/// Members one behind the other, as many as `room` octets hold.
pub(super) fn write<'m>(members: impl IntoIterator<Item = &'m Member<Instance>>, room: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for member in members {
        if octets.len() + MEMBER_MAX > room {
            break;
        }
        // A vector has room.
        if Octets.encode_member(member, &mut octets).is_err() {
            break;
        }
    }
    octets
}

/// The members that [`write`] wrote and that the fleet names.
pub(super) fn read(mut octets: &[u8], roster: &Roster) -> Result<Vec<Member<Instance>>, Dropped> {
    let mut members = Vec::new();
    while !octets.is_empty() {
        let member = Octets.decode_member(&mut octets)?;
        if roster.has(member.id().site) {
            members.push(member);
        }
    }
    Ok(members)
}

fn subject(message: &Message<Instance>) -> Option<SiteName> {
    match message {
        Message::PingReq { target: about, .. }
        | Message::IndirectAck { target: about, .. }
        | Message::IndirectPing { origin: about, .. }
        | Message::ForwardedAck { origin: about, .. } => Some(about.site),
        Message::Ping(_)
        | Message::Ack(_)
        | Message::Announce
        | Message::Feed
        | Message::Gossip
        | Message::Broadcast
        | Message::TurnUndead => None,
    }
}

fn put_instance(instance: &Instance, buf: &mut impl BufMut) {
    buf.put_slice(&instance.site.octets());
    buf.put_u64(instance.start);
    match instance.address.ip() {
        IpAddr::V4(address) => {
            buf.put_u8(4);
            buf.put_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            buf.put_u8(6);
            buf.put_slice(&address.octets());
        }
    }
    buf.put_u16(instance.address.port());
}

fn instance(buf: &mut impl Buf) -> Result<Instance, Malformed> {
    let mut name = [0; SiteName::LENGTH];
    buf.try_copy_to_slice(&mut name)?;
    let site = SiteName::from_octets(name).ok_or(Malformed)?;
    let start = buf.try_get_u64()?;
    let ip: IpAddr = match buf.try_get_u8()? {
        4 => {
            let mut octets = [0; 4];
            buf.try_copy_to_slice(&mut octets)?;
            octets.into()
        }
        6 => {
            let mut octets = [0; 16];
            buf.try_copy_to_slice(&mut octets)?;
            octets.into()
        }
        _ => return Err(Malformed),
    };
    let address = SocketAddr::new(ip, buf.try_get_u16()?);
    Ok(Instance { site, start, address })
}

fn put_message(message: &Message<Instance>, buf: &mut impl BufMut) {
    let mut about = |tag: u8, instance: &Instance, number: u8| {
        buf.put_u8(tag);
        put_instance(instance, buf);
        buf.put_u8(number);
    };
    match message {
        Message::Ping(number) => buf.put_slice(&[1, *number]),
        Message::Ack(number) => buf.put_slice(&[2, *number]),
        Message::PingReq { target, probe_number } => about(3, target, *probe_number),
        Message::IndirectPing { origin, probe_number } => about(4, origin, *probe_number),
        Message::IndirectAck { target, probe_number } => about(5, target, *probe_number),
        Message::ForwardedAck { origin, probe_number } => about(6, origin, *probe_number),
        Message::Announce => buf.put_u8(7),
        Message::Feed => buf.put_u8(8),
        Message::Gossip => buf.put_u8(9),
        Message::Broadcast => buf.put_u8(10),
        Message::TurnUndead => buf.put_u8(11),
    }
}

fn message(buf: &mut impl Buf) -> Result<Message<Instance>, Malformed> {
    Ok(match buf.try_get_u8()? {
        1 => Message::Ping(buf.try_get_u8()?),
        2 => Message::Ack(buf.try_get_u8()?),
        3 => Message::PingReq {
            target: instance(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        4 => Message::IndirectPing {
            origin: instance(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        5 => Message::IndirectAck {
            target: instance(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        6 => Message::ForwardedAck {
            origin: instance(buf)?,
            probe_number: buf.try_get_u8()?,
        },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::Broadcast,
        11 => Message::TurnUndead,
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
mod tests;
