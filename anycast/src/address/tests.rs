//! The kernel's side in network namespaces of our own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::{Drain, Judge, Snapshot, SnapshotCell, Target, Verdict};
use steer_labs::netns::{Node, World, can_run};
use steer_topology::{Asn, Bind, EndpointId, Fleet, Prefix, Resolve};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Command, Kernel, News, streams};
use crate::announcer::State;
use crate::monitor::{Heard, Monitor, MonitorEvent};
use crate::speaker::Speaker;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const V4: &str = "192.0.2.53";
const V6: &str = "2001:db8::53";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bind(address: &str, interface: &str) -> (Prefix, Bind) {
    let address = ip(address);
    let interface = interface.to_owned();
    (Prefix::from(address), Bind { interface, address })
}

/// A world with one node, or why not.
fn world(test: &str) -> Option<(World, Node)> {
    if let Err(reason) = can_run() {
        eprintln!("skip: {test}: {reason}");
        return None;
    }
    let world = World::new(test).unwrap();
    let node = world.node("edge").unwrap();
    Some((world, node))
}

/// Runs `body` to its end inside `node`.
fn inside(node: &Node, body: impl AsyncFnOnce() + Send) {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(body());
    };
    node.enter(run).unwrap();
}

impl Kernel {
    async fn next(&mut self) -> News {
        let news = timeout(PATIENCE, self.news.recv()).await;
        news.expect("news in time").expect("the task runs")
    }

    async fn ask(&self, command: Command) {
        self.commands.send(command).await.unwrap();
    }

    /// The answer to a command, whatever is told of addresses before.
    async fn answer(&mut self) -> News {
        loop {
            let news = self.next().await;
            if !matches!(news, News::Addresses(_)) {
                return news;
            }
        }
    }

    /// Waits until the addresses are as `fine` wants them.
    async fn until(&mut self, fine: impl Fn(&BTreeSet<IpAddr>) -> bool) {
        loop {
            if let News::Addresses(Some(addresses)) = self.next().await
                && fine(&addresses)
            {
                return;
            }
        }
    }
}

