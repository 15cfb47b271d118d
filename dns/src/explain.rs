//! Why a client gets what it gets. Runs the server's own code, with notes.

mod show;

use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;
use steer_health::{Service, Verdict};
use steer_topology::{
    AllDown, ClassId, EndpointId, Filter, Name, Place, Position, Prefix, Steer, distance_km,
};

use crate::filter::{Candidate, Step};
use crate::lookup::{self, Answer, Steered, Steering};
use crate::subnet::Locate;
use crate::tables::{Rule, Run, Tables, addresses, candidates, decide};

/// The reasons for the A and AAAA answers that one client gets for one name.
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
    /// One for A and one for AAAA.
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
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerView {
    /// `A` or `AAAA`.
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
    /// Its pool.
    pub pool: String,
    /// Its filters.
    pub chain: Vec<String>,
    /// Seconds.
    pub ttl: u64,
    /// Which rule decided, in words.
    pub rule: String,
    /// The pool's endpoints of this family, before the first filter.
    pub candidates: Vec<CandidateView>,
    /// What each filter did.
    pub steps: Vec<StepView>,
    /// What is left, in order; absent: SERVFAIL.
    pub answer: Option<Vec<IpAddr>>,
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
        let position = location.as_ref().and_then(|location| location.place.position);
        let asked = hickory_proto::rr::Name::from_ascii(name.as_str())
            .unwrap_or_else(|_| hickory_proto::rr::Name::root());
        let key = crate::wire::key(&asked);
        let zone = self
            .zones
            .closest(&key, false)
            .and_then(|zone| crate::wire::name_of(&zone.apex));
        let view = |rtype| {
            let mut notes = Notes {
                tables: self,
                client,
                class: found.class,
                position,
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
            },
            zone: zone.map(|zone| zone.to_string()),
            answers: [RecordType::A, RecordType::AAAA].map(view).into(),
        }
    }
}

/// Decides as the compiled tables do, and writes down why.
struct Notes<'t> {
    tables: &'t Tables,
    client: IpAddr,
    class: ClassId,
    position: Option<Position>,
    scope: Option<u8>,
    chains: Vec<ChainView>,
}

impl Steering for Notes<'_> {
    fn pick(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        let Tables {
            snapshot, classes, ..
        } = self.tables;
        let steer = self.tables.steer(key)?;
        let mut rng = SmallRng::seed_from_u64(0);
        let (_, scope) = self.tables.pick(key, rtype, Locate::By(self.client), &mut rng)?;
        self.scope = self.scope.max(scope);
        let list = candidates(snapshot, steer, classes, Some(self.class), rtype);
        let run = decide(
            snapshot,
            steer,
            list,
            &steer.chain,
            &mut SmallRng::seed_from_u64(0),
            true,
        );
        let answer = run.left.as_deref().map(addresses);
        self.chains.push(self.chain_view(steer, &run, answer.clone()));
        Some(match answer {
            None => Steered::Fail,
            Some(addresses) => Steered::Addresses {
                addresses,
                ttl: self.tables.ttl(key)?,
            },
        })
    }
}

