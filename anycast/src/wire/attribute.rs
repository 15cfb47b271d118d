//! Path attributes: one table of rules, one walk. What to do about a fault is RFC 7606's decision, row by row.

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use steer_topology::Asn;

use super::as_path::{self, Segment};
use super::update::{Context, Field, NextHop, Reach};
use super::{Malformed, Reason, take};

/// Attribute type codes.
pub(super) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const PMSI_TUNNEL: u8 = 22;
    pub(crate) const TUNNEL_ENCAPSULATION: u8 = 23;
    pub(crate) const TRAFFIC_ENGINEERING: u8 = 24;
    pub(crate) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
    pub(crate) const ONLY_TO_CUSTOMER: u8 = 35;
    pub(crate) const ATTR_SET: u8 = 128;
}

/// What RFC 7606 §2 does about a fault, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The attribute is dropped, the routes stay.
    Discard,
    /// The routes of the UPDATE count as withdrawn.
    TreatAsWithdraw,
    /// NOTIFICATION and close.
    Reset,
}

/// A fault in one attribute that did not end the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeFault {
    /// Attribute type code; 0 for the list as a whole.
    pub attribute: u8,
    /// What was done.
    pub action: Action,
    /// What was wrong, as the NOTIFICATION would have said.
    pub reason: Reason,
}

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Origin {
    #[default]
    Igp = 0,
    Egp = 1,
    Incomplete = 2,
}

/// The attributes of a route other than next hop and prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    /// ORIGIN
    pub origin: Origin,
    /// AS_PATH
    pub as_path: Vec<Segment>,
    /// MULTI_EXIT_DISC
    pub med: Option<u32>,
    /// LOCAL_PREF
    pub local_pref: Option<u32>,
    /// COMMUNITIES (RFC 1997)
    pub communities: Vec<u32>,
    /// LARGE_COMMUNITIES (RFC 8092)
    pub large_communities: Vec<[u32; 3]>,
    /// EXTENDED_COMMUNITIES (RFC 4360)
    pub extended_communities: Vec<[u8; 8]>,
    /// ONLY_TO_CUSTOMER (RFC 9234 §5): the AS that sent the route down or sideways.
    pub only_to_customer: Option<u32>,
}

impl Path {
    /// The AS numbers in path order, sets included.
    pub fn asns(&self) -> impl Iterator<Item = u32> + '_ {
        self.as_path
            .iter()
            .flat_map(|segment| segment.asns.iter().copied())
    }
}

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

/// Lengths that an attribute can have.
#[derive(Debug, Clone, Copy)]
enum Length {
    Any,
    Exactly(usize),
    AtLeast(usize),
    /// A multiple, but not zero.
    Multiple(usize),
    /// An AS number, of 2 or 4 octets as agreed, and an IPv4 address.
    Aggregator,
}

impl Length {
    fn allows(self, length: usize, four_octet: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(want) => length == want,
            Self::AtLeast(want) => length >= want,
            Self::Multiple(of) => length != 0 && length.is_multiple_of(of),
            Self::Aggregator => length == if four_octet { 8 } else { 6 },
        }
    }
}

/// One attribute we know.
struct Rule {
    code: u8,
    /// Optional and transitive bits as they must be.
    flags: u8,
    length: Length,
    /// For a wrong length or value.
    on_error: Action,
    /// What a NOTIFICATION would say of a wrong value.
    reason: Reason,
    /// From an external peer it is dropped unread (RFC 7606 §7.5, §7.9, §7.10).
    internal_only: bool,
    /// RFC 7606 §3 c, unless its own RFC says otherwise.
    on_flags: Action,
}

const fn rule(code: u8, flags: u8, length: Length, on_error: Action, reason: Reason) -> Rule {
    Rule {
        code,
        flags,
        length,
        on_error,
        reason,
        internal_only: false,
        on_flags: Action::TreatAsWithdraw,
    }
}

const fn internal(code: u8, flags: u8, length: Length) -> Rule {
    Rule {
        internal_only: true,
        ..rule(
            code,
            flags,
            length,
            Action::TreatAsWithdraw,
            Reason::AttributeLength,
        )
    }
}

