//! Random valid messages, written octet by octet: other than our encoder would write them, but as it may read them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use steer_anycast::wire::{Context, Family, Kind};
use steer_topology::Prefix;

use super::reading::{OpenReading, Reading, UpdateReading, afi};

/// A message, the session that it belongs to, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) octets: Vec<u8>,
    pub(crate) context: Context,
    pub(crate) says: Reading,
    /// Has an NLRI of length 0: a default route.
    pub(crate) has_default_route: bool,
    /// Has bits set behind the length of a prefix.
    pub(crate) has_spare_bits: bool,
    /// Has IPv4 routes in MP_REACH_NLRI or MP_UNREACH_NLRI.
    pub(crate) has_ipv4_in_mp: bool,
}

/// What makes an UPDATE hard to read for some.
#[derive(Debug, Clone, Copy, Default)]
struct Traits {
    has_default_route: bool,
    has_spare_bits: bool,
    has_ipv4_in_mp: bool,
}

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const PARTIAL: u8 = 0x20;
const EXTENDED: u8 = 0x10;

/// `count` messages, always the same for a seed.
pub(crate) fn samples(seed: u64, count: usize) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| sample(&mut rng)).collect()
}

fn sample(rng: &mut StdRng) -> Sample {
    let context = Context {
        four_octet: rng.random(),
        internal: rng.random(),
        extended_next_hop: rng.random(),
        ..Context::default()
    };
    let mut traits = Traits::default();
    let (kind, body, says) = match rng.random_range(0..20) {
        0..3 => open(rng),
        3 => (Kind::Keepalive, Vec::new(), Reading::Keepalive {}),
        4 => notification(rng),
        5 => refresh(rng),
        _ => update(rng, context, &mut traits),
    };
    let mut octets = vec![0xff; 16];
    let length = u16::try_from(19 + body.len()).expect("bounded below");
    octets.extend(length.to_be_bytes());
    octets.push(kind.octet());
    octets.extend(body);
    Sample {
        octets,
        context,
        says,
        has_default_route: traits.has_default_route,
        has_spare_bits: traits.has_spare_bits,
        has_ipv4_in_mp: traits.has_ipv4_in_mp,
    }
}

fn notification(rng: &mut StdRng) -> (Kind, Vec<u8>, Reading) {
    // Data of OPEN errors and of Cease has forms of its own; with these codes any data is fine.
    let (code, subcode) = (if rng.random() { 1 } else { 3 }, rng.random_range(1..=3));
    let mut body = vec![code, subcode];
    body.extend(octets(rng, 20));
    (Kind::Notification, body, Reading::Notification { code, subcode })
}

fn refresh(rng: &mut StdRng) -> (Kind, Vec<u8>, Reading) {
    let (afi, subtype, safi) = (rng.random_range(1..=2), rng.random_range(0..=2), 1);
    let body = vec![0, afi, subtype, safi];
    let afi = u16::from(afi);
    (Kind::RouteRefresh, body, Reading::Refresh { afi, subtype, safi })
}

