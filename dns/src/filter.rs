//! The filters of a chain: each takes a list of candidates and leaves a list. None of them knows DNS, clocks or
//! sockets; what they need to know of the client is written on the candidates beforehand, and chance comes in through
//! the caller. So a chain can be cut anywhere and gone on with later.

mod overflow;
mod simple;
mod sticky;
mod tiers;

use std::net::IpAddr;

use rand::Rng;
use steer_topology::{ByClient, EndpointId, Fence, Filter, SiteId};

pub(crate) use self::overflow::{Site, shares, shares_among};
pub(crate) use self::sticky::{Network, network};
pub(crate) use self::tiers::next_tier;

/// An endpoint on its way through a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) endpoint: EndpointId,
    /// What stands for it over time: the first of the endpoints that say the same.
    pub(crate) first: EndpointId,
    /// Its place among the candidates of the name.
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) site: Option<SiteId>,
    /// Relative share for `weighted` and `sticky`.
    pub(crate) weight: u64,
    /// For `failover` and `trickle`, lowest first.
    pub(crate) tier: u16,
    /// For `up`: in service, held there by the guard, or taken so by the all-down rule.
    pub(crate) serving: bool,
    /// Down or drained, whatever the guard says: for the all-down rule.
    pub(crate) lost: bool,
    /// For `overflow`: requests per second of its site.
    pub(crate) room: Room,
    /// What follows from the class of the client.
    pub(crate) seen: Seen,
}

/// What a site can serve, what its own clients ask for, and what becomes of it. In requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    /// `None`: whatever comes.
    pub(crate) capacity: Option<u64>,
    pub(crate) load: u64,
    /// What it keeps of that, where others have room for the rest.
    pub(crate) keeps: u64,
    /// What it takes of others. `None`: whatever comes.
    pub(crate) takes: Option<u64>,
    /// `load` follows from what is counted at the sites, and is not what the configuration says.
    pub(crate) is_counted: bool,
}

impl Room {
    /// By what the configuration says: it keeps what it can serve, and takes what it then has free.
    pub(crate) fn written(capacity: Option<u64>, load: u64) -> Self {
        Self {
            capacity,
            load,
            keeps: load.min(capacity.unwrap_or(u64::MAX)),
            takes: capacity.map(|capacity| capacity.saturating_sub(load)),
            is_counted: false,
        }
    }
}

/// How a client class looks at a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// For `nearest`: place of its site in the order by distance, 0 the nearest.
    pub(crate) rank: u16,
    /// For `latency`: place of its site in the order by round-trip time.
    pub(crate) trip: u16,
    /// For the maps and fences: which of them keep it.
    pub(crate) marks: Marks,
    /// For `overflow`: its site is where the client would go if all were up.
    pub(crate) home: bool,
}

impl Seen {
    /// By a client of whom nothing is known.
    pub(crate) const BLIND: Self = Self {
        rank: u16::MAX,
        trip: u16::MAX,
        marks: Marks(0),
        home: false,
    };
}

/// One bit for each filter that keeps some candidates by what the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Marks(u8);

impl Marks {
    fn bit(of: ByClient) -> u8 {
        match of {
            ByClient::Country => 1,
            ByClient::Continent => 2,
            ByClient::Asn => 4,
            ByClient::Cidr => 8,
            ByClient::Fence(Fence::Country) => 16,
            ByClient::Fence(Fence::Continent) => 32,
        }
    }

    /// The bits of these filters; those that go by something else have none.
    fn of(filters: &[Filter]) -> u8 {
        let bits = filters.iter().filter_map(|filter| filter.by_client());
        bits.map(Self::bit).fold(0, |mask, bit| mask | bit)
    }

    pub(crate) fn set(&mut self, of: ByClient) {
        self.0 |= Self::bit(of);
    }

    pub(crate) fn has(self, filter: Filter) -> bool {
        self.0 & Self::of(&[filter]) != 0
    }

    /// Only the bits of these filters.
    pub(crate) fn only(self, filters: &[Filter]) -> Self {
        Self(self.0 & Self::of(filters))
    }
}

/// One filter of a run, for people.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) filter: Filter,
    pub(crate) before: Vec<Candidate>,
    pub(crate) after: Vec<Candidate>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What is left is the answer.
    Answer,
    /// A fence stood around nothing.
    Refused,
}

/// Runs a chain. Compiling, answering and explaining all come through here; only the last takes notes.
/// `network` is what `sticky` hashes; without one it draws.
pub(crate) fn run<R: Rng + ?Sized>(
    chain: &[Filter],
    list: &mut Vec<Candidate>,
    network: Option<Network>,
    rng: &mut R,
    mut notes: Option<&mut Vec<Step>>,
) -> Outcome {
    for filter in chain {
        let before = notes.as_ref().map(|_| list.clone());
        let had = !list.is_empty();
        apply(*filter, list, network, rng);
        if let (Some(notes), Some(before)) = (&mut notes, before) {
            notes.push(Step {
                filter: *filter,
                before,
                after: list.clone(),
            });
        }
        if had && list.is_empty() && matches!(filter, Filter::Geofence(_)) {
            return Outcome::Refused;
        }
    }
    Outcome::Answer
}

fn apply<R: Rng + ?Sized>(filter: Filter, list: &mut Vec<Candidate>, network: Option<Network>, rng: &mut R) {
    match filter {
        Filter::Up => simple::up(list),
        Filter::Nearest => simple::nearest(list),
        Filter::Latency => simple::latency(list),
        Filter::Country | Filter::Continent | Filter::Asn | Filter::Cidr => simple::prefer(list, filter),
        Filter::Geofence(_) => simple::fence(list, filter),
        Filter::Weighted => simple::weighted(list, rng),
        Filter::Shuffle => simple::shuffle(list, rng),
        Filter::Sticky(lengths) => match network {
            Some(network) => sticky::sticky(list, network, lengths),
            None => simple::weighted(list, rng),
        },
        Filter::Overflow => overflow::overflow(list, rng),
        Filter::Failover => tiers::failover(list),
        Filter::Trickle(percent) => tiers::trickle(list, percent, rng),
        Filter::Take(n) => list.truncate(usize::from(n.get())),
    }
}

#[cfg(test)]
mod tests;