/// RFC 9012 §13: whatever is wrong with it, the route is good without it.
const fn discardable(code: u8, flags: u8) -> Rule {
    Rule {
        on_flags: Action::Discard,
        ..rule(
            code,
            flags,
            Length::Any,
            Action::Discard,
            Reason::OptionalAttribute,
        )
    }
}

/// RFC 7606 §7, in its order; then the attributes of other RFCs.
///
/// Not here are attributes that mean something only where it was configured or agreed on: AIGP (RFC 7311 §3.3),
/// BGP-LS (RFC 9552), BGPsec_PATH (RFC 8205), Prefix-SID (RFC 8669). On a session without that they are to be
/// ignored as unknown, so no fault of theirs can harm a route.
#[rustfmt::skip]
const RULES: &[Rule] = {
    use Action::{Discard, Reset, TreatAsWithdraw};
    use Length::{Aggregator, Any, AtLeast, Exactly, Multiple};
    const WELL_KNOWN: u8 = TRANSITIVE;
    const BOTH: u8 = OPTIONAL | TRANSITIVE;
    &[
        rule(code::ORIGIN, WELL_KNOWN, Exactly(1), TreatAsWithdraw, Reason::InvalidOrigin),               // §7.1
        rule(code::AS_PATH, WELL_KNOWN, Any, TreatAsWithdraw, Reason::MalformedAsPath),                   // §7.2
        rule(code::NEXT_HOP, WELL_KNOWN, Exactly(4), TreatAsWithdraw, Reason::InvalidNextHop),            // §7.3
        rule(code::MED, OPTIONAL, Exactly(4), TreatAsWithdraw, Reason::AttributeLength),                  // §7.4
        internal(code::LOCAL_PREF, WELL_KNOWN, Exactly(4)),                                               // §7.5
        rule(code::ATOMIC_AGGREGATE, WELL_KNOWN, Exactly(0), Discard, Reason::AttributeLength),           // §7.6
        rule(code::AGGREGATOR, BOTH, Aggregator, Discard, Reason::OptionalAttribute),                     // §7.7
        rule(code::COMMUNITIES, BOTH, Multiple(4), TreatAsWithdraw, Reason::OptionalAttribute),           // §7.8
        internal(code::ORIGINATOR_ID, OPTIONAL, Exactly(4)),                                              // §7.9
        internal(code::CLUSTER_LIST, OPTIONAL, Multiple(4)),                                              // §7.10
        rule(code::MP_REACH, OPTIONAL, Any, Reset, Reason::OptionalAttribute),                            // §7.11
        rule(code::MP_UNREACH, OPTIONAL, Any, Reset, Reason::OptionalAttribute),                          // §7.12
        rule(code::TRAFFIC_ENGINEERING, OPTIONAL, Any, TreatAsWithdraw, Reason::OptionalAttribute),       // §7.13
        rule(code::EXTENDED_COMMUNITIES, BOTH, Multiple(8), TreatAsWithdraw, Reason::OptionalAttribute),  // §7.14
        rule(code::IPV6_EXTENDED_COMMUNITIES, BOTH, Multiple(20), TreatAsWithdraw, Reason::OptionalAttribute), // §7.15
        rule(code::ATTR_SET, BOTH, AtLeast(4), TreatAsWithdraw, Reason::OptionalAttribute),               // §7.16
        rule(code::AS4_PATH, BOTH, Any, Discard, Reason::OptionalAttribute),                              // RFC 6793 §6
        rule(code::AS4_AGGREGATOR, BOTH, Exactly(8), Discard, Reason::OptionalAttribute),                 // RFC 6793 §6
        rule(code::PMSI_TUNNEL, BOTH, AtLeast(5), TreatAsWithdraw, Reason::OptionalAttribute),            // RFC 6514 §5
        discardable(code::TUNNEL_ENCAPSULATION, BOTH),                                                    // RFC 9012 §13
        rule(code::LARGE_COMMUNITIES, BOTH, Multiple(12), TreatAsWithdraw, Reason::OptionalAttribute),    // RFC 8092 §6
        rule(code::ONLY_TO_CUSTOMER, BOTH, Exactly(4), TreatAsWithdraw, Reason::OptionalAttribute),       // RFC 9234 §5
    ]
};