impl Notes<'_> {
    fn view(self, rtype: RecordType, answer: &Answer) -> AnswerView {
        AnswerView {
            rtype: rtype.to_string(),
            rcode: crate::count::rcode_label(answer.rcode).to_owned(),
            records: answer.answers.iter().map(ToString::to_string).collect(),
            scope: self.scope.unwrap_or(0),
            chains: self.chains,
        }
    }

    fn chain_view(&self, steer: &Steer, run: &Run, answer: Option<Vec<IpAddr>>) -> ChainView {
        let fleet = &self.tables.snapshot.fleet;
        let candidate = |candidate: &Candidate| {
            let state = self.tables.snapshot.endpoint(candidate.endpoint);
            CandidateView {
                endpoint: self.endpoint(candidate.endpoint),
                verdict: state.verdict,
                service: state.service.clone(),
                cause: state.cause.clone(),
                since: state.since,
            }
        };
        ChainView {
            name: steer.name.to_string(),
            pool: fleet.pool(steer.pool).name.clone(),
            chain: steer.chain.iter().map(|filter| filter_text(*filter)).collect(),
            ttl: steer.ttl.as_secs(),
            rule: rule_text(run.rule).to_owned(),
            candidates: run.candidates.iter().map(candidate).collect(),
            steps: run
                .steps
                .iter()
                .map(|step| self.step_view(step, run.rule))
                .collect(),
            answer,
        }
    }

    fn step_view(&self, step: &Step, rule: Rule) -> StepView {
        let note = |candidate: &Candidate, kept| Note {
            endpoint: self.endpoint(candidate.endpoint),
            reason: self.reason(step, candidate, kept, rule),
        };
        let is_left =
            |candidate: &&Candidate| step.after.iter().any(|left| left.endpoint == candidate.endpoint);
        StepView {
            filter: filter_text(step.filter),
            kept: step.after.iter().map(|candidate| note(candidate, true)).collect(),
            dropped: step
                .before
                .iter()
                .filter(|c| !is_left(c))
                .map(|candidate| note(candidate, false))
                .collect(),
        }
    }

    fn reason(&self, step: &Step, candidate: &Candidate, kept: bool, rule: Rule) -> String {
        match step.filter {
            Filter::Up => self.up_reason(candidate, rule),
            Filter::Nearest => self.distance(candidate.endpoint),
            Filter::Weighted => {
                let total: u64 = step.before.iter().map(|other| u64::from(other.weight)).sum();
                match (u64::from(candidate.weight) * 100).checked_div(total) {
                    Some(percent) if kept => {
                        format!("weight {}, first in {percent} % of the draws", candidate.weight)
                    }
                    Some(_) => "weight 0, and others have more".to_owned(),
                    None => "all weights are 0: equal chances".to_owned(),
                }
            }
            Filter::Failover if kept => format!("tier {}, the lowest here", candidate.tier),
            Filter::Failover => format!("tier {}, and a lower one is there", candidate.tier),
            Filter::Take(n) if kept => format!("among the first {n}"),
            Filter::Take(n) => format!("behind the first {n}"),
        }
    }

    fn up_reason(&self, candidate: &Candidate, rule: Rule) -> String {
        let state = self.tables.snapshot.endpoint(candidate.endpoint);
        match (&state.service, state.verdict) {
            (_, Verdict::Down) if matches!(rule, Rule::AllDown(_)) => {
                format!("down ({}), but so are all: taken as up", state.cause)
            }
            (Service::Drained, Verdict::Up | Verdict::Unknown) if matches!(rule, Rule::AllDown(_)) => {
                let drained = self.drained(candidate.endpoint);
                format!("{drained}; but nothing else is left: taken as up")
            }
            (Service::Drained, _) => self.drained(candidate.endpoint),
            (Service::Held { reason }, _) => {
                format!("down ({}), held in service by the guard: {reason}", state.cause)
            }
            (Service::Out, Verdict::Down) => format!("down: {}", state.cause),
            (Service::Out, Verdict::Up | Verdict::Unknown) => "taken out of service".to_owned(),
            (Service::In, Verdict::Up) => "up".to_owned(),
            (Service::In, Verdict::Unknown) => "unknown, which counts as serving".to_owned(),
            (Service::In, Verdict::Down) => format!("down ({}), still in service", state.cause),
        }
    }

    /// "drained: kernel update, by ana, until 2026-01-01T14:00:00Z"
    fn drained(&self, id: EndpointId) -> String {
        match self.tables.snapshot.endpoint_drain(id) {
            Some(drain) => drain.to_string(),
            None => "drained".to_owned(),
        }
    }

    fn distance(&self, id: EndpointId) -> String {
        let fleet = &self.tables.snapshot.fleet;
        let site = fleet.endpoint(id).site.map(|site| fleet.site(site));
        let place = site.and_then(|site| Position::new(site.latitude, site.longitude));
        match self.position.zip(place) {
            Some((client, site)) => format!("{:.0} km", distance_km(client, site)),
            None => "distance unknown: order kept".to_owned(),
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

fn filter_text(filter: Filter) -> String {
    match filter {
        Filter::Up => "up".to_owned(),
        Filter::Nearest => "nearest".to_owned(),
        Filter::Weighted => "weighted".to_owned(),
        Filter::Failover => "failover".to_owned(),
        Filter::Take(n) => format!("take {n}"),
    }
}

fn rule_text(rule: Rule) -> &'static str {
    match rule {
        Rule::Chain => "the chain",
        Rule::NoEndpoints => "no endpoint of this family: an empty answer",
        Rule::AllDown(AllDown::ServeAll) => {
            "all are down or drained, if_all_down = serve-all: the chain, with all taken as up"
        }
        Rule::AllDown(AllDown::Nodata) => "all are down or drained, if_all_down = nodata: an empty answer",
        Rule::AllDown(AllDown::Servfail) => "all are down or drained, if_all_down = servfail",
    }
}
