//! What has to hold between the records of a zone.
//!
//! A fault refuses the zone: it could not be answered from as its author means it. A warning does not: the zone is
//! served as it stands, but somebody who follows what it says gets nowhere.

use hickory_proto::rr::{Name, Record, RecordType};
use steer_topology::Kind;

use super::build::{Draft, DraftSet, Drafts, negative, show};
use super::is_within;
use super::set::target;
use crate::lookup::kind_of;
use crate::master::Master;
use crate::wire;

pub(super) struct Checks<'z> {
    apex: &'z [u8],
    names: &'z Drafts,
    master: &'z mut Master,
    /// Whether there is a DNAME, or a cut, at all: most zones have none, and need not be searched for one.
    has_dname: bool,
    has_cut: bool,
}

/// What stands at the name to which a record points.
enum Target<'z> {
    /// Addresses, or the name lies outside what this zone says.
    Fine,
    /// A CNAME, or a DNAME above.
    Alias(&'z DraftSet),
    /// The zone would say that there is no address.
    Nothing,
}

impl<'z> Checks<'z> {
    pub(super) fn new(apex: &'z [u8], names: &'z Drafts, master: &'z mut Master) -> Self {
        let has = |rtype| {
            let mut below = names
                .iter()
                .filter(|(key, _)| rtype == RecordType::DNAME || ***key != *apex);
            below.any(|(_, draft)| draft.set(rtype).is_some())
        };
        Self {
            has_dname: has(RecordType::DNAME),
            has_cut: has(RecordType::NS),
            apex,
            names,
            master,
        }
    }