fn open(rng: &mut StdRng) -> (Kind, Vec<u8>, Reading) {
    let four_octet_as: bool = rng.random();
    let route_refresh: bool = rng.random();
    let asn: u32 = match four_octet_as && rng.random() {
        true => rng.random_range(65_536..=u32::MAX),
        false => rng.random_range(1..23_456),
    };
    let families: Vec<Family> = Family::ALL.into_iter().filter(|_| rng.random()).collect();
    let mut capabilities: Vec<Vec<u8>> = Vec::new();
    for family in &families {
        let (afi, safi) = family.numbers();
        capabilities.push(vec![1, 4, 0, u8::try_from(afi).expect("1 or 2"), 0, safi]);
    }
    if route_refresh {
        capabilities.push(vec![2, 0]);
    }
    if four_octet_as {
        capabilities.push([&[65, 4][..], &asn.to_be_bytes()].concat());
    }
    // Others that sessions carry: graceful restart, extended messages, enhanced refresh.
    let others: [&[u8]; 3] = [&[64, 2, 0x00, 0x78], &[6, 0], &[70, 0]];
    capabilities.extend(others.iter().filter(|_| rng.random()).map(|other| other.to_vec()));
    capabilities.shuffle(rng);
    let mut parameters = Vec::new();
    match rng.random() {
        // RFC 5492 §4 takes both: all in one parameter, or one in each.
        true if !capabilities.is_empty() => parameters.extend(parameter(&capabilities.concat())),
        true | false => parameters.extend(capabilities.iter().flat_map(|one| parameter(one))),
    }
    let hold_time = if rng.random() {
        0
    } else {
        rng.random_range(3..=u16::MAX)
    };
    let identifier = Ipv4Addr::from_bits(rng.random_range(0x0100_0000..0xe000_0000));
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23_456).to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(identifier.octets());
    body.push(u8::try_from(parameters.len()).expect("few capabilities"));
    body.extend(parameters);
    let says = OpenReading {
        asn,
        hold_time,
        identifier: identifier.to_string(),
        families: families.into_iter().map(afi).collect(),
        four_octet_as,
        route_refresh,
    };
    (Kind::Open, body, Reading::Open(says))
}

fn parameter(capabilities: &[u8]) -> Vec<u8> {
    let length = u8::try_from(capabilities.len()).expect("few capabilities");
    [&[2, length], capabilities].concat()
}

fn update(rng: &mut StdRng, context: Context, traits: &mut Traits) -> (Kind, Vec<u8>, Reading) {
    let mut says = UpdateReading::default();
    let mut attributes: Vec<Vec<u8>> = Vec::new();
    let [withdrawn, announced, unreach, reach] = [0, 1, 2, 3].map(|field| {
        let family = if field < 2 || rng.random_bool(0.1) {
            Family::Ipv4Unicast
        } else {
            Family::Ipv6Unicast
        };
        let count = if rng.random() { 0 } else { rng.random_range(1..8) };
        // Fields do not share prefixes: what one UPDATE says twice is for another test.
        (
            family,
            (0..count).map(|_| prefix(rng, family, field)).collect::<Vec<_>>(),
        )
    });
    let all = [&withdrawn, &announced, &unreach, &reach];
    traits.has_ipv4_in_mp = [&unreach, &reach]
        .iter()
        .any(|(family, list)| *family == Family::Ipv4Unicast && !list.is_empty());
    traits.has_default_route = all
        .iter()
        .any(|(_, list)| list.iter().any(|prefix| prefix.length() == 0));
    says.withdrawn.extend(withdrawn.1.iter().map(ToString::to_string));
    if !unreach.1.is_empty() {
        says.withdrawn.extend(unreach.1.iter().map(ToString::to_string));
        let (afi, safi) = unreach.0.numbers();
        let mut value = [&afi.to_be_bytes()[..], &[safi]].concat();
        value.extend(nlri(rng, traits, &unreach.1));
        attributes.push(attribute(rng, OPTIONAL, 15, &value));
    }
    if !reach.1.is_empty() {
        let ipv6 = reach.0 == Family::Ipv6Unicast || (context.extended_next_hop && rng.random());
        let (next_hop, octets) = next_hop(rng, ipv6);
        let (afi, safi) = reach.0.numbers();
        let mut value = [&afi.to_be_bytes()[..], &[safi]].concat();
        value.push(u8::try_from(octets.len()).expect("32 at most"));
        value.extend(octets);
        value.push(0);
        value.extend(nlri(rng, traits, &reach.1));
        attributes.push(attribute(rng, OPTIONAL, 14, &value));
        let routes = reach
            .1
            .iter()
            .map(|prefix| (prefix.to_string(), next_hop.to_string()));
        says.routes.extend(routes);
    }
    if !announced.1.is_empty() {
        let (next_hop, octets) = next_hop(rng, false);
        attributes.push(attribute(rng, TRANSITIVE, 3, &octets));
        let routes = announced
            .1
            .iter()
            .map(|prefix| (prefix.to_string(), next_hop.to_string()));
        says.routes.extend(routes);
    }
    if !says.routes.is_empty() {
        path(rng, context, &mut says, &mut attributes);
    }
    attributes.shuffle(rng); // RFC 4271 §5: a receiver must take any order
    let attributes = attributes.concat();
    let withdrawn = nlri(rng, traits, &withdrawn.1);
    let mut body = Vec::new();
    body.extend(
        u16::try_from(withdrawn.len())
            .expect("few prefixes")
            .to_be_bytes(),
    );
    body.extend(withdrawn);
    body.extend(
        u16::try_from(attributes.len())
            .expect("few attributes")
            .to_be_bytes(),
    );
    body.extend(attributes);
    body.extend(nlri(rng, traits, &announced.1));
    (Kind::Update, body, Reading::Update(says))
}

