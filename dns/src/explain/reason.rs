//! Why one filter kept or dropped one candidate, in words.

use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{
    AllDown, Bias, Class, ClientMap, EndpointId, Fence, Filter, Latency, Place, Site, Steer, distance_km,
};

use crate::filter::{self, Candidate, Room, Step};
use crate::tables::{Left, Rule};

/// What the reasons of one run speak of.
pub(super) struct Reasons<'t> {
    pub(super) snapshot: &'t Snapshot,
    pub(super) steer: &'t Steer,
    /// For `serve-last-good`.
    pub(super) good: &'t [EndpointId],
    pub(super) class: &'t Class,
    pub(super) place: Place,
    pub(super) latency: Option<&'t Latency>,
    pub(super) rule: Rule,
}

impl Reasons<'_> {
    pub(super) fn of(&self, step: &Step, candidate: &Candidate, kept: bool) -> String {
        match step.filter {
            Filter::Up => self.up(candidate),
            Filter::Nearest => self.distance(candidate.endpoint),
            Filter::Latency => self.round_trip(candidate.endpoint),
            Filter::Country => self.map(step, kept, entry(&self.steer.maps.country, self.class.country)),
            Filter::Continent => self.map(
                step,
                kept,
                entry(&self.steer.maps.continent, self.class.continent),
            ),
            Filter::Asn => self.map(step, kept, entry(&self.steer.maps.asn, self.class.asn)),
            Filter::Cidr => {
                let cidr = &self.steer.maps.cidr;
                self.map(
                    step,
                    kept,
                    entry(cidr, cidr.narrowest(self.class.network.as_ref())),
                )
            }
            Filter::Geofence(fence) => self.fence(fence, candidate.endpoint),
            Filter::Weighted => self.weight(step, candidate, kept, "of the draws"),
            Filter::Sticky(_) => self.weight(step, candidate, kept, "of the networks; here by its hash"),
            Filter::Shuffle => "drawn, equal chances".to_owned(),
            Filter::Overflow => self.share(step, candidate),
            Filter::Failover if kept => format!("tier {}, the lowest here", candidate.tier),
            Filter::Failover => format!("tier {}, and a lower one is there", candidate.tier),
            Filter::Trickle(percent) => trickle(step, candidate, percent.get()),
            Filter::Take(n) if kept => format!("among the first {n}"),
            Filter::Take(n) => format!("behind the first {n}"),
        }
    }

    /// Which rule decided.
    pub(super) fn rule_text(&self, left: &Left) -> String {
        let all = "all are down or drained, if_all_down";
        let text = match (self.rule, left) {
            (Rule::Chain, Left::Refused) => "the chain, which leaves no site in the client's region: REFUSED",
            (Rule::Chain, Left::List(_) | Left::Fail) => "the chain",
            (Rule::NoEndpoints, _) => "no endpoint of this family: an empty answer",
            (Rule::AllDown(rule), left) => {
                let then = match rule {
                    AllDown::ServeAll => "serve-all: the chain, with all taken as up".to_owned(),
                    AllDown::ServeLastGood if self.good.is_empty() => {
                        "serve-last-good: none is known, so the chain with all taken as up".to_owned()
                    }
                    AllDown::ServeLastGood => {
                        "serve-last-good: the chain, with those taken as up that last were".to_owned()
                    }
                    AllDown::Pool(pool) => {
                        let name = &self.snapshot.fleet.pool(pool).name;
                        format!("pool:{name}: the chain on that pool, whatever its checks say")
                    }
                    AllDown::Nodata => "nodata: an empty answer".to_owned(),
                    AllDown::Servfail => "servfail".to_owned(),
                };
                let end = match left {
                    Left::Refused => "; no site in the client's region: REFUSED",
                    Left::List(_) | Left::Fail => "",
                };
                return format!("{all} = {then}{end}");
            }
        };
        text.to_owned()
    }

    fn up(&self, candidate: &Candidate) -> String {
        if let Rule::AllDown(AllDown::Pool(_)) = self.rule {
            return "in the fallback pool: taken as up".to_owned();
        }
        let state = self.snapshot.endpoint(candidate.endpoint);
        match (&state.service, state.verdict) {
            (_, Verdict::Down) if matches!(self.rule, Rule::AllDown(_)) => {
                format!("down ({}), but so are all: taken as up", state.cause)
            }
            (Service::Drained, Verdict::Up | Verdict::Unknown) if matches!(self.rule, Rule::AllDown(_)) => {
                let drained = self.drained(candidate.endpoint);
                format!("{drained}; but nothing else is left: taken as up")
            }
            (Service::Drained, _) => self.drained(candidate.endpoint),
            (Service::Held { reason }, _) => {
                format!("down ({}), held in service by the guard: {reason}", state.cause)
            }
            (Service::Out, Verdict::Down) => format!("down: {}", state.cause),
            (Service::Out, Verdict::Up | Verdict::Unknown) => "taken out of service".to_owned(),
            (Service::In, Verdict::Up) => match self.snapshot.endpoint_force(candidate.endpoint) {
                Some(_) => format!("up: {}", state.cause),
                None => "up".to_owned(),
            },
            (Service::In, Verdict::Unknown) => "unknown, which counts as serving".to_owned(),
            (Service::In, Verdict::Down) => format!("down ({}), still in service", state.cause),
        }
    }

    /// "drained: kernel update, by ana, until 2026-01-01T14:00:00Z"
    fn drained(&self, id: EndpointId) -> String {
        match self.snapshot.endpoint_drain(id) {
            Some(drain) => drain.to_string(),
            None => "drained".to_owned(),
        }
    }

    fn site(&self, id: EndpointId) -> Option<&Site> {
        let fleet = &self.snapshot.fleet;
        fleet.endpoint(id).site.map(|site| fleet.site(site))
    }

    fn distance(&self, id: EndpointId) -> String {
        let site = self.site(id);
        let ends = self.place.position.zip(site.and_then(Site::position));
        let Some(((client, place), site)) = ends.zip(site) else {
            return "distance unknown: order kept".to_owned();
        };
        let km = distance_km(client, place);
        if site.bias == Bias::NONE {
            return format!("{km:.0} km");
        }
        let bias = match site.bias {
            Bias::Km(less) => format!("{less} km"),
            Bias::Percent(less) => format!("{less} %"),
        };
        format!("{km:.0} km, with bias {bias} {:.0} km", site.bias.apply(km))
    }

    fn round_trip(&self, id: EndpointId) -> String {
        let ends = self.place.position.zip(self.site(id));
        let trip = ends
            .zip(self.latency)
            .and_then(|((client, site), table)| table.round_trip(client, site));
        match trip {
            Some(trip) if trip.measured => {
                format!("{:.0} ms, measured from {} to {}", trip.ms, trip.from, trip.to)
            }
            Some(trip) => format!("{:.0} ms, estimated from {} to {}", trip.ms, trip.from, trip.to),
            None => "round trip unknown: order kept".to_owned(),
        }
    }

    /// `entry`: what the map has for the client.
    fn map(&self, step: &Step, kept: bool, entry: Option<String>) -> String {
        let named = step
            .before
            .iter()
            .any(|candidate| candidate.seen.marks.has(step.filter));
        match (entry, named, kept) {
            (Some(entry), true, true) => format!("named for {entry}"),
            (Some(entry), true, false) => format!("not named for {entry}"),
            (Some(entry), false, _) => format!("nothing here is named for {entry}: list kept"),
            (None, true, true) => "named by default".to_owned(),
            (None, true, false) => "not named by default".to_owned(),
            (None, false, _) => "no entry speaks of the client: list kept".to_owned(),
        }
    }

    fn fence(&self, fence: Fence, id: EndpointId) -> String {
        let site = self.site(id).and_then(Site::country_code);
        let (client, place) = match fence {
            Fence::Country => (
                self.place.country.map(|country| country.to_string()),
                site.map(|country| country.to_string()),
            ),
            Fence::Continent => (
                self.place.continent.map(|continent| continent.to_string()),
                site.and_then(steer_topology::CountryCode::continent)
                    .map(|continent| continent.to_string()),
            ),
        };
        let place = place.unwrap_or_else(|| "no known region".to_owned());
        match client {
            Some(client) => format!("in {place}, client in {client}"),
            None => format!("in {place}, client's region unknown"),
        }
    }

    fn weight(&self, step: &Step, candidate: &Candidate, kept: bool, whom: &str) -> String {
        let total: u64 = step.before.iter().map(|other| other.weight).sum();
        let written = self.snapshot.fleet.endpoint(candidate.endpoint).weight;
        match percent(candidate.weight.into(), total.into()) {
            Some(percent) if kept => format!("weight {written}, first in {percent} % {whom}"),
            Some(_) => "weight 0, and others have more".to_owned(),
            None => "all weights are 0: equal chances".to_owned(),
        }
    }

    fn share(&self, step: &Step, candidate: &Candidate) -> String {
        let shares = filter::shares(&step.before);
        let total: u128 = shares.iter().map(|(_, share)| share).sum();
        let own = shares.iter().find(|(site, _)| *site == candidate.site);
        let percent = percent(own.map_or(0, |(_, share)| *share), total).unwrap_or(0);
        let Room {
            capacity,
            load,
            keeps,
            takes: _,
            is_counted,
        } = candidate.room;
        let mut room = match capacity {
            Some(capacity) => format!("load {load} of {capacity}"),
            None => format!("load {load}, no limit"),
        };
        if is_counted {
            room.push_str(", as counted");
            if keeps < load {
                room.push_str(&format!(", keeps {keeps}"));
            }
        }
        let home = if candidate.seen.home { ", its own site" } else { "" };
        format!("{room}{home}: first in {percent} % of the draws")
    }
}

/// Rounded; `None` of nothing.
fn percent(part: u128, of: u128) -> Option<u128> {
    (part * 100 + of / 2).checked_div(of)
}

/// The key of a map that a client falls under.
fn entry<K: PartialEq + std::fmt::Display>(map: &ClientMap<K>, key: Option<K>) -> Option<String> {
    key.filter(|key| map.has(key)).map(|key| key.to_string())
}

fn trickle(step: &Step, candidate: &Candidate, percent: u8) -> String {
    let tier = candidate.tier;
    let lowest = step.before.iter().map(|other| other.tier).min();
    match filter::next_tier(&step.before) {
        _ if lowest == Some(tier) => format!("tier {tier}, the lowest here"),
        Some(next) if next == tier => format!("tier {tier}, the next: in {percent} % of the draws"),
        Some(_) | None => format!("tier {tier}, behind the next"),
    }
}
