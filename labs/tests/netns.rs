//! The namespace runtime: what it builds, and that nothing is left behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use steer_labs::netns::{World, can_run};
use steer_labs::wait;

/// Says why a test is skipped.
fn skipped() -> bool {
    match can_run() {
        Ok(()) => false,
        Err(reason) => {
            println!("skipped: {reason}");
            true
        }
    }
}

fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn twelve_nodes_on_a_switch_are_up_in_two_seconds_and_talk() {
    if skipped() {
        return;
    }
    let start = Instant::now();
    let world = World::new("twelve").unwrap();
    let nodes: Vec<_> = (1..=12)
        .map(|number| world.node(&format!("n{number}")).unwrap())
        .collect();
    let legs: Vec<_> = nodes.iter().map(|node| (node, "eth1")).collect();
    world.bridge("sw", &legs).unwrap();
    for (number, node) in nodes.iter().enumerate() {
        node.address("eth1", &format!("192.0.2.{}/24", number + 1))
            .unwrap();
        node.address("eth1", &format!("2001:db8::{}/64", number + 1))
            .unwrap();
    }
    let took = start.elapsed();
    println!("13 nodes and 12 links: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");

    let listener = nodes[0]
        .enter(|| TcpListener::bind("[2001:db8::1]:80"))
        .unwrap()
        .unwrap();
    let mut client = wait::until(Duration::from_secs(5), Duration::from_millis(10), || {
        nodes[11]
            .enter(|| TcpStream::connect("[2001:db8::1]:80"))
            .unwrap()
            .map_err(|e| e.to_string())
    })
    .unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn routes_and_forwarding_carry_traffic_across_a_router() {
    if skipped() {
        return;
    }
    let world = World::new("routed").unwrap();
    let [a, r, b] = ["a", "r", "b"].map(|name| world.node(name).unwrap());
    world.link((&a, "eth1"), (&r, "eth1")).unwrap();
    world.link((&r, "eth2"), (&b, "eth1")).unwrap();
    a.address("eth1", "10.0.1.2/24").unwrap();
    r.address("eth1", "10.0.1.1/24").unwrap();
    r.address("eth2", "10.0.2.1/24").unwrap();
    b.address("eth1", "10.0.2.2/24").unwrap();
    a.route("0.0.0.0/0", "10.0.1.1").unwrap();
    b.route("0.0.0.0/0", "10.0.2.1").unwrap();
    r.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let listener = b.enter(|| TcpListener::bind("10.0.2.2:80")).unwrap().unwrap();
    a.enter(|| TcpStream::connect("10.0.2.2:80")).unwrap().unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "10.0.1.2");

    r.set_link("eth2", false).unwrap();
    let routes = String::from_utf8(r.exec(&["ip", "route"]).unwrap().stdout).unwrap();
    assert!(
        routes.contains("10.0.1.0/24") && !routes.contains("10.0.2.0/24"),
        "{routes}"
    );
}

#[test]
fn nothing_is_left_after_a_drop() {
    if skipped() {
        return;
    }
    let world = World::new("dropped").unwrap();
    let node = world.node("a").unwrap();
    let name = node.netns_name().to_owned();
    let dir = world.dir().to_owned();
    let process = node.spawn(sleeper(), "sleep").unwrap();
    let pid = process.id();
    std::mem::forget(process); // the world alone must kill it
    assert!(namespaces().contains(&name) && dir.exists() && is_running(pid));
    drop(world);
    assert!(!namespaces().contains(&name) && !dir.exists() && !is_running(pid));
    assert!(
        node.address("lo", "192.0.2.1/32").is_err(),
        "a node of a dropped world can do nothing"
    );
}

#[test]
fn nothing_is_left_after_a_panic() {
    if skipped() {
        return;
    }
    let (tell, told) = std::sync::mpsc::channel();
    let panicking = std::thread::spawn(move || {
        let world = World::new("panic").unwrap();
        let node = world.node("a").unwrap();
        let process = node.spawn(sleeper(), "sleep").unwrap();
        tell.send((node.netns_name().to_owned(), process.id())).unwrap();
        panic!("on purpose");
    });
    assert!(panicking.join().is_err());
    let (name, pid) = told.recv().unwrap();
    assert!(!namespaces().contains(&name) && !is_running(pid));
}

#[test]
fn a_name_cannot_be_used_twice() {
    if skipped() {
        return;
    }
    let world = World::new("twice").unwrap();
    world.node("a").unwrap();
    let error = world.node("a").unwrap_err().to_string();
    assert!(error.contains("`a` is busy"), "{error}");
    let error = World::new("twice").unwrap_err().to_string();
    assert!(error.contains("`twice` is busy"), "{error}");
    assert!(
        world.get("a").is_some(),
        "the failed attempt has taken nothing away"
    );
}

