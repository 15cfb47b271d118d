//! Health moves a route in a real router's table, and no other route with it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use steer_labs::netns::{Node, World};
use steer_tests::peers::{Bird, Opens};
use steer_topology::Prefix;

use crate::stage::{Plan, Stage, Transport};

const CHECKED: &str = "198.51.100.53/32";
const STEADY: [&str; 2] = ["192.0.2.53/32", "2001:db8:53::/48"];

fn more(check: &str) -> String {
    format!(
        "[[check]]\nname = \"web\"\nkind = \"{check}\"\ninterval = \"100ms\"\ntimeout = \"80ms\"\nfall = 2\nrise = 2\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [{{ address = \"10.0.0.1:8080\" }}]\n\
         [[anycast]]\nprefix = \"{CHECKED}\"\nnext_hop = \"10.0.0.1\"\nwhile_up = [\"pool:web\"]\n"
    )
}

#[test]
fn a_dead_endpoint_takes_its_route_out_of_bird_and_no_other() {
    if crate::skipped(&Bird) {
        return;
    }
    let world = World::new("interop-health").unwrap();
    for check in ["tcp", "http"] {
        follow(&world, check);
    }
}

fn follow(world: &World, check: &str) {
    let plan = Plan::new(64_512, Opens::Steer, Transport::V4);
    let mut stage = Stage::set(world, check, &Bird, plan);
    stage.more = more(check);
    let endpoint = Endpoint::start(&stage.node);
    stage.start_steer();
    shows(&stage, true);
    let steady = since(&stage);

    let killed = Instant::now();
    drop(endpoint);
    shows(&stage, false);
    println!(
        "{check}: endpoint dead, route out of BIRD's table after {:?}",
        killed.elapsed()
    );

    let revived = Instant::now();
    let _endpoint = Endpoint::start(&stage.node);
    shows(&stage, true);
    println!(
        "{check}: endpoint back, route in BIRD's table after {:?}",
        revived.elapsed()
    );
    stage.check(since(&stage) == steady, "an untouched route was sent anew");
}

/// Waits until BIRD has the checked prefix or not; the others must be there at every look once they were.
fn shows(stage: &Stage<'_>, wanted: bool) {
    let steady: BTreeSet<Prefix> = STEADY.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let checked: Prefix = CHECKED.parse().unwrap();
    let mut complete = false;
    stage.until(&format!("{CHECKED} shown: {wanted}"), |stage| {
        let prefixes: BTreeSet<Prefix> = stage.peer.routes()?.iter().map(|route| route.prefix).collect();
        let whole = steady.is_subset(&prefixes);
        stage.check(whole || !complete, "a route without condition was lost");
        complete |= whole;
        if whole && prefixes.contains(&checked) == wanted {
            Ok(())
        } else {
            Err(format!("{prefixes:?}"))
        }
    });
}

/// Since when BIRD has each of the routes without a condition.
fn since(stage: &Stage<'_>) -> Vec<String> {
    let home = stage.peer.home();
    let shown = home.ask(&["/usr/sbin/birdc", "-s", &home.arg("bird.sock"), "show route"]);
    let shown = shown.unwrap_or_else(|error| stage.fail(&error));
    let steady = |line: &&str| STEADY.iter().any(|prefix| line.starts_with(prefix));
    shown.lines().filter(steady).map(str::to_owned).collect()
}

/// A web server that says 200 to everything. Dropping it closes its port.
struct Endpoint {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    fn start(node: &Node) -> Self {
        let listener = node
            .enter(|| TcpListener::bind("10.0.0.1:8080"))
            .unwrap()
            .unwrap();
        let accepting = listener.try_clone().unwrap();
        let serve = move || {
            while let Ok((stream, _)) = accepting.accept() {
                // A probe that hangs up early is its own business.
                let _ = answer(stream);
            }
        };
        let thread = Some(std::thread::spawn(serve));
        Self { listener, thread }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Makes the blocked accept(2) return with an error.
        let shut = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(shut.is_ok() && matches!(ended, Some(Ok(()))), "{shut:?}");
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = stream.read(&mut [0; 1024])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
