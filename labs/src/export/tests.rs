//! The twin of a fleet like quickstart's is written, and is a lab.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::*;

struct NoHosts;

impl Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(format!("{host} is not asked for")))
    }
}

/// As quickstart writes it, with an upstream of its own for one site.
const FLEET: &str = r#"
[fleet]
name  = "quick start"
guard = { keep_sites = 1, max_withdrawn = 2, window = "30s" }
[[site]]
name = "fra"
router_id = "192.0.2.1"
[[site]]
name = "iad"
[[site]]
name = "nrt"
router_id = "192.0.2.3"
[[check]]
name = "web"
kind = "http"
path = "/healthz"
interval = "200ms"
timeout = "100ms"
fall = 2
rise = 2
[[pool]]
name = "web"
check = "web"
endpoints = [
  { site = "fra", address = "198.51.100.10:80", probe = "127.0.0.1:8101" },
  { site = "iad", address = "198.51.100.20:80", probe = "127.0.0.1:8102" },
  { site = "nrt", address = "203.0.113.30:80" },
]
[dns]
listen = ["127.0.0.1:5353"]
[[anycast]]
prefix   = "192.0.2.53/32"
while_up = ["pool:web@local"]
[bgp]
asn = 64512
router_id = "192.0.2.9"
[[bgp.peer]]
address   = "127.0.0.1"
port      = 1790
asn       = 64500
hold_time = "9s"
connect_retry = "1s"
[[bgp.peer]]
site = "nrt"
address = "203.0.113.1"
asn = 64501
bfd = { interval = "100ms", multiplier = 3 }
"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, fleet: &str) -> Self {
        let path = std::env::temp_dir().join(format!("labs-export-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("steer.toml"), fleet).unwrap();
        Self(path)
    }

    fn export(&self) -> Result<Exported, LabError> {
        export(&self.0.join("steer.toml"), &self.0.join("out"), &NoHosts)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join("out").join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn each_site_has_its_peers_as_routers_and_measured_lines_to_the_others() {
    let folder = Folder::new("whole", FLEET);
    let exported = folder.export().unwrap();
    let left: Vec<&str> = exported.left_out.iter().map(String::as_str).collect();
    assert_eq!(
        left,
        [
            "`dns`",
            "`probe` of `[[pool]] endpoints`",
            "`router_id` of `[bgp]`: each site has its own"
        ]
    );
    let topology = folder.read("quick-start-twin.clab.yml");
    for node in ["fra", "fra-isp", "fra-up0", "fra-client", "nrt-up0", "nrt-up1"] {
        assert!(topology.contains(&format!("    {node}:\n")), "{node}: {topology}");
    }
    assert!(!topology.contains("fra-up1"), "only nrt has a second peer");
    assert_eq!(clab::rules::broken(&topology), Vec::<String>::new());
    let scenario = folder.read("scenario.toml");
    assert_eq!(scenario.matches("[[wan]]").count(), 3);
    assert_eq!(scenario.matches("[[stage]]").count(), 3);
    let config = folder.read("edge/steer.toml");
    assert!(
        config.contains("asn = 64501") && config.contains("address = \"100.66.101.1\""),
        "{config}"
    );
    let router = folder.read("routers/nrt-up1.conf");
    assert!(
        router.contains("interval 100 ms; multiplier 3") && router.contains("as 64501"),
        "{router}"
    );
    // The nearer region is liked better: Ashburn is nearer to Frankfurt than Tokyo is.
    let isp = folder.read("routers/fra-isp.conf");
    let (iad, nrt) = (isp.find("to_iad").unwrap(), isp.find("to_nrt").unwrap());
    assert!(
        isp[iad..nrt].contains("bgp_local_pref = 200") && isp[nrt..].contains("bgp_local_pref = 199"),
        "{isp}"
    );
}

#[test]
fn a_folder_with_something_in_it_is_not_written_to() {
    let folder = Folder::new("full", FLEET);
    folder.export().unwrap();
    let error = folder.export().unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn a_fleet_without_routing_is_refused_with_the_reason() {
    let start = FLEET.find("[[anycast]]").unwrap();
    let folder = Folder::new("dns-only", &FLEET[..start]);
    let error = folder.export().unwrap_err().to_string();
    assert!(error.contains("no `[bgp]`"), "{error}");
}
