//! UPDATE (RFC 4271 §4.3, RFC 4760): in, with the error handling of RFC 7606; out, packed and split.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};
use steer_topology::{Prefix, RoleName};

use super::attribute::{self, Action, AttributeFault, Found, Path, code};
use super::{EXTENDED_LENGTH, Family, Kind, MAX_LENGTH, Malformed, Reason, framed, take, take_u16};

/// What the OPENs agreed on, as far as it changes the meaning of octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// AS numbers in AS_PATH have 4 octets (RFC 6793).
    pub four_octet: bool,
    /// The peer is in our own AS.
    pub internal: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Routes that are sent again are framed (RFC 7313).
    pub enhanced_refresh: bool,
    /// Our role towards an external peer, where we have one (RFC 9234).
    pub role: Option<RoleName>,
    /// The peer's AS number; 0 before its OPEN.
    pub peer_asn: u32,
}

impl Context {
    /// An external peer with 4-octet AS numbers and nothing else.
    pub const PLAIN: Self = Self {
        four_octet: true,
        internal: false,
        extended_next_hop: false,
        enhanced_refresh: false,
        role: None,
        peer_asn: 0,
    };
}

/// What the OPENs agreed on, as far as it shapes the messages that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound {
    /// AS numbers in AS_PATH have 4 octets (RFC 6793).
    pub four_octet: bool,
    /// No message is longer: [`MAX_LENGTH`], or [`EXTENDED_LENGTH`] where RFC 8654 was agreed on.
    pub max_length: usize,
}

impl Outbound {
    /// For a peer with 4-octet AS numbers and messages of at most [`MAX_LENGTH`].
    pub const PLAIN: Self = Self {
        four_octet: true,
        max_length: MAX_LENGTH,
    };

    /// The octets that a message can have beside `around` others.
    fn room(&self, around: usize) -> usize {
        self.max_length.min(EXTENDED_LENGTH).saturating_sub(around)
    }
}

/// A decoded UPDATE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// Withdrawn routes of both families, those that RFC 7606 treats as withdrawn included.
    pub withdrawn: Vec<Prefix>,
    /// Announced routes: at most one entry for MP_REACH_NLRI and one for the classic field.
    pub reachable: Vec<Reach>,
    /// Attributes of `reachable`; `None` where nothing is announced.
    pub path: Option<Path>,
    /// Faults that the session survived.
    pub faults: Vec<AttributeFault>,
    /// The End-of-RIB marker of a family (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// The peer should not have sent `reachable` to us: a route leak, never to be used (RFC 9234 §5).
    pub leaked: bool,
}

/// Where to send packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// IPv4, or global IPv6.
    pub address: IpAddr,
    /// Beside a global IPv6 address (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

impl NextHop {
    /// The octets of MP_REACH_NLRI; a link-local address stands only behind an IPv6 one.
    fn octets(&self) -> Vec<u8> {
        match (self.address, self.link_local) {
            (IpAddr::V4(address), _) => address.octets().to_vec(),
            (IpAddr::V6(address), None) => address.octets().to_vec(),
            (IpAddr::V6(address), Some(link_local)) => [address.octets(), link_local.octets()].concat(),
        }
    }
}

/// Routes of one family with one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Where to.
    pub next_hop: NextHop,
    /// Which.
    pub prefixes: Vec<Prefix>,
}

/// The prefixes of an MP_UNREACH_NLRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    family: Family,
    prefixes: Vec<Prefix>,
}

/// Decodes the body of an UPDATE.
pub(super) fn decode(mut body: &[u8], context: Context) -> Result<Update, Malformed> {
    // RFC 4271 §6.3: lengths that do not fit the message leave nothing to hold on to.
    let overrun = || {
        Malformed::new(
            Reason::MalformedAttributeList,
            &[],
            "lengths in UPDATE exceed the message",
        )
    };
    let length = usize::from(take_u16(&mut body)?);
    let withdrawn = take(&mut body, length).ok_or_else(overrun)?;
    let length = usize::from(take_u16(&mut body).map_err(|_| overrun())?);
    let attributes = take(&mut body, length).ok_or_else(overrun)?;
    // RFC 7606 §5.3: prefixes that cannot be read reset the session.
    let invalid = || Malformed::new(Reason::InvalidNetwork, &[], "a prefix in UPDATE cannot be read");
    let withdrawn = read_prefixes(withdrawn, Family::Ipv4Unicast).ok_or_else(invalid)?;
    let announced = read_prefixes(body, Family::Ipv4Unicast).ok_or_else(invalid)?;
    let found = attribute::walk(attributes, context)?;
    judge(withdrawn, announced, found, context)
}

