//! Why a client gets what it gets. Runs the server's own code, with notes.

mod reason;
mod show;

use std::net::IpAddr;

use hickory_proto::rr::{Record, RecordType};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;
use steer_health::{Service, Verdict};
use steer_topology::{ClassId, EndpointId, Filter, Kind, Kinds, Name, Place, Prefix, Steer, Ttl};

use self::reason::Reasons;
use crate::filter::{self, Candidate, Step};
use crate::lookup::{self, Answer, Steered, Steering, kind_of, types_of};
use crate::records;
use crate::subnet::Locate;
use crate::tables::{Deciding, Field, Left, Part, Picked, Run, Tables};

/// The reasons for the answers that one client gets for one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The snapshot that decided.
    pub snapshot: u64,
    /// The name that was asked.
    pub name: String,
    /// The client, or the address of its subnet.
    pub client: IpAddr,
    /// What the databases say of it; absent where no chain needs geography.
    pub location: Option<Location>,
    /// The client class and its order of sites.
    pub class: ClassView,
    /// The zone that answers; absent: REFUSED.
    pub zone: Option<String>,
    /// One for A and one for AAAA, and one for each other type that a chain decides at the name.
    pub answers: Vec<AnswerView>,
}

/// What the databases say of a client.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Location {
    /// The network of the record that decided.
    pub network: Prefix,
    /// The database that decided.
    pub database: String,
    /// Country, continent, coordinates.
    pub place: Place,
}

/// A client class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassView {
    /// Its number in this partition.
    pub id: ClassId,
    /// Length of the network around the client that lies in the class.
    pub scope: u8,
    /// Whether the order of sites is by distance.
    pub distance_known: bool,
    /// Sites, nearest first.
    pub nearest: Vec<String>,
    /// Sites, shortest round trip first; empty where no chain asks or it is not known.
    pub quickest: Vec<String>,
    /// What chains tell it by besides: country, continent, AS, network.
    pub traits: Vec<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerView {
    /// `A`, `AAAA`, `HTTPS`..
    pub rtype: String,
    /// `NOERROR`, `NXDOMAIN`..
    pub rcode: String,
    /// The answer section.
    pub records: Vec<String>,
    /// The scope that a reply to a query with client subnet carries; 0: the same for everybody.
    pub scope: u8,
    /// The runs of chains behind it: none for plain zone data.
    pub chains: Vec<ChainView>,
}

/// One run of one chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainView {
    /// The `[[steer]]` entry.
    pub name: String,
    /// Which endpoints it was run for.
    pub part: PartView,
    /// Its pool.
    pub pool: String,
    /// Its filters.
    pub chain: Vec<String>,
    /// Seconds.
    pub ttl: u64,
    /// Why, where the TTL is not fixed.
    pub ttl_reason: Option<String>,
    /// Which rule decided, in words.
    pub rule: String,
    /// The pool's endpoints of this part, as the checks see them.
    pub candidates: Vec<CandidateView>,
    /// What each filter did.
    pub steps: Vec<StepView>,
    /// What is left, in order; absent: SERVFAIL or REFUSED.
    pub answer: Option<Vec<IpAddr>>,
}

/// Which endpoints a chain is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartView {
    /// Those with an IPv4 address.
    Ipv4,
    /// Those with an IPv6 address.
    Ipv6,
    /// All, by what they say in records other than addresses.
    Names,
}

/// One endpoint before the first filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CandidateView {
    /// Site and address.
    pub endpoint: String,
    /// What the checks say.
    pub verdict: Verdict,
    /// What follows from it.
    pub service: Service,
    /// The outcome behind the verdict.
    pub cause: String,
    /// Since when.
    pub since: jiff::Timestamp,
}

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// As the configuration writes it.
    pub filter: String,
    /// What it was given, in order.
    pub before: Vec<String>,
    /// What it left, in order, each with the reason.
    pub kept: Vec<Note>,
    /// What it took out, each with the reason.
    pub dropped: Vec<Note>,
}

/// Why one candidate stays, goes, or stands where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Site and address.
    pub endpoint: String,
    /// In words.
    pub reason: String,
}

