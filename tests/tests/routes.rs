//! What an operator sees of routes and asks for: leases, drains step by step, flaps. The peer is a route monitor.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use steer_anycast::monitor::{Heard, Monitor, MonitorEvent};
use steer_tests::{Admin, Steer, free_port};
use steer_topology::Asn;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the monitor has heard.
#[derive(Debug, Default)]
struct Peer {
    /// By prefix, the AS path.
    table: BTreeMap<String, Vec<u32>>,
    /// Everything that happened to a prefix or to the session, in order.
    history: Vec<String>,
}

/// One site with three prefixes, and the monitor that it peers with.
struct Site {
    folder: tempfile::TempDir,
    admin: Admin,
    _endpoint: TcpListener,
    heard: Arc<Mutex<Peer>>,
    _runtime: Runtime,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = endpoint.local_addr().unwrap();
        let admin = free_port();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (monitor, heard) = runtime.block_on(watch());
        let port = monitor.port();
        let config = format!(
            r#"
[fleet]
store = "embedded:state/steer.redb"
guard = {{ keep_sites = 0 }}
[[site]]
name = "fra"
[[check]]
name = "web"
kind = "tcp"
interval = "100ms"
timeout = "50ms"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ site = "fra", address = "{address}" }} ]
[[anycast]]
prefix = "192.0.2.53/32"
while_up = ["pool:web@local"]
on_drain = ["prepend 3", "wait 3s", "withdraw"]
flap_budget = {{}}
[[anycast]]
prefix = "198.51.100.0/24"
lease = {{ max = "1m" }}
[bgp]
asn = 64512
router_id = "192.0.2.1"
listen = []
[[bgp.peer]]
address = "127.0.0.1"
port = {port}
asn = 64500
connect_retry = "1s"
[admin]
listen = "{admin}"
"#
        );
        fs::write(folder.path().join("steer.toml"), config).unwrap();
        Self {
            folder,
            admin: Admin(admin),
            _endpoint: endpoint,
            heard,
            _runtime: runtime,
        }
    }

    fn start(&self) -> Steer {
        Steer::start(self.folder.path(), &["run", "--site", "fra"])
    }

    fn route(&self, prefix: &str) -> serde_json::Value {
        let view = self.admin.json(&["status", "routes"]);
        let mut routes = view["routes"].as_array().unwrap().iter();
        routes.find(|route| route["prefix"] == prefix).unwrap().clone()
    }

    /// The monitor's path of a prefix.
    fn path(&self, prefix: &str) -> Option<Vec<u32>> {
        self.heard.lock().unwrap().table.get(prefix).cloned()
    }

    fn until_path(&self, steer: &mut Steer, prefix: &str, want: Option<&[u32]>) {
        steer.until(&format!("{prefix} by {want:?}"), |_| {
            (self.path(prefix).as_deref() == want).then_some(())
        });
    }
}

/// A monitor at work, and what it has.
async fn watch() -> (SocketAddr, Arc<Mutex<Peer>>) {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let monitor = Monitor::bind(listen, Asn::new(64500).unwrap(), Ipv4Addr::new(192, 0, 2, 250)).unwrap();
    let address = monitor.local_addr().unwrap();
    let (events, mut news) = mpsc::channel::<MonitorEvent>(64);
    tokio::spawn(monitor.run(events, CancellationToken::new()));
    let heard = Arc::new(Mutex::new(Peer::default()));
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(event) = news.recv().await {
            let Peer { table, history } = &mut *kept.lock().unwrap();
            match event.heard {
                Heard::Announced { prefix, as_path, .. } => {
                    history.push(format!("+ {prefix}"));
                    table.insert(prefix.to_string(), as_path);
                }
                Heard::Withdrawn { prefix, lost: _ } => {
                    history.push(format!("- {prefix}"));
                    table.remove(&prefix.to_string());
                }
                Heard::SessionUp => history.push("up".to_owned()),
                Heard::SessionDown { .. } => history.push("down".to_owned()),
            }
        }
    });
    (address, heard)
}

const SERVICE: &str = "192.0.2.53/32";
const LEASED: &str = "198.51.100.0/24";
const PLAIN: &[u32] = &[64512];

