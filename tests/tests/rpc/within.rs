//! An edge within `steer run`, at two sites that share an address, and a client whose router is BIRD: nothing is lost by a drain,
//! also of what must not be done twice, and backends follow the verdicts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::stream;
use nix::sys::signal::Signal;
use serde_json::Value;
use steer_labs::netns::{self, NetError, Node, Proc, World};
use steer_rpc::client::{Client, ClientConfig};
use steer_shop::shop::user_service_client::UserServiceClient;
use steer_shop::shop::{ChatMessage, GetUserRequest};
use steer_tests::process::PATIENCE;
use steer_tests::{skip, steer_binary};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tonic::Code;

const SERVICE: &str = "192.0.2.53";

/// Two sites and a client between them.
struct Stage {
    fra: Site,
    nrt: Site,
    client: Node,
    _bird: Proc,
    world: World,
}

/// A site: its steer with an edge, and one backend.
struct Site {
    node: Node,
    steer: Proc,
    backend: Proc,
}

const FLEET: &str = r#"
[fleet]
guard = { keep_sites = 1, max_withdrawn = 2, window = "1s" }
[[site]]
name = "fra"
router_id = "10.0.1.1"
[[site]]
name = "nrt"
router_id = "10.0.2.1"
[[check]]
name = "call"
kind = "grpc"
interval = "100ms"
timeout = "400ms"
[[pool]]
name = "edge"
check = "call"
endpoints = [ { site = "fra", address = "10.0.1.1:50051" }, { site = "nrt", address = "10.0.2.1:50051" } ]
[[pool]]
name = "shop"
check = "call"
endpoints = [ { site = "fra", address = "10.0.1.1:50052" }, { site = "nrt", address = "10.0.2.1:50052" } ]
[[anycast]]
prefix = "192.0.2.53/32"
while_up = ["pool:edge@local"]
bind = { interface = "lo" }
on_drain = ["wait streams 4s", "withdraw"]
[bgp]
asn = 64512
[[bgp.peer]]
site = "fra"
address = "10.0.1.2"
asn = 64501
connect_retry = "1s"
[[bgp.peer]]
site = "nrt"
address = "10.0.2.2"
asn = 64501
connect_retry = "1s"
[edge]
file = "edge.toml"
[admin]
listen = "127.0.0.1:8053"
"#;

const EDGE: &str = r#"
listen = "0.0.0.0:50051"
workers = 1
drain_ms = 3_000
[[pool]]
name = "shop"
backends = "pool:shop"
[[method]]
path = "/grpc.health.v1.Health/*"
semantics = "at-least-once"
max_timeout_ms = 1_000
"#;

const BIRD: &str = r#"
log stderr all;
router id 10.0.1.2;
protocol device { scan time 10; }
protocol direct { ipv4; interface "eth*"; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
template bgp site { local as 64501; hold time 9; error wait time 1, 2; connect retry time 1; passive on; }
protocol bgp fra from site { neighbor 10.0.1.1 as 64512; ipv4 { import filter { bgp_local_pref = 200; accept; }; export none; }; }
protocol bgp nrt from site { neighbor 10.0.2.1 as 64512; ipv4 { import all; export none; }; }
"#;

impl Site {
    fn start(node: &Node, name: &str, address: &str, folder: &Path) -> Self {
        let mut steer = Command::new(steer_binary());
        steer.current_dir(folder).args(["run", "--site", name]);
        Self {
            steer: node.spawn(steer, "steer").unwrap(),
            backend: backend(node, address),
            node: node.clone(),
        }
    }

