//! All zones of a fleet.

use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::rr::Name;
use steer_topology::{Fault, Faults, Fleet};

use crate::master::Master;
use crate::wire;
use crate::zone::Zone;

/// All zones, loaded once, never changed.
#[derive(Debug, Default)]
pub struct Zones {
    by_apex: HashMap<Box<[u8]>, Arc<Zone>>,
}

impl Zones {
    /// Reads and checks the master file of every zone. All faults of all files come in one run; one fault
    /// refuses the whole load.
    pub fn load(fleet: &Fleet) -> Result<Self, Faults> {
        let steered: Vec<Box<[u8]>> = fleet
            .steers
            .iter()
            .filter_map(|steer| key_of(&steer.name))
            .collect();
        let mut zones = Self::default();
        let mut faults: Vec<Fault> = Vec::new();
        for file in &fleet.zones {
            let Ok(apex) = Name::from_ascii(file.name.as_str()) else {
                continue;
            };
            let apex_key = wire::key(&apex);
            // Only the closest zone serves a steered name.
            let own: Vec<Box<[u8]>> = fleet
                .steers
                .iter()
                .zip(&steered)
                .filter(|(steer, _)| {
                    fleet
                        .zones
                        .get(steer.zone)
                        .is_some_and(|zone| zone.name == file.name)
                })
                .map(|(_, key)| key.clone())
                .collect();
            let mut master = Master::read(&file.file, &apex);
            match Zone::build(&apex, &mut master, &own) {
                Some(zone) => {
                    zones.by_apex.insert(apex_key, Arc::new(zone));
                }
                None => faults.append(&mut master.faults),
            }
        }
        if faults.is_empty() {
            Ok(zones)
        } else {
            Err(Faults(faults))
        }
    }

    /// Number of zones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_apex.len()
    }

    /// Whether there is no zone at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_apex.is_empty()
    }

    /// The closest zone around a name. RFC 4035 §3.1.4.1: DS at a zone's own name belongs to the zone above.
    pub(crate) fn closest(&self, key: &[u8], is_ds: bool) -> Option<&Zone> {
        let mut found = wire::upwards(key).filter_map(|above| self.by_apex.get(above));
        let first = found.next()?;
        let of_parent = if is_ds && *first.apex == *key {
            found.next()
        } else {
            None
        };
        Some(of_parent.unwrap_or(first))
    }

    /// One zone from a text, for tests.
    #[cfg(test)]
    pub(crate) fn of_text(apex: &str, text: &str, steered: &[&str]) -> Result<Self, Faults> {
        let apex = Name::from_ascii(apex).unwrap();
        let steered: Vec<_> = steered
            .iter()
            .map(|name| wire::key(&Name::from_ascii(name).unwrap()))
            .collect();
        let mut master = Master::of_text(std::path::Path::new("test.zone"), text, &apex);
        match Zone::build(&apex, &mut master, &steered) {
            Some(zone) => Ok(Self {
                by_apex: HashMap::from([(wire::key(&apex), Arc::new(zone))]),
            }),
            None => Err(Faults(master.faults)),
        }
    }
}

/// A configured name as look-ups want it. Its type promises a valid name.
pub(crate) fn key_of(name: &steer_topology::Name) -> Option<Box<[u8]>> {
    Name::from_ascii(name.as_str()).ok().map(|name| wire::key(&name))
}
