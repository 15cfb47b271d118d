//! The closed loop: how a change spreads through BIRD, and a router that keeps what we withdrew.
//!
//! ```text
//! steer (AS 64512) ──► BIRD (AS 64500) ──► steer monitor --follow (AS 64510)
//! ```

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use steer_labs::netns::{World, can_run};
use steer_labs::wait;
use steer_tests::{skip, steer_binary};

use super::{POLL, in_order, missing};

const PATIENCE: Duration = Duration::from_secs(40);

const STEER: &str = "[fleet]\nguard = { keep_sites = 0, max_withdrawn = 9 }\n\
    [[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"50ms\"\nrise = 1\nfall = 1\n\
    [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ { address = \"127.0.0.1:8080\" } ]\n\
    [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n\
    [[bgp.peer]]\naddress = \"10.0.0.2\"\nasn = 64500\nconnect_retry = \"1s\"\n\
    [[anycast]]\nprefix = \"192.0.2.53/32\"\nwhile_up = [\"pool:web\"]\n\
    [admin]\nlisten = \"127.0.0.1:8053\"\n";

const BIRD: &str = "router id 10.0.0.2;\nprotocol device {}\n\
    protocol static { ipv4; route 198.51.100.0/24 blackhole; }\n\
    protocol bgp steer { local 10.0.0.2 as 64500; neighbor 10.0.0.1 as 64512; passive on;\n  \
      ipv4 { import all; export none; }; ipv6 { import all; export none; }; }\n\
    protocol bgp monitor { local 10.0.0.2 as 64500; neighbor 10.0.0.11 port 1790 as 64510;\n  \
      connect delay time 1; connect retry time 1; error wait time 1, 2;\n  \
      ipv4 { import none; export all; next hop self; }; ipv6 { import none; export all; }; }\n";

#[test]
fn a_change_is_followed_through_a_router_and_a_zombie_is_told() {
    const NAME: &str = "a_change_is_followed_through_a_router_and_a_zombie_is_told";
    if missing(NAME, "/usr/sbin/bird", "bird2") {
        return;
    }
    if let Err(reason) = can_run() {
        return skip(NAME, &reason);
    }
    let world = World::new("spread").unwrap();
    let (here, there) = (world.node("steer").unwrap(), world.node("bird").unwrap());
    world.link((&here, "eth1"), (&there, "eth1")).unwrap();
    here.address("eth1", "10.0.0.1/24").unwrap();
    here.address("eth1", "10.0.0.11/24").unwrap();
    there.address("eth1", "10.0.0.2/24").unwrap();
    let bind = || {
        here.enter(|| TcpListener::bind("127.0.0.1:8080"))
            .unwrap()
            .unwrap()
    };
    let mut endpoint = Some(bind());

    let file = |name: &str, text: &str| {
        let path = world.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let mut command = Command::new(steer_binary());
    command.arg("run").arg("--config").arg(file("steer.toml", STEER));
    let steer = here.spawn(command, "steer").unwrap();
    let admin_answers = || {
        let asked = here.exec(&[&steer_binary().display().to_string(), "status"]);
        let asked = asked.map_err(|error| error.to_string())?;
        asked
            .status
            .success()
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    };
    wait::until(PATIENCE, POLL, admin_answers).unwrap();
    let mut command = Command::new(steer_binary());
    command.args(["monitor", "--listen", "10.0.0.11:1790", "--asn", "64510"]);
    command.args(["--follow", "127.0.0.1:8053", "--grace", "1s"]);
    let mut monitor = here.spawn(command, "monitor").unwrap();
    let mut command = Command::new("/usr/sbin/bird");
    command.args(["-f", "-c"]).arg(file("bird.conf", BIRD));
    command.arg("-s").arg(world.dir().join("bird.sock"));
    command.arg("-P").arg(world.dir().join("bird.pid"));
    let mut bird = there.spawn(command, "bird").unwrap();

    let printed = monitor.stdout().to_owned();
    let hears = |wanted: &[&str]| {
        let look = || {
            in_order(
                &fs::read_to_string(&printed).map_err(|error| error.to_string())?,
                wanted,
            )
        };
        wait::until(PATIENCE, POLL, look).unwrap_or_else(|error| {
            let log = fs::read_to_string(steer.stderr()).unwrap_or_default();
            panic!("{error}\n--- log of steer\n{log}");
        });
    };
    let plus = "+  192.0.2.53/32      from AS64500 10.0.0.2  via 10.0.0.2  path 64500 64512";
    hears(&[plus]);
    // The monitor asks steer every 200 ms: what came and went in between it cannot know.
    wait::stable(PATIENCE, POLL, Duration::from_millis(600), || {
        let text = fs::read_to_string(&printed).map_err(|error| error.to_string())?;
        in_order(&text, &[plus])
    })
    .unwrap();
    endpoint.take();
    let spread = "ok withdrawal of 192.0.2.53/32";
    // The router may tell the monitor before steer does: then there is no time to give, and it says so.
    hears(&[plus, "-  192.0.2.53/32", spread, "1 vantages"]);
    endpoint = Some(bind());
    hears(&[spread, "ok announcement of 192.0.2.53/32", "1 vantages"]);

    // A router that hangs keeps the route for the world.
    bird.signal(Signal::SIGSTOP).unwrap();
    endpoint.take();
    let zombie = "!! zombie: 192.0.2.53/32 is withdrawn, but AS64500 10.0.0.2 still has it";
    hears(&[spread, zombie]);
    hears(&[
        spread,
        "!! withdrawal of 192.0.2.53/32",
        "0 of 1 vantages; incomplete",
    ]);
    bird.signal(Signal::SIGCONT).unwrap();
    hears(&[zombie, "ok 192.0.2.53/32 is zombie no more at AS64500 10.0.0.2"]);

    monitor.signal(Signal::SIGTERM).unwrap();
    assert_eq!(monitor.wait(Duration::from_secs(5)).unwrap().code(), Some(0));
    let text = fs::read_to_string(&printed).unwrap();
    assert!(!text.contains("198.51.100.0/24"), "not ours: {text}");
    for line in text.lines().filter(|line| line.contains("vantages")) {
        println!("{line}");
    }
}
