//! One zone as the look-up wants it, and the checks it has to pass.

use std::collections::HashMap;

use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::master::{At, Master, Written};
use crate::wire;

/// All data of one zone, by name.
#[derive(Debug)]
pub(crate) struct Zone {
    /// See [`wire::key`].
    pub(crate) apex: Box<[u8]>,
    pub(crate) nodes: HashMap<Box<[u8]>, Node>,
    /// The SOA as negative answers carry it: RFC 2308 §3, TTL = min(SOA TTL, MINIMUM).
    pub(crate) negative: Record,
}

/// One name. Without any set it is an empty non-terminal (RFC 4592 §2.2.2) or a steered name.
#[derive(Debug, Default)]
pub(crate) struct Node {
    sets: Vec<RrSet>,
    /// A and AAAA are decided by a chain.
    pub(crate) steered: bool,
}

/// The records of one name and type.
#[derive(Debug)]
pub(crate) struct RrSet {
    pub(crate) rtype: RecordType,
    /// Never empty; all with the same TTL (RFC 2181 §5.2).
    pub(crate) records: Vec<Record>,
}

impl Node {
    pub(crate) fn set(&self, rtype: RecordType) -> Option<&RrSet> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }

    pub(crate) fn sets(&self) -> &[RrSet] {
        &self.sets
    }
}

impl Zone {
    /// Builds the zone from what was written. `None` when `master` holds faults afterwards.
    pub(crate) fn build(apex: &Name, master: &mut Master, steered: &[Box<[u8]>]) -> Option<Self> {
        let apex_key = wire::key(apex);
        let records = std::mem::take(&mut master.records);
        let minimum = soa_minimum(&records, &apex_key);
        let mut nodes: HashMap<Box<[u8]>, Node> = HashMap::new();
        let mut places: HashMap<(Box<[u8]>, RecordType), At> = HashMap::new();
        for written in records {
            if !is_within(&written.key, &apex_key) {
                let message = format!("{} lies outside the zone {apex}", written.name);
                master.fault(
                    &written.at,
                    message,
                    "move it to its own zone, or add the missing final part of the name",
                );
                continue;
            }
            let place = (written.key.clone(), written.data.record_type());
            places.entry(place).or_insert_with(|| written.at.clone());
            add(&mut nodes, written, minimum, &apex_key, master);
        }
        for name in steered.iter().filter(|name| is_within(name, &apex_key)) {
            nodes.entry(name.clone()).or_default().steered = true;
        }
        let mut checks = Checks {
            apex: &apex_key,
            nodes: &nodes,
            places: &places,
            master,
        };
        checks.run();
        let negative = checks.apex_records(apex)?;
        if !master.faults.is_empty() {
            return None;
        }
        fill_gaps(&mut nodes, &apex_key);
        Some(Self {
            apex: apex_key,
            nodes,
            negative,
        })
    }
}

/// Whether `key` is `apex` or lies below it.
pub(crate) fn is_within(key: &[u8], apex: &[u8]) -> bool {
    wire::upwards(key).any(|above| above == apex)
}

fn soa_minimum(records: &[Written], apex: &[u8]) -> Option<u32> {
    records
        .iter()
        .filter(|written| *written.key == *apex)
        .find_map(|written| {
            if let RData::SOA(soa) = &written.data {
                Some(soa.minimum)
            } else {
                None
            }
        })
}

fn add(
    nodes: &mut HashMap<Box<[u8]>, Node>,
    written: Written,
    minimum: Option<u32>,
    apex: &[u8],
    master: &mut Master,
) {
    let Written {
        name,
        key,
        ttl,
        data,
        at,
    } = written;
    // RFC 1035 §5.1 leaves a first record without a TTL open; as BIND does, the SOA's MINIMUM stands in.
    let Some(ttl) = ttl.or(minimum) else {
        master.fault(
            &at,
            "no TTL and nothing to take it from",
            "write $TTL 3600 at the top of the file",
        );
        return;
    };
    let rtype = data.record_type();
    let node = nodes.entry(key.clone()).or_default();
    let record = Record::from_rdata(name, ttl, data);
    let Some(set) = node.sets.iter_mut().find(|set| set.rtype == rtype) else {
        node.sets.push(RrSet {
            rtype,
            records: vec![record],
        });
        return;
    };
    // RFC 2181 §5: a record occurs once in its set.
    if set.records.iter().any(|other| other.data == record.data) {
        return;
    }
    if let Some(rule) = single(rtype, *key == *apex) {
        master.fault(&at, format!("a second {rtype} at {}", record.name), rule);
        return;
    }
    // RFC 2181 §5.2: one TTL per set; the lowest is the safe one.
    let ttl = set
        .records
        .iter()
        .map(|other| other.ttl)
        .min()
        .map_or(ttl, |lowest| lowest.min(ttl));
    set.records.push(record);
    set.records.iter_mut().for_each(|record| record.ttl = ttl);
}