impl Tables {
    /// Explains what `client` gets for `name`: as the address of a client subnet, or as the sender of a query
    /// without one. Draws of `weighted` differ from query to query; shown is one draw, always the same.
    #[must_use]
    pub fn explain(&self, client: IpAddr, name: &Name) -> Explanation {
        let client = client.to_canonical();
        let found = self.classes.find(client);
        let class = self.classes.class(found.class);
        let location = self.geography.as_ref().map(|geography| {
            let located = geography.locate(client);
            Location {
                network: located.network,
                database: located.database.to_string(),
                place: located.place,
            }
        });
        let site = |id: &steer_topology::SiteId| self.snapshot.fleet.site(*id).name.clone();
        let asked = hickory_proto::rr::Name::from_ascii(name.as_str())
            .unwrap_or_else(|_| hickory_proto::rr::Name::root());
        let key = crate::wire::key(&asked);
        let zone = self
            .zones
            .closest(&key, false)
            .and_then(|zone| crate::wire::name_of(&zone.apex));
        let place = location
            .as_ref()
            .map(|location| location.place)
            .unwrap_or_default();
        let view = |rtype| {
            let mut notes = Notes {
                tables: self,
                client,
                place,
                class: found.class,
                scope: None,
                chains: Vec::new(),
            };
            let answer = lookup::answer(&self.zones, &asked, rtype, &mut notes);
            notes.view(rtype, &answer)
        };
        Explanation {
            snapshot: self.snapshot_number(),
            name: name.to_string(),
            client,
            location,
            class: ClassView {
                id: found.class,
                scope: found.scope,
                distance_known: class.distance_known,
                nearest: class.nearest.iter().map(site).collect(),
                quickest: class.quickest.iter().map(site).collect(),
                traits: traits(class),
            },
            zone: zone.map(|zone| zone.to_string()),
            answers: self.types_at(&key).into_iter().map(view).collect(),
        }
    }
}

impl Tables {
    /// A, AAAA, and what else chains decide at a name or at the wildcard that covers it.
    fn types_at(&self, key: &[u8]) -> Vec<RecordType> {
        let zone = self.zones.closest(key, false);
        let kinds = zone.map_or(Kinds::NONE, |zone| lookup::steered_at(zone, key));
        let beside = |kind: &Kind| !matches!(kind, Kind::Address | Kind::Cname);
        let others = kinds.iter().filter(beside).flat_map(types_of).copied();
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .chain(others)
            .collect()
    }
}

/// Decides as the compiled tables do, and writes down why.
struct Notes<'t> {
    tables: &'t Tables,
    client: IpAddr,
    place: Place,
    class: ClassId,
    scope: Option<u8>,
    chains: Vec<ChainView>,
}

impl Steering for Notes<'_> {
    fn pick(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        self.pick_extra(key, rtype)?; // for its scope
        let tables = self.tables;
        let parts = tables.parts(key, rtype).iter();
        let left: Option<Vec<Left>> = parts.map(|part| self.run(key, rtype, *part)).collect();
        tables.told(key, rtype, &left?)
    }

    /// What only comes along is not explained, but counts for the scope.
    fn pick_extra(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        let mut rng = SmallRng::seed_from_u64(0);
        let client = Locate::By(self.client);
        let (steered, scope) = self.tables.pick(key, rtype, client, &mut rng)?;
        self.scope = self.scope.max(scope);
        Some(steered)
    }
}

