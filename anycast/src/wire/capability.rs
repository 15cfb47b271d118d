//! The capabilities of an OPEN (RFC 5492): what the sender can do, each by the RFC that defines it.

use std::time::Duration;

use bytes::BufMut;
use steer_topology::{Asn, RoleName};

use super::{Families, Family, Malformed, Reason, take, take_u8};

const MULTIPROTOCOL: u8 = 1; // RFC 4760 §8
const ROUTE_REFRESH: u8 = 2; // RFC 2918 §2
const EXTENDED_NEXT_HOP: u8 = 5; // RFC 8950 §4
const EXTENDED_MESSAGE: u8 = 6; // RFC 8654 §3
const ROLE: u8 = 9; // RFC 9234 §4.1
const GRACEFUL_RESTART: u8 = 64; // RFC 4724 §3
const FOUR_OCTET_AS: u8 = 65; // RFC 6793 §3
const ENHANCED_REFRESH: u8 = 70; // RFC 7313 §3.1
const LONG_LIVED: u8 = 71; // RFC 9494 §3.1
const FQDN: u8 = 73; // draft-walton-bgp-hostname-capability §2
const SOFTWARE_VERSION: u8 = 75; // draft-abraitis-bgp-version-capability §2

/// The capabilities we know, and the rest as octets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Multiprotocol families we know; `None` where the sender named none of any kind.
    pub families: Option<Families>,
    /// 4-octet AS numbers.
    pub four_octet_as: bool,
    /// Route refresh.
    pub route_refresh: bool,
    /// Enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// IPv4 unicast routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Messages of up to 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Numbers of the roles that were named (RFC 9234 §4.1), each once: one, or the sender contradicts itself.
    pub roles: Vec<u8>,
    /// Graceful restart (RFC 4724).
    pub graceful_restart: Option<RestartCapability>,
    /// Long-lived graceful restart (RFC 9494), per family that we know.
    pub long_lived: Vec<LongLived>,
    /// The sender's name, with its domain where it said one; for display.
    pub hostname: Option<String>,
    /// The sender's software; for display.
    pub software: Option<String>,
    /// Code and value of all others, in order.
    pub others: Vec<(u8, Vec<u8>)>,
}

/// Graceful restart as one side offers it (RFC 4724 §3, RFC 8538 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestartCapability {
    /// R bit: the sender has restarted, and shall not be waited for.
    pub restarted: bool,
    /// N bit: a NOTIFICATION too is a graceful end, unless it is a Hard Reset.
    pub notification: bool,
    /// How long the other side shall keep the sender's routes: whole seconds, at most 4,095.
    pub restart_time: Duration,
    /// Families whose routes shall be kept; of those that we know.
    pub families: Families,
    /// F bit of each: the sender still forwards as before its restart.
    pub forwarding: Families,
}

/// Long-lived graceful restart of one family (RFC 9494 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongLived {
    /// Which.
    pub family: Family,
    /// F bit.
    pub forwarding: bool,
    /// How long stale routes may stay after the restart time: whole seconds in 24 bits.
    pub stale_time: Duration,
}

impl Capabilities {
    /// What the sender carries. RFC 4760 §8: without the capability it is IPv4 unicast.
    #[must_use]
    pub fn carried(&self) -> Families {
        self.families.unwrap_or(Families::IPV4)
    }
}

impl RestartCapability {
    const RESTARTED: u8 = 0x80;
    const NOTIFICATION: u8 = 0x40;
    const FORWARDING: u8 = 0x80;

    /// The restart time has 12 bits.
    pub const MAX_TIME: Duration = Duration::from_secs(0x0fff);

    /// RFC 4724 §3: flags and restart time, then AFI, SAFI and flags of each family.
    fn read(value: &[u8]) -> Option<Self> {
        let (&[high, low], families) = value.split_first_chunk::<2>()?;
        let mut read = Self {
            restarted: high & Self::RESTARTED != 0,
            notification: high & Self::NOTIFICATION != 0,
            restart_time: Duration::from_secs(u16::from_be_bytes([high & 0x0f, low]).into()),
            ..Self::default()
        };
        let (families, []) = families.as_chunks::<4>() else {
            return None;
        };
        for &[afi_high, afi_low, safi, flags] in families {
            let Some(family) = family([afi_high, afi_low], safi) else {
                continue;
            };
            read.families = read.families.with(family);
            if flags & Self::FORWARDING != 0 {
                read.forwarding = read.forwarding.with(family);
            }
        }
        Some(read)
    }

