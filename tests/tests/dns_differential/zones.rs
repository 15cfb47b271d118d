//! Random zones and random questions about them, from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::message::{is_name, wire_name};

/// Zones that all servers serve, and what they are asked.
pub(crate) struct World {
    pub(crate) zones: Vec<Zone>,
    pub(crate) questions: Vec<Question>,
}

/// One zone as text.
pub(crate) struct Zone {
    /// With a final dot.
    pub(crate) apex: String,
    pub(crate) text: String,
    names: Vec<Owner>,
}

/// One name of a zone and the types that it has.
#[derive(Clone)]
struct Owner {
    name: String,
    types: Vec<u16>,
    below: Below,
}

/// What becomes of a question below a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    Nothing,
    Referral,
    Dname,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Uncompressed, in the case in which it is asked.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u16,
    /// The payload that the sender takes; without an OPT record where absent.
    pub(crate) payload: Option<u16>,
}

/// Labels as a master file writes them. Few, so that names meet.
const LABELS: [&str; 16] = [
    "a",
    "b",
    "c",
    "D",
    "www",
    "MiXeD",
    "mail",
    "_sip",
    "_tcp",
    "x\\.y",
    "\\000",
    "sp\\032ace",
    "uml\\252ut",
    "1",
    "xn--nxasmq6b",
    "sixty-three-octets-are-as-many-as-one-label-of-a-name-may-have1",
];

/// A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DNAME, DS, HTTPS, ANY, and two without a name.
const ASKED: [u16; 15] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 43, 65, 255, 1234, 65_280];

/// What a name of its own may hold: type, how it is written, and its data. `%n` is a number, `%h` the same as two
/// digits, `%t` a name.
const DATA: [(u16, &str, &str); 18] = [
    (1, "A", "192.0.2.%n"),
    (1, "A", "198.51.100.%n"),
    (28, "AAAA", "2001:db8::%n"),
    (15, "MX", "%n %t"),
    (16, "TXT", "\"text %n\" plain\\;%n \"\""),
    (33, "SRV", "%n 5 5060 %t"),
    (12, "PTR", "%t"),
    (257, "CAA", "0 issue \"ca%n.example\""),
    (13, "HINFO", "\"cpu %n\" os"),
    (35, "NAPTR", "%n 10 \"s\" \"SIP+D2U\" \"\" %t"),
    (
        52,
        "TLSA",
        "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd%h",
    ),
    (
        44,
        "SSHFP",
        "4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd%h",
    ),
    (64, "SVCB", "%n %t alpn=h2,h3 port=5%h"),
    (65, "HTTPS", "%n . alpn=h2 ipv4hint=192.0.2.%n"),
    (99, "SPF", "\"v=spf1 -all %n\""),
    (1234, "TYPE1234", "\\# 3 0102%h"),
    (65_280, "TYPE65280", "\\# 0"),
    (16, "TYPE16", "\\# 4 036162%h"),
];

/// Makes `zones` zones, and `questions` questions about them.
pub(crate) fn world(seed: u64, zones: usize, questions: usize) -> World {
    let mut maker = Maker {
        rng: StdRng::seed_from_u64(seed),
        with_dnames: true,
        apexes: (0..zones).map(|number| format!("z{number}.test.")).collect(),
    };
    let mut made: Vec<Zone> = Vec::new();
    for apex in maker.apexes.clone() {
        let whole = maker.one_in(12);
        let zone = maker.zone(&apex, whole);
        // Some cuts lead to a zone that the same server has. steer names zones by letters and digits only.
        let is_kid = |owner: &&Owner| owner.below == Below::Referral && !owner.name.contains('\\');
        let cut = zone.names.iter().find(is_kid);
        let kid = cut
            .filter(|_| maker.rng.random_bool(0.5))
            .map(|cut| cut.name.clone());
        made.push(zone);
        if let Some(kid) = kid {
            maker.with_dnames = false;
            made.push(maker.zone(&kid, false));
            maker.with_dnames = true;
        }
    }
    let questions = (0..questions).map(|_| maker.question(&made)).collect();
    World {
        zones: made,
        questions,
    }
}

struct Maker {
    rng: StdRng,
    /// Not where another zone has data below: NSD takes them for data below the DNAME.
    with_dnames: bool,
    apexes: Vec<String>,
}

/// What stands at a name before it is written out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Data,
    Cname,
    Dname,
    Cut,
    /// Only there because something is below it.
    Empty,
}