#[test]
fn a_lease_announces_until_it_is_given_back_or_runs_out() {
    let site = Site::new();
    let mut steer = site.start();
    site.until_path(&mut steer, SERVICE, Some(PLAIN));
    assert_eq!(site.path(LEASED), None);

    let lease =
        |time: &str, owner: &str| ["announce", LEASED, "--lease", time, "--owner", owner].map(str::to_owned);
    let ask = |args: [String; 6]| site.admin.done(&args.each_ref().map(String::as_str));
    let said = ask(lease("30s", "deploy"));
    assert!(
        said.contains("198.51.100.0/24 is leased to deploy until 2"),
        "{said}"
    );
    site.until_path(&mut steer, LEASED, Some(PLAIN));
    let route = site.route(LEASED);
    assert_eq!(route["lease"]["owner"], "deploy", "{route}");
    let session = &route["sessions"][0];
    assert_eq!(
        (&session["wanted"], &session["announced"]),
        (&true.into(), &true.into()),
        "{route}"
    );

    let refused = |args: &[&str], code, part| site.admin.refused(args, code, &[part]);
    let by_other = ["--owner", "other"];
    let taken = "leased to \"deploy\" until";
    refused(
        &[&["announce", LEASED, "--lease", "30s"], &by_other[..]].concat(),
        1,
        taken,
    );
    refused(&[&["withdraw", LEASED], &by_other[..]].concat(), 1, taken);
    refused(&["announce", SERVICE, "--lease", "30s"], 1, "takes no lease");
    refused(
        &["announce", "203.0.113.0/24", "--lease", "30s"],
        2,
        "no prefix of this site",
    );
    refused(&["announce", LEASED, "--lease", "30"], 2, "for example 30m or 2h");

    site.admin.done(&["withdraw", LEASED, "--owner", "deploy"]);
    site.until_path(&mut steer, LEASED, None);
    refused(
        &["withdraw", LEASED, "--owner", "deploy"],
        2,
        "no lease of \"deploy\"",
    );
    ask(lease("1s", "other"));
    site.until_path(&mut steer, LEASED, Some(PLAIN));
    site.until_path(&mut steer, LEASED, None);
    assert_eq!(site.route(LEASED)["lease"]["owner"], serde_json::Value::Null);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_reload_keeps_the_session_and_the_routes_that_it_does_not_concern() {
    const NEW: &str = "203.0.113.0/24";
    let site = Site::new();
    let mut steer = site.start();
    site.until_path(&mut steer, SERVICE, Some(PLAIN));
    let file = site.folder.path().join("steer.toml");
    let first = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{first}\n[[anycast]]\nprefix = \"{NEW}\"\n")).unwrap();
    site.admin.done(&["reload"]);
    site.until_path(&mut steer, NEW, Some(PLAIN));
    fs::write(
        &file,
        format!("{first}\n[[anycast]]\nprefix = \"{NEW}\"\nprepend = 1\n"),
    )
    .unwrap();
    site.admin.done(&["reload"]);
    site.until_path(&mut steer, NEW, Some(&[64512; 2]));
    fs::write(&file, format!("{first}\n[nonsense]\n")).unwrap();
    site.admin.refused(&["reload"], 2, &["nonsense"]);
    fs::write(&file, &first).unwrap();
    site.admin.done(&["reload"]);
    site.until_path(&mut steer, NEW, None);
    let history = site.heard.lock().unwrap().history.clone();
    let (service, new) = (format!("+ {SERVICE}"), format!("+ {NEW}"));
    let gone = format!("- {NEW}");
    assert_eq!(history, ["up", &service, &new, &new, &gone]);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_drain_steps_down_and_a_crash_does_not_start_it_again() {
    let site = Site::new();
    let mut steer = site.start();
    site.until_path(&mut steer, SERVICE, Some(PLAIN));
    site.admin
        .done(&["drain", "fra", "--for", "20s", "--reason", "kernel update"]);
    site.until_path(&mut steer, SERVICE, Some(&[64512; 4]));
    let route = site.route(SERVICE);
    assert_eq!(
        (&route["drain"]["step"], &route["drain"]["steps"]),
        (&2.into(), &3.into()),
        "{route}"
    );
    let text = site.admin.done(&["status", "routes"]);
    assert!(text.contains("drain step 2 of 3: wait 3s, next in "), "{text}");
    site.until_path(&mut steer, SERVICE, None);
    assert_eq!(
        site.route(SERVICE)["flaps"]["figure"].as_f64().unwrap().round(),
        1000.0
    );
    site.admin.done(&["clear-flaps", SERVICE]);
    assert_eq!(site.route(SERVICE)["flaps"]["figure"], 0.0);

    steer.signal(Signal::SIGKILL);
    let _ = steer.wait();
    let mut steer = site.start();
    steer.until("a session", |_| {
        let route = site.admin.run(&["status", "routes", "--json"]).stdout;
        route.contains("\"state\":\"established\"").then_some(())
    });
    let route = site.route(SERVICE);
    assert_eq!(
        (&route["state"], &route["drain"]["step"]),
        (&"withdrawn".into(), &3.into()),
        "{route}"
    );
    assert_eq!(site.path(SERVICE), None);
    site.admin.done(&["undrain", "fra"]);
    site.until_path(&mut steer, SERVICE, Some(PLAIN));
    assert_eq!(steer.stop().status.code(), Some(0));
}