/// Puts the parts together and takes the strongest action that a fault asks for (RFC 7606 §3 h).
fn judge(
    withdrawn: Vec<Prefix>,
    announced: Vec<Prefix>,
    mut found: Found,
    context: Context,
) -> Result<Update, Malformed> {
    let end_of_rib = end_of_rib(&withdrawn, &announced, &found);
    let mut update = Update {
        withdrawn,
        end_of_rib,
        ..Update::default()
    };
    let classic = !announced.is_empty();
    let reachable = classic || found.reach.is_some();
    if reachable {
        missing(&mut found, classic);
    }
    if let Some(unreach) = found.unreach {
        update.withdrawn.extend(unreach.prefixes);
    }
    let mut reaches: Vec<Reach> = found.reach.into_iter().collect();
    if classic {
        let address = IpAddr::V4(found.next_hop.unwrap_or(Ipv4Addr::UNSPECIFIED)); // missing: withdrawn below
        reaches.push(Reach {
            next_hop: address.into(),
            prefixes: announced,
        });
    }
    let withdraw = found
        .faults
        .iter()
        .find(|fault| fault.action != Action::Discard)
        .cloned();
    match (withdraw, found.origin, found.as_path) {
        // RFC 7606 §5.2: no reachable route was found, so it is not certain that all were read.
        (Some(fault), ..) if !reachable && !found.foreign => {
            let text = format!(
                "attribute {} is malformed and no route stands beside it",
                fault.attribute
            );
            return Err(Malformed::new(fault.reason, &[], text));
        }
        (None, Some(origin), Some(as_path)) if reachable => {
            let Found {
                med,
                local_pref,
                communities,
                large_communities,
                extended_communities,
                only_to_customer,
                ..
            } = found;
            update.leaked = only_to_customer.is_some_and(|asn| leaked(asn, context));
            update.path = Some(Path {
                origin,
                as_path,
                med,
                local_pref,
                communities,
                large_communities,
                extended_communities,
                only_to_customer,
            });
            update.reachable = reaches;
        }
        _ => update
            .withdrawn
            .extend(reaches.into_iter().flat_map(|reach| reach.prefixes)),
    }
    update.faults = found.faults;
    Ok(update)
}

/// RFC 9234 §5, on receipt: a route with ONLY_TO_CUSTOMER comes down, never up; from a peer it may come if that put
/// it there. A route without it would get it before it is sent on, which we never do.
fn leaked(only_to_customer: u32, context: Context) -> bool {
    match context.role {
        Some(RoleName::Provider | RoleName::RouteServer) => true,
        Some(RoleName::Peer) => only_to_customer != context.peer_asn,
        Some(RoleName::Customer | RoleName::RouteServerClient) | None => false,
    }
}

/// RFC 7606 §3 d: routes without a well-known mandatory attribute count as withdrawn.
fn missing(found: &mut Found, classic: bool) {
    let lacks = [
        (code::ORIGIN, found.origin.is_none()),
        (code::AS_PATH, found.as_path.is_none()),
        (code::NEXT_HOP, classic && found.next_hop.is_none()),
    ];
    for (attribute, _) in lacks.into_iter().filter(|(_, lacks)| *lacks) {
        let told = found.faults.iter().any(|fault| fault.attribute == attribute);
        if !told {
            let action = Action::TreatAsWithdraw;
            found.faults.push(AttributeFault {
                attribute,
                action,
                reason: Reason::MissingWellKnown,
            });
        }
    }
}

/// RFC 4724 §2: an empty UPDATE, or one with nothing but an empty MP_UNREACH_NLRI.
fn end_of_rib(withdrawn: &[Prefix], announced: &[Prefix], found: &Found) -> Option<Family> {
    if !withdrawn.is_empty() || !announced.is_empty() || !found.faults.is_empty() {
        return None;
    }
    match (&found.unreach, found.count) {
        (None, 0) => Some(Family::Ipv4Unicast),
        (Some(unreach), 1) if unreach.prefixes.is_empty() => Some(unreach.family),
        _ => None,
    }
}

