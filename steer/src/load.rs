//! From the command line to everything that can be known before a socket is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use steer_dns::{Tables, Zones};
use steer_health::Snapshot;
use steer_topology::{Classes, Fault, Faults, Filter, Fleet, Geography, SiteId, Steer};

use crate::exit::Failure;
use crate::resolve::SystemResolver;

/// A checked configuration with all its files read.
pub(crate) struct Loaded {
    pub(crate) config: PathBuf,
    /// Counts up by one per reload, from 0.
    pub(crate) generation: u64,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) classes: Arc<Classes>,
    /// Present where a chain needs geography.
    pub(crate) geography: Option<Arc<Geography>>,
    geography_files: Vec<Stamp>,
}

/// A file by its length and time stamp; absent where it cannot be seen.
type Stamp = (PathBuf, Option<(u64, SystemTime)>);

impl Loaded {
    /// Reads `config` and every file it names. All faults of a stage are reported in one go.
    pub(crate) fn from_file(config: &Path) -> Result<Self, Failure> {
        let fleet = Fleet::load(config, &SystemResolver)?;
        let zones = Zones::load(&fleet);
        let geography_files = geography_files(&fleet);
        let geography = open_geography(&fleet);
        let (zones, geography) = both(zones, geography)?;
        Ok(Self {
            config: config.to_owned(),
            generation: 0,
            classes: Arc::new(classes(geography.as_ref(), &fleet)?),
            fleet: Arc::new(fleet),
            zones: Arc::new(zones),
            geography: geography.map(Arc::new),
            geography_files,
        })
    }

    /// Reads everything again; what has not changed is shared. An error leaves this load as it is.
    pub(crate) fn reload(&self) -> Result<Self, Failure> {
        let fleet = Fleet::load(&self.config, &SystemResolver)?;
        let zones = self.zones.reload(&fleet);
        let geography_files = geography_files(&fleet);
        // Geography is large, and depends on nothing but its files and on whether it is needed.
        let is_same =
            geography_files == self.geography_files && needs_geography(&fleet) == self.geography.is_some();
        let geography = if is_same {
            Ok(self.geography.clone())
        } else {
            open_geography(&fleet).map(|geography| geography.map(Arc::new))
        };
        let (zones, geography) = both(zones, geography)?;
        let classes = if is_same && fleet.sites == self.fleet.sites {
            Arc::clone(&self.classes)
        } else {
            Arc::new(classes(geography.as_deref(), &fleet)?)
        };
        let is_same_fleet = *self.fleet == fleet;
        Ok(Self {
            config: self.config.clone(),
            generation: self.generation + 1,
            // Shared, so that everybody sees that it is the same.
            fleet: if is_same_fleet {
                Arc::clone(&self.fleet)
            } else {
                Arc::new(fleet)
            },
            zones: Arc::new(zones),
            classes,
            geography,
            geography_files,
        })
    }

    /// Every file that was read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let zones = self.zones.files().map(Path::to_owned);
        let geography = self.geography_files.iter().map(|(path, _)| path.clone());
        let mut files: Vec<_> = std::iter::once(self.config.clone())
            .chain(zones)
            .chain(geography)
            .collect();
        files.sort();
        files
    }

    /// What is served as it stands and is hardly meant.
    pub(crate) fn log_warnings(&self) {
        for warning in self.zones.warnings() {
            tracing::warn!("{warning}");
        }
    }

    /// The decision tables that follow from a snapshot of this fleet.
    pub(crate) fn tables(&self, snapshot: Arc<Snapshot>) -> Tables {
        Tables::compile(
            snapshot,
            Arc::clone(&self.zones),
            Arc::clone(&self.classes),
            self.geography.clone(),
        )
    }

    /// The site that `--site` names.
    pub(crate) fn local_site(&self, name: Option<&str>) -> Result<Option<SiteId>, Failure> {
        self.fleet
            .local_site(name)
            .map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Geography costs a second or so of start-up and is read only where a chain needs it.
fn open_geography(fleet: &Fleet) -> Result<Option<Geography>, Faults> {
    match &fleet.geo {
        Some(files) => Geography::open(files).map(Some),
        None if needs_geography(fleet) => built_in().map(Some),
        None => Ok(None),
    }
}

fn needs_geography(fleet: &Fleet) -> bool {
    let nearest = |steer: &Steer| steer.chain.contains(&Filter::Nearest);
    fleet.geo.is_some() || fleet.steers.iter().any(nearest)
}

fn geography_files(fleet: &Fleet) -> Vec<Stamp> {
    let files = fleet
        .geo
        .iter()
        .flat_map(|geo| geo.city.iter().chain(&geo.country));
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    files.map(|path| (path.clone(), stamp(path))).collect()
}

fn classes(geography: Option<&Geography>, fleet: &Fleet) -> Result<Classes, Failure> {
    match geography {
        Some(geography) => Classes::build(geography, &fleet.sites)
            .map_err(|error| Failure::Runtime(format!("the geography cannot be compiled: {error}"))),
        None => Ok(Classes::single()),
    }
}

/// The database is part of this binary: a fault in it is a fault of the build.
fn built_in() -> Result<Geography, Faults> {
    Geography::built_in().map_err(|error| {
        let message = format!("the built-in country database cannot be read: {error}");
        Fault::of_file(Path::new("(built in)"), message, "name your own in [fleet] geo").into()
    })
}

fn both<A, B>(a: Result<A, Faults>, b: Result<B, Faults>) -> Result<(A, B), Faults> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(Faults(mut a)), Err(Faults(b))) => {
            a.extend(b);
            Err(Faults(a))
        }
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
    }
}
