//! From the command line to everything that can be known before a socket is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use steer_dns::{Tables, Zones};
use steer_health::Snapshot;
use steer_health::gossip::Keys;
use steer_health::gossip::rollout::Digest;
use steer_rpc::edge::EdgeConfig;
use steer_topology::{Classes, Fault, Faults, Filter, Fleet, Geography, Latency, SiteId};

use crate::edge;
use crate::exit::Failure;
use crate::notify;
use crate::resolve::SystemResolver;

/// A checked configuration with all its files read.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) config: PathBuf,
    /// What its text is known by, where other sites have the same.
    pub(crate) digest: Digest,
    /// Counts up by one per reload, from 0.
    pub(crate) generation: u64,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) classes: Arc<Classes>,
    /// Present where a chain needs geography.
    pub(crate) geography: Option<Arc<Geography>>,
    /// What the sites seal their gossip with; present where they gossip.
    pub(crate) keys: Option<Keys>,
    /// What `[edge]` names.
    pub(crate) edge: Option<Arc<EdgeConfig>>,
    /// What geography and round-trip times were read from.
    sources: Vec<Stamp>,
}

/// A file by its length and time stamp; absent where it cannot be seen.
type Stamp = (PathBuf, Option<(u64, SystemTime)>);

impl Loaded {
    /// Reads `config` and every file it names. All faults of a stage are reported in one go.
    pub(crate) fn from_file(config: &Path) -> Result<Self, Failure> {
        let digest = digest(config);
        let fleet = Fleet::load(config, &SystemResolver)?;
        let zones = Zones::load(&fleet);
        let sources = sources(&fleet);
        // Geography costs a second or so of start-up and is read only where a chain needs it.
        let geography = Geography::of_fleet(&fleet);
        let secrets = both(
            gossip_keys(&fleet),
            both(edge::load(&fleet), notify::check(&fleet)),
        );
        let rest = both(geography, both(open_latency(&fleet), secrets));
        let (zones, (geography, (latency, (keys, (edge, ()))))) = both(zones, rest)?;
        Ok(Self {
            config: config.to_owned(),
            digest,
            generation: 0,
            classes: Arc::new(classes(&fleet, geography.as_ref(), latency)?),
            fleet: Arc::new(fleet),
            zones: Arc::new(zones),
            geography: geography.map(Arc::new),
            keys,
            edge,
            sources,
        })
    }

    /// Reads everything again; what has not changed is shared. An error leaves this load as it is.
    pub(crate) fn reload(&self) -> Result<Self, Failure> {
        let digest = digest(&self.config);
        let fleet = Fleet::load(&self.config, &SystemResolver)?;
        let zones = self.zones.reload(&fleet);
        let sources = sources(&fleet);
        // Geography is large, and depends on nothing but its files and on what sites and chains ask of it.
        let is_same_ground = sources == self.sources
            && (&fleet.sites, &fleet.steers) == (&self.fleet.sites, &self.fleet.steers);
        let rest = both(
            gossip_keys(&fleet),
            both(edge::load(&fleet), notify::check(&fleet)),
        );
        let (zones, (keys, (edge, ()))) = both(zones, rest)?;
        let (geography, classes) = if is_same_ground {
            (self.geography.clone(), Arc::clone(&self.classes))
        } else {
            let geography = Geography::of_fleet(&fleet);
            let (geography, latency) = both(geography, open_latency(&fleet))?;
            let classes = classes(&fleet, geography.as_ref(), latency)?;
            (geography.map(Arc::new), Arc::new(classes))
        };
        let is_same_fleet = *self.fleet == fleet;
        Ok(Self {
            config: self.config.clone(),
            digest,
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
            keys,
            edge,
            sources,
        })
    }

    /// The same once more, in the place of what came after it.
    pub(crate) fn again(self, after: &Self) -> Self {
        Self {
            generation: after.generation + 1,
            ..self
        }
    }

    /// Every file that was read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let zones = self.zones.files().map(Path::to_owned);
        let geography = self.sources.iter().map(|(path, _)| path.clone());
        let keys = self.fleet.gossip.iter().map(|gossip| gossip.key_file.clone());
        let edge = self.fleet.edge.iter().map(|edge| edge.file.clone());
        let mut files: Vec<_> = std::iter::once(self.config.clone())
            .chain(edge)
            .chain(zones)
            .chain(geography)
            .chain(keys)
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

    /// The same after a reload: `before` knows what was counted.
    pub(crate) fn tables_after(&self, before: &Tables, snapshot: Arc<Snapshot>) -> Tables {
        Tables::compile_after(
            before,
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

/// The secret of `[fleet] gossip`.
fn gossip_keys(fleet: &Fleet) -> Result<Option<Keys>, Faults> {
    let Some(gossip) = &fleet.gossip else {
        return Ok(None);
    };
    let fault = |message, remedy| Faults::from(Fault::of_file(&gossip.key_file, message, remedy));
    let text = fs::read_to_string(&gossip.key_file).map_err(|error| {
        let remedy = "correct `key_file` of [fleet] gossip, or make the file readable";
        fault(format!("the gossip key cannot be read: {error}"), remedy)
    })?;
    let keys = Keys::parse(&text).map_err(|error| {
        let remedy = "write one or two lines, each 32 octets as 64 hexadecimal digits or as base64";
        fault(format!("the gossip key is no key: {error}"), remedy)
    })?;
    Ok(Some(keys))
}

/// Read beside the fleet: who reads a file that is being written reads it again.
fn digest(config: &Path) -> Digest {
    Digest::of(&fs::read(config).unwrap_or_default())
}

/// Every file of `[fleet] geo` and `latency`.
fn sources(fleet: &Fleet) -> Vec<Stamp> {
    let geo = fleet.geo.iter();
    let databases = geo.flat_map(|geo| geo.city.iter().chain(&geo.country).chain(&geo.asn));
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    databases
        .chain(&fleet.latency)
        .map(|path| (path.clone(), stamp(path)))
        .collect()
}

fn classes(
    fleet: &Fleet,
    geography: Option<&Geography>,
    latency: Option<Arc<Latency>>,
) -> Result<Classes, Failure> {
    Classes::of_fleet(fleet, geography, latency)
        .map_err(|error| Failure::Runtime(format!("the geography cannot be compiled: {error}")))
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
