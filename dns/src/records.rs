//! What the endpoints that a chain leaves say in records other than addresses, in the octets of the wire.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};
use steer_topology::{BindingTarget, Endpoint, EndpointId, Fleet, Kind, Steer};

use crate::lookup::Steered;
use crate::zone::RrSet;
use crate::zones::key_of;

/// RFC 9460 §7.1
const ALPN: u16 = 1;
/// RFC 9460 §7.2
const PORT: u16 = 3;
/// RFC 9460 §7.3
const IPV4_HINT: u16 = 4;
/// RFC 9460 §7.3
const IPV6_HINT: u16 = 6;

/// The port that a client of HTTPS takes where none is told (RFC 9460 §9.5).
const HTTPS_PORT: u16 = 443;

/// More addresses than this are left out of a hint, whose length has 16 bits.
const MAX_HINTS: usize = 1_000;

/// Whether the records of a kind are made of what endpoints say beside their addresses.
pub(crate) fn needs_names(steer: &Steer, kind: Kind) -> bool {
    match kind {
        Kind::Address => false,
        Kind::Https | Kind::Svcb => steer.binding.target == BindingTarget::Endpoint,
        Kind::Cname | Kind::Mx | Kind::Srv | Kind::Txt => true,
    }
}

/// The records of endpoints by name, in order; what comes out equal is told once.
pub(crate) fn by_name(fleet: &Fleet, steer: &Steer, kind: Kind, list: &[EndpointId], ttl: u32) -> Steered {
    let mut told: Vec<Said> = Vec::with_capacity(list.len());
    let mut known = HashSet::with_capacity(list.len());
    for id in list {
        let Some(said) = said(fleet.endpoint(*id), steer, kind) else {
            continue;
        };
        if known.insert(said.clone()) {
            told.push(said);
        }
        // RFC 2181 §10.1: a name has one CNAME
        if kind == Kind::Cname && !told.is_empty() {
            break;
        }
    }
    set(rtype_of(kind), ttl, &data(kind, &told), Vec::new())
}

/// What is beyond the last place is left out; no message holds as much.
fn data(kind: Kind, told: &[Said]) -> Vec<Vec<u8>> {
    (1..=u16::MAX)
        .zip(told)
        .map(|(place, said)| said.record(kind, place))
        .collect()
}

/// The one service binding of a name for itself. The addresses are those that its chain gives the same client.
pub(crate) fn for_itself(
    fleet: &Fleet,
    steer: &Steer,
    kind: Kind,
    addresses: Vec<IpAddr>,
    ttl: u32,
) -> Steered {
    if addresses.is_empty() {
        return Steered::Nothing;
    }
    // The configuration lets no pool in whose endpoints have several ports.
    let port = fleet
        .members(steer.pool)
        .first()
        .map(|id| fleet.endpoint(*id).address.port());
    let mut record = binding(1, &[0], kind, port.unwrap_or(HTTPS_PORT), &steer.binding.alpn);
    let hint = |is_v4: bool| -> Vec<u8> {
        let family = addresses.iter().filter(|address| address.is_ipv4() == is_v4);
        family.take(MAX_HINTS).flat_map(octets).collect()
    };
    for (key, hint) in [(IPV4_HINT, hint(true)), (IPV6_HINT, hint(false))] {
        if !hint.is_empty() {
            parameter(&mut record, key, &hint);
        }
    }
    set(rtype_of(kind), ttl, &[record], addresses)
}

fn set(rtype: RecordType, ttl: u32, records: &[Vec<u8>], addresses: Vec<IpAddr>) -> Steered {
    if records.is_empty() {
        return Steered::Nothing;
    }
    match RrSet::new(rtype, ttl, records.iter().map(Vec::as_slice)) {
        Some(set) => Steered::Set { set, addresses },
        None => Steered::Nothing, // a record beyond 65,535 octets; no configuration makes one
    }
}

/// Data that are kept as octets (RFC 3597 §4), taken apart for people.
pub(crate) fn by_field(data: &RData) -> Option<RData> {
    let RData::Unknown { code, rdata } = data else {
        return Some(data.clone());
    };
    let octets = &rdata.anything;
    let length = u16::try_from(octets.len()).ok()?;
    RData::read(&mut BinDecoder::new(octets), *code, Restrict::new(length)).ok()
}

/// What one endpoint says, without its place among the others.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Said {
    /// As the configuration has it.
    priority: Option<u16>,
    /// What follows the priority, or everything.
    rest: Vec<u8>,
}

fn said(endpoint: &Endpoint, steer: &Steer, kind: Kind) -> Option<Said> {
    let name = || endpoint.target().as_ref().and_then(key_of);
    let port = endpoint.address.port();
    let rest = match kind {
        Kind::Address => return None,
        Kind::Cname | Kind::Mx => name()?.into_vec(),
        Kind::Srv => {
            let weight = u16::try_from(endpoint.weight).unwrap_or(u16::MAX);
            [&weight.to_be_bytes(), &port.to_be_bytes(), &*name()?].concat()
        }
        Kind::Txt => strings(&endpoint.said.text),
        // behind the priority
        Kind::Https | Kind::Svcb => binding(0, &name()?, kind, port, &steer.binding.alpn).split_off(2),
    };
    Some(Said {
        priority: endpoint.said.priority,
        rest,
    })
}

impl Said {
    /// `place`: from 1.
    fn record(&self, kind: Kind, place: u16) -> Vec<u8> {
        let by_place = match kind {
            Kind::Mx => place.saturating_mul(10),
            Kind::Address | Kind::Cname | Kind::Txt | Kind::Srv | Kind::Https | Kind::Svcb => place,
        };
        let priority = self.priority.unwrap_or(by_place).to_be_bytes();
        match kind {
            Kind::Address | Kind::Cname | Kind::Txt => self.rest.clone(),
            Kind::Mx | Kind::Srv | Kind::Https | Kind::Svcb => [&priority, &*self.rest].concat(),
        }
    }
}

/// RFC 9460 §2.2: parameters in the order of their keys.
fn binding(priority: u16, target: &[u8], kind: Kind, port: u16, alpn: &[String]) -> Vec<u8> {
    let mut record = priority.to_be_bytes().to_vec();
    record.extend(target);
    if !alpn.is_empty() {
        parameter(&mut record, ALPN, &strings(alpn));
    }
    if kind != Kind::Https || port != HTTPS_PORT {
        parameter(&mut record, PORT, &port.to_be_bytes());
    }
    record
}

fn parameter(record: &mut Vec<u8>, key: u16, value: &[u8]) {
    record.extend(key.to_be_bytes());
    record.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    record.extend(value);
}

/// Each behind its length; the configuration lets none in that is longer than 255 octets.
fn strings(texts: &[String]) -> Vec<u8> {
    let one = |text: &String| -> Vec<u8> {
        let octets = text.as_bytes();
        let octets = octets.get(..octets.len().min(255)).unwrap_or_default();
        [&[octets.len() as u8], octets].concat()
    };
    texts.iter().flat_map(one).collect()
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn rtype_of(kind: Kind) -> RecordType {
    match kind {
        Kind::Address => RecordType::A,
        Kind::Https => RecordType::HTTPS,
        Kind::Svcb => RecordType::SVCB,
        Kind::Cname => RecordType::CNAME,
        Kind::Mx => RecordType::MX,
        Kind::Srv => RecordType::SRV,
        Kind::Txt => RecordType::TXT,
    }
}

#[cfg(test)]
mod tests;
