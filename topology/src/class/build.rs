//! From databases and sites to the partition.

use std::collections::HashMap;
use std::sync::Arc;

use super::nets::Nets;
use super::table::{Address, Table, TableBuilder};
use super::{CARRIES_V4, Class, Classes, MAX_CLASSES};
use crate::country::{Position, distance_km};
use crate::geography::{BadTree, Database, Family, Leaf, Leaves, Place, Record, SPECIAL};
use crate::{Fleet, Geography, Latency, Prefix, Site, SiteId, Traits};

/// Why there is no partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// The addresses of the databases see the sites in too many orders.
    #[error(
        "{sites} sites can be ordered by distance in more than {MAX_CLASSES} ways from the places of the geo \
         databases; use country databases only ([fleet] geo without `city`), or at most 23 sites"
    )]
    TooMany {
        /// Sites of the fleet.
        sites: usize,
    },
    /// So many kinds of clients do the maps and orders of the chains tell apart.
    #[error(
        "the chains tell more than {MAX_CLASSES} kinds of clients apart, by the order of {sites} sites and by \
         {keys} countries, continents, AS numbers and networks; use country databases only ([fleet] geo without \
         `city`), fewer sites or shorter maps"
    )]
    TooManyKinds {
        /// Sites of the fleet.
        sites: usize,
        /// Keys of all maps and fences.
        keys: usize,
    },
    /// A database that was verified when it was opened reads differently now.
    #[error("{database}: {cause}; restart with a sound file")]
    Database {
        /// As the operator named it.
        database: String,
        /// What the reader says.
        cause: String,
    },
}

impl Classes {
    /// Divides all addresses by the order of the sites by distance. Takes time in proportion to the networks of
    /// the databases.
    pub fn build(geography: &Geography, sites: &[Site]) -> Result<Self, ClassError> {
        let traits = Traits {
            nearest: true,
            ..Traits::default()
        };
        Self::divide(geography, sites, &traits, None)
    }

    /// Divides all addresses by what the chains of the fleet use. Without databases nothing is known of a client
    /// but its address.
    pub fn of_fleet(
        fleet: &Fleet,
        geography: Option<&Geography>,
        latency: Option<Arc<Latency>>,
    ) -> Result<Self, ClassError> {
        let traits = Traits::of(fleet);
        if traits == Traits::default() {
            return Ok(Self::single());
        }
        let nothing = Geography::empty();
        Self::divide(geography.unwrap_or(&nothing), &fleet.sites, &traits, latency)
    }

    pub(super) fn divide(
        geography: &Geography,
        sites: &[Site],
        traits: &Traits,
        latency: Option<Arc<Latency>>,
    ) -> Result<Self, ClassError> {
        let mut kinds = Kinds::new(sites, traits, latency.as_deref());
        let v4: Table<u32> = Sweep::new(geography, traits, Family::V4, CARRIES_V4)?.run(&mut kinds)?;
        // Where all of IPv4 is one class, what carries IPv4 may join its neighbours.
        let carried = v4.only_value().unwrap_or(CARRIES_V4);
        let v6 = Sweep::new(geography, traits, Family::V6, carried)?.run(&mut kinds)?;
        Ok(Self {
            classes: kinds.classes,
            v4,
            v6,
            latency,
        })
    }
}

/// Goes through one family from its first address to its last, over all databases at once.
struct Sweep<'a> {
    family: Family,
    /// Value of the networks that carry IPv4.
    carried: u16,
    /// The networks that carry IPv4, as if they were a database: the "record" is an index into [`SPECIAL`].
    special: Special,
    /// The networks that chains name.
    nets: Nets,
    sources: Vec<Source<'a>>,
    /// What was made of a combination of records, the special network first, then the network of a chain.
    known: HashMap<Box<[Option<u32>]>, u16>,
}

/// One database in a [`Sweep`].
struct Source<'a> {
    database: &'a Arc<Database>,
    leaves: Leaves<'a>,
    current: Leaf,
    records: HashMap<u32, Record>,
}

