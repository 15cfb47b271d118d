//! Where an address is, as the databases say.
//!
//! Databases are asked in order, `city` before `country`. The first record that gives a country decides it, the
//! first that gives coordinates decides the position; a later record that names another country is passed over,
//! so that a place never mixes two answers. Where only the country is known, its population-weighted centre is
//! the position.
//!
//! An IPv6 address that carries an IPv4 address is where that IPv4 address is: see [`Carried`].

mod carried;
mod database;
mod record;
mod tree;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Serialize;

pub use self::carried::Carried;
pub(crate) use self::carried::SPECIAL;
#[cfg(test)]
pub(crate) use self::database::BadDatabase;
pub(crate) use self::database::{Asked, Database, Family};
pub(crate) use self::record::Record;
pub(crate) use self::tree::{BadTree, Leaf, Leaves};
use crate::country::{Continent, CountryCode, Position};
use crate::{Asn, Fault, Faults, Fleet, GeoFiles, Prefix};

/// What a page or a command that shows results of the built-in database says beside them.
pub const ATTRIBUTION: &str = "Country data: geo-whois-asn-country by ip-location-db, from statistics of the \
    Number Resource Organization (nro.net), CC BY 4.0. Country centres: GeoNames (geonames.org), CC BY 4.0.";

/// Name of the built-in database in [`Located::database`] and in messages.
pub const BUILT_IN: &str = "built-in geo-country.mmdb";

/// npm `@ip-location-db/geo-whois-asn-country-mmdb` 2.3.2026061719, both families; see `data/NOTICE.md`.
const BUILT_IN_XZ: &[u8] = include_bytes!("../data/geo-country.mmdb.xz");

/// More than this is not unpacked from the built-in database; it has 7.5 MiB.
const BUILT_IN_MAX: u64 = 64 << 20;

/// The databases of a fleet, opened and verified.
#[derive(Debug, Clone)]
pub struct Geography {
    /// In the order in which they are asked.
    databases: Vec<Arc<Database>>,
}

/// Where an address is. What is not known is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Place {
    /// A country of the built-in table.
    pub country: Option<CountryCode>,
    /// The country's continent by the built-in table; the database's own only where it names no country.
    pub continent: Option<Continent>,
    /// Coordinates of the record, or the centre of the country.
    pub position: Option<Position>,
    /// The AS that announces the address.
    pub asn: Option<Asn>,
}

/// An address that was looked up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Located {
    /// The network of the record that decided; for an unknown address the narrowest network that is unknown. IPv4
    /// for an address that carries one.
    pub network: Prefix,
    /// The database that decided, as the operator named it; empty when none covers the address family.
    pub database: Arc<str>,
    /// What is known.
    pub place: Place,
}

/// The built-in database does not open: the program file is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {BUILT_IN} is damaged: {cause}; install the program again")]
pub struct BuiltInDamaged {
    /// What the decoder says.
    cause: String,
}

impl Geography {
    /// The country database that is part of the program. Unpacked at the first call, shared after that.
    pub fn built_in() -> Result<Self, BuiltInDamaged> {
        static OPENED: OnceLock<Result<Arc<Database>, BuiltInDamaged>> = OnceLock::new();
        let opened = OPENED.get_or_init(|| open_built_in().map(Arc::new));
        opened.clone().map(|database| Self {
            databases: vec![database],
        })
    }