/// What the walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<Vec<Segment>>,
    as4_path: Option<Vec<Segment>>,
    /// AGGREGATOR names an AS, and it is not AS_TRANS: whoever wrote it knew no AS4_PATH (RFC 6793 §4.2.3).
    aggregated_by_old: bool,
    has_as4_aggregator: bool,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) communities: Vec<u32>,
    pub(super) large_communities: Vec<[u32; 3]>,
    pub(super) extended_communities: Vec<[u8; 8]>,
    pub(super) only_to_customer: Option<u32>,
    pub(super) reach: Option<Reach>,
    /// There is an MP_REACH_NLRI of a family that we do not carry.
    pub(super) foreign: bool,
    pub(super) unreach: Option<Field>,
    pub(super) faults: Vec<AttributeFault>,
    /// Attributes in the list, known or not.
    pub(super) count: usize,
}

impl Found {
    /// RFC 6793 §4.2.3. What a 4-octet peer says beside its own path is dropped (§4.1).
    fn restore_path(&mut self, context: Context) {
        let as4_path = self.as4_path.take().filter(|_| !context.four_octet);
        let usable = !(self.has_as4_aggregator && self.aggregated_by_old);
        if let Some((short, tail)) = self
            .as_path
            .take_if(|_| usable && as4_path.is_some())
            .zip(as4_path)
        {
            self.as_path = Some(as_path::merge(short, tail));
        }
    }

    fn fault(&mut self, attribute: u8, action: Action, reason: Reason) {
        self.faults.push(AttributeFault {
            attribute,
            action,
            reason,
        });
    }
}

/// One attribute as it stands in the message.
pub(super) struct Raw<'a> {
    flags: u8,
    pub(super) code: u8,
    pub(super) value: &'a [u8],
    /// Type, length and value: the data of most NOTIFICATIONs about it (RFC 4271 §6.3).
    pub(super) whole: &'a [u8],
}

/// Walks the list. Only what RFC 7606 leaves no other way out of is an error.
pub(super) fn walk(mut list: &[u8], context: Context) -> Result<Found, Malformed> {
    let mut found = Found::default();
    let mut seen = [false; 256];
    while !list.is_empty() {
        let Some(raw) = next(&mut list) else {
            // RFC 7606 §4: an attribute that overruns the list; the NLRI behind the list can still be read.
            found.fault(0, Action::TreatAsWithdraw, Reason::MalformedAttributeList);
            break;
        };
        found.count += 1;
        if std::mem::replace(&mut seen[usize::from(raw.code)], true) {
            repeated(&raw, &mut found)?;
            continue;
        }
        visit(&raw, context, &mut found)?;
    }
    found.restore_path(context);
    Ok(found)
}

pub(super) fn next<'a>(list: &mut &'a [u8]) -> Option<Raw<'a>> {
    let start = *list;
    let &[flags, code] = take(list, 2)?.first_chunk::<2>()?;
    let length = if flags & EXTENDED_LENGTH == 0 {
        usize::from(*take(list, 1)?.first()?)
    } else {
        usize::from(u16::from_be_bytes(*take(list, 2)?.first_chunk::<2>()?))
    };
    let value = take(list, length)?;
    let whole = start.get(..start.len() - list.len())?;
    Some(Raw {
        flags,
        code,
        value,
        whole,
    })
}

/// RFC 7606 §3 g: twice MP_REACH or MP_UNREACH resets; of all others the first counts.
fn repeated(raw: &Raw<'_>, found: &mut Found) -> Result<(), Malformed> {
    if matches!(raw.code, code::MP_REACH | code::MP_UNREACH) {
        let text = format!("attribute {} twice in one UPDATE", raw.code);
        return Err(Malformed::new(Reason::MalformedAttributeList, &[], text));
    }
    found.fault(raw.code, Action::Discard, Reason::MalformedAttributeList);
    Ok(())
}