impl<'a> Sweep<'a> {
    fn new(
        geography: &'a Geography,
        traits: &Traits,
        family: Family,
        carried: u16,
    ) -> Result<Self, ClassError> {
        let covering = geography
            .databases()
            .iter()
            .filter(|database| database.covers(family));
        let sources = covering
            .map(|database| Source::new(database, family))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            family,
            carried,
            special: Special::new(family),
            nets: Nets::new(family, &traits.networks),
            sources,
            known: HashMap::new(),
        })
    }

    fn run<A: Address>(mut self, kinds: &mut Kinds<'_>) -> Result<Table<A>, ClassError> {
        let mut table = TableBuilder::new();
        let mut key = Vec::with_capacity(self.sources.len() + 2);
        let mut first = 0;
        loop {
            key.clear();
            key.push(self.special.current.record);
            key.push(self.nets.current().record);
            key.extend(self.sources.iter().map(|source| source.current.record));
            let value = self.value(&key, first, kinds)?;
            table.push(A::from_bits(first), value);
            let ends = self.sources.iter().map(|source| source.current.last);
            let last = ends.fold(self.special.current.last, u128::min);
            let last = last.min(self.nets.current().last);
            if last == self.family.last() {
                return Ok(table.build());
            }
            self.special.advance_past(last);
            self.nets.advance_past(last);
            for source in &mut self.sources {
                source.advance_past(last)?;
            }
            first = last + 1;
        }
    }

    /// The table's value for a combination of records, of which `first` is an address.
    fn value(&mut self, key: &[Option<u32>], first: u128, kinds: &mut Kinds<'_>) -> Result<u16, ClassError> {
        if let Some(value) = self.known.get(key) {
            return Ok(*value);
        }
        let special = self
            .special
            .current
            .record
            .and_then(|index| SPECIAL.get(index as usize));
        let value = match special {
            Some(special) if special.carries_v4 => self.carried,
            Some(_) => kinds.class_of(&Place::default(), self.nets.network())?,
            None => {
                let address = self.family.address(first);
                let records = self.sources.iter_mut().map(|source| source.record(address));
                let records = records.collect::<Result<Vec<_>, _>>()?;
                kinds.class_of(&Place::of(&records), self.nets.network())?
            }
        };
        self.known.insert(key.into(), value);
        Ok(value)
    }
}

impl<'a> Source<'a> {
    fn new(database: &'a Arc<Database>, family: Family) -> Result<Self, ClassError> {
        let leaves = database.leaves(family);
        let nothing = Leaf {
            first: 0,
            last: 0,
            record: None,
        };
        let mut source = Self {
            database,
            leaves,
            current: nothing,
            records: HashMap::new(),
        };
        source.advance()?;
        Ok(source)
    }

    fn advance_past(&mut self, last: u128) -> Result<(), ClassError> {
        if self.current.last == last {
            self.advance()
        } else {
            Ok(())
        }
    }

    fn advance(&mut self) -> Result<(), ClassError> {
        let next = self.leaves.next().unwrap_or(Err(BadTree::Ended));
        self.current = next.map_err(|error| self.fault(error.to_string()))?;
        Ok(())
    }

    /// The record of the current network, in which `address` lies.
    fn record(&mut self, address: std::net::IpAddr) -> Result<Record, ClassError> {
        let Some(value) = self.current.record else {
            return Ok(Record::default());
        };
        if let Some(record) = self.records.get(&value) {
            return Ok(*record);
        }
        let (_, record) = self
            .database
            .look_up(address)
            .map_err(|error| self.fault(error.to_string()))?;
        self.records.insert(value, record);
        Ok(record)
    }

    fn fault(&self, cause: String) -> ClassError {
        ClassError::Database {
            database: self.database.name().to_string(),
            cause,
        }
    }
}

/// The family's special networks and the gaps between them.
struct Special {
    /// Index of the next special network.
    next: usize,
    last: u128,
    current: Leaf,
}

