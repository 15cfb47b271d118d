//! Routers that tell by BMP: `steer monitor --bmp-listen` hears what FRR and GoBGP have from us.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use steer_labs::netns::{Node, Proc, World, can_run};
use steer_labs::wait;
use steer_tests::{skip, steer_binary};

use super::{POLL, in_order, missing};

/// Routers take their time to dial.
const PATIENCE: Duration = Duration::from_secs(60);

const STEER: &str = "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n\
    [[bgp.peer]]\naddress = \"10.0.0.2\"\nasn = 64500\nconnect_retry = \"1s\"\n\
    [[anycast]]\nprefix = \"192.0.2.1/32\"\ncommunities = [\"64512:7\"]\n\
    [[anycast]]\nprefix = \"2001:db8::1/128\"\nnext_hop = \"2001:db8:0:1::1\"\n";

const FRR: &str = "router bgp 64500\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
    no bgp default ipv4-unicast\n neighbor 10.0.0.1 remote-as 64512\n neighbor 10.0.0.1 passive\n \
    address-family ipv4 unicast\n  neighbor 10.0.0.1 activate\n  neighbor 10.0.0.1 soft-reconfiguration inbound\n exit-address-family\n \
    address-family ipv6 unicast\n  neighbor 10.0.0.1 activate\n  neighbor 10.0.0.1 soft-reconfiguration inbound\n exit-address-family\n \
    bmp targets monitor\n  bmp monitor ipv4 unicast pre-policy\n  bmp monitor ipv6 unicast pre-policy\n  \
    bmp connect 10.0.0.1 port 11019 min-retry 100 max-retry 1000\n exit\n";

const GOBGP: &str = "[global.config]\nas = 64500\nrouter-id = \"10.0.0.2\"\n\
    [[bmp-servers]]\n[bmp-servers.config]\naddress = \"10.0.0.1\"\nport = 11019\n\
    route-monitoring-policy = \"pre-policy\"\n\
    [[neighbors]]\n[neighbors.config]\nneighbor-address = \"10.0.0.1\"\npeer-as = 64512\n\
    [neighbors.transport.config]\npassive-mode = true\n\
    [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n\
    [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n";

/// Starts a router with its configuration in a folder of its own.
type Start = fn(&Node, &Path) -> Proc;

fn start_frr(node: &Node, dir: &Path) -> Proc {
    fs::write(dir.join("bgpd.conf"), FRR).unwrap();
    let mut command = Command::new("/usr/lib/frr/bgpd");
    command
        .args(["-Z", "-S", "-M", "bmp", "-f"])
        .arg(dir.join("bgpd.conf"))
        .arg("-i")
        .arg(dir.join("bgpd.pid"))
        .arg("--vty_socket")
        .arg(dir);
    node.spawn(command, "bgpd").unwrap()
}

fn start_gobgp(node: &Node, dir: &Path) -> Proc {
    fs::write(dir.join("gobgpd.toml"), GOBGP).unwrap();
    let mut command = Command::new("/usr/bin/gobgpd");
    command.arg("-f").arg(dir.join("gobgpd.toml")).args([
        "-t",
        "toml",
        "--api-hosts",
        "127.0.0.1:50051",
        "--pprof-disable",
    ]);
    node.spawn(command, "gobgpd").unwrap()
}

/// `path`: the AS numbers that the router tells, which are not always those that it received.
fn is_heard(name: &str, start: Start, path: &str) {
    if let Err(reason) = can_run() {
        return skip(name, &reason);
    }
    let world = World::new(&format!("bmp-{name}")).unwrap();
    let (here, there) = (world.node("steer").unwrap(), world.node("router").unwrap());
    world.link((&here, "eth1"), (&there, "eth1")).unwrap();
    for (node, host) in [(&here, 1), (&there, 2)] {
        node.address("eth1", &format!("10.0.0.{host}/24")).unwrap();
        node.address("eth1", &format!("2001:db8:0:1::{host}/64")).unwrap();
    }
    let mut command = Command::new(steer_binary());
    command.args(["monitor", "--bmp-listen", "10.0.0.1:11019"]);
    let mut monitor = here.spawn(command, "monitor").unwrap();
    let _router = start(&there, world.dir());
    let config = world.dir().join("steer.toml");
    fs::write(&config, STEER).unwrap();
    let mut command = Command::new(steer_binary());
    command.arg("run").arg("--config").arg(&config);
    let mut steer = here.spawn(command, "steer").unwrap();

    let printed = monitor.stdout().to_owned();
    let steer_log = steer.stderr().to_owned();
    let hears = |wanted: &[&str]| {
        let look = || {
            in_order(
                &fs::read_to_string(&printed).map_err(|error| error.to_string())?,
                wanted,
            )
        };
        if let Err(error) = wait::until(PATIENCE, POLL, look) {
            let log = fs::read_to_string(&steer_log).unwrap_or_default();
            panic!("{name}: {error}\n--- log of steer\n{log}");
        }
    };
    let up = "AS64512 10.0.0.1 by BMP from 10.0.0.2, adj-rib-in-pre: up, BGP Identifier 10.0.0.1";
    let from = "from AS64512 10.0.0.1 by BMP from 10.0.0.2, adj-rib-in-pre";
    let ipv4 = format!("{from}  via 10.0.0.1  path {path}  64512:7");
    let ipv6 = format!("via 2001:db8:0:1::1  path {path}");
    hears(&[up]);
    hears(&["+  192.0.2.1/32", &ipv4]);
    hears(&["+  2001:db8::1/128", &ipv6]);
    steer.signal(Signal::SIGTERM).unwrap();
    hears(&["+  192.0.2.1/32", "-  192.0.2.1/32"]);
    let down = "AS64512 10.0.0.1 by BMP from 10.0.0.2, adj-rib-in-pre: down: its peer sent Cease/Administrative Shutdown";
    hears(&[down]);
    monitor.signal(Signal::SIGTERM).unwrap();
    assert_eq!(monitor.wait(Duration::from_secs(5)).unwrap().code(), Some(0));
    let log = fs::read_to_string(monitor.stderr()).unwrap();
    assert!(
        !log.contains("BMP connection over") || log.contains("malformed: 0"),
        "{log}"
    );
    println!("{name}: BMP heard from a real router");
}

#[test]
fn what_frr_has_from_us_is_heard_by_bmp() {
    const NAME: &str = "what_frr_has_from_us_is_heard_by_bmp";
    if !missing(NAME, "/usr/lib/frr/bgpd", "frr") {
        is_heard("frr", start_frr, "64500 64512"); // FRR 8.4 puts its own number first
    }
}

#[test]
fn what_gobgp_has_from_us_is_heard_by_bmp() {
    const NAME: &str = "what_gobgp_has_from_us_is_heard_by_bmp";
    if !missing(NAME, "/usr/bin/gobgpd", "gobgpd") {
        is_heard("gobgp", start_gobgp, "64512");
    }
}