fn visit(raw: &Raw<'_>, context: Context, found: &mut Found) -> Result<(), Malformed> {
    let Some(rule) = RULES.iter().find(|rule| rule.code == raw.code) else {
        return unknown(raw);
    };
    if rule.internal_only && !context.internal {
        found.fault(raw.code, Action::Discard, Reason::OptionalAttribute);
        return Ok(());
    }
    if raw.flags & (OPTIONAL | TRANSITIVE) != rule.flags {
        found.fault(raw.code, rule.on_flags, Reason::AttributeFlags);
    }
    let read = if rule.length.allows(raw.value.len(), context.four_octet) {
        read(raw, context, found).ok_or(rule.reason)
    } else {
        Err(Reason::AttributeLength)
    };
    match (read, rule.on_error) {
        (Ok(()), _) => Ok(()),
        (Err(reason), Action::Reset) => {
            let text = format!("attribute {} cannot be read", raw.code);
            Err(Malformed::new(reason, raw.whole, text))
        }
        (Err(reason), action @ (Action::Discard | Action::TreatAsWithdraw)) => {
            found.fault(raw.code, action, reason);
            Ok(())
        }
    }
}

/// RFC 4271 §6.3: an unknown attribute must be optional; then it does not concern us.
fn unknown(raw: &Raw<'_>) -> Result<(), Malformed> {
    if raw.flags & OPTIONAL != 0 {
        return Ok(());
    }
    let text = format!("well-known attribute {} is not known here", raw.code);
    Err(Malformed::new(Reason::UnrecognizedWellKnown, raw.whole, text))
}

/// Reads a value into `found`; `None` where it is malformed.
fn read(raw: &Raw<'_>, context: Context, found: &mut Found) -> Option<()> {
    match raw.code {
        code::ORIGIN => found.origin = Some(read_origin(raw.value)?),
        code::AS_PATH => found.as_path = Some(as_path::read(raw.value, context.four_octet)?),
        code::NEXT_HOP => found.next_hop = Some(read_next_hop(raw.value)?),
        code::MED => found.med = Some(be32(raw.value)?),
        code::LOCAL_PREF => found.local_pref = Some(be32(raw.value)?),
        code::AGGREGATOR => found.aggregated_by_old = aggregator(raw.value)? != Asn::TRANS.get(),
        code::AS4_AGGREGATOR => {
            aggregator(raw.value)?;
            found.has_as4_aggregator = true;
        }
        code::COMMUNITIES => found.communities = raw.value.chunks_exact(4).filter_map(be32).collect(),
        code::AS4_PATH => found.as4_path = Some(as_path::read_as4(raw.value)?),
        code::TUNNEL_ENCAPSULATION => return tunnels_end_with(raw.value).then_some(()),
        code::ATTR_SET => return attributes_end_with(raw.value.get(4..)?).then_some(()),
        code::LARGE_COMMUNITIES => {
            found.large_communities = raw.value.chunks_exact(12).filter_map(be96).collect();
        }
        code::EXTENDED_COMMUNITIES => found.extended_communities = raw.value.as_chunks().0.to_vec(),
        code::ONLY_TO_CUSTOMER => found.only_to_customer = Some(be32(raw.value)?),
        code::MP_REACH => {
            found.reach = super::update::read_mp_reach(raw.value, context)?;
            found.foreign = found.reach.is_none();
            if found
                .reach
                .as_ref()
                .is_some_and(|reach| !is_host(&reach.next_hop))
            {
                // Its prefixes were read, so there is no need to reset (RFC 7606 §7.3 in spirit).
                found.fault(raw.code, Action::TreatAsWithdraw, Reason::InvalidNextHop);
            }
        }
        code::MP_UNREACH => found.unreach = super::update::read_mp_unreach(raw.value)?,
        // Their lengths are all we check.
        _ => {}
    }
    Some(())
}

fn read_origin(value: &[u8]) -> Option<Origin> {
    [Origin::Igp, Origin::Egp, Origin::Incomplete]
        .into_iter()
        .find(|origin| value == [*origin as u8])
}