impl Maker {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn pick<'t, T: ?Sized>(&mut self, list: &[&'t T]) -> &'t T {
        list.choose(&mut self.rng).expect("not empty")
    }

    fn label(&mut self) -> &'static str {
        if self.one_in(8) { "*" } else { self.pick(&LABELS) }
    }

    /// With `renamed` the whole zone is renamed.
    fn zone(&mut self, apex: &str, renamed: bool) -> Zone {
        let mut out = Writer::new(apex);
        let soa_ttl = self.pick(&[&60, &300, &3600]);
        let minimum = self.pick(&[&30, &300, &7200]);
        out.record(
            apex,
            6,
            "SOA",
            *soa_ttl,
            &format!("ns1.{apex} hostmaster.{apex} 1 7200 900 1209600 {minimum}"),
        );
        out.record(apex, 2, "NS", 3600, &format!("ns1.{apex}"));
        out.record(apex, 2, "NS", 3600, "ns.Example.NET.");
        if renamed {
            // RFC 6672 §2.3: a DNAME at the apex stands beside SOA and NS; nothing is below.
            let target = self.target(&[]);
            out.record(apex, 39, "DNAME", 60, &target);
            return out.finish(apex);
        }
        out.record(&format!("ns1.{apex}"), 1, "A", 60, "192.0.2.53");
        let roles = self.roles(apex);
        let names: Vec<String> = roles.keys().map(|path| name_of(path, apex)).collect();
        for (path, role) in &roles {
            let name = name_of(path, apex);
            match role {
                Role::Data => self.data(&mut out, &name, &names),
                Role::Cname => out.record(&name, 5, "CNAME", 60, &self.target(&names)),
                Role::Dname => {
                    let target = self.target(&names);
                    out.record(&name, 39, "DNAME", 120, &target);
                    if self.one_in(3) {
                        out.record(&name, 1, "A", 60, "192.0.2.39");
                    }
                }
                Role::Cut => self.cut(&mut out, &name, &names, &roles, path),
                Role::Empty => {}
            }
        }
        if self.one_in(2) {
            self.data(&mut out, apex, &names);
        }
        out.finish(apex)
    }

    /// Names by their labels from the top, so that what is above comes first.
    fn roles(&mut self, apex: &str) -> BTreeMap<Vec<&'static str>, Role> {
        let mut paths: BTreeSet<Vec<&'static str>> = BTreeSet::new();
        for _ in 0..self.rng.random_range(10..45) {
            let known: Vec<_> = paths.iter().cloned().collect();
            let mut path = match known.choose(&mut self.rng) {
                Some(known) if !self.rng.random_ratio(1, 3) => known.clone(),
                Some(_) | None => Vec::new(),
            };
            for _ in 0..self.rng.random_range(1..3) {
                path.push(self.label());
            }
            if path.len() <= 5 && name_of(&path, apex).len() < 180 {
                paths.insert(path);
            }
        }
        let mut roles: BTreeMap<Vec<&'static str>, Role> = BTreeMap::new();
        for path in paths {
            let below_dname = (0..path.len()).any(|depth| roles.get(&path[..depth]) == Some(&Role::Dname));
            if !below_dname {
                // RFC 4592 §4.2 and §4.4 leave NS and DNAME at a wildcard open.
                let under_wildcard = path.contains(&"*");
                let role = match self.rng.random_range(0..100) {
                    0..12 if !under_wildcard => Role::Cut,
                    12..20 if !under_wildcard && self.with_dnames => Role::Dname,
                    20..36 => Role::Cname,
                    36..46 => Role::Empty,
                    _ => Role::Data,
                };
                roles.insert(path, role);
            }
        }
        roles
    }

    fn data(&mut self, out: &mut Writer, name: &str, names: &[String]) {
        for _ in 0..self.rng.random_range(1..4) {
            let (kind, text, pattern) = *self.pick(&DATA.each_ref());
            // Now and then more than a small datagram holds.
            let count = if self.one_in(25) {
                40
            } else {
                self.rng.random_range(1..4)
            };
            for number in 1..=count {
                let data = pattern
                    .replace("%n", &number.to_string())
                    .replace("%h", &format!("{number:02}"))
                    .replace("%t", &self.target(names));
                out.record(name, kind, text, 60 * u32::from(kind % 7 + 1), &data);
            }
        }
    }

    /// A name of the zone, below one, in another zone, or nowhere.
    fn target(&mut self, names: &[String]) -> String {
        let own = names.choose(&mut self.rng).cloned();
        match (self.rng.random_range(0..10), own) {
            (0..6, Some(name)) => name,
            (6..8, Some(name)) => {
                let below = format!("{}.{name}", self.label());
                if is_name(&below) { below } else { name }
            }
            (8, _) => {
                let apexes = self.apexes.clone();
                format!(
                    "{}.{}",
                    self.label(),
                    apexes.choose(&mut self.rng).expect("zones")
                )
            }
            (_, _) if self.one_in(4) => {
                let label = "another-label-as-long-as-possible-so-that-names-below-grow-over";
                format!("{label}.{label}.{label}.example.")
            }
            (_, _) => "Elsewhere.Example.".to_owned(),
        }
    }

    fn cut(
        &mut self,
        out: &mut Writer,
        name: &str,
        names: &[String],
        roles: &BTreeMap<Vec<&'static str>, Role>,
        path: &[&'static str],
    ) {
        out.below(name, Below::Referral);
        for number in 1..=self.rng.random_range(1..4) {
            let server = match self.rng.random_range(0..6) {
                0 => "ns.elsewhere.example.".to_owned(),
                1 => self.target(names),
                2 => name.to_owned(),
                _ => format!("ns{number}.{name}"),
            };
            out.record(name, 2, "NS", 7200, &server);
            let is_own = server.ends_with(&format!("ns{number}.{name}"));
            if is_own && !self.one_in(5) {
                out.record(&server, 1, "A", 60, &format!("203.0.113.{number}"));
                if self.one_in(2) {
                    out.record(&server, 28, "AAAA", 60, &format!("2001:db8:53::{number}"));
                }
            }
        }
        if self.one_in(3) {
            let digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
            out.record(name, 43, "DS", 3600, &format!("4711 13 2 {digest}"));
        }
        // Beside the cut only what the other side of it owns: hidden, whatever it is.
        if self.one_in(6)
            && !roles
                .keys()
                .any(|other| other.len() > path.len() && other.starts_with(path))
        {
            out.record(&format!("hidden.{name}"), 16, "TXT", 60, "\"nobody sees this\"");
        }
    }

    fn question(&mut self, zones: &[Zone]) -> Question {
        let zone = zones.choose(&mut self.rng).expect("zones");
        let owner = zone.names.choose(&mut self.rng).expect("an apex").clone();
        let name = self.asked_name(&owner, zone);
        let kind = match owner.types.choose(&mut self.rng) {
            Some(kind) if self.rng.random_bool(0.4) => *kind,
            Some(_) | None => *self.pick(&ASKED.each_ref()),
        };
        let mut octets =
            wire_name(&name).unwrap_or_else(|| wire_name(&owner.name).expect("a name of the zone"));
        if self.one_in(4) {
            // RFC 4343: the case plays no part. Length octets are below 64 and no letters.
            for octet in &mut octets {
                if octet.is_ascii_alphabetic() && self.rng.random_bool(0.5) {
                    *octet ^= 0x20;
                }
            }
        }
        let payload = if self.one_in(4) { None } else { Some(1232) };
        Question {
            name: octets,
            kind,
            payload,
        }
    }

    fn asked_name(&mut self, owner: &Owner, zone: &Zone) -> String {
        let name = &owner.name;
        let parent = || name.split_once('.').map_or(".", |(_, parent)| parent).to_owned();
        let below = |maker: &mut Self| format!("{}.{name}", maker.label());
        match self.rng.random_range(0..100) {
            _ if owner.below != Below::Nothing && self.one_in(2) => {
                let deep = below(self);
                if owner.below == Below::Dname && self.one_in(4) {
                    let long = LABELS[LABELS.len() - 1];
                    return format!("{long}.{long}.{deep}");
                }
                deep
            }
            0..45 => name.clone(),
            45..65 => below(self),
            65..72 => format!("{}.{}", self.label(), below(self)),
            72..82 if *name != zone.apex => format!("{}.{}", self.label(), parent()),
            82..90 if *name != zone.apex => parent(),
            90..95 => format!("*.{name}"),
            95..97 => format!("{}.elsewhere.", self.label()),
            _ => zone.apex.clone(),
        }
    }
}