    /// Opens and verifies every file. One fault per broken file; none is used when one is broken.
    pub fn open(files: &GeoFiles) -> Result<Self, Faults> {
        let mut databases = Vec::new();
        let mut faults = Vec::new();
        let places = files.city.iter().chain(&files.country);
        let places = places.map(|path| (path, Asked::Place));
        for (path, asked) in places.chain(files.asn.iter().map(|path| (path, Asked::Asn))) {
            match open_file(path, asked) {
                Ok(database) => databases.push(Arc::new(database)),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Ok(Self { databases })
        } else {
            Err(Faults(faults))
        }
    }

    /// What the chains of a fleet need, `[fleet] geo` or the built-in database; `None` where they need nothing and
    /// nothing is named.
    pub fn of_fleet(fleet: &Fleet) -> Result<Option<Self>, Faults> {
        let mut filters = fleet.steers.iter().flat_map(|steer| &steer.chain);
        let needed = filters.any(|filter| filter.needs_geography());
        let built_in = || {
            Self::built_in().map_err(|error| {
                let message = format!("the built-in country database cannot be read: {error}");
                Faults::from(Fault::of_file(
                    Path::new("(built in)"),
                    message,
                    "name your own in [fleet] geo",
                ))
            })
        };
        match &fleet.geo {
            Some(files) if files.country.is_empty() && files.city.is_empty() => {
                built_in()?.with_asn(&files.asn).map(Some)
            }
            Some(files) => Self::open(files).map(Some),
            None if needed => built_in().map(Some),
            None => Ok(None),
        }
    }

    /// Opens and verifies databases of AS numbers, beside those that are open.
    fn with_asn(mut self, files: &[PathBuf]) -> Result<Self, Faults> {
        let opened = Self::open(&GeoFiles {
            country: Vec::new(),
            city: Vec::new(),
            asn: files.to_vec(),
        })?;
        self.databases.extend(opened.databases);
        Ok(self)
    }

    /// No database: nothing is known of any address.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            databases: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(databases: Vec<Database>) -> Self {
        Self {
            databases: databases.into_iter().map(Arc::new).collect(),
        }
    }

    /// The databases, in the order in which they are asked.
    pub(crate) fn databases(&self) -> &[Arc<Database>] {
        &self.databases
    }

    /// Looks up one address in the databases themselves. The slow and plain way; [`crate::Classes`] is the quick one.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Located {
        let (address, unknown) = match Carried::by(address) {
            Carried::Itself => (address, whole(address)),
            Carried::V4 { address, .. } => (IpAddr::V4(address), whole(IpAddr::V4(address))),
            Carried::Hidden { network } => {
                return Located {
                    network,
                    database: Arc::from(""),
                    place: Place::default(),
                };
            }
        };
        let mut located = Located {
            network: unknown,
            database: Arc::from(""),
            place: Place::default(),
        };
        let mut decided = false;
        let mut records = Vec::new();
        for database in self
            .databases
            .iter()
            .filter(|database| database.covers(Family::of(address)))
        {
            let Ok((network, record)) = database.look_up(address) else {
                continue;
            };
            if record.is_known() && !decided {
                decided = true;
                (located.network, located.database) = (network, database.name().clone());
            }
            if !decided && network.length() >= located.network.length() {
                (located.network, located.database) = (network, database.name().clone());
            }
            records.push(record);
        }
        located.place = Place::of(&records);
        located
    }
}

impl Place {
    /// Joins what the databases say of one address, in the order in which they are asked.
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut joined = Record::default();
        for record in records {
            joined.join(record);
        }
        Self {
            country: joined.country,
            continent: joined
                .country
                .and_then(CountryCode::continent)
                .or(joined.continent),
            position: joined
                .position
                .or_else(|| joined.country.and_then(CountryCode::centre)),
            asn: joined.asn,
        }
    }
}

fn open_built_in() -> Result<Database, BuiltInDamaged> {
    let damaged = |cause: String| BuiltInDamaged { cause };
    let mut bytes = Vec::new();
    let mut unpacked = lzma_rust2::XzReader::new(BUILT_IN_XZ, false).take(BUILT_IN_MAX);
    unpacked
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(error.to_string()))?;
    Database::open(BUILT_IN, bytes).map_err(|error| damaged(error.to_string()))
}

fn open_file(path: &Path, asked: Asked) -> Result<Database, Fault> {
    Database::read(path, asked).map_err(|error| Fault::of_file(path, error.to_string(), error.remedy()))
}

/// The whole address space of a family.
fn whole(address: IpAddr) -> Prefix {
    let (v4, v6) = (
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    );
    prefix(if address.is_ipv4() { v4 } else { v6 }, 0)
}

/// The network of `length` bits around `address`; a length beyond the family's gives the single address.
fn prefix(address: IpAddr, length: u8) -> Prefix {
    Prefix::covering(address, length).unwrap_or_else(|_| Prefix::from(address))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod writer;