/// `None`: malformed, which resets (RFC 7606 §7.11). `Some(None)`: of a family that we do not carry.
pub(super) fn read_mp_reach(mut value: &[u8], context: Context) -> Option<Option<Reach>> {
    let &[high, low, safi, length] = take(&mut value, 4)?.first_chunk::<4>()?;
    let next_hop = take(&mut value, usize::from(length))?;
    take(&mut value, 1)?; // reserved; once a count of SNPAs (RFC 4760 §3)
    let Some(family) = Family::from_numbers(u16::from_be_bytes([high, low]), safi) else {
        return Some(None);
    };
    let next_hop = read_next_hop(next_hop, family, context)?;
    let prefixes = read_prefixes(value, family)?;
    Some(Some(Reach { next_hop, prefixes }))
}

/// RFC 2545 §3, and RFC 8950 §3 for IPv4 routes where both sides said so: the length tells the family.
fn read_next_hop(value: &[u8], family: Family, context: Context) -> Option<NextHop> {
    let ipv6 = family == Family::Ipv6Unicast || context.extended_next_hop;
    let (address, link_local): (IpAddr, _) = match (family, value.len()) {
        (Family::Ipv4Unicast, 4) => (Ipv4Addr::from(*value.first_chunk::<4>()?).into(), None),
        (_, 16) if ipv6 => (Ipv6Addr::from(*value.first_chunk::<16>()?).into(), None),
        (_, 32) if ipv6 => {
            let link_local = Ipv6Addr::from(*value.last_chunk::<16>()?);
            match Ipv6Addr::from(*value.first_chunk::<16>()?) {
                // What a router says that has no global address on the link.
                Ipv6Addr::UNSPECIFIED => (link_local.into(), None),
                global => (global.into(), Some(link_local)),
            }
        }
        (Family::Ipv4Unicast | Family::Ipv6Unicast, _) => return None,
    };
    Some(NextHop { address, link_local })
}

/// As [`read_mp_reach`] (RFC 7606 §7.12).
pub(super) fn read_mp_unreach(mut value: &[u8]) -> Option<Option<Field>> {
    let &[high, low, safi] = take(&mut value, 3)?.first_chunk::<3>()?;
    let Some(family) = Family::from_numbers(u16::from_be_bytes([high, low]), safi) else {
        return Some(None);
    };
    Some(Some(Field {
        family,
        prefixes: read_prefixes(value, family)?,
    }))
}

/// RFC 4271 §4.3: a length in bits, then as many octets as hold them. Bits beyond the length mean nothing.
pub(super) fn read_prefixes(mut field: &[u8], family: Family) -> Option<Vec<Prefix>> {
    let mut prefixes = Vec::new();
    while let Some((&bits, rest)) = field.split_first() {
        field = rest;
        let octets = take(&mut field, usize::from(bits).div_ceil(8))?;
        prefixes.push(read_prefix(bits, octets, family)?);
    }
    Some(prefixes)
}

fn read_prefix(bits: u8, octets: &[u8], family: Family) -> Option<Prefix> {
    let mut all = [0; 16];
    all.get_mut(..octets.len())?.copy_from_slice(octets);
    let address: IpAddr = match family {
        Family::Ipv4Unicast => Ipv4Addr::from(*all.first_chunk::<4>()?).into(),
        Family::Ipv6Unicast => Ipv6Addr::from(all).into(),
    };
    Prefix::covering(address, bits).ok() // too long for the family: malformed (RFC 7606 §5.3)
}

fn put_prefix(out: &mut BytesMut, prefix: &Prefix) {
    let octets = usize::from(prefix.length()).div_ceil(8);
    out.put_u8(prefix.length());
    match prefix.address() {
        IpAddr::V4(address) => out.put_slice(&address.octets()[..octets]),
        IpAddr::V6(address) => out.put_slice(&address.octets()[..octets]),
    }
}

/// How many of `prefixes`, all of `family`, fit into `room` octets, and those octets.
pub(super) fn pack(prefixes: &[Prefix], family: Family, room: usize) -> (BytesMut, usize) {
    let mut out = BytesMut::new();
    for (count, prefix) in prefixes.iter().enumerate() {
        let needs = 1 + usize::from(prefix.length()).div_ceil(8);
        if Family::of(prefix) != family || out.len() + needs > room {
            return (out, count);
        }
        put_prefix(&mut out, prefix);
    }
    (out, prefixes.len())
}

/// Octets of an UPDATE around attributes and prefixes.
pub(super) const FIXED: usize = super::HEADER_LENGTH + 4;