fn name_of(path: &[&str], apex: &str) -> String {
    let mut name = String::new();
    for label in path.iter().rev() {
        name.push_str(label);
        name.push('.');
    }
    name + apex
}

struct Writer {
    text: String,
    names: BTreeMap<String, Owner>,
    seen: BTreeSet<String>,
}

impl Writer {
    fn new(apex: &str) -> Self {
        Self {
            text: format!("$ORIGIN {apex}\n"),
            names: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    fn record(&mut self, name: &str, kind: u16, text: &str, ttl: u32, data: &str) {
        let owner = self.owner(name);
        if !owner.types.contains(&kind) {
            owner.types.push(kind);
        }
        if kind == 39 {
            owner.below = Below::Dname;
        }
        let line = format!("{name} {ttl} IN {text} {data}\n");
        // Peers differ in whether they warn of a record that is written twice.
        if self.seen.insert(line.to_ascii_lowercase()) {
            let _ = self.text.write_str(&line);
        }
    }

    fn below(&mut self, name: &str, below: Below) {
        self.owner(name).below = below;
    }

    fn owner(&mut self, name: &str) -> &mut Owner {
        self.names.entry(name.to_owned()).or_insert_with(|| Owner {
            name: name.to_owned(),
            types: Vec::new(),
            below: Below::Nothing,
        })
    }

    fn finish(self, apex: &str) -> Zone {
        Zone {
            apex: apex.to_owned(),
            text: self.text,
            names: self.names.into_values().collect(),
        }
    }
}
