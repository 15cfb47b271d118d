//! From a question to the records of a reply: RFC 1034 §4.3.2 with RFC 2308, 4592, 6604, 6672, 8020, 8482, 9460 §4.1.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use steer_topology::{Kind, Kinds};

use crate::wire;
use crate::zone::{Node, RrSet, Zone, is_within, target};
use crate::zones::Zones;

/// CNAME and DNAME steps followed inside our zones for one question. Resolvers stop at a similar number.
const MAX_LINKS: usize = 16;

/// The records of a reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) rcode: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    /// Addresses of name servers below their own cut: without them the referral leads nowhere (RFC 9471 §2).
    pub(crate) needed_glue: Vec<Record>,
    /// Other addresses that spare the resolver a question.
    pub(crate) glue: Vec<Record>,
}

/// What a chain says for a name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Steered {
    /// In the order of the reply; empty where there is nothing of that family.
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    /// Records of another type, and the addresses of the same name that they lead to.
    Set { set: RrSet, addresses: Vec<IpAddr> },
    /// Nothing is left to be told.
    Nothing,
    /// The all-down rule asks for SERVFAIL.
    Fail,
    /// A geofence leaves nothing that the client may be sent to: REFUSED.
    Refused,
}

/// Who decides the records of steered names.
pub(crate) trait Steering {
    /// `key` is the owner, or the wildcard that covers it.
    fn pick(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered>;

    /// For the additional section: what is not there is not missed.
    fn pick_extra(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        self.pick(key, rtype)
    }
}

/// The kind of steered records that a type is of.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of types; none of the others is ever steered"
)]
pub(crate) fn kind_of(rtype: RecordType) -> Option<Kind> {
    match rtype {
        RecordType::A | RecordType::AAAA => Some(Kind::Address),
        RecordType::HTTPS => Some(Kind::Https),
        RecordType::SVCB => Some(Kind::Svcb),
        RecordType::CNAME => Some(Kind::Cname),
        RecordType::MX => Some(Kind::Mx),
        RecordType::SRV => Some(Kind::Srv),
        RecordType::TXT => Some(Kind::Txt),
        _ => None,
    }
}

/// Answers one question of class IN.
pub(crate) fn answer(zones: &Zones, name: &Name, rtype: RecordType, steering: &mut dyn Steering) -> Answer {
    let mut search = Search {
        zones,
        rtype,
        steering,
        answer: Answer::empty(),
        is_steered: false,
    };
    search.run(name);
    search.answer
}

impl Answer {
    fn empty() -> Self {
        Self {
            rcode: ResponseCode::NoError,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            needed_glue: Vec::new(),
            glue: Vec::new(),
        }
    }

    fn of(rcode: ResponseCode) -> Self {
        Self {
            rcode,
            ..Self::empty()
        }
    }
}

/// Where a name lies in its zone.
enum Place<'z> {
    /// It exists, or a wildcard stands in for it; the key is that of the node.
    Node(&'z Node, &'z [u8]),
    /// At or below a zone cut.
    Cut(Found<'z>),
    /// Below a DNAME.
    Renamed(Found<'z>),
    /// It does not exist.
    Nowhere,
}

/// A set on the way down to a name.
struct Found<'z> {
    key: &'z [u8],
    node: &'z Node,
    set: &'z RrSet,
}

impl Found<'_> {
    /// The records as the zone has them.
    fn records(&self) -> Vec<Record> {
        let name = self.node.name(self.key);
        self.set.records(&name).collect()
    }
}

struct Search<'s> {
    zones: &'s Zones,
    rtype: RecordType,
    steering: &'s mut dyn Steering,
    answer: Answer,
    /// A chain decided the answer, so that it has a scope.
    is_steered: bool,
}