/// Attributes of routes: those that must be there, and some of the others.
fn path(rng: &mut StdRng, context: Context, says: &mut UpdateReading, out: &mut Vec<Vec<u8>>) {
    const BOTH: u8 = OPTIONAL | TRANSITIVE;
    let origin = rng.random_range(0..3);
    says.origin = Some(origin);
    out.push(attribute(rng, TRANSITIVE, 1, &[origin]));
    says.as_path = (0..rng.random_range(0..3))
        .map(|_| segment(rng, context.four_octet))
        .collect();
    let value = as_path(&says.as_path, context.four_octet);
    out.push(attribute(rng, TRANSITIVE, 2, &value));
    if rng.random() {
        says.med = Some(rng.random());
        let med = rng_value(says.med);
        out.push(attribute(rng, OPTIONAL, 4, &med));
    }
    if context.internal && rng.random() {
        says.local_pref = Some(rng.random());
        let local_pref = rng_value(says.local_pref);
        out.push(attribute(rng, TRANSITIVE, 5, &local_pref));
    }
    if rng.random() {
        out.push(attribute(rng, TRANSITIVE, 6, &[]));
    }
    if rng.random() {
        let asn = asn(rng, context.four_octet);
        let mut value = number(asn, context.four_octet);
        value.extend([192, 0, 2, 7]);
        out.push(attribute(rng, BOTH, 7, &value));
    }
    if rng.random() {
        says.communities = (0..rng.random_range(1..90)).map(|_| rng.random()).collect();
        let value: Vec<u8> = says
            .communities
            .iter()
            .flat_map(|one| one.to_be_bytes())
            .collect();
        out.push(attribute(rng, BOTH, 8, &value));
    }
    if rng.random() {
        // Two-octet AS specific, a route target (RFC 4360 §4).
        let community = |rng: &mut StdRng| [0, 2, 0xfb, 0xf4, 0, 0, 0, rng.random()];
        says.extended_communities = (0..rng.random_range(1..4)).map(|_| community(rng)).collect();
        let value = says.extended_communities.concat();
        out.push(attribute(rng, BOTH, 16, &value));
    }
    if rng.random() {
        says.only_to_customer = Some(rng.random_range(1..=u32::MAX));
        let value = rng_value(says.only_to_customer);
        out.push(attribute(rng, BOTH, 35, &value));
    }
    if rng.random() {
        says.large_communities = (0..rng.random_range(1..30)).map(|_| rng.random()).collect();
        let numbers = says.large_communities.iter().flatten();
        let value: Vec<u8> = numbers.flat_map(|one| one.to_be_bytes()).collect();
        out.push(attribute(rng, BOTH, 32, &value));
    }
    if rng.random_bool(0.2) {
        // Of an RFC that nobody has written.
        let value = octets(rng, 300);
        out.push(attribute(rng, BOTH | PARTIAL, 251, &value));
    }
}

fn rng_value(value: Option<u32>) -> [u8; 4] {
    value.unwrap_or_default().to_be_bytes()
}

