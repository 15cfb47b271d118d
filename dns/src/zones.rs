//! All zones of a fleet.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hickory_proto::rr::Name;
use steer_topology::{Fault, Faults, Fleet, ZoneFile};

use crate::master::{Master, Source};
use crate::wire;
use crate::zone::{SteeredKey, Zone};

/// Most threads that read zones. Beyond it the disk is the bound.
const MAX_READERS: usize = 8;

/// All zones of one load, never changed.
#[derive(Debug, Default)]
pub struct Zones {
    by_apex: HashMap<Box<[u8]>, Entry>,
    warnings: Vec<Fault>,
    /// Zones that were taken over from the load before.
    kept: usize,
}

/// One zone, and what it was read from.
#[derive(Debug, Clone)]
struct Entry {
    zone: Arc<Zone>,
    sources: Arc<[Source]>,
    /// The steered names in it, which shape it as its files do.
    steered: Arc<[SteeredKey]>,
    warnings: Arc<[Fault]>,
    is_kept: bool,
}

impl Zones {
    /// Reads and checks the master file of every zone. All faults of all files come in one run; one fault
    /// refuses the whole load.
    pub fn load(fleet: &Fleet) -> Result<Self, Faults> {
        Self::default().reload(fleet)
    }

    /// Goes on to another fleet, or to other files. Only zones whose files or steered names have changed are read
    /// again; the others are shared with this load. One fault refuses the whole load, and this one stays as it is.
    pub fn reload(&self, fleet: &Fleet) -> Result<Self, Faults> {
        let mut steered: Vec<Vec<SteeredKey>> = vec![Vec::new(); fleet.zones.len()];
        for steer in &fleet.steers {
            // Only the closest zone serves a steered name.
            if let (Some(names), Some(key)) = (steered.get_mut(steer.zone), key_of(&steer.name)) {
                names.push((key, steer.kinds));
            }
        }
        let jobs: Vec<_> = fleet.zones.iter().zip(steered).collect();
        let mut next = Self::default();
        let mut faults: Vec<Fault> = Vec::new();
        for outcome in side_by_side(&jobs, |(file, steered)| self.one(file, steered)) {
            match outcome {
                Ok(entry) => {
                    next.warnings.extend(entry.warnings.iter().cloned());
                    next.kept += usize::from(entry.is_kept);
                    next.by_apex.insert(entry.zone.apex.clone(), entry);
                }
                Err(mut found) => faults.append(&mut found),
            }
        }
        if faults.is_empty() {
            Ok(next)
        } else {
            Err(Faults(faults))
        }
    }

    /// One zone: as it was, or read again.
    fn one(&self, file: &ZoneFile, steered: &[SteeredKey]) -> Result<Entry, Vec<Fault>> {
        let apex = Name::from_ascii(file.name.as_str()).map_err(|error| {
            let message = format!(
                "zone {:?} has no name that DNS can carry: {error}",
                file.name.as_str()
            );
            vec![Fault::of_file(&file.file, message, "write a domain name")]
        })?;
        let known = self.by_apex.get(&wire::key(&apex)).filter(|known| {
            let is_same_file = known
                .sources
                .first()
                .is_some_and(|source| source.path() == file.file);
            is_same_file && *known.steered == *steered && known.sources.iter().all(Source::is_unchanged)
        });
        if let Some(known) = known {
            return Ok(Entry {
                is_kept: true,
                ..known.clone()
            });
        }
        let mut master = Master::read(&file.file, &apex);
        match Zone::build(&apex, &mut master, steered) {
            Some(zone) => Ok(Entry {
                zone: Arc::new(zone),
                sources: master.sources.into(),
                steered: steered.into(),
                warnings: master.warnings.into(),
                is_kept: false,
            }),
            None => Err(master.faults),
        }
    }