#[test]
fn an_address_is_put_on_and_taken_off_and_both_can_be_said_twice() {
    let Some((_world, node)) = world("address-bind") else {
        return;
    };
    inside(&node, async || {
        let mut kernel = Kernel::start();
        kernel.until(|all| all.contains(&ip("127.0.0.1"))).await;
        for address in [V4, V6] {
            let (prefix, bind) = bind(address, "lo");
            for _ in 0..2 {
                kernel.ask(Command::Bind(prefix, bind.clone())).await;
                assert_eq!(kernel.answer().await, News::Bound(prefix, Ok(())));
                let usable = std::net::UdpSocket::bind((bind.address, 0));
                assert!(usable.is_ok(), "{address} can be used at once: {usable:?}");
            }
        }
        kernel
            .ask(Command::Unbind(bind(V4, "lo").0, bind(V4, "lo").1))
            .await;
        assert_eq!(kernel.answer().await, News::Unbound(bind(V4, "lo").0, Ok(())));
        kernel
            .until(|all| all.contains(&ip(V6)) && !all.contains(&ip(V4)))
            .await;
        for address in [V4, V6] {
            let (prefix, bind) = bind(address, "lo");
            kernel.ask(Command::Unbind(prefix, bind)).await;
            assert_eq!(kernel.answer().await, News::Unbound(prefix, Ok(())));
        }
        assert!(std::net::UdpSocket::bind((ip(V6), 0)).is_err());
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let Some((_world, node)) = world("address-interface") else {
        return;
    };
    inside(&node, async || {
        let mut kernel = Kernel::start();
        let (prefix, bind) = bind(V4, "eth9");
        kernel.ask(Command::Bind(prefix, bind.clone())).await;
        let why = "cannot put 192.0.2.53 on eth9: there is no such interface".to_owned();
        assert_eq!(kernel.answer().await, News::Bound(prefix, Err(why)));
        // Nothing can be left of it there.
        kernel.ask(Command::Unbind(prefix, bind)).await;
        assert_eq!(kernel.answer().await, News::Unbound(prefix, Ok(())));
    });
}

#[test]
fn what_others_do_to_the_addresses_is_heard() {
    let Some((_world, node)) = world("address-watch") else {
        return;
    };
    inside(&node, async || {
        let mut kernel = Kernel::start();
        kernel.until(|_| true).await;
        node.address("lo", "198.51.100.7/32").unwrap();
        kernel.until(|all| all.contains(&ip("198.51.100.7"))).await;
        let deleted = node.exec(&["ip", "address", "del", "198.51.100.7/32", "dev", "lo"]);
        assert!(deleted.unwrap().status.success());
        kernel.until(|all| !all.contains(&ip("198.51.100.7"))).await;
        // Many at once: the last word counts.
        for last in 1..=200 {
            node.address("lo", &format!("198.51.100.{last}/32")).unwrap();
        }
        kernel.until(|all| all.len() >= 200).await;
    });
}

#[test]
fn streams_of_clients_are_counted_and_no_others() {
    let Some((world, edge)) = world("address-streams") else {
        return;
    };
    let client = world.node("client").unwrap();
    world.link((&edge, "eth0"), (&client, "eth0")).unwrap();
    edge.address("eth0", "10.0.0.1/24").unwrap();
    edge.address("eth0", "2001:db8:1::1/64").unwrap();
    client.address("eth0", "10.0.0.2/24").unwrap();
    client.address("eth0", "2001:db8:1::2/64").unwrap();
    edge.address("lo", "192.0.2.53/32").unwrap();
    edge.address("lo", "2001:db8::53/128").unwrap();
    client.route("192.0.2.0/24", "10.0.0.1").unwrap();
    client.route("2001:db8::53/128", "2001:db8:1::1").unwrap();
    let both = edge
        .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 4430)))
        .unwrap()
        .unwrap();
    let v4 = edge
        .enter(|| TcpListener::bind("192.0.2.53:4431"))
        .unwrap()
        .unwrap();
    let connect = |from: &Node, to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        from.enter(|| TcpStream::connect_timeout(&to, PATIENCE))
            .unwrap()
            .unwrap()
    };
    let own = BTreeSet::from(["10.0.0.1", V4, V6].map(ip));
    let count = |within: &str| {
        let within: Prefix = within.parse().unwrap();
        edge.enter(|| streams::count(within, &own)).unwrap().unwrap()
    };
    assert_eq!(count("192.0.2.53/32"), 0);
    let mut held = vec![
        connect(&client, "192.0.2.53:4430"), // seen as IPv6 by the kernel
        connect(&client, "192.0.2.53:4431"),
        connect(&client, "10.0.0.1:4430"),
        connect(&client, "[2001:db8::53]:4430"),
        connect(&edge, "192.0.2.53:4430"), // a check of our own
    ];
    let accepted: Vec<_> = (0..4).map(|_| both.accept().unwrap()).collect();
    let accepted_v4 = v4.accept().unwrap();
    assert_eq!(count("192.0.2.53/32"), 2);
    assert_eq!(count("192.0.2.0/24"), 2);
    assert_eq!(count("0.0.0.0/0"), 3);
    assert_eq!(count("2001:db8::53/128"), 1);
    assert_eq!(count("2001:db8::54/128"), 0);
    // 300 more do not fit into one answer.
    let (more, ends): (Vec<_>, Vec<_>) = (0..300)
        .map(|_| (connect(&client, "192.0.2.53:4431"), v4.accept().unwrap()))
        .unzip();
    assert_eq!(count("192.0.2.53/32"), 302);
    drop((more, ends));
    held.clear();
    drop((accepted, accepted_v4));
    let deadline = Instant::now() + PATIENCE;
    while count("192.0.2.53/32") > 0 {
        assert!(Instant::now() < deadline, "closed connections count no more");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

fn bound_fleet(monitor: SocketAddr) -> Arc<Fleet> {
    let text = format!(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ {{ address = \"127.0.0.1:1\" }} ]\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n\
         [[bgp.peer]]\naddress = \"{}\"\nport = {}\nasn = 64500\nconnect_retry = \"1s\"\n\
         [[anycast]]\nprefix = \"192.0.2.53/32\"\nwhile_up = [\"pool:web\"]\nbind = {{ interface = \"lo\" }}\n",
        monitor.ip(),
        monitor.port()
    );
    Arc::new(
        Fleet::parse(&text, Path::new("steer.toml"), &NoNames).unwrap_or_else(|faults| panic!("{faults}")),
    )
}

/// A peer that only listens: its address, what it hears, its end.
fn monitored() -> (SocketAddr, mpsc::Receiver<MonitorEvent>, CancellationToken) {
    let (asn, router_id) = (Asn::new(64_500).unwrap(), "192.0.2.250".parse().unwrap());
    let monitor = Monitor::bind("127.0.0.1:0".parse().unwrap(), asn, router_id).unwrap();
    let address = monitor.local_addr().unwrap();
    let (sender, events) = mpsc::channel(64);
    let stop = CancellationToken::new();
    tokio::spawn(monitor.run(sender, stop.clone()));
    (address, events, stop)
}

async fn heard(events: &mut mpsc::Receiver<MonitorEvent>) -> Heard {
    let event = timeout(PATIENCE, events.recv()).await;
    event.expect("heard in time").expect("the monitor runs").heard
}

/// The host takes packets for the address.
fn there() -> bool {
    std::net::UdpSocket::bind((ip(V4), 0)).is_ok()
}

async fn until_gone() {
    let gone = async {
        while there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the address goes");
}

#[test]
fn a_peer_hears_of_a_route_only_while_its_address_is_there() {
    let Some((_world, node)) = world("address-speaker") else {
        return;
    };
    inside(&node, async || {
        let (monitor, mut events, stop) = monitored();
        let fleet = bound_fleet(monitor);

        let mut judge = Judge::new(Arc::clone(&fleet), Instant::now(), Timestamp::now());
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let mut verdict = |verdict| {
            let (now, at) = (Instant::now(), Timestamp::now());
            let next = judge.on_verdict(EndpointId(0), verdict, "test".to_owned(), now, at);
            drop(cell.publish(next.expect("a change")));
        };
        let speaker = Speaker::bind(&fleet, None).await.unwrap();
        let announcer = speaker.announcer();
        let end = CancellationToken::new();
        let task = tokio::spawn(speaker.run(Arc::clone(&cell), 1, end.clone()));
        assert_eq!(heard(&mut events).await, Heard::SessionUp);
        assert!(!there());

        verdict(Verdict::Up);
        assert!(matches!(heard(&mut events).await, Heard::Announced { .. }));
        assert!(there(), "bound before it was announced");
        assert_eq!(announcer.status().await.unwrap()[0].state, State::Announced);

        verdict(Verdict::Down);
        assert!(matches!(heard(&mut events).await, Heard::Withdrawn { .. }));
        assert!(there(), "it outlives the withdrawal");
        until_gone().await;

        verdict(Verdict::Up);
        assert!(matches!(heard(&mut events).await, Heard::Announced { .. }));
        // Somebody takes it off: the route goes at once, and comes back with the address.
        let deleted = node.exec(&["ip", "address", "del", "192.0.2.53/32", "dev", "lo"]);
        assert!(deleted.unwrap().status.success());
        assert!(matches!(heard(&mut events).await, Heard::Withdrawn { .. }));
        assert!(matches!(heard(&mut events).await, Heard::Announced { .. }));
        assert!(there());

        end.cancel();
        assert!(matches!(heard(&mut events).await, Heard::Withdrawn { .. }));
        timeout(PATIENCE, task).await.expect("ends in time").unwrap();
        assert!(!there(), "nothing is left behind");
        stop.cancel();
    });
}

/// One site whose drain prepends, waits for streams and withdraws.
fn drained_fleet(monitor: SocketAddr) -> Arc<Fleet> {
    let text = format!(
        "[[site]]\nname = \"fra\"\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n\
         [[bgp.peer]]\naddress = \"{}\"\nport = {}\nasn = 64500\nconnect_retry = \"1s\"\n\
         [[anycast]]\nprefix = \"192.0.2.53/32\"\nbind = {{ interface = \"lo\" }}\n\
         on_drain = [\"prepend 2\", \"wait streams 5m\", \"withdraw\"]\n",
        monitor.ip(),
        monitor.port()
    );
    Arc::new(
        Fleet::parse(&text, Path::new("steer.toml"), &NoNames).unwrap_or_else(|faults| panic!("{faults}")),
    )
}

#[test]
fn a_drain_waits_for_the_last_stream_and_then_withdraws() {
    let Some((world, edge)) = world("address-drain") else {
        return;
    };
    let client = world.node("client").unwrap();
    world.link((&edge, "eth0"), (&client, "eth0")).unwrap();
    edge.address("eth0", "10.0.0.1/24").unwrap();
    client.address("eth0", "10.0.0.2/24").unwrap();
    client.route("192.0.2.53/32", "10.0.0.1").unwrap();
    inside(&edge, async || {
        let (monitor, mut events, stop) = monitored();
        let fleet = drained_fleet(monitor);

        let judge = Judge::new(Arc::clone(&fleet), Instant::now(), Timestamp::now());
        let first = judge.first_snapshot();
        let cell = Arc::new(SnapshotCell::new(first.clone()));
        let fra = fleet.site_named("fra");
        let speaker = Speaker::bind(&fleet, fra).await.unwrap();
        let announcer = speaker.announcer();
        let end = CancellationToken::new();
        let task = tokio::spawn(speaker.run(Arc::clone(&cell), 1, end.clone()));
        assert_eq!(heard(&mut events).await, Heard::SessionUp);
        let hops = |heard| {
            let Heard::Announced { as_path, .. } = heard else {
                panic!("{heard:?}")
            };
            as_path.len()
        };
        assert_eq!(hops(heard(&mut events).await), 1);

        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 4430)).unwrap();
        let to = SocketAddr::from((ip(V4), 4430));
        let stream = client
            .enter(|| TcpStream::connect_timeout(&to, PATIENCE))
            .unwrap()
            .unwrap();
        let served = listener.accept().unwrap();
        let drain = Drain {
            target: Target::Site(fra.unwrap()),
            reason: "kernel update".to_owned(),
            author: "ana".to_owned(),
            since: Timestamp::now(),
            until: None,
        };
        let drained = Snapshot {
            number: first.number + 1,
            drains: vec![drain],
            ..first
        };
        drop(cell.publish(Arc::new(drained)));
        assert_eq!(hops(heard(&mut events).await), 3, "prepended");
        let streams = async || {
            let status = announcer.status().await.unwrap();
            status[0].drain.as_ref().unwrap().streams
        };
        let counted = async {
            while streams().await != Some(1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("the stream is counted");
        drop((stream, served));
        assert!(matches!(heard(&mut events).await, Heard::Withdrawn { .. }));
        until_gone().await;
        end.cancel();
        timeout(PATIENCE, task).await.expect("ends in time").unwrap();
        stop.cancel();
    });
}
