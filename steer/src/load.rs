//! From the command line to everything that can be known before a socket is opened.

use std::path::Path;
use std::sync::Arc;

use steer_dns::{Tables, Zones};
use steer_health::Snapshot;
use steer_topology::{Classes, Faults, Filter, Fleet, Geography, Latency, SiteId};

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
        // Geography costs a second or so of start-up and is read only where a chain needs it.
        let geography = Geography::of_fleet(&fleet);
        let (zones, (geography, latency)) = both(zones, both(geography, open_latency(&fleet)))?;
        let classes = Classes::of_fleet(&fleet, geography.as_ref(), latency)
            .map_err(|error| Failure::Runtime(format!("the geography cannot be compiled: {error}")))?;
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

/// The round-trip times that the chains ask for, if one does.
fn open_latency(fleet: &Fleet) -> Result<Option<Arc<Latency>>, Faults> {
    let mut filters = fleet.steers.iter().flat_map(|steer| &steer.chain);
    if !filters.any(|filter| *filter == Filter::Latency) {
        return Ok(None);
    }
    match &fleet.latency {
        Some(file) => Latency::open(file).map(Arc::new).map(Some),
        None => Ok(Some(Latency::built_in())),
    }
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