impl Notes<'_> {
    /// Runs one chain, and notes it.
    fn run(&mut self, key: &[u8], rtype: RecordType, part: Part) -> Option<Left> {
        let Tables {
            snapshot,
            classes,
            eyes,
            demand,
            ..
        } = self.tables;
        let steer = self.tables.steer(key, rtype)?;
        let field = Field::new(snapshot, demand, steer, part);
        let mut own = field.seen_by(steer, classes, eyes, Some(self.class));
        let fallback = own.split_off(field.own);
        let deciding = Deciding {
            steer,
            good: self.tables.good(key, rtype, part),
            chain: &steer.chain,
            network: Some(filter::network(self.client)),
            take_notes: true,
        };
        let run = deciding.decide(own, fallback, &mut SmallRng::seed_from_u64(0));
        let ttl = self.tables.ttl_of(key, rtype, part)?;
        self.chains
            .push(self.chain_view(steer, part, deciding.good, &run, ttl));
        Some(run.left)
    }

    fn view(self, rtype: RecordType, answer: &Answer) -> AnswerView {
        AnswerView {
            rtype: rtype.to_string(),
            rcode: crate::count::rcode_label(answer.rcode).to_owned(),
            records: answer.answers.iter().map(readable).collect(),
            scope: self.scope.unwrap_or(0),
            chains: self.chains,
        }
    }

    fn chain_view(&self, steer: &Steer, part: Part, good: &[EndpointId], run: &Run, ttl: u32) -> ChainView {
        let Tables {
            snapshot, classes, ..
        } = self.tables;
        let fleet = &snapshot.fleet;
        let reasons = Reasons {
            snapshot,
            steer,
            good,
            class: classes.class(self.class),
            place: self.place,
            latency: classes.latency(),
            rule: run.rule,
        };
        let candidate = |candidate: &Candidate| {
            let state = snapshot.endpoint(candidate.endpoint);
            CandidateView {
                endpoint: self.endpoint(candidate.endpoint),
                verdict: state.verdict,
                service: state.service.clone(),
                cause: state.cause.clone(),
                since: state.since,
            }
        };
        let answer = match run.left.picked(|candidate| candidate.address) {
            Picked::List(list) => Some(list),
            Picked::Refused | Picked::Fail => None,
        };
        ChainView {
            name: steer.name.to_string(),
            part: match part {
                Part::V4 => PartView::Ipv4,
                Part::V6 => PartView::Ipv6,
                Part::Names => PartView::Names,
            },
            pool: fleet.pool(steer.pool).name.clone(),
            chain: steer.chain.iter().map(Filter::to_string).collect(),
            ttl: ttl.into(),
            ttl_reason: ttl_reason(steer.ttl, ttl),
            rule: reasons.rule_text(&run.left),
            candidates: run.candidates.iter().map(candidate).collect(),
            steps: run
                .steps
                .iter()
                .map(|step| self.step_view(step, &reasons))
                .collect(),
            answer,
        }
    }

    fn step_view(&self, step: &Step, reasons: &Reasons<'_>) -> StepView {
        let note = |candidate: &Candidate, kept| Note {
            endpoint: self.endpoint(candidate.endpoint),
            reason: reasons.of(step, candidate, kept),
        };
        let is_left =
            |candidate: &&Candidate| step.after.iter().any(|left| left.endpoint == candidate.endpoint);
        StepView {
            filter: step.filter.to_string(),
            before: step
                .before
                .iter()
                .map(|candidate| self.endpoint(candidate.endpoint))
                .collect(),
            kept: step.after.iter().map(|candidate| note(candidate, true)).collect(),
            dropped: step
                .before
                .iter()
                .filter(|c| !is_left(c))
                .map(|candidate| note(candidate, false))
                .collect(),
        }
    }

    fn endpoint(&self, id: EndpointId) -> String {
        let fleet = &self.tables.snapshot.fleet;
        let endpoint = fleet.endpoint(id);
        match endpoint.site {
            Some(site) => format!("{} {}", fleet.site(site).name, endpoint.address),
            None => endpoint.address.to_string(),
        }
    }
}

/// As in a zone file, also where the octets alone are kept.
fn readable(record: &Record) -> String {
    let code = record.record_type();
    match records::by_field(&record.data) {
        Some(data) => {
            let text = Record::from_rdata(record.name.clone(), record.ttl, data).to_string();
            // hickory ends each list of a service binding in a comma, which no zone file has (RFC 9460 §2.1)
            let is_binding = kind_of(code).is_some_and(Kind::is_binding);
            if is_binding {
                text.trim_end_matches(',').replace(", ", " ")
            } else {
                text
            }
        }
        None => record.to_string(), // as octets (RFC 3597 §5), where nothing else is known
    }
}

fn traits(class: &steer_topology::Class) -> Vec<String> {
    let country = class.country.map(|country| format!("country {country}"));
    let continent = class.continent.map(|continent| format!("continent {continent}"));
    let asn = class.asn.map(|asn| asn.to_string());
    let network = class.network.map(|network| format!("network {network}"));
    [country, continent, asn, network].into_iter().flatten().collect()
}

fn ttl_reason(rule: Ttl, ttl: u32) -> Option<String> {
    let Ttl::Auto { min: _, max } = rule else {
        return None;
    };
    Some(if u64::from(ttl) == max.as_secs() {
        format!(
            "auto: all up for {} s, and every address is announced",
            max.as_secs()
        )
    } else {
        format!(
            "auto: not all up for {} s yet, or an address lies in no announced prefix",
            max.as_secs()
        )
    })
}

#[cfg(test)]
mod page;

#[cfg(test)]
pub(crate) fn check_golden(golden: &str, text: &str) {
    tests::check(golden, text);
}

#[cfg(test)]
mod tests;