    /// What is served as it stands and is hardly meant, in the order of the zones.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// How many zones this load shares with the one before it.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Every file that was read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.by_apex
            .values()
            .flat_map(|entry| entry.sources.iter().map(Source::path))
    }

    /// Number of records in all zones.
    #[must_use]
    pub fn records(&self) -> usize {
        self.by_apex.values().map(|entry| entry.zone.records()).sum()
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
        let mut found = wire::upwards(key).filter_map(|above| Some(&self.by_apex.get(above)?.zone));
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
            .map(|name| {
                let kinds = steer_topology::Kinds::NONE.with(steer_topology::Kind::Address);
                (wire::key(&Name::from_ascii(name).unwrap()), kinds)
            })
            .collect();
        let master = Master::of_text(Path::new("test.zone"), text, &apex);
        Self::of_master(&apex, master, &steered)
    }

    /// One zone that no file stands behind.
    pub(crate) fn of_master(apex: &Name, mut master: Master, steered: &[SteeredKey]) -> Result<Self, Faults> {
        let Some(zone) = Zone::build(apex, &mut master, steered) else {
            return Err(Faults(master.faults));
        };
        let entry = Entry {
            zone: Arc::new(zone),
            sources: Arc::default(),
            steered: steered.into(),
            warnings: Arc::default(),
            is_kept: false,
        };
        Ok(Self {
            by_apex: HashMap::from([(wire::key(apex), entry)]),
            warnings: master.warnings,
            kept: 0,
        })
    }
}

/// Does every job, on as many threads as are of use; the results are in the order of the jobs.
fn side_by_side<J: Sync, T: Send>(jobs: &[J], work: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let readers = thread::available_parallelism().map_or(1, NonZero::get);
    let readers = readers.min(MAX_READERS).min(jobs.len());
    if readers < 2 {
        return jobs.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let reader = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(number) else {
                return done;
            };
            done.push((number, work(job)));
        }
    };
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
        let joined = threads.into_iter().flat_map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A configured name as look-ups want it. Its type promises a valid name.
pub(crate) fn key_of(name: &steer_topology::Name) -> Option<Box<[u8]>> {
    Name::from_ascii(name.as_str()).ok().map(|name| wire::key(&name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ZONE: &str = "@ 60 IN SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.53\n$INCLUDE more\n";

    fn fleet(folder: &Path) -> Fleet {
        let mut fleet = (*crate::testing::fleet(&crate::testing::config("[\"up\"]", ""))).clone();
        fleet.steers.clear();
        fleet.zones = ["a.example", "b.example"]
            .map(|name| {
                fs::write(folder.join(name), ZONE).unwrap();
                ZoneFile {
                    name: name.parse().unwrap(),
                    file: folder.join(name),
                }
            })
            .into();
        fs::write(folder.join("more"), "x 60 TXT one\n").unwrap();
        fleet
    }

    fn zone<'z>(zones: &'z Zones, name: &str) -> &'z Arc<Zone> {
        &zones.by_apex[&wire::key(&Name::from_ascii(name).unwrap())].zone
    }

    #[test]
    fn a_reload_reads_only_what_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = fleet(folder.path());
        let first = Zones::load(&fleet).unwrap();
        assert_eq!((first.len(), first.kept(), first.records()), (2, 0, 8));
        fs::write(folder.path().join("a.example"), format!("{ZONE}y 60 TXT new\n")).unwrap();
        let second = first.reload(&fleet).unwrap();
        assert_eq!((second.len(), second.kept(), second.records()), (2, 1, 9));
        assert!(Arc::ptr_eq(zone(&first, "b.example"), zone(&second, "b.example")));
        assert!(!Arc::ptr_eq(
            zone(&first, "a.example"),
            zone(&second, "a.example")
        ));
        fs::write(folder.path().join("more"), "x 60 TXT two\n").unwrap();
        assert_eq!(
            second.reload(&fleet).unwrap().kept(),
            0,
            "what is included counts"
        );
    }

    #[test]
    fn a_fault_refuses_the_reload_and_leaves_the_old_zones() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = fleet(folder.path());
        let first = Zones::load(&fleet).unwrap();
        fs::write(folder.path().join("b.example"), "no zone\n").unwrap();
        let Err(Faults(faults)) = first.reload(&fleet) else {
            panic!("taken")
        };
        assert!(
            faults.iter().all(|fault| fault.file.ends_with("b.example")),
            "{faults:?}"
        );
        assert_eq!(first.records(), 8);
    }

    #[test]
    fn results_of_several_threads_are_in_order() {
        let jobs: Vec<usize> = (0..1_000).collect();
        assert_eq!(
            side_by_side(&jobs, |job| job * 2),
            (0..1_000).map(|n| n * 2).collect::<Vec<_>>()
        );
    }
}