impl Search<'_> {
    fn run(&mut self, name: &Name) {
        let mut name = name.clone();
        for link in 0..=MAX_LINKS {
            let key = wire::key(&name);
            let Some(zone) = self.zones.closest(&key, self.rtype == RecordType::DS) else {
                // At the first link the question is none of ours; later a chain has left our zones, and the
                // resolver goes on from there.
                if link == 0 {
                    self.answer.rcode = ResponseCode::Refused;
                }
                return;
            };
            // RFC 1035 §4.1.1: AA speaks of the first owner name in the answer.
            self.answer.authoritative |= link == 0;
            match self.step(zone, &name, &key) {
                Some(target) if !self.has_cname_of(&target) => name = target,
                Some(_) | None => return,
            }
        }
    }

    /// A chain that came back to where it was is told once around and then ends.
    fn has_cname_of(&self, name: &Name) -> bool {
        self.answer
            .answers
            .iter()
            .any(|record| record.name == *name && record.record_type() == RecordType::CNAME)
    }

    /// One name in one zone; the name to go on with, if there is one.
    fn step(&mut self, zone: &Zone, name: &Name, key: &[u8]) -> Option<Name> {
        match locate(zone, key, self.rtype) {
            Place::Node(node, at) => self.node(zone, node, at, name),
            Place::Cut(cut) => self.refer(zone, &cut),
            Place::Renamed(dname) => self.rename(name, &dname),
            Place::Nowhere => {
                // RFC 6604 §3: the code is that of the last name in a chain.
                self.answer.rcode = ResponseCode::NXDomain;
                self.answer.authorities.push(zone.negative.clone());
                None
            }
        }
    }

    fn node(&mut self, zone: &Zone, node: &Node, at: &[u8], name: &Name) -> Option<Name> {
        if self.rtype == RecordType::ANY {
            self.any(zone, node, at, name);
            return None;
        }
        if kind_of(self.rtype).is_some_and(|kind| node.steered.has(kind)) {
            self.steer(zone, at, name, self.rtype);
            return None;
        }
        if node.steered.has(Kind::Cname) {
            let told = self.answer.answers.len();
            self.steer(zone, at, name, RecordType::CNAME);
            return self.answer.answers.get(told..).and_then(alias_of);
        }
        if let Some(cname) = node.set(RecordType::CNAME)
            && self.rtype != RecordType::CNAME
        {
            self.push(cname, name);
            return wire::name_of(cname.first());
        }
        match node.set(self.rtype) {
            Some(set) => {
                self.push(set, name);
                self.help(zone, name, set);
            }
            None => self.answer.authorities.push(zone.negative.clone()),
        }
        None
    }

    /// RFC 1034 §4.3.2 step 6, RFC 2782: the next question of whoever reads NS, MX and SRV is known, and so is its
    /// answer where this zone has it. A name of several records is told once.
    /// The same for SVCB and HTTPS (RFC 9460 §4.1), and there for steered names too.
    /// Gap: a steered name in NS, MX and SRV of a zone file is left out: its addresses would narrow the scope of an
    /// answer that holds for everybody.
    fn help(&mut self, zone: &Zone, owner: &Name, set: &RrSet) {
        let is_binding = kind_of(set.rtype).is_some_and(Kind::is_binding);
        for data in set.data() {
            let next = if is_binding {
                binding_target(owner, data)
            } else {
                next_question(set.rtype, data)
            };
            // Of other names this zone says nothing, least of all by a wildcard.
            let Some(key) = next.filter(|key| is_within(key, &zone.apex)) else {
                continue;
            };
            if let Place::Node(node, at) = locate(zone, &key, RecordType::A)
                && let Some(name) = wire::name_of(&key)
                && !self.answer.glue.iter().any(|record| record.name == name)
            {
                self.answer.glue.extend(addresses(node, &name));
                if is_binding && is_alias_form(data) {
                    let bindings = node.set(set.rtype).map(|set| set.records(&name));
                    self.answer.glue.extend(bindings.into_iter().flatten());
                }
                if (is_binding || self.is_steered) && node.steered.has(Kind::Address) {
                    self.help_steered(at, &name);
                }
            }
        }
    }

    fn help_steered(&mut self, at: &[u8], name: &Name) {
        for rtype in [RecordType::A, RecordType::AAAA] {
            if let Some(Steered::Addresses { addresses, ttl }) = self.steering.pick_extra(at, rtype) {
                let record = |address| Record::from_rdata(name.clone(), ttl, address_data(address));
                self.answer.glue.extend(addresses.into_iter().map(record));
            }
        }
    }

    /// RFC 8482 §4.1: one set is answer enough to ANY.
    fn any(&mut self, zone: &Zone, node: &Node, at: &[u8], name: &Name) {
        match node.sets().first() {
            Some(set) => self.push(set, name),
            None if node.steered.is_empty() => self.answer.authorities.push(zone.negative.clone()),
            None => {
                for rtype in node.steered.iter().flat_map(types_of) {
                    self.answer.authorities.clear();
                    self.steer(zone, at, name, *rtype);
                    if !self.answer.answers.is_empty() || self.answer.rcode != ResponseCode::NoError {
                        return;
                    }
                }
            }
        }
    }

    fn steer(&mut self, zone: &Zone, at: &[u8], name: &Name, rtype: RecordType) {
        match self.steering.pick(at, rtype) {
            Some(Steered::Fail) => self.answer = Answer::of(ResponseCode::ServFail),
            Some(Steered::Refused) => self.answer = Answer::of(ResponseCode::Refused),
            Some(Steered::Addresses { addresses, ttl }) if !addresses.is_empty() => {
                let record = |address| Record::from_rdata(name.clone(), ttl, address_data(address));
                self.answer.answers.extend(addresses.into_iter().map(record));
            }
            Some(Steered::Set { set, addresses }) => {
                self.push(&set, name);
                self.is_steered = true;
                let record = |address| Record::from_rdata(name.clone(), set.ttl, address_data(address));
                self.answer.glue.extend(addresses.into_iter().map(record));
                self.help(zone, name, &set);
            }
            Some(Steered::Addresses { .. } | Steered::Nothing) | None => {
                self.answer.authorities.push(zone.negative.clone());
            }
        }
    }

    /// Takes a set into the answer, under the name that was asked (RFC 4592 §3.3.1, RFC 4343 §4.1).
    fn push(&mut self, set: &RrSet, name: &Name) {
        self.answer.answers.extend(set.records(name));
    }

    /// RFC 1034 §4.3.2 step 3b. AA stays only where a chain of ours led here.
    fn refer(&mut self, zone: &Zone, cut: &Found<'_>) -> Option<Name> {
        self.answer.authoritative &= !self.answer.answers.is_empty();
        self.answer.authorities.extend(cut.records());
        for data in cut.set.data() {
            let Some(key) = target(RecordType::NS, data).filter(|key| is_within(key, &zone.apex)) else {
                continue;
            };
            if let Some(node) = below_cuts(zone, &key)
                && let Some(name) = wire::name_of(&key)
            {
                if is_within(&key, cut.key) {
                    self.answer.needed_glue.extend(addresses(node, &name));
                } else {
                    self.answer.glue.extend(addresses(node, &name));
                }
            }
        }
        None
    }

    /// RFC 6672 §3.1 and §3.2: the DNAME, a CNAME made from it with the same TTL, and on from there.
    fn rename(&mut self, name: &Name, dname: &Found<'_>) -> Option<Name> {
        let record = dname.records().into_iter().next()?;
        // RFC 2181 §5: a chain that comes through twice tells it once.
        if !self.answer.answers.contains(&record) {
            self.answer.answers.push(record);
        }
        let Some(target) = substitute(name, dname) else {
            self.answer.rcode = ResponseCode::YXDomain;
            return None;
        };
        let cname = RData::CNAME(CNAME(target.clone()));
        self.answer
            .answers
            .push(Record::from_rdata(name.clone(), dname.set.ttl, cname));
        // ANY goes on, as at the servers of others: what was made here stands in no zone.
        let wants_cname = self.rtype == RecordType::CNAME;
        // A DNAME to a name below itself applies again to what it made, until the name is too long. Nobody is
        // helped by that: one round is told, as NSD does.
        let is_endless = keeps_growing(dname);
        (!wants_cname && !is_endless).then_some(target)
    }
}