impl Special {
    fn new(family: Family) -> Self {
        let next = if family == Family::V4 { SPECIAL.len() } else { 0 };
        let mut special = Self {
            next,
            last: family.last(),
            current: Leaf {
                first: 0,
                last: 0,
                record: None,
            },
        };
        special.go_to(0);
        special
    }

    fn advance_past(&mut self, last: u128) {
        if self.current.last == last {
            self.go_to(last + 1);
        }
    }

    /// `first` is just after the current run, and not past the end of the family.
    fn go_to(&mut self, first: u128) {
        self.current = match SPECIAL.get(self.next) {
            Some(special) if special.first == first => {
                self.next += 1;
                Leaf {
                    first,
                    last: special.last(),
                    record: Some(self.next as u32 - 1),
                }
            }
            Some(special) => Leaf {
                first,
                last: special.first - 1,
                record: None,
            },
            None => Leaf {
                first,
                last: self.last,
                record: None,
            },
        };
    }
}

/// The classes so far, and the one of each place.
struct Kinds<'t> {
    traits: &'t Traits,
    sites: &'t [Site],
    latency: Option<&'t Latency>,
    positions: Vec<(SiteId, Option<Position>)>,
    classes: Vec<Class>,
    ids: HashMap<Class, u16>,
}

impl<'t> Kinds<'t> {
    fn new(sites: &'t [Site], traits: &'t Traits, latency: Option<&'t Latency>) -> Self {
        let ids = (0..=u16::MAX).map(SiteId);
        let positions = ids.zip(sites).map(|(id, site)| (id, site.position())).collect();
        Self {
            traits,
            sites,
            latency,
            positions,
            classes: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn class_of(&mut self, place: &Place, network: Option<Prefix>) -> Result<u16, ClassError> {
        let class = self.class(place, network);
        if let Some(id) = self.ids.get(&class) {
            return Ok(*id);
        }
        if self.classes.len() >= MAX_CLASSES {
            return Err(self.too_many());
        }
        let id = self.classes.len() as u16; // below MAX_CLASSES
        self.classes.push(class.clone());
        self.ids.insert(class, id);
        Ok(id)
    }

    fn too_many(&self) -> ClassError {
        let sites = self.sites.len();
        let Traits {
            nearest: _,
            latency,
            countries,
            continents,
            asns,
            networks,
        } = self.traits;
        match countries.len() + continents.len() + asns.len() + networks.len() {
            0 if !latency => ClassError::TooMany { sites },
            keys => ClassError::TooManyKinds { sites, keys },
        }
    }

    fn class(&self, place: &Place, network: Option<Prefix>) -> Class {
        let Traits {
            nearest,
            latency,
            countries,
            continents,
            asns,
            networks: _,
        } = self.traits;
        let (nearest, distance_known) = match nearest {
            true => self.order_from(place.position),
            false => (Box::default(), true),
        };
        let quickest = || {
            let table = self.latency?;
            let client = table.client(place.position?)?;
            Some(table.order(client, self.sites))
        };
        Class {
            nearest,
            distance_known,
            quickest: latency.then(quickest).flatten().unwrap_or_default(),
            country: place.country.filter(|country| countries.contains(country)),
            continent: place.continent.filter(|continent| continents.contains(continent)),
            asn: place.asn.filter(|asn| asns.contains(asn)),
            network,
        }
    }

    fn order_from(&self, position: Option<Position>) -> (Box<[SiteId]>, bool) {
        let distance_known = position.is_some() || self.sites.len() < 2;
        let Some(position) = position else {
            return (self.positions.iter().map(|(id, _)| *id).collect(), distance_known);
        };
        let away = |(site, place): (&Site, Option<Position>)| {
            place.map_or(f64::INFINITY, |place| {
                site.bias.apply(distance_km(position, place))
            })
        };
        let places = self.sites.iter().zip(&self.positions);
        let mut far: Vec<_> = places
            .map(|(site, (id, place))| (away((site, *place)), *id))
            .collect();
        far.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        (far.into_iter().map(|(_, id)| id).collect(), distance_known)
    }
}