    /// What a command of the operator answers.
    fn ask(&self, args: &[&str]) -> Value {
        let binary = steer_binary();
        let command = [&[binary.to_str().unwrap()], args, &["--json"]].concat();
        let output = self.node.exec(&command).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn edge(&self) -> (String, u64) {
        let status = self.ask(&["status"]);
        let edge = &status["edge"];
        (
            edge["phase"].as_str().unwrap().to_owned(),
            edge["connections"].as_u64().unwrap(),
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.steer.stderr()).unwrap()
    }
}

fn backend(node: &Node, address: &str) -> Proc {
    let mut backend = Command::new(steer_binary());
    backend.args(["lab", "shop", "serve", "--listen", &format!("{address}:50052")]);
    node.spawn(backend, "backend").unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

impl Stage {
    /// None, and why, where it cannot be.
    fn new(name: &str) -> Option<Self> {
        if let Err(why) = netns::can_run() {
            skip(name, &why);
            return None;
        }
        if !Path::new("/usr/sbin/bird").exists() {
            skip(name, "/usr/sbin/bird is missing");
            return None;
        }
        let world = World::new(name).unwrap();
        let [client, fra, nrt] = ["client", "fra", "nrt"].map(|name| world.node(name).unwrap());
        world.link((&fra, "eth0"), (&client, "eth1")).unwrap();
        world.link((&nrt, "eth0"), (&client, "eth2")).unwrap();
        client.sysctl("net/ipv4/ip_forward", "1").unwrap();
        for (node, number, leg) in [(&fra, 1, "eth1"), (&nrt, 2, "eth2")] {
            node.address("eth0", &format!("10.0.{number}.1/24")).unwrap();
            client.address(leg, &format!("10.0.{number}.2/24")).unwrap();
            node.route("10.0.0.0/16", &format!("10.0.{number}.2")).unwrap();
        }
        for (file, text) in [("steer.toml", FLEET), ("edge.toml", EDGE), ("bird.conf", BIRD)] {
            fs::write(world.dir().join(file), text).unwrap();
        }
        let mut bird = Command::new("/usr/sbin/bird");
        bird.current_dir(world.dir())
            .args(["-f", "-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"]);
        let stage = Self {
            _bird: client.spawn(bird, "bird").unwrap(),
            fra: Site::start(&fra, "fra", "10.0.1.1", world.dir()),
            nrt: Site::start(&nrt, "nrt", "10.0.2.1", world.dir()),
            client,
            world,
        };
        until("both routes", || stage.ways() == ["fra", "nrt"]);
        Some(stage)
    }

    /// The sites that BIRD has a route by.
    fn ways(&self) -> Vec<&'static str> {
        let control = self.world.dir().join("bird.ctl");
        let show = [
            "birdc",
            "-s",
            control.to_str().unwrap(),
            "show",
            "route",
            "192.0.2.53/32",
        ];
        let shown = self.client.exec(&show).unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let has = |site: &&str| shown.contains(&format!("[{site} "));
        ["fra", "nrt"].into_iter().filter(has).collect()
    }

    /// A client that calls all the time, and what became of its calls.
    fn call(&self) -> Calls {
        let shared = Arc::new(Counts::default());
        let counts = Arc::clone(&shared);
        let thread = self.client.thread("calls", move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(calls(&counts));
        });
        Calls {
            shared,
            thread: thread.unwrap(),
        }
    }
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    failed: AtomicUsize,
    stop: AtomicBool,
}

struct Calls {
    shared: Arc<Counts>,
    thread: JoinHandle<Result<(), NetError>>,
}

impl Calls {
    fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Waits for so many more answers.
    fn until_more(&self, count: usize) {
        let before = self.answered();
        until("answers", || self.answered() >= before + count);
    }

    /// Answered and failed.
    fn end(self) -> (usize, usize) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap().unwrap();
        (
            self.shared.answered.load(Ordering::SeqCst),
            self.shared.failed.load(Ordering::SeqCst),
        )
    }
}

fn users() -> UserServiceClient<Client> {
    let text = format!(
        "targets = [\"http://{SERVICE}:50051\"]\n[[method]]\npath = \"*\"\nsemantics = \"at-most-once\"\n"
    );
    let config = ClientConfig::parse(&text, Path::new(".")).unwrap();
    UserServiceClient::new(Client::new(config))
}

