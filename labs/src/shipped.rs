//! The labs that ship inside the binary, and unpacking them.

use std::fs;
use std::path::Path;

use crate::LabError;

/// One lab's files, by path within its folder.
#[derive(Debug)]
pub(crate) struct Shipped {
    pub(crate) name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! files {
    ($lab:literal, $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../", $lab, "/", $path)))),+]
    };
}

/// Every shipped lab.
pub(crate) const LABS: [Shipped; 16] = [
    Shipped {
        name: "app-death",
        files: files!(
            "app-death",
            "README.md",
            "app-death.clab.yml",
            "edge/exabgp.conf",
            "edge/exabgp.env",
            "edge/steer.toml",
            "far/bird.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "app-hang",
        files: files!(
            "app-hang",
            "README.md",
            "app-hang.clab.yml",
            "edge/exabgp.conf",
            "edge/exabgp.env",
            "edge/steer.toml",
            "far/bird.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "bad-check",
        files: files!(
            "bad-check",
            "README.md",
            "bad-check.clab.yml",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "catchment-shift",
        files: files!(
            "catchment-shift",
            "README.md",
            "catchment-shift.clab.yml",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "resolver/de.conf",
            "resolver/jp.conf",
            "resolver/us.conf",
            "router/de.conf",
            "router/jp.conf",
            "router/us.conf",
            "scenario.toml",
            "service/fra.conf",
            "service/iad.conf",
            "service/nrt.conf",
        ),
    },
    Shipped {
        name: "dns-vs-anycast",
        files: files!(
            "dns-vs-anycast",
            "README.md",
            "dns-vs-anycast.clab.yml",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "frr/daemon.sh",
            "iad2/steer.toml",
            "iadr/bgpd.conf",
            "resolver/clamped1.conf",
            "resolver/clamped2.conf",
            "resolver/dnsmasq1.conf",
            "resolver/dnsmasq2.conf",
            "resolver/honest.conf",
            "resolver/named.conf",
            "resolver/stale1.conf",
            "resolver/stale2.conf",
            "scenario.toml",
            "t1/bfdd.conf",
            "t1/bgpd.conf",
            "t2/bird.conf",
        ),
    },
    Shipped {
        name: "drain-load",
        files: files!(
            "drain-load",
            "README.md",
            "drain-load.clab.yml",
            "edge/steer.toml",
            "far/bird.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "first-failover",
        files: files!(
            "first-failover",
            "README.md",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "first-failover.clab.yml",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "flap",
        files: files!(
            "flap",
            "README.md",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "flap.clab.yml",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "flows",
        files: files!(
            "flows",
            "README.md",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "flows.clab.yml",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "host-faults",
        files: files!(
            "host-faults",
            "README.md",
            "edge/clock-is-off.sh",
            "edge/disk-is-full.sh",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "host-faults.clab.yml",
            "iad/steer.toml",
            "iad/zones/example.com.zone",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "partition",
        files: files!(
            "partition",
            "README.md",
            "edge/gossip.key",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "partition.clab.yml",
            "resolver/unbound.conf",
            "router/bird.conf",
            "router/split.nft",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "peers",
        files: files!(
            "peers",
            "README.md",
            "ahc/bird.conf",
            "ahc/checker.conf",
            "ahc/start.sh",
            "dns/steer.toml",
            "dns/zones/steer.test.zone",
            "edge/steer.toml",
            "exabgp/exabgp.conf",
            "exabgp/exabgp.env",
            "far/bird.conf",
            "gdnsd/config",
            "gdnsd/start.sh",
            "gdnsd/zones/gdnsd.test",
            "gobgp/gobgpd.toml",
            "gobgp/health.sh",
            "pdns/named.conf",
            "pdns/pdns.test.zone",
            "pdns/start.sh",
            "peers.clab.yml",
            "polling/steer.toml",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "region-loss",
        files: files!(
            "region-loss",
            "README.md",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "region-loss.clab.yml",
            "resolver/unbound.conf",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "rolling-upgrade",
        files: files!(
            "rolling-upgrade",
            "README.md",
            "edge/steer.toml",
            "edge/zones/example.com.zone",
            "resolver/unbound.conf",
            "rolling-upgrade.clab.yml",
            "router/bird.conf",
            "scenario.toml",
        ),
    },
    Shipped {
        name: "rpc-edge",
        files: files!(
            "rpc-edge",
            "README.md",
            "db/start.sh",
            "de/bgpd.conf",
            "edge/drain.sh",
            "edge/edge.toml",
            "edge/envoy.yaml",
            "edge/haproxy.cfg",
            "edge/nginx.conf",
            "edge/start.sh",
            "edge/steer.toml",
            "frr/daemon.sh",
            "jp/bird.conf",
            "rpc-edge.clab.yml",
            "scenario.toml",
            "us/bgpd.conf",
        ),
    },
    Shipped {
        name: "silent-death",
        files: files!(
            "silent-death",
            "README.md",
            "edge/bird.conf",
            "edge/steer.toml",
            "far/bird.conf",
            "router/bird.conf",
            "scenario.toml",
            "silent-death.clab.yml",
        ),
    },
];

impl Shipped {
    /// Writes the files below `folder`, which is created.
    pub(crate) fn unpack(&self, folder: &Path) -> Result<(), LabError> {
        for (path, text) in self.files {
            let target = folder.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(|source| LabError::io("create", parent, source))?;
            }
            fs::write(&target, text).map_err(|source| LabError::io("write", &target, source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clab, drill::Drill, scenario::Scenario};

    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_a_lab_is_embedded() {
        for lab in &LABS {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(lab.name);
            let mut found = Vec::new();
            walk(&root, &root, &mut found);
            found.sort();
            let embedded: Vec<_> = lab.files.iter().map(|(path, _)| (*path).to_owned()).collect();
            assert_eq!(found, embedded, "{}", lab.name);
        }
    }

    #[test]
    fn topology_and_scenario_of_every_lab_agree() {
        for lab in &LABS {
            let text = |wanted: &str| lab.files.iter().find(|(path, _)| *path == wanted).unwrap().1;
            let file = format!("{}.clab.yml", lab.name);
            let topology = clab::parse(Path::new(&file), text(&file)).unwrap();
            assert_eq!(topology.name, lab.name);
            let (file, scenario) = (Path::new("scenario.toml"), text("scenario.toml"));
            if Drill::is_one(scenario) {
                Drill::parse(file, scenario)
                    .unwrap()
                    .fits(file, &topology)
                    .unwrap();
            } else {
                Scenario::parse(file, scenario)
                    .unwrap()
                    .fits(file, &topology)
                    .unwrap();
            }
            for node in topology
                .nodes
                .iter()
                .filter(|node| node.kind == clab::Kind::Linux)
            {
                assert_eq!(
                    node.container.privileged,
                    Some(false),
                    "{}: least privilege",
                    node.name
                );
            }
        }
    }

    struct NoHosts;

    impl steer_topology::Resolve for NoHosts {
        fn resolve(&self, host: &str, _: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
            panic!("the file names no host, but {host} was asked for")
        }
    }

    #[test]
    fn the_fleet_of_every_lab_is_valid_in_every_variant() {
        for lab in &LABS {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(lab.name);
            let text = fs::read_to_string(root.join("scenario.toml")).unwrap();
            let is_drill = Drill::is_one(&text);
            let mut sets: Vec<_> = if is_drill {
                let drill = Drill::parse(Path::new("scenario.toml"), &text).unwrap();
                drill.stages.into_iter().map(|stage| stage.set).collect()
            } else {
                let scenario = Scenario::parse(Path::new("scenario.toml"), &text).unwrap();
                scenario.variants.into_iter().map(|variant| variant.set).collect()
            };
            if sets.is_empty() {
                sets.push(std::collections::BTreeMap::new());
            }
            for set in sets {
                let folder = std::env::temp_dir().join(format!("steer-{}-{}", lab.name, std::process::id()));
                crate::world::render(&root, &folder, &set).unwrap();
                let files = lab.files.iter().filter(|(path, _)| path.ends_with("steer.toml"));
                for (path, _) in files {
                    let fleet = steer_topology::Fleet::load(&folder.join(path), &NoHosts);
                    let fleet =
                        fleet.unwrap_or_else(|faults| panic!("{} {path} {set:?}: {faults}", lab.name));
                    // Repetitions are further apart than this, or the guard would hold the second fault. A drill
                    // starts everything anew.
                    assert!(is_drill || fleet.guard.window <= std::time::Duration::from_secs(1));
                }
                fs::remove_dir_all(&folder).unwrap();
            }
        }
    }
}
