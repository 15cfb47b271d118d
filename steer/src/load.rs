//! From the command line to everything that can be known before a socket is opened.

use std::path::Path;
use std::sync::Arc;

use steer_dns::{Tables, Zones};
use steer_health::Snapshot;
use steer_topology::{Classes, Fault, Faults, Filter, Fleet, Geography, SiteId};

use crate::exit::Failure;
use crate::resolve::SystemResolver;

/// A checked configuration with all its files read.
pub(crate) struct Loaded {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) classes: Arc<Classes>,
    /// Present where a chain needs geography.
    pub(crate) geography: Option<Arc<Geography>>,
}

impl Loaded {
    /// Reads `config` and every file it names. All faults of a stage are reported in one go.
    pub(crate) fn from_file(config: &Path) -> Result<Self, Failure> {
        Self::from_fleet(Fleet::load(config, &SystemResolver)?)
    }

    /// Reads the files that a checked fleet names.
    pub(crate) fn from_fleet(fleet: Fleet) -> Result<Self, Failure> {
        let zones = Zones::load(&fleet);
        let geography = open_geography(&fleet);
        let (zones, geography) = both(zones, geography)?;
        let classes = match &geography {
            Some(geography) => Classes::build(geography, &fleet.sites)
                .map_err(|error| Failure::Runtime(format!("the geography cannot be compiled: {error}")))?,
            None => Classes::single(),
        };
        Ok(Self {
            fleet: Arc::new(fleet),
            zones: Arc::new(zones),
            classes: Arc::new(classes),
            geography: geography.map(Arc::new),
        })
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
    let needed = fleet
        .steers
        .iter()
        .any(|steer| steer.chain.contains(&Filter::Nearest));
    match &fleet.geo {
        Some(files) => Geography::open(files).map(Some),
        None if needed => built_in().map(Some),
        None => Ok(None),
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
