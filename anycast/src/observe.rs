//! Everything that only looks on: exporters to BMP collectors and the eye on an RPKI cache.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};
use steer_topology::{Bgp, Bmp, Fleet, SiteId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bmp::{self, CollectorStatus, Export, Identity};
use crate::rtr::{self, RpkiStatus, Watch};
use crate::tap::Tap;

/// What the observers of a speaker are doing. Read at any time; serialises as the picture of that moment.
#[derive(Debug, Default)]
pub struct ObserverStatus {
    collectors: Vec<Arc<Mutex<CollectorStatus>>>,
    rpki: Option<Arc<Mutex<RpkiStatus>>>,
}

impl ObserverStatus {
    /// Each BMP collector, in the order of the configuration.
    #[must_use]
    pub fn collectors(&self) -> Vec<CollectorStatus> {
        self.collectors.iter().map(|status| picture(status)).collect()
    }

    /// The RPKI cache, where one is configured.
    #[must_use]
    pub fn rpki(&self) -> Option<RpkiStatus> {
        self.rpki.as_ref().map(|status| picture(status))
    }
}

/// A panic elsewhere leaves numbers that are still worth showing.
fn picture<T: Clone>(status: &Mutex<T>) -> T {
    status.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Serialize for ObserverStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Picture {
            bmp: Vec<CollectorStatus>,
            rpki: Option<RpkiStatus>,
        }
        let (bmp, rpki) = (self.collectors(), self.rpki());
        Picture { bmp, rpki }.serialize(serializer)
    }
}

/// The observers of one speaker, ready to start.
#[derive(Debug)]
pub(crate) struct Observers {
    exports: Vec<Export>,
    watch: Option<Watch>,
    status: Arc<ObserverStatus>,
}

impl Observers {
    pub(crate) fn new(fleet: &Fleet, bgp: &Bgp, site: Option<SiteId>, tap: &Arc<Tap>) -> Self {
        let identity = identity(fleet, bgp, site);
        let export = |bmp: &Bmp| Export::new(bmp.clone(), identity.clone(), Arc::clone(tap));
        let exports: Vec<Export> = bgp.bmp.iter().map(export).collect();
        let ours = fleet.anycast.iter();
        let ours = ours.filter(|anycast| crate::announcer::stands_at(anycast, site));
        let prefixes: BTreeSet<_> = ours.map(|anycast| anycast.prefix).collect();
        let watch = bgp.rpki.map(|cache| Watch::new(cache, bgp.asn, prefixes));
        let status = ObserverStatus {
            collectors: exports.iter().map(Export::status).collect(),
            rpki: watch.as_ref().map(Watch::status),
        };
        Self {
            exports,
            watch,
            status: Arc::new(status),
        }
    }

    pub(crate) fn none() -> Self {
        Self {
            exports: Vec::new(),
            watch: None,
            status: Arc::default(),
        }
    }

    pub(crate) fn status(&self) -> Arc<ObserverStatus> {
        Arc::clone(&self.status)
    }

    /// Starts them all. They end on `stop`, each within its own bound.
    pub(crate) fn start(self, seed: u64, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (index, export) in self.exports.into_iter().enumerate() {
            let seed = seed.wrapping_add(index as u64);
            tasks.spawn(bmp::export(export, seed, stop.clone()));
        }
        if let Some(watch) = self.watch {
            tasks.spawn(rtr::watch(watch, stop.clone()));
        }
        tasks
    }
}

/// RFC 7854 §4.4: as the router calls itself elsewhere; here that is the site and its fleet.
fn identity(fleet: &Fleet, bgp: &Bgp, site: Option<SiteId>) -> Identity {
    let name = match site {
        Some(site) => format!("{}.{}", fleet.site(site).name, fleet.name),
        None => fleet.name.clone(),
    };
    let router_id = fleet.router_id(site);
    let router_id = router_id.map(|id| id.to_string()).unwrap_or_default();
    let description = format!("steer {}, {} {router_id}", env!("CARGO_PKG_VERSION"), bgp.asn);
    Identity { name, description }
}
