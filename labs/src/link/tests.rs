//! Real frames through real queues, where namespaces can be made.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::spec::NODE;
use super::{Lines, Wan};
use crate::netns::{Node, World, can_run};

/// Two nodes with a long line between them; `None`, with the reason printed, where that cannot be.
fn stage(name: &str, line: &str) -> Option<(World, [Node; 2], Lines)> {
    if let Err(why) = can_run() {
        println!("skipped: {why}");
        return None;
    }
    let world = World::new(name).unwrap();
    let [a, b, wan] = ["a", "b", NODE].map(|name| world.node(name).unwrap());
    wan.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
    world.link((&a, "eth1"), (&wan, "w0a")).unwrap();
    world.link((&b, "eth1"), (&wan, "w0b")).unwrap();
    a.address("eth1", "192.0.2.1/24").unwrap();
    b.address("eth1", "192.0.2.2/24").unwrap();
    let text = format!("link = [\"a:eth1\", \"b:eth1\"]\n{line}");
    let wan: Wan = toml::from_str(&text).unwrap();
    let lines = Lines::start(&world, &[wan]).unwrap();
    Some((world, [a, b], lines))
}

/// Two sockets that know each other.
fn pair(nodes: &[Node; 2]) -> [UdpSocket; 2] {
    let sockets = [("192.0.2.1:9", &nodes[0]), ("192.0.2.2:9", &nodes[1])]
        .map(|(address, node)| node.enter(|| UdpSocket::bind(address)).unwrap().unwrap());
    sockets[0].connect("192.0.2.2:9").unwrap();
    sockets[1].connect("192.0.2.1:9").unwrap();
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    sockets
}

#[test]
fn a_round_trip_takes_twice_the_delay_and_the_precision_is_told() {
    let Some((_world, nodes, lines)) = stage("lineslow", "delay_ms = 20.0") else {
        return;
    };
    let [here, there] = pair(&nodes);
    let mut buffer = [0; 16];
    let mut round = || {
        let start = Instant::now();
        here.send(b"ping").unwrap();
        there.recv(&mut buffer).unwrap();
        there.send(b"pong").unwrap();
        here.recv(&mut buffer).unwrap();
        start.elapsed().as_secs_f64() * 1e3
    };
    round(); // neighbours find each other first
    let mut times: Vec<f64> = (0..50).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    println!(
        "round trip: {:.2} .. {:.2} .. {:.2} ms; {}",
        times[0],
        times[25],
        times[49],
        lines.precision().unwrap()
    );
    assert!(times[0] >= 40.0, "never sooner: {times:?}");
    assert!(times[25] < 45.0, "half of them hardly later: {times:?}");
}

#[test]
fn a_large_transfer_comes_through_whole_although_the_kernel_cuts_it_late() {
    let Some((_world, [a, b], lines)) = stage("linelong", "delay_ms = 2.0\njitter_ms = 1.0") else {
        return;
    };
    let listener = b.enter(|| TcpListener::bind("192.0.2.2:80")).unwrap().unwrap();
    let sent: Vec<u8> = (0..4_000_000_u32)
        .map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1])
        .collect();
    let mut client = a.enter(|| TcpStream::connect("192.0.2.2:80")).unwrap().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let expected = sent.clone();
    let sender = std::thread::spawn(move || client.write_all(&sent));
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    sender.join().unwrap().unwrap();
    assert!(got == expected, "{} of {} octets", got.len(), expected.len());
    println!("{}", lines.precision().unwrap());
}

#[test]
fn a_mute_end_is_not_heard_and_hears() {
    // Neighbours are set by hand: nobody could ask for them.
    let Some((_world, nodes, _lines)) = stage("linemute", "mute = \"a:eth1\"") else {
        return;
    };
    let mac = |node: &Node| {
        let said = node.exec(&["ip", "-o", "link", "show", "eth1"]).unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        said.split("link/ether ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    for (node, other, address) in [(0, 1, "192.0.2.2"), (1, 0, "192.0.2.1")] {
        let mac = mac(&nodes[other]);
        let words = [
            "ip",
            "neighbour",
            "replace",
            address,
            "lladdr",
            &mac,
            "dev",
            "eth1",
        ];
        assert!(nodes[node].exec(&words).unwrap().status.success());
    }
    let [mute, other] = pair(&nodes);
    let mut buffer = [0; 16];
    other.send(b"hello").unwrap();
    assert_eq!(mute.recv(&mut buffer).unwrap(), 5);
    other.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    mute.send(b"hello").unwrap();
    assert!(other.recv(&mut buffer).is_err());
}

#[test]
fn a_line_can_become_another_and_itself_again() {
    let Some((_world, nodes, lines)) = stage("linefault", "delay_ms = 1.0") else {
        return;
    };
    let [here, there] = pair(&nodes);
    let mut buffer = [0; 16];
    here.send(b"first").unwrap();
    there.recv(&mut buffer).unwrap();
    // The ends the other way round are the same line; what leaves `a` vanishes, what leaves `b` does not.
    let mute: Wan = toml::from_str("link = [\"b:eth1\", \"a:eth1\"]\nmute = \"a:eth1\"").unwrap();
    lines.set(&mute).unwrap();
    there.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // A direction looks at its rules when it wakes up.
    let arrives = |times: usize, wanted: bool| {
        let began = Instant::now();
        let mut row = 0;
        while row < times {
            here.send(b"there").unwrap();
            let came = there.recv(&mut [0; 16]).is_ok();
            row = if came == wanted { row + 1 } else { 0 };
            assert!(began.elapsed() < Duration::from_secs(10), "never {wanted}");
        }
    };
    arrives(3, false);
    there.send(b"back").unwrap();
    assert_eq!(here.recv(&mut buffer).unwrap(), 4);
    lines.reset(&mute).unwrap();
    arrives(3, true);
    let other: Wan = toml::from_str("link = [\"a:eth1\", \"c:eth1\"]").unwrap();
    assert!(
        lines
            .set(&other)
            .unwrap_err()
            .to_string()
            .contains("no long line")
    );
}
