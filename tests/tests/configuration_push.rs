//! One configuration push must not take a prefix or a name from all sites: it is asked for twice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use steer_tests::{Admin, Steer, free_port, served};

const ANNOUNCED: &str = "sites = [\"fra\", \"nrt\", \"jfk\"]";

/// Four sites, of which three announce a prefix and answer a name.
struct Fleet {
    folder: tempfile::TempDir,
    dns: SocketAddr,
    admin: Admin,
}

impl Fleet {
    fn new() -> Self {
        let fleet = Self {
            folder: tempfile::tempdir().unwrap(),
            dns: free_port(),
            admin: Admin(free_port()),
        };
        served::write_zone(fleet.folder.path()).unwrap();
        fleet.push(&fleet.config());
        fleet
    }

    fn config(&self) -> String {
        let Self { dns, admin, .. } = self;
        let admin = admin.0;
        format!(
            r#"
[[site]]
name = "fra"
router_id = "192.0.2.1"
[[site]]
name = "nrt"
router_id = "192.0.2.2"
[[site]]
name = "jfk"
router_id = "192.0.2.3"
[[site]]
name = "gru"
router_id = "192.0.2.4"
[[pool]]
name = "web"
endpoints = [ {{ site = "fra", address = "192.0.2.1:443" }}, {{ site = "nrt", address = "192.0.2.2:443" }}, {{ site = "jfk", address = "192.0.2.3:443" }} ]
[dns]
listen = ["{dns}"]
[[zone]]
name = "example.com"
file = "example.com.zone"
[[steer]]
name = "www.example.com"
pool = "web"
[bgp]
asn = 64500
listen = []
[[bgp.peer]]
address = "127.0.0.99"
asn = 64501
[[anycast]]
prefix = "198.51.100.0/24"
{ANNOUNCED}
[admin]
listen = "{admin}"
"#
        )
    }

    fn push(&self, config: &str) {
        fs::write(self.folder.path().join("steer.toml"), config).unwrap();
    }

    fn routes(&self) -> String {
        self.admin.done(&["status", "routes"])
    }
}

#[test]
fn cloudflare_2025_07_14_a_push_that_withdraws_a_prefix_everywhere_is_refused_until_it_is_confirmed() {
    let fleet = Fleet::new();
    let mut steer = Steer::start(fleet.folder.path(), &["run", "--site", "fra"]);
    steer.until("a start", |steer| {
        steer.log().contains("steer started").then_some(())
    });
    assert!(fleet.routes().contains("198.51.100.0/24"), "{}", fleet.routes());
    let before = fleet.routes();

    // As it was then: the service is referred to a site that is not in production.
    let push = fleet.config().replace(ANNOUNCED, "sites = [\"gru\"]");
    fleet.push(&push);
    let refusal = [
        "198.51.100.0/24 would be announced by 0 of the 3 sites that have it now",
        "steer reload --allow-withdraw 198.51.100.0/24",
        "everything stays as it was",
    ];
    fleet.admin.refused(&["reload"], 2, &refusal);
    fleet
        .admin
        .refused(&["reload", "--allow-withdraw", "203.0.113.0/24"], 2, &refusal);
    steer.signal(Signal::SIGHUP);
    steer.until("the refusal of SIGHUP", |steer| {
        (steer.log().matches("reload refused").count() == 3).then_some(())
    });
    assert_eq!(fleet.routes(), before);

    let nameless = push.replace("[[steer]]\nname = \"www.example.com\"\npool = \"web\"\n", "");
    fleet.push(&nameless);
    let both = [
        "198.51.100.0/24 would be",
        "www.example.com would be served by 0 of the 3 sites",
    ];
    fleet.admin.refused(&["reload"], 2, &both);

    fleet.push(&push);
    let said = fleet
        .admin
        .done(&["reload", "--allow-withdraw", "198.51.100.0/24"]);
    assert!(said.contains("another fleet"), "{said}");
    steer.until("the prefix's end at fra", |_| {
        (!fleet.routes().contains("198.51.100.0/24")).then_some(())
    });
    assert_eq!(steer.stop().status.code(), Some(0));
}