    fn value(&self) -> Vec<u8> {
        let seconds = self.restart_time.min(Self::MAX_TIME).as_secs();
        let [high, low] = u16::try_from(seconds).unwrap_or(0).to_be_bytes();
        let restarted = if self.restarted { Self::RESTARTED } else { 0 };
        let notification = if self.notification { Self::NOTIFICATION } else { 0 };
        let mut value = vec![high | restarted | notification, low];
        for family in self.families.iter() {
            let forwarding = self.forwarding.contains(family);
            put_family(&mut value, family);
            value.push(if forwarding { Self::FORWARDING } else { 0 });
        }
        value
    }
}

impl LongLived {
    const FORWARDING: u8 = 0x80;

    /// The stale time has 24 bits.
    pub const MAX_TIME: Duration = Duration::from_secs(0x00ff_ffff);

    /// RFC 9494 §3.1: AFI, SAFI, flags and stale time of each family.
    fn read_all(value: &[u8]) -> Option<Vec<Self>> {
        let (families, []) = value.as_chunks::<7>() else {
            return None;
        };
        let known = families.iter().filter_map(|&[a, b, safi, flags, t1, t2, t3]| {
            Some(Self {
                family: family([a, b], safi)?,
                forwarding: flags & Self::FORWARDING != 0,
                stale_time: Duration::from_secs(u32::from_be_bytes([0, t1, t2, t3]).into()),
            })
        });
        Some(known.collect())
    }

    fn put(&self, value: &mut Vec<u8>) {
        let seconds = self.stale_time.min(Self::MAX_TIME).as_secs();
        let [_, time @ ..] = u32::try_from(seconds).unwrap_or(0).to_be_bytes();
        put_family(value, self.family);
        value.push(if self.forwarding { Self::FORWARDING } else { 0 });
        value.extend_from_slice(&time);
    }
}

/// RFC 9234 §4.1, table 1; names as the configuration writes them.
const ROLES: [(RoleName, u8, &str); 5] = [
    (RoleName::Provider, 0, "provider"),
    (RoleName::RouteServer, 1, "rs"),
    (RoleName::RouteServerClient, 2, "rs-client"),
    (RoleName::Customer, 3, "customer"),
    (RoleName::Peer, 4, "peer"),
];

/// The number of a role in its capability, and its name.
#[must_use]
pub fn role_number(role: RoleName) -> (u8, &'static str) {
    let row = ROLES.iter().find(|(other, ..)| *other == role);
    row.map_or((u8::MAX, "unknown"), |(_, number, name)| (*number, name)) // a test holds the table complete
}

/// The role of a number, where there is one.
#[must_use]
pub fn role_of(number: u8) -> Option<RoleName> {
    let row = ROLES.iter().find(|(_, other, _)| *other == number);
    row.map(|(role, ..)| *role)
}

fn family(afi: [u8; 2], safi: u8) -> Option<Family> {
    Family::from_numbers(u16::from_be_bytes(afi), safi)
}

fn put_family(value: &mut Vec<u8>, family: Family) {
    let (afi, safi) = family.numbers();
    value.put_u16(afi);
    value.put_u8(safi);
}

fn unspecific(text: impl Into<String>) -> Malformed {
    Malformed::new(Reason::OpenUnspecific, &[], text)
}

/// Reads the value of one optional parameter. `asn` takes the 4-octet AS number.
pub(super) fn decode(
    mut body: &[u8],
    into: &mut Capabilities,
    asn: &mut Option<u32>,
) -> Result<(), Malformed> {
    while !body.is_empty() {
        let code = take_u8(&mut body)?;
        let size = take_u8(&mut body).ok();
        let value = size.and_then(|size| take(&mut body, usize::from(size)));
        let value = value.ok_or_else(|| unspecific("a capability ends early"))?;
        // A value that its RFC does not allow cannot be told from a peer that means something else by it.
        read(code, value, into, asn)
            .ok_or_else(|| unspecific(format!("capability {code} of {} octets", value.len())))?;
    }
    Ok(())
}

/// One capability; `None` where its value is malformed. Of those that stand more than once (RFC 5492 §4) families
/// and roles add up; of all others the last counts, as RFC 4724 §3 and RFC 9494 §3.1 want it.
fn read(code: u8, value: &[u8], into: &mut Capabilities, asn: &mut Option<u32>) -> Option<()> {
    let none = || value.is_empty().then_some(true);
    match code {
        MULTIPROTOCOL => {
            let &[high, low, _, safi] = value.as_array::<4>()?;
            let families = into.families.unwrap_or_default();
            into.families = Some(family([high, low], safi).map_or(families, |family| families.with(family)));
        }
        ROUTE_REFRESH => into.route_refresh = none()?,
        EXTENDED_NEXT_HOP => into.extended_next_hop |= names_ipv4_over_ipv6(value)?,
        EXTENDED_MESSAGE => into.extended_messages = none()?,
        ROLE => {
            let &[role] = value.as_array::<1>()?;
            if !into.roles.contains(&role) {
                into.roles.push(role);
            }
        }
        GRACEFUL_RESTART => into.graceful_restart = Some(RestartCapability::read(value)?),
        FOUR_OCTET_AS => {
            *asn = Some(u32::from_be_bytes(*value.as_array::<4>()?));
            into.four_octet_as = true;
        }
        ENHANCED_REFRESH => into.enhanced_refresh = none()?,
        LONG_LIVED => into.long_lived = LongLived::read_all(value)?,
        // For display alone: what cannot be read is not shown, and ends no session.
        FQDN => into.hostname = read_fqdn(value),
        SOFTWARE_VERSION => into.software = read_text(&mut { value }),
        other => into.others.push((other, value.to_vec())),
    }
    Some(())
}