/// Calls that may be done once at most, ten at a time.
async fn calls(counts: &Counts) {
    let users = users();
    let one = async || {
        let mut users = users.clone();
        while !counts.stop.load(Ordering::SeqCst) {
            let mut request = tonic::Request::new(GetUserRequest {
                name: "ana".to_owned(),
            });
            request.set_timeout(Duration::from_secs(5));
            match users.get_user(request).await {
                Err(status) if status.code() == Code::NotFound => {
                    counts.answered.fetch_add(1, Ordering::SeqCst);
                }
                other => {
                    println!("{other:?}");
                    counts.failed.fetch_add(1, Ordering::SeqCst);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one(),
        one()
    );
}

/// A chat that says something every 50 ms and must hear it, until it is told to go home.
async fn chat(home: Arc<AtomicBool>) -> Result<usize, tonic::Status> {
    let (say, said) = mpsc::channel(1);
    let words = |text: String| ChatMessage {
        room: "r".to_owned(),
        text,
        ..ChatMessage::default()
    };
    let outgoing = stream::unfold(said, async |mut said| Some((said.recv().await?, said)));
    say.send(words("0".to_owned())).await.unwrap();
    let mut heard = users().chat(outgoing).await?.into_inner();
    let mut count = 0;
    loop {
        let message = heard
            .message()
            .await?
            .ok_or_else(|| tonic::Status::aborted("the chat has ended"))?;
        assert_eq!(message.text, count.to_string());
        count += 1;
        if home.load(Ordering::SeqCst) {
            return Ok(count);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        say.send(words(count.to_string())).await.unwrap();
    }
}

#[test]
fn a_drain_loses_no_call_and_cuts_no_stream_before_its_time() {
    let Some(stage) = Stage::new("edge-drain") else {
        return;
    };
    let Stage { fra, nrt, .. } = &stage;
    let calls = stage.call();
    calls.until_more(100);
    let home = Arc::new(AtomicBool::new(false));
    let goes = Arc::clone(&home);
    let chatting = stage.client.thread("chat", move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(chat(goes))
    });
    assert!(fra.edge().1 >= 2, "fra has the calls and the chat");

    fra.ask(&["drain", "fra", "--reason", "kernel"]);
    let began = Instant::now();
    // Who goes now comes back here, so nobody is told to.
    calls.until_more(50);
    assert_eq!(
        (fra.edge().0.as_str(), stage.ways()),
        ("open", vec!["fra", "nrt"])
    );
    home.store(true, Ordering::SeqCst);
    let heard = chatting.unwrap().join().unwrap().unwrap().unwrap();
    assert!(heard > 2, "the chat went on during the drain: {heard}");

    until("the route by fra is gone", || stage.ways() == ["nrt"]);
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(3),
        "{took:?}: open until a second before the bound"
    );
    calls.until_more(100);
    assert!(nrt.edge().1 >= 1, "nrt has the calls");
    let (answered, failed) = calls.end();
    assert_eq!(failed, 0, "of {}; log of fra:\n{}", answered + failed, fra.log());
    until("fra serves who comes all the same", || fra.edge().0 == "leaving");

    fra.ask(&["undrain", "fra"]);
    until("both routes", || stage.ways() == ["fra", "nrt"]);
    assert_eq!(fra.edge().0, "open");
    let calls = stage.call();
    calls.until_more(20);
    assert!(fra.edge().1 >= 1, "clients come home");
    assert_eq!(calls.end().1, 0);
}

#[test]
fn a_stop_lets_calls_end_before_the_route_goes() {
    let Some(mut stage) = Stage::new("edge-stop") else {
        return;
    };
    let calls = stage.call();
    calls.until_more(100);
    stage.fra.steer.signal(Signal::SIGTERM).unwrap();
    let status = stage.fra.steer.wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}: {}", stage.fra.log());
    calls.until_more(100);
    let (answered, failed) = calls.end();
    assert_eq!(
        failed,
        0,
        "of {}; log of fra:\n{}",
        answered + failed,
        stage.fra.log()
    );
    assert_eq!(stage.ways(), ["nrt"]);
}

#[test]
fn backends_follow_the_verdicts_and_the_file_is_read_again() {
    let Some(mut stage) = Stage::new("edge-backends") else {
        return;
    };
    let verdict = |site: &Site, address: &str| {
        let status = site.ask(&["status"]);
        let mut endpoints = status["endpoints"].as_array().unwrap().iter();
        let is_it = |endpoint: &&Value| endpoint["address"] == address;
        endpoints.find(is_it).unwrap()["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    stage.fra.backend.kill().unwrap();
    until("the backend of fra is down", || {
        verdict(&stage.fra, "10.0.1.1:50052") == "down"
    });
    // By the edge of fra, whose own backend is gone.
    let calls = stage.call();
    calls.until_more(100);
    assert_eq!(calls.end().1, 0, "log of fra:\n{}", stage.fra.log());
    assert_eq!(stage.ways(), ["fra", "nrt"], "the edge of fra still serves");

    let file = stage.world.dir().join("edge.toml");
    let refused = |text: &str, parts: [&str; 2]| {
        fs::write(&file, text).unwrap();
        let binary = steer_binary();
        let output = stage
            .fra
            .node
            .exec(&[binary.to_str().unwrap(), "reload"])
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        for part in parts {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    };
    refused(
        &EDGE.replace("pool:shop", "pool:shpo"),
        [
            "edge.toml:7:12",
            "\"pool:shpo\" names no pool of the fleet; there are \"edge\", \"shop\"",
        ],
    );
    refused(
        &EDGE.replace("50051", "50053"),
        ["`listen` of the file of `[edge]`", "needs a restart"],
    );
    // The edge asks for a pool that comes with the same reload.
    let fleet = stage.world.dir().join("steer.toml");
    fs::write(&fleet, FLEET.replace("name = \"shop\"", "name = \"store\"")).unwrap();
    fs::write(&file, EDGE.replace("pool:shop", "pool:store@nrt")).unwrap();
    stage.fra.ask(&["reload"]);
    until("the edge takes it", || {
        stage.fra.log().contains("configuration taken")
    });
    assert!(
        !stage.fra.log().contains("stays as it was: \""),
        "{}",
        stage.fra.log()
    );
    let calls = stage.call();
    calls.until_more(20);
    assert_eq!(calls.end().1, 0);
}