    /// Tells everything; gives the SOA for negative answers.
    pub(super) fn run(mut self, apex: &Name) -> Option<Record> {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(key, _)| *key);
        for (key, draft) in names {
            self.soa_stands_at_the_apex(key, draft);
            self.cname_stands_alone(draft);
            self.nothing_lies_below_a_dname(key, draft);
            if !draft.steered.is_empty() {
                self.steered_name_is_free(key, draft);
            }
            for set in &draft.sets {
                self.targets_have_addresses(key, draft, set);
            }
        }
        self.master.sort();
        self.apex_records(apex)
    }

    fn soa_stands_at_the_apex(&mut self, key: &[u8], draft: &Draft) {
        if key != self.apex
            && let Some(set) = draft.set(RecordType::SOA)
        {
            let message = format!("SOA at {}, which is not the zone's name", show(&draft.written));
            let remedy = "a zone has one SOA, at its own name; check $ORIGIN and the zone's name";
            self.master.fault(&set.at, message, remedy);
        }
    }

    /// RFC 1034 §3.6.2, RFC 2181 §10.1. RFC 4035 §2.5 lets the signature types stand beside it.
    fn cname_stands_alone(&mut self, draft: &Draft) {
        let Some(cname) = draft.set(RecordType::CNAME) else {
            return;
        };
        let beside = |set: &&DraftSet| !matches!(u16::from(set.rtype), 5 | 46 | 47 | 25);
        if let Some(other) = draft.sets.iter().find(beside) {
            let line = self.master.line(&other.at);
            let owner = show(&draft.written);
            let message = format!("{owner} has a CNAME beside {} (line {line})", other.rtype);
            let remedy = "a CNAME stands alone at its name (RFC 1034 §3.6.2)";
            self.master.fault(&cname.at, message, remedy);
        }
    }

    /// RFC 6672 §2.4: nobody would be told of what stands there.
    fn nothing_lies_below_a_dname(&mut self, key: &[u8], draft: &Draft) {
        let Some(first) = draft.sets.first() else {
            return;
        };
        if let Some((above, set)) = self.dname_above(key) {
            let line = self.master.line(&set.at);
            let message = format!(
                "{} lies below the DNAME at {} (line {line})",
                show(&draft.written),
                show(&above.written)
            );
            let remedy = "remove it, or the DNAME, which stands for all names below it (RFC 6672 §2.4)";
            self.master.fault(&first.at, message, remedy);
        }
    }

    fn steered_name_is_free(&mut self, key: &[u8], draft: &Draft) {
        let is_alias = draft.steered.has(Kind::Cname);
        for set in &draft.sets {
            let rtype = set.rtype;
            let is_decided = kind_of(rtype).is_some_and(|kind| draft.steered.has(kind));
            // RFC 1034 §3.6.2 both ways: an alias of ours stands alone too.
            if is_decided || is_alias || matches!(rtype, RecordType::CNAME | RecordType::DNAME) {
                let owner = show(&draft.written);
                let message = format!("{owner} has {rtype} records here and is steered by the configuration");
                let remedy = "remove these records, or the [[steer]] entry of that name";
                self.master.fault(&set.at, message, remedy);
            }
        }
        let hidden_by = self.above(key).find_map(|(name, above)| {
            let cut = above.set(RecordType::NS).filter(|_| name != self.apex);
            let dname = above.set(RecordType::DNAME).filter(|_| name.len() < key.len());
            Some((above, cut.or(dname)?))
        });
        if let Some((above, set)) = hidden_by {
            let message = format!(
                "{} at {} hides the steered name {}",
                set.rtype,
                show(&above.written),
                show(key)
            );
            let remedy = "remove it, or the [[steer]] entry of that name";
            self.master.fault(&set.at, message, remedy);
        }
    }

    /// RFC 1034 §3.6 and §4.2.1, RFC 2181 §10.3, RFC 2782: what NS, MX and SRV name has addresses of its own.
    fn targets_have_addresses(&mut self, key: &[u8], draft: &Draft, set: &DraftSet) {
        if !matches!(set.rtype, RecordType::NS | RecordType::MX | RecordType::SRV) {
            return;
        }
        // Of what lies at a cut only the NS records are ours; below it nothing is.
        let parent = if set.rtype == RecordType::NS {
            wire::parent(key)
        } else {
            Some(key)
        };
        if parent.is_some_and(|name| self.is_delegated(name)) {
            return;
        }
        for record in &set.records {
            let Some(name) = target(set.rtype, record) else {
                continue;
            };
            let (rtype, owner, written) = (set.rtype, show(&draft.written), show(&name));
            let is_glue = rtype == RecordType::NS && key != self.apex && is_within(&name, key);
            let what = match self.find(&name, is_glue) {
                Target::Fine => continue,
                Target::Alias(alias) => {
                    let line = self.master.line(&alias.at);
                    let message = format!(
                        "{rtype} of {owner} names {written}, which is an alias ({} in line {line})",
                        alias.rtype
                    );
                    (
                        message,
                        "name the host itself: not every client follows an alias here (RFC 2181 §10.3)",
                    )
                }
                Target::Nothing if is_glue => (
                    format!("{rtype} of {owner} names {written}, which has no glue"),
                    "add its A or AAAA record: nobody can reach a server whose address only it knows (RFC 9471 §2)",
                ),
                Target::Nothing => (
                    format!("{rtype} of {owner} names {written}, which has no address in this zone"),
                    "add its A or AAAA record, or name a host that exists",
                ),
            };
            self.master.warn(&set.at, what.0, what.1);
        }
    }

    /// What a client finds at a name. Glue is found below cuts, where nothing else of ours is.
    fn find(&self, name: &[u8], is_glue: bool) -> Target<'z> {
        // Gap: RFC 2181 §10.3: a steered CNAME is an alias too, and is not told.
        let has_addresses = |draft: &Draft| {
            draft.steered.has(Kind::Address)
                || draft.steered.has(Kind::Cname)
                || draft.set(RecordType::A).is_some()
                || draft.set(RecordType::AAAA).is_some()
        };
        if !is_within(name, self.apex) || (!is_glue && self.is_delegated(name)) {
            return Target::Fine;
        }
        match (self.dname_above(name), self.stands(name)) {
            (Some((_, alias)), _) => Target::Alias(alias),
            (None, Some(draft)) if has_addresses(draft) => Target::Fine,
            (None, Some(draft)) => draft
                .set(RecordType::CNAME)
                .map_or(Target::Nothing, Target::Alias),
            (None, None) => Target::Nothing,
        }
    }

    /// The name itself, or the wildcard that covers it (RFC 4592 §3.3.1).
    fn stands(&self, name: &[u8]) -> Option<&'z Draft> {
        if let Some(draft) = self.names.get(name) {
            return Some(draft);
        }
        // Gap: an empty non-terminal between hides a wildcard above it; here it does not, and a warning is missed.
        let wildcards = wire::upwards(name)
            .skip(1)
            .map(|above| [b"\x01*", above].concat());
        wildcards
            .take_while(|wildcard| wildcard.len() >= self.apex.len() + 2)
            .find_map(|wildcard| self.names.get(&*wildcard))
    }

    /// The DNAME that renames a name, and its owner.
    fn dname_above(&self, name: &[u8]) -> Option<(&'z Draft, &'z DraftSet)> {
        if !self.has_dname {
            return None;
        }
        let mut above = self.above(name).filter(|(above, _)| above.len() < name.len());
        above.find_map(|(_, draft)| Some((draft, draft.set(RecordType::DNAME)?)))
    }

    /// Whether other servers speak for a name: at a cut, or below it.
    fn is_delegated(&self, name: &[u8]) -> bool {
        let is_cut =
            |(above, draft): (&[u8], &Draft)| above != self.apex && draft.set(RecordType::NS).is_some();
        self.has_cut && self.above(name).any(is_cut)
    }

    /// The names with data from `key` up to the apex.
    fn above<'k>(&self, key: &'k [u8]) -> impl Iterator<Item = (&'k [u8], &'z Draft)> + use<'k, 'z> {
        let (names, apex) = (self.names, self.apex.len());
        wire::upwards(key)
            .take_while(move |above| above.len() >= apex)
            .filter_map(|above| Some((above, names.get(above)?)))
    }

    /// The SOA for negative answers; faults where SOA or NS is missing.
    fn apex_records(&mut self, apex: &Name) -> Option<Record> {
        let draft = self.names.get(self.apex);
        let soa = draft.and_then(|draft| draft.set(RecordType::SOA));
        if soa.is_none() {
            let remedy =
                format!("write {apex} 3600 IN SOA ns1.{apex} hostmaster.{apex} 1 7200 900 1209600 300");
            self.master.whole_file(format!("no SOA record at {apex}"), remedy);
        }
        if draft.is_none_or(|draft| draft.set(RecordType::NS).is_none()) {
            let remedy = format!("write {apex} 3600 IN NS ns1.{apex}");
            self.master.whole_file(format!("no NS record at {apex}"), remedy);
        }
        let name = wire::name_of(&draft?.written).unwrap_or_else(|| apex.clone());
        negative(&name, soa?)
    }
}