/// Octets of an MP attribute around its prefixes: flags, type, two of length, AFI, SAFI; next hop comes on top.
const MP_FIXED: usize = 7;

/// Withdraws as many of `prefixes` (one family, not empty) as one message holds; gives message and count.
#[must_use]
pub fn encode_withdrawal(family: Family, prefixes: &[Prefix], outbound: &Outbound) -> (Bytes, usize) {
    let (packed, count) = pack(prefixes, family, outbound.room(FIXED + MP_FIXED));
    let message = match family {
        Family::Ipv4Unicast => update_message(&packed, &[], &[]),
        Family::Ipv6Unicast => {
            let mut attributes = BytesMut::new();
            attribute::put(&mut attributes, code::MP_UNREACH, &mp_value(family, &[], &packed));
            update_message(&[], &attributes, &[])
        }
    };
    (message, count)
}

/// Announces as many of `prefixes` (one family, not empty) as one message holds; gives message and count.
///
/// IPv4 routes with an IPv6 next hop are for a peer that agreed to them (RFC 8950). The count is 0 only where the
/// attributes alone fill the message, or for IPv6 routes with an IPv4 next hop, which there are not.
#[must_use]
pub fn encode_reach(
    family: Family,
    prefixes: &[Prefix],
    next_hop: NextHop,
    path: &Path,
    outbound: &Outbound,
) -> (Bytes, usize) {
    match (family, next_hop.address) {
        (Family::Ipv4Unicast, IpAddr::V4(address)) => classic(prefixes, address, path, outbound),
        (Family::Ipv4Unicast | Family::Ipv6Unicast, IpAddr::V6(_)) => {
            multiprotocol(family, prefixes, next_hop, path, outbound)
        }
        (Family::Ipv6Unicast, IpAddr::V4(_)) => (Bytes::new(), 0),
    }
}

/// RFC 4271 §4.3: NEXT_HOP among the attributes, prefixes behind them.
fn classic(prefixes: &[Prefix], next_hop: Ipv4Addr, path: &Path, outbound: &Outbound) -> (Bytes, usize) {
    let mut attributes = BytesMut::with_capacity(64);
    attribute::put_path(&mut attributes, path, Some(next_hop), outbound.four_octet);
    let room = outbound.room(FIXED + attributes.len());
    let (packed, count) = pack(prefixes, Family::Ipv4Unicast, room);
    (update_message(&[], &attributes, &packed), count)
}

/// RFC 4760 §3: next hop and prefixes in an attribute, which comes first (RFC 7606 §5.1).
fn multiprotocol(
    family: Family,
    prefixes: &[Prefix],
    next_hop: NextHop,
    path: &Path,
    outbound: &Outbound,
) -> (Bytes, usize) {
    let mut rest = BytesMut::new();
    attribute::put_path(&mut rest, path, None, outbound.four_octet);
    let next_hop = next_hop.octets();
    let mut head = vec![u8::try_from(next_hop.len()).unwrap_or(u8::MAX)]; // 16 or 32
    head.extend_from_slice(&next_hop);
    head.push(0);
    let around = FIXED + MP_FIXED + head.len();
    let (packed, count) = pack(prefixes, family, outbound.room(around + rest.len()));
    let mut attributes = BytesMut::with_capacity(64);
    attribute::put(&mut attributes, code::MP_REACH, &mp_value(family, &head, &packed));
    attributes.extend_from_slice(&rest);
    (update_message(&[], &attributes, &[]), count)
}

/// The End-of-RIB marker (RFC 4724 §2): all that is wanted has been sent.
#[must_use]
pub fn encode_end_of_rib(family: Family) -> Bytes {
    encode_withdrawal(family, &[], &Outbound::PLAIN).0
}

fn mp_value(family: Family, head: &[u8], packed: &[u8]) -> Vec<u8> {
    let (afi, safi) = family.numbers();
    let mut value = afi.to_be_bytes().to_vec();
    value.push(safi);
    value.extend_from_slice(head);
    value.extend_from_slice(packed);
    value
}

pub(super) fn update_message(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Bytes {
    // Both lengths are below EXTENDED_LENGTH.
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or(u16::MAX);
    framed(Kind::Update, |out| {
        out.put_u16(length(withdrawn));
        out.put_slice(withdrawn);
        out.put_u16(length(attributes));
        out.put_slice(attributes);
        out.put_slice(announced);
    })
}