/// RFC 8950 §4: AFI, SAFI in two octets, and the AFI of the next hop. Combinations that we do not know are skipped.
fn names_ipv4_over_ipv6(value: &[u8]) -> Option<bool> {
    let (combinations, []) = value.as_chunks::<6>() else {
        return None;
    };
    Some(combinations.contains(&IPV4_OVER_IPV6))
}

/// IPv4, unicast, with a next hop of IPv6.
const IPV4_OVER_IPV6: [u8; 6] = [0, 1, 0, 1, 0, 2];

fn read_fqdn(mut value: &[u8]) -> Option<String> {
    let host = read_text(&mut value)?;
    match read_text(&mut value) {
        Some(domain) => Some(format!("{host}.{domain}")),
        None => Some(host),
    }
}

/// A length and so much UTF-8, made safe to print; `None` where it is empty or cannot be read.
fn read_text(value: &mut &[u8]) -> Option<String> {
    let length = take_u8(value).ok()?;
    let text = std::str::from_utf8(take(value, usize::from(length))?).ok()?;
    (!text.is_empty()).then(|| text.chars().flat_map(super::notification::printable).collect())
}

/// Both drafts allow 64 octets; a longer text is cut at a character.
const TEXT_MAX: usize = 64;

fn put_text(value: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    value.push(u8::try_from(text.len()).unwrap_or(u8::MAX)); // at most 64 by the line above
    value.extend_from_slice(text.as_bytes());
}

/// All capabilities in the order of their codes.
pub(super) fn encode(capabilities: &Capabilities, asn: Asn) -> Vec<u8> {
    let Capabilities {
        families,
        four_octet_as,
        route_refresh,
        enhanced_refresh,
        extended_next_hop,
        extended_messages,
        roles,
        graceful_restart,
        long_lived,
        hostname,
        software,
        others,
    } = capabilities;
    let mut out = encode_families(families.unwrap_or_default());
    let flag = |out: &mut Vec<u8>, code, offered: &bool| {
        if *offered {
            put(out, code, &[]);
        }
    };
    flag(&mut out, ROUTE_REFRESH, route_refresh);
    if *extended_next_hop {
        put(&mut out, EXTENDED_NEXT_HOP, &IPV4_OVER_IPV6);
    }
    flag(&mut out, EXTENDED_MESSAGE, extended_messages);
    for role in roles {
        put(&mut out, ROLE, &[*role]);
    }
    if let Some(restart) = graceful_restart {
        put(&mut out, GRACEFUL_RESTART, &restart.value());
    }
    if *four_octet_as {
        put(&mut out, FOUR_OCTET_AS, &asn.get().to_be_bytes());
    }
    flag(&mut out, ENHANCED_REFRESH, enhanced_refresh);
    if !long_lived.is_empty() {
        let mut value = Vec::new();
        long_lived.iter().for_each(|family| family.put(&mut value));
        put(&mut out, LONG_LIVED, &value);
    }
    if let Some(hostname) = hostname {
        let mut value = Vec::new();
        put_text(&mut value, hostname);
        put_text(&mut value, ""); // the domain, where there is one, stands in the name
        put(&mut out, FQDN, &value);
    }
    if let Some(software) = software {
        let mut value = Vec::new();
        put_text(&mut value, software);
        put(&mut out, SOFTWARE_VERSION, &value);
    }
    for (code, value) in others {
        put(&mut out, *code, value);
    }
    out
}

/// The multiprotocol capabilities of these families, as they stand in an OPEN.
#[must_use]
pub fn encode_families(families: Families) -> Vec<u8> {
    let mut out = Vec::new();
    for family in families.iter() {
        let (afi, safi) = family.numbers();
        let [high, low] = afi.to_be_bytes();
        put(&mut out, MULTIPROTOCOL, &[high, low, 0, safi]);
    }
    out
}

fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    let Ok(length) = u8::try_from(value.len()) else {
        return; // no capability is longer
    };
    out.extend_from_slice(&[code, length]);
    out.extend_from_slice(value);
}
