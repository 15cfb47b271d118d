//! From databases and sites to the partition.

use std::collections::HashMap;
use std::sync::Arc;

use super::table::{Address, Table, TableBuilder};
use super::{CARRIES_V4, Class, Classes, MAX_CLASSES};
use crate::country::{Position, distance_km};
use crate::geography::{BadTree, Database, Family, Leaf, Leaves, Place, Record, SPECIAL};
use crate::{Geography, Site, SiteId};

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
    /// Divides all addresses. Takes time in proportion to the networks of the databases.
    pub fn build(geography: &Geography, sites: &[Site]) -> Result<Self, ClassError> {
        let mut orders = Orders::new(sites);
        let v4: Table<u32> = Sweep::new(geography, Family::V4, CARRIES_V4)?.run(&mut orders)?;
        // Where all of IPv4 is one class, what carries IPv4 may join its neighbours.
        let carried = v4.only_value().unwrap_or(CARRIES_V4);
        let v6 = Sweep::new(geography, Family::V6, carried)?.run(&mut orders)?;
        Ok(Self {
            classes: orders.classes,
            v4,
            v6,
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
    sources: Vec<Source<'a>>,
    /// What was made of a combination of records, the special network first.
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
    fn new(geography: &'a Geography, family: Family, carried: u16) -> Result<Self, ClassError> {
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
            sources,
            known: HashMap::new(),
        })
    }

    fn run<A: Address>(mut self, orders: &mut Orders) -> Result<Table<A>, ClassError> {
        let mut table = TableBuilder::new();
        let mut key = Vec::with_capacity(self.sources.len() + 1);
        let mut first = 0;
        loop {
            key.clear();
            key.push(self.special.current.record);
            key.extend(self.sources.iter().map(|source| source.current.record));
            let value = self.value(&key, first, orders)?;
            table.push(A::from_bits(first), value);
            let ends = self.sources.iter().map(|source| source.current.last);
            let last = ends.fold(self.special.current.last, u128::min);
            if last == self.family.last() {
                return Ok(table.build());
            }
            self.special.advance_past(last);
            for source in &mut self.sources {
                source.advance_past(last)?;
            }
            first = last + 1;
        }
    }

    /// The table's value for a combination of records, of which `first` is an address.
    fn value(&mut self, key: &[Option<u32>], first: u128, orders: &mut Orders) -> Result<u16, ClassError> {
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
            Some(_) => orders.class_at(None)?,
            None => {
                let address = self.family.address(first);
                let records = self.sources.iter_mut().map(|source| source.record(address));
                let records = records.collect::<Result<Vec<_>, _>>()?;
                orders.class_at(Place::of(&records).position)?
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
struct Orders {
    sites: Vec<(SiteId, Option<Position>)>,
    classes: Vec<Class>,
    ids: HashMap<Class, u16>,
}

impl Orders {
    fn new(sites: &[Site]) -> Self {
        let ids = (0..=u16::MAX).map(SiteId);
        let position = |site: &Site| Position::new(site.latitude, site.longitude);
        let sites = ids.zip(sites).map(|(id, site)| (id, position(site))).collect();
        Self {
            sites,
            classes: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn class_at(&mut self, position: Option<Position>) -> Result<u16, ClassError> {
        let class = self.order_from(position);
        if let Some(id) = self.ids.get(&class) {
            return Ok(*id);
        }
        if self.classes.len() >= MAX_CLASSES {
            return Err(ClassError::TooMany {
                sites: self.sites.len(),
            });
        }
        let id = self.classes.len() as u16; // below MAX_CLASSES
        self.classes.push(class.clone());
        self.ids.insert(class, id);
        Ok(id)
    }

    fn order_from(&self, position: Option<Position>) -> Class {
        let distance_known = position.is_some() || self.sites.len() < 2;
        let Some(position) = position else {
            let nearest = self.sites.iter().map(|(id, _)| *id).collect();
            return Class {
                nearest,
                distance_known,
            };
        };
        let away = |site: Option<Position>| site.map_or(f64::INFINITY, |site| distance_km(position, site));
        let mut far: Vec<_> = self.sites.iter().map(|(id, site)| (away(*site), *id)).collect();
        far.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Class {
            nearest: far.into_iter().map(|(_, id)| id).collect(),
            distance_known,
        }
    }
}