/// Types of which a name has one at most, with the remedy.
fn single(rtype: RecordType, at_apex: bool) -> Option<&'static str> {
    if rtype == RecordType::SOA && at_apex {
        Some("keep one SOA (RFC 1035 §5.2)")
    } else if rtype == RecordType::CNAME {
        Some("keep one CNAME (RFC 2181 §10.1)")
    } else if rtype == RecordType::DNAME {
        Some("keep one DNAME (RFC 6672 §2.4)")
    } else {
        None
    }
}

/// RFC 4592 §2.2.2: names between a name with data and the apex exist.
fn fill_gaps(nodes: &mut HashMap<Box<[u8]>, Node>, apex: &[u8]) {
    let names: Vec<Box<[u8]>> = nodes.keys().cloned().collect();
    for name in names {
        for above in wire::upwards(&name)
            .skip(1)
            .take_while(|above| above.len() >= apex.len())
        {
            if nodes.contains_key(above) {
                continue;
            }
            nodes.insert(above.into(), Node::default());
        }
    }
}

/// What has to hold between the records of a zone.
struct Checks<'z> {
    apex: &'z [u8],
    nodes: &'z HashMap<Box<[u8]>, Node>,
    places: &'z HashMap<(Box<[u8]>, RecordType), At>,
    master: &'z mut Master,
}

impl Checks<'_> {
    fn run(&mut self) {
        let mut names: Vec<_> = self.nodes.iter().collect();
        names.sort_by_key(|(key, _)| *key);
        for (key, node) in names {
            self.soa_stands_at_the_apex(key, node);
            self.cname_stands_alone(key, node);
            if node.steered {
                self.steered_name_is_free(key, node);
            }
        }
        self.master
            .faults
            .sort_by_key(|fault| fault.place.as_ref().map(|place| place.line));
    }

    fn fault(&mut self, key: &[u8], rtype: RecordType, message: String, remedy: &str) {
        if let Some(at) = self.places.get(&(key.into(), rtype)) {
            self.master.fault(at, message, remedy);
        }
    }

    fn soa_stands_at_the_apex(&mut self, key: &[u8], node: &Node) {
        if key != self.apex
            && let Some(set) = node.set(RecordType::SOA)
        {
            let message = format!("SOA at {}, which is not the zone's name", show(set));
            self.fault(
                key,
                RecordType::SOA,
                message,
                "a zone has one SOA, at its own name; check $ORIGIN and the zone's name",
            );
        }
    }

    /// RFC 1034 §3.6.2, RFC 2181 §10.1. RFC 4035 §2.5 lets the signature types stand beside it.
    fn cname_stands_alone(&mut self, key: &[u8], node: &Node) {
        let Some(cname) = node.set(RecordType::CNAME) else {
            return;
        };
        let beside = |set: &&RrSet| !matches!(u16::from(set.rtype), 5 | 46 | 47 | 25);
        let Some(other) = node.sets.iter().find(beside) else {
            return;
        };
        let line = self
            .places
            .get(&(key.into(), other.rtype))
            .map_or(0, |at| self.master.line(at));
        let message = format!("{} has a CNAME beside {} (line {line})", show(cname), other.rtype);
        self.fault(
            key,
            RecordType::CNAME,
            message,
            "a CNAME stands alone at its name (RFC 1034 §3.6.2)",
        );
    }

    fn steered_name_is_free(&mut self, key: &[u8], node: &Node) {
        for rtype in [
            RecordType::A,
            RecordType::AAAA,
            RecordType::CNAME,
            RecordType::DNAME,
        ] {
            if let Some(set) = node.set(rtype) {
                let message = format!(
                    "{} has {rtype} records here and is steered by the configuration",
                    show(set)
                );
                self.fault(
                    key,
                    rtype,
                    message,
                    "remove these records, or the [[steer]] entry of that name",
                );
            }
        }
        let above = wire::upwards(key).take_while(|above| *above != self.apex);
        let hidden_by = above.enumerate().find_map(|(depth, name)| {
            let node = self.nodes.get(name)?;
            let cut = node.set(RecordType::NS).map(|set| (RecordType::NS, show(set)));
            let renamed = node.set(RecordType::DNAME).filter(|_| depth > 0);
            let found = cut.or_else(|| renamed.map(|set| (RecordType::DNAME, show(set))));
            found.map(|(rtype, owner)| (name, rtype, owner))
        });
        if let Some((name, rtype, owner)) = hidden_by {
            let steered = wire::name_of(key).map_or_else(String::new, |name| name.to_string());
            let message = format!("{rtype} at {owner} hides the steered name {steered}");
            self.fault(
                name,
                rtype,
                message,
                "remove it, or the [[steer]] entry of that name",
            );
        }
    }

    /// The SOA for negative answers; faults where SOA or NS is missing.
    fn apex_records(&mut self, apex: &Name) -> Option<Record> {
        let node = self.nodes.get(self.apex);
        let soa = node
            .and_then(|node| node.set(RecordType::SOA))
            .and_then(|set| set.records.first());
        let has_ns = node.is_some_and(|node| node.set(RecordType::NS).is_some());
        if soa.is_none() {
            let remedy =
                format!("write {apex} 3600 IN SOA ns1.{apex} hostmaster.{apex} 1 7200 900 1209600 300");
            self.master.whole_file(format!("no SOA record at {apex}"), remedy);
        }
        if !has_ns {
            let remedy = format!("write {apex} 3600 IN NS ns1.{apex}");
            self.master.whole_file(format!("no NS record at {apex}"), remedy);
        }
        let mut negative = soa?.clone();
        if let RData::SOA(soa) = &negative.data {
            negative.ttl = negative.ttl.min(soa.minimum);
        }
        Some(negative)
    }
}