#[test]
fn a_bad_name_or_address_is_refused_with_its_value() {
    if skipped() {
        return;
    }
    let world = World::new("bad").unwrap();
    assert!(world.node("../etc").unwrap_err().to_string().contains("`../etc`"));
    let node = world.node("a").unwrap();
    assert!(
        node.address("lo", "192.0.2.1")
            .unwrap_err()
            .to_string()
            .contains("`192.0.2.1`")
    );
    assert!(
        node.address("lo", "192.0.2.1/33")
            .unwrap_err()
            .to_string()
            .contains("`192.0.2.1/33`")
    );
    assert!(
        node.address("eth9", "192.0.2.1/32")
            .unwrap_err()
            .to_string()
            .contains("eth9")
    );
    assert!(
        node.route("::/0", "192.0.2.1")
            .unwrap_err()
            .to_string()
            .contains("`192.0.2.1`")
    );
}

#[test]
fn a_missing_program_names_its_package() {
    if skipped() {
        return;
    }
    let world = World::new("missing").unwrap();
    let node = world.node("a").unwrap();
    let error = node
        .spawn(Command::new("/nowhere/bird"), "bird")
        .unwrap_err()
        .to_string();
    assert!(error.contains("`bird2`"), "{error}");
}

/// Not a test of its own: the process that the next test kills. Runs only when asked by name and variable.
#[test]
fn crash_victim() {
    if std::env::var_os("STEER_LABS_VICTIM").is_none() {
        println!("skipped: only a helper of a_crashed_run_is_cleaned_by_the_next_one");
        return;
    }
    let world = World::new("victim").unwrap();
    let node = world.node("a").unwrap();
    let process = node.spawn(sleeper(), "sleep").unwrap();
    println!(
        "victim {} {} {}",
        node.netns_name(),
        process.id(),
        world.dir().display()
    );
    std::thread::sleep(Duration::from_secs(60));
}

/// Starts the victim and returns it with the name, pid and folder it has made.
fn start_victim() -> (std::process::Child, String, u32, std::path::PathBuf) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash_victim", "--nocapture"])
        .env("STEER_LABS_VICTIM", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let line = lines.find_map(|line| {
        line.unwrap()
            .split_once("victim ")
            .map(|(_, rest)| rest.to_owned())
    });
    let line = line.expect("the victim says what it made");
    let mut words = line.split(' ');
    let name = words.next().unwrap().to_owned();
    let pid = words.next().unwrap().parse().unwrap();
    (child, name, pid, words.next().unwrap().into())
}

#[test]
fn a_crashed_run_is_cleaned_by_the_next_one() {
    if skipped() {
        return;
    }
    let (mut victim, name, pid, dir) = start_victim();
    let other = World::new("beside").unwrap();
    assert!(
        namespaces().contains(&name),
        "a live run beside us is not touched"
    );
    drop(other);
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait::until(Duration::from_secs(5), Duration::from_millis(5), || {
        if is_running(pid) {
            Err(format!("{pid} outlives its creator"))
        } else {
            Ok(())
        }
    })
    .unwrap();
    let next = World::new("next").unwrap();
    assert!(!namespaces().contains(&name) && !dir.exists());
    drop(next);
}

#[test]
fn an_interrupted_run_cleans_up_itself() {
    if skipped() {
        return;
    }
    let (mut victim, name, pid, dir) = start_victim();
    let id = nix::unistd::Pid::from_raw(i32::try_from(victim.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(victim.wait().unwrap().code(), Some(130));
    assert!(!namespaces().contains(&name) && !dir.exists() && !is_running(pid));
}

#[test]
fn two_worlds_go_side_by_side_with_the_same_addresses() {
    if skipped() {
        return;
    }
    let worlds = ["left", "right"].map(|name| World::new(name).unwrap());
    let pairs = worlds.each_ref().map(|world| {
        let (a, b) = (world.node("a").unwrap(), world.node("b").unwrap());
        world.link((&a, "eth1"), (&b, "eth1")).unwrap();
        a.address("eth1", "192.0.2.1/24").unwrap();
        b.address("eth1", "192.0.2.2/24").unwrap();
        let listener = a.enter(|| TcpListener::bind("192.0.2.1:80")).unwrap().unwrap();
        (b, listener)
    });
    let [left, right] = worlds;
    drop(left);
    let (client, listener) = &pairs[1];
    client
        .enter(|| TcpStream::connect("192.0.2.1:80"))
        .unwrap()
        .unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "192.0.2.2");
    assert!(pairs[0].0.enter(|| ()).is_err(), "the left world is gone");
    drop(right);
}