/// Walks from the apex down to `key`.
fn locate<'z>(zone: &'z Zone, key: &[u8], rtype: RecordType) -> Place<'z> {
    let path: Vec<&[u8]> = wire::upwards(key)
        .take_while(|above| above.len() >= zone.apex.len())
        .collect();
    let mut encloser: &[u8] = &zone.apex;
    for name in path.into_iter().rev() {
        let Some((key_here, node)) = zone.node(name) else {
            return beside(zone, encloser);
        };
        let found = |set| Found {
            key: key_here,
            node,
            set,
        };
        let is_apex = *name == *zone.apex;
        let is_end = name.len() == key.len();
        if let Some(cut) = node.set(RecordType::NS)
            && !is_apex
            // RFC 4035 §3.1.4.1: DS belongs to the upper side of the cut.
            && !(is_end && rtype == RecordType::DS)
        {
            return Place::Cut(found(cut));
        }
        if is_end {
            return Place::Node(node, key_here);
        }
        if let Some(dname) = node.set(RecordType::DNAME) {
            return Place::Renamed(found(dname));
        }
        encloser = name;
    }
    Place::Nowhere
}

/// RFC 4592 §3.3.1: the source of synthesis is the wildcard right below the closest encloser.
fn beside<'z>(zone: &'z Zone, encloser: &[u8]) -> Place<'z> {
    let wildcard = [b"\x01*", encloser].concat();
    match zone.node(&wildcard) {
        Some((at, node)) => Place::Node(node, at),
        None => Place::Nowhere,
    }
}