fn show(set: &RrSet) -> String {
    set.records
        .first()
        .map_or_else(String::new, |record| record.name.to_string())
}

#[cfg(test)]
mod tests {
    use crate::zones::Zones;

    const HEAD: &str = "@ 60 IN SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.53\n";

    fn faults(text: &str, steered: &[&str]) -> Vec<String> {
        match Zones::of_text("example.com.", text, steered) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
        }
    }

    fn only_fault(rest: &str, steered: &[&str]) -> String {
        let faults = faults(&format!("{HEAD}{rest}"), steered);
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    }

    #[test]
    fn a_sound_zone_has_no_fault() {
        assert_eq!(faults(HEAD, &["www.example.com."]), [""; 0]);
    }

    #[test]
    fn an_apex_without_soa_and_ns_is_told_both() {
        let faults = faults("www 60 A 192.0.2.1\n", &[]);
        assert_eq!(faults.len(), 2, "{faults:#?}");
        assert!(
            faults[0]
                .starts_with("test.zone: no SOA record at example.com.; write example.com. 3600 IN SOA ")
        );
        assert!(
            faults[1].starts_with("test.zone: no NS record at example.com.; write example.com. 3600 IN NS ")
        );
    }

    #[test]
    fn a_second_soa_is_told_where_it_stands() {
        assert!(
            only_fault("@ 60 SOA ns host 2 2 3 4 5\n", &[])
                .starts_with("test.zone:4:1: a second SOA at example.com.; ")
        );
        assert!(
            only_fault("x 60 SOA ns host 2 2 3 4 5\n", &[])
                .starts_with("test.zone:4:1: SOA at x.example.com., ")
        );
    }

    #[test]
    fn what_lies_outside_is_told() {
        let fault = only_fault("www.example.org. 60 A 192.0.2.1\n", &[]);
        assert!(
            fault.starts_with("test.zone:4:1: www.example.org. lies outside the zone example.com.; "),
            "{fault}"
        );
    }

    #[test]
    fn a_cname_beside_data_names_both_lines() {
        let fault = only_fault("www 60 A 192.0.2.1\nwww 60 CNAME ns\n", &[]);
        assert!(
            fault.starts_with("test.zone:5:1: www.example.com. has a CNAME beside A (line 4); "),
            "{fault}"
        );
    }

    #[test]
    fn a_steered_name_with_addresses_of_its_own_is_told() {
        let fault = only_fault("www 60 A 192.0.2.1\nwww 60 TXT ok\n", &["www.example.com."]);
        assert!(
            fault.starts_with("test.zone:4:1: www.example.com. has A records here and is steered"),
            "{fault}"
        );
    }

    #[test]
    fn a_steered_name_behind_a_cut_or_a_dname_is_told() {
        let fault = only_fault("sub 60 NS ns\n", &["www.sub.example.com."]);
        assert!(
            fault.starts_with(
                "test.zone:4:1: NS at sub.example.com. hides the steered name www.sub.example.com."
            ),
            "{fault}"
        );
        let fault = only_fault("sub 60 DNAME new\n", &["www.sub.example.com."]);
        assert!(
            fault.starts_with("test.zone:4:1: DNAME at sub.example.com. hides the steered name"),
            "{fault}"
        );
    }
}