fn segment(rng: &mut StdRng, four_octet: bool) -> (u8, Vec<u32>) {
    let kind = if rng.random_bool(0.2) { 1 } else { 2 };
    (
        kind,
        (0..rng.random_range(1..9))
            .map(|_| asn(rng, four_octet))
            .collect(),
    )
}

fn asn(rng: &mut StdRng, four_octet: bool) -> u32 {
    match four_octet && rng.random() {
        true => rng.random_range(1..=u32::MAX),
        false => rng.random_range(1..=0xffff),
    }
}

fn as_path(segments: &[(u8, Vec<u32>)], four_octet: bool) -> Vec<u8> {
    let mut value = Vec::new();
    for (kind, asns) in segments {
        value.extend([*kind, u8::try_from(asns.len()).expect("few")]);
        value.extend(asns.iter().flat_map(|asn| number(*asn, four_octet)));
    }
    value
}

fn number(asn: u32, four_octet: bool) -> Vec<u8> {
    let octets = asn.to_be_bytes();
    octets[if four_octet { 0 } else { 2 }..].to_vec()
}

/// RFC 4271 §4.3: the flag of extended length may stand where it is not needed.
fn attribute(rng: &mut StdRng, flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 4);
    match u8::try_from(value.len()).ok().filter(|_| rng.random_bool(0.8)) {
        Some(length) => out.extend([flags, code, length]),
        None => {
            out.extend([flags | EXTENDED, code]);
            out.extend(u16::try_from(value.len()).expect("bounded above").to_be_bytes());
        }
    }
    out.extend(value);
    out
}

fn next_hop(rng: &mut StdRng, ipv6: bool) -> (IpAddr, Vec<u8>) {
    if !ipv6 {
        let address = Ipv4Addr::from_bits(rng.random_range(0x0100_0000..0x7f00_0000));
        return (address.into(), address.octets().to_vec());
    }
    let address = Ipv6Addr::from_bits((0x2001_0db8 << 96) | (rng.random::<u128>() >> 32));
    let mut octets = address.octets().to_vec();
    if rng.random() {
        octets.extend(Ipv6Addr::from_bits((0xfe80 << 112) | (rng.random::<u128>() >> 64)).octets());
    }
    (address.into(), octets)
}

/// Of the four fields of an UPDATE each has its own two leading bits.
fn prefix(rng: &mut StdRng, family: Family, field: u8) -> Prefix {
    let lead = u128::from(field) << 126;
    let bits = lead | rng.random::<u128>() >> 2;
    let (address, longest): (IpAddr, u8) = match family {
        Family::Ipv4Unicast => (
            Ipv4Addr::from_bits(u32::try_from(bits >> 96).expect("32 bits")).into(),
            32,
        ),
        Family::Ipv6Unicast => (Ipv6Addr::from_bits(bits).into(), 128),
    };
    let length = if rng.random_bool(0.02) {
        0
    } else {
        rng.random_range(2..=longest)
    };
    Prefix::covering(address, length).expect("not too long")
}

/// RFC 4271 §4.3: the bits behind the prefix are irrelevant; they may be anything.
fn nlri(rng: &mut StdRng, traits: &mut Traits, prefixes: &[Prefix]) -> Vec<u8> {
    let mut out = Vec::new();
    for prefix in prefixes {
        out.push(prefix.length());
        let count = usize::from(prefix.length()).div_ceil(8);
        let mut octets = match prefix.address() {
            IpAddr::V4(address) => address.octets()[..count].to_vec(),
            IpAddr::V6(address) => address.octets()[..count].to_vec(),
        };
        let spare = count * 8 - usize::from(prefix.length());
        if let Some(last) = octets.last_mut().filter(|_| rng.random_bool(0.1)) {
            let bits = rng.random::<u8>() & u8::try_from((1_u16 << spare) - 1).expect("7 bits at most");
            *last |= bits;
            traits.has_spare_bits |= bits != 0;
        }
        out.extend(octets);
    }
    out
}

fn octets(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut octets = vec![0; rng.random_range(0..=most)];
    rng.fill_bytes(&mut octets);
    octets
}