/// What a zone has at a name whose cuts are overlooked: glue lies below them. As at the servers of others a wildcard
/// gives glue too.
fn below_cuts<'z>(zone: &'z Zone, key: &[u8]) -> Option<&'z Node> {
    let mut path = wire::upwards(key).take_while(|above| above.len() >= zone.apex.len());
    let encloser = path.find(|above| zone.node(above).is_some())?;
    if encloser.len() == key.len() {
        return zone.node(key).map(|(_, node)| node);
    }
    match beside(zone, encloser) {
        Place::Node(node, _) => Some(node),
        Place::Cut(_) | Place::Renamed(_) | Place::Nowhere => None,
    }
}

/// The addresses that a zone has at a name; of a steered one there are none.
fn addresses(node: &Node, name: &Name) -> impl Iterator<Item = Record> {
    let sets = [RecordType::A, RecordType::AAAA].into_iter();
    sets.filter_map(|rtype| node.set(rtype))
        .flat_map(|set| set.records(name))
}

/// Whose addresses are asked for next by whoever gets these data.
fn next_question(rtype: RecordType, data: &[u8]) -> Option<Box<[u8]>> {
    let asks = matches!(rtype, RecordType::NS | RecordType::MX | RecordType::SRV);
    asks.then(|| target(rtype, data)).flatten()
}

/// Whether the target of a DNAME lies below its owner.
fn keeps_growing(dname: &Found<'_>) -> bool {
    target(RecordType::DNAME, dname.set.first()).is_some_and(|target| is_within(&target, dname.key))
}

/// RFC 6672 §2.2: the owner part of `name` replaced by the target. `None` above 255 octets.
fn substitute(name: &Name, dname: &Found<'_>) -> Option<Name> {
    // `num_labels` of hickory does not count a leading asterisk
    let keep = name
        .iter()
        .count()
        .checked_sub(wire::upwards(dname.key).count() - 1)?;
    let mut octets = Vec::new();
    for label in name.iter().take(keep) {
        octets.push(label.len() as u8); // a label has at most 63 octets
        octets.extend(label);
    }
    octets.extend(dname.set.first());
    // hickory reads a name up to 255 octets and refuses a longer one
    wire::name_of(&octets)
}

/// What is decided by chains at a name of a zone, or at the wildcard that covers it.
pub(crate) fn steered_at(zone: &Zone, key: &[u8]) -> Kinds {
    match locate(zone, key, RecordType::A) {
        Place::Node(node, _) => node.steered,
        Place::Cut(_) | Place::Renamed(_) | Place::Nowhere => Kinds::NONE,
    }
}

/// The types of a kind.
pub(crate) fn types_of(kind: Kind) -> &'static [RecordType] {
    match kind {
        Kind::Address => &[RecordType::A, RecordType::AAAA],
        Kind::Https => &[RecordType::HTTPS],
        Kind::Svcb => &[RecordType::SVCB],
        Kind::Cname => &[RecordType::CNAME],
        Kind::Mx => &[RecordType::MX],
        Kind::Srv => &[RecordType::SRV],
        Kind::Txt => &[RecordType::TXT],
    }
}

/// Where the CNAME among some records leads.
fn alias_of(records: &[Record]) -> Option<Name> {
    records.iter().find_map(|record| {
        let RData::CNAME(target) = &record.data else {
            return None;
        };
        Some(target.0.clone())
    })
}

/// RFC 9460 §2.1: priority, then TargetName. §2.5: the root stands for the owner, and for nothing in the alias form.
fn binding_target(owner: &Name, data: &[u8]) -> Option<Box<[u8]>> {
    let rest = data.get(2..)?;
    let mut length = 0;
    while let Some(label) = rest.get(length).filter(|label| **label != 0) {
        length += 1 + usize::from(*label);
    }
    match rest.get(..=length)? {
        [0] if is_alias_form(data) => None,
        [0] => Some(wire::key(owner)),
        name => Some(name.to_ascii_lowercase().into()),
    }
}

/// RFC 9460 §2.4.1: SvcPriority 0.
fn is_alias_form(data: &[u8]) -> bool {
    data.starts_with(&[0, 0])
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    }
}

#[cfg(test)]
#[path = "ferret_tests.rs"]
mod ferret_tests;

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
