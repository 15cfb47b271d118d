//! Numbers that endpoints tell of themselves, and what they steer: read by HTTP, shown by the admin API, felt by DNS.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use serde_json::Value;
use steer_tests::dns::Question;
use steer_tests::free_port;

use crate::Watch;
use crate::servers::{self, Certificates, Nginx, listening};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_number_that_is_read_is_the_load_of_its_site_or_the_weight_of_its_endpoint_until_its_lease_ends() {
    let name =
        "a_number_that_is_read_is_the_load_of_its_site_or_the_weight_of_its_endpoint_until_its_lease_ends";
    if servers::missing("/usr/sbin/nginx", name) || servers::missing("/usr/bin/curl", name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let nginx = Nginx::start(folder.path(), &certificates);
    let [a, b] =
        ["127.0.0.2", "127.0.0.3"].map(|ip| SocketAddr::new(ip.parse().unwrap(), free_port().port()));
    // Requests per ten seconds, and weight; nothing where they are not told.
    let tell = |numbers: [Option<(u32, u32)>; 2]| {
        let server = |(address, numbers): (SocketAddr, Option<(u32, u32)>)| match numbers {
            Some((rps, weight)) => format!(
                "server {{ listen {address}; location /rps {{ return 200 '{{\"rps\": {rps}}}'; }}\n\
                 location /metrics {{ return 200 '# TYPE weight gauge\nweight{{pool=\"web\"}} {weight}\n'; }} }}\n"
            ),
            None => format!("server {{ listen {address}; return 404; }}\n"),
        };
        let servers: String = [a, b].into_iter().zip(numbers).map(server).collect();
        nginx.reload_with(&servers);
    };
    tell([Some((30, 0)), Some((30, 5))]);
    let dns = free_port();
    let zone = folder.path().join("zone");
    std::fs::write(&zone, "@ 60 SOA ns. host. 1 2 3 4 5\n@ 60 NS ns.example.net.\n").unwrap();
    let mut watch = Watch::new();
    watch.write(&format!(
        r#"
[dns]
listen = ["{dns}"]
[[site]]
name = "fra"
capacity = 1000
[[site]]
name = "nrt"
capacity = 1000
[[check]]
name = "requests"
kind = "load"
interval = "200ms"
path = "/rps"
value = "json:/rps"
scale = 10
lease = "2s"
[[check]]
name = "weight"
kind = "load"
interval = "200ms"
path = "/metrics"
value = 'prometheus:weight{{pool="web"}}'
feeds = "weight"
lease = "2s"
[[pool]]
name = "api"
load = "requests"
endpoints = [{{ site = "fra", address = "{a}" }}, {{ site = "fra", address = "{b}" }}]
[[pool]]
name = "web"
load = "weight"
endpoints = [{{ site = "fra", address = "{a}" }}, {{ site = "nrt", address = "{b}" }}]
[[zone]]
name = "example.com"
file = "{zone}"
[[steer]]
name = "www.example.com"
pool = "web"
chain = ["up", "weighted", "take 1"]
"#,
        zone = zone.display()
    ));
    watch.start_with(&["run", "--site", "fra"]);
    listening(watch.admin.0);
    let only = |address: SocketAddr| {
        until("one answer", || {
            draws(dns, 20).into_iter().eq([(address.ip(), 20)]).then_some(())
        });
    };

    until("the load of both", || {
        (counted(&watch, "fra") == Some((600, "check requests".to_owned()))).then_some(())
    });
    assert_eq!(counted(&watch, "nrt"), None);
    only(b);
    tell([Some((50, 5)), Some((30, 0))]);
    until("the new load", || {
        (counted(&watch, "fra")?.0 == 800).then_some(())
    });
    only(a);
    // Half of a site would look like half of its load; and a weight that nobody tells is the one that is written.
    tell([Some((50, 0)), None]);
    until("no load after its lease", || {
        counted(&watch, "fra").is_none().then_some(())
    });
    only(b);
    tell([None, None]);
    until("the weights that are written", || {
        (draws(dns, 40).len() == 2).then_some(())
    });
    // Nothing of this is a verdict.
    let status = watch.admin.json(&["status"]);
    let rows = status["endpoints"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["verdict"] != "down"), "{rows:?}");
    tell([Some((10, 1)), Some((10, 1))]);
    until("the load again", || {
        (counted(&watch, "fra")?.0 == 200).then_some(())
    });
}

/// What `/v1/loads` says of a site.
fn counted(watch: &Watch, site: &str) -> Option<(u64, String)> {
    let url = format!("http://{}/v1/loads", watch.admin.0);
    let curl = std::process::Command::new("/usr/bin/curl")
        .args(["-s", &url])
        .output()
        .unwrap();
    let sites: Value = serde_json::from_slice(&curl.stdout).unwrap();
    let one = sites
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["site"] == site)
        .unwrap();
    let counted = one["counted"].as_object()?;
    Some((
        counted["per_second"].as_u64()?,
        counted["author"].as_str()?.to_owned(),
    ))
}

/// How often each address was the answer.
fn draws(dns: SocketAddr, times: usize) -> BTreeMap<IpAddr, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..times {
        let answer = Question::new("www.example.com.", RecordType::A)
            .ask(dns, Duration::from_secs(2))
            .unwrap();
        for address in answer.addresses() {
            *seen.entry(address).or_default() += 1;
        }
    }
    seen
}

fn until(what: &str, mut so: impl FnMut() -> Option<()>) {
    let deadline = Instant::now() + PATIENCE;
    while so().is_none() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