/// RFC 4271 §6.3: what stands here must be a host's address.
fn read_next_hop(value: &[u8]) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from_bits(be32(value)?);
    let usable = !(address.is_unspecified() || address.is_multicast() || address.is_broadcast());
    usable.then_some(address)
}

/// RFC 4271 §6.3, for the next hops of MP_REACH_NLRI.
fn is_host(next_hop: &NextHop) -> bool {
    let address = next_hop.address;
    !(address.is_unspecified() || address.is_multicast())
}

/// An AGGREGATOR is an AS number, which is never 0 (RFC 7607 §2), and an address of 4 octets.
fn aggregator(value: &[u8]) -> Option<u32> {
    let asn = value.get(..value.len().checked_sub(4)?)?;
    let asn = asn.iter().fold(0, |sum, octet| (sum << 8) | u32::from(*octet));
    (asn != 0).then_some(asn)
}

/// RFC 9012 §2: TLVs with types and lengths of two octets; at least one.
fn tunnels_end_with(mut value: &[u8]) -> bool {
    let mut found = false;
    while let Some(&[_, _, high, low]) = take(&mut value, 4).and_then(|head| head.first_chunk::<4>()) {
        found = take(&mut value, usize::from(u16::from_be_bytes([high, low]))).is_some();
        if !found {
            return false;
        }
    }
    found && value.is_empty()
}

/// RFC 6368 §5: behind the origin AS stand attributes, the last of which ends with the set.
fn attributes_end_with(mut list: &[u8]) -> bool {
    while !list.is_empty() {
        if next(&mut list).is_none() {
            return false;
        }
    }
    true
}

fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk::<4>()?))
}

fn be96(value: &[u8]) -> Option<[u32; 3]> {
    Some([be32(value)?, be32(value.get(4..)?)?, be32(value.get(8..)?)?])
}

/// Writes one attribute; the flag of extended length is set where the value needs it.
pub(super) fn put(out: &mut BytesMut, code: u8, value: &[u8]) {
    let flags = RULES
        .iter()
        .find(|rule| rule.code == code)
        .map_or(OPTIONAL, |rule| rule.flags);
    match u8::try_from(value.len()) {
        Ok(length) => out.put_slice(&[flags, code, length]),
        Err(_) => {
            out.put_slice(&[flags | EXTENDED_LENGTH, code]);
            out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX)); // a message ends at 65,535
        }
    }
    out.put_slice(value);
}

/// Writes a path in the order of the type codes (RFC 4271 §5); `next_hop` only for classic IPv4 NLRI.
pub(super) fn put_path(out: &mut BytesMut, path: &Path, next_hop: Option<Ipv4Addr>, four_octet: bool) {
    put(out, code::ORIGIN, &[path.origin as u8]);
    put(out, code::AS_PATH, &as_path::value(&path.as_path, four_octet));
    if let Some(next_hop) = next_hop {
        put(out, code::NEXT_HOP, &next_hop.octets());
    }
    if let Some(med) = path.med {
        put(out, code::MED, &med.to_be_bytes());
    }
    if let Some(local_pref) = path.local_pref {
        put(out, code::LOCAL_PREF, &local_pref.to_be_bytes());
    }
    if !path.communities.is_empty() {
        put(out, code::COMMUNITIES, &concat(path.communities.iter().copied()));
    }
    if !path.extended_communities.is_empty() {
        put(
            out,
            code::EXTENDED_COMMUNITIES,
            path.extended_communities.as_flattened(),
        );
    }
    // RFC 6793 §4.2.2: a 2-octet peer gets the true path beside the one with AS_TRANS, where they differ.
    if !four_octet && path.asns().any(|asn| u16::try_from(asn).is_err()) {
        put(out, code::AS4_PATH, &as_path::value(&path.as_path, true));
    }
    if !path.large_communities.is_empty() {
        put(
            out,
            code::LARGE_COMMUNITIES,
            &concat(path.large_communities.iter().flatten().copied()),
        );
    }
    if let Some(asn) = path.only_to_customer {
        put(out, code::ONLY_TO_CUSTOMER, &asn.to_be_bytes());
    }
}

fn concat(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_be_bytes).collect()
}
