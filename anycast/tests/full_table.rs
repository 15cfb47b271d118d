//! A peer that sends a full table costs bounded memory: every octet on the heap is counted.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use steer_anycast::Speaker;
use steer_anycast::speaker::PeerStatus;
use steer_anycast::wire::{
    Capabilities, Families, Family, Open, Outbound, Path, Segment, SegmentKind, encode_keepalive,
    encode_open, encode_reach,
};
use steer_health::{Judge, SnapshotCell};
use steer_topology::{Asn, Fleet, Prefix, Resolve};
use tokio_util::sync::CancellationToken;

/// Routes of the default-free zone.
const ROUTES: u32 = 1_000_000;

/// What is read and decoded at once, with room to spare; far from what a table takes.
const BOUND: usize = 4 << 20;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised to us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

fn fleet(listen: SocketAddr, more: &str) -> Arc<Fleet> {
    let text = format!(
        "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 64500\npassive = true\n{more}\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\n"
    );
    Arc::new(Fleet::parse(&text, FilePath::new("steer.toml"), &NoNames).expect("a sound configuration"))
}

/// The whole table as octets; as in a real one, a few routes share a path.
fn table() -> Vec<u8> {
    let prefixes = (0..ROUTES).map(|number| {
        let address = Ipv4Addr::from_bits(0x0100_0000 + (number << 8));
        Prefix::new(address.into(), 24).expect("a prefix")
    });
    let prefixes: Vec<Prefix> = prefixes.collect();
    let next_hop: IpAddr = Ipv4Addr::new(192, 0, 2, 77).into();
    let mut octets = Vec::new();
    for (few, number) in prefixes.chunks(20).zip(0..) {
        let path = Path {
            as_path: vec![Segment {
                kind: SegmentKind::Sequence,
                asns: vec![64_500, 64_501, 65_600 + number],
            }],
            ..Path::default()
        };
        let family = Family::Ipv4Unicast;
        let (message, sent) = encode_reach(family, few, next_hop.into(), &path, &Outbound::PLAIN);
        assert_eq!(sent, few.len());
        octets.extend_from_slice(&message);
    }
    octets
}

fn session(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("listening");
    let open = Open {
        asn: Asn::new(64_500).expect("not zero"),
        hold_time: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 99),
        capabilities: Capabilities {
            families: Some(Families::ALL),
            four_octet_as: true,
            ..Capabilities::default()
        },
    };
    stream.write_all(&encode_open(&open)).expect("open");
    stream.write_all(&encode_keepalive()).expect("open");
    let mut ours = stream.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while ours.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    stream
}

/// The most that lives on the heap beyond what lived before, while the table comes in; and what stays.
fn growth(more: &str, table: &[u8]) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let listen = free();
    let fleet = fleet(listen, more);
    let judge = Judge::new(Arc::clone(&fleet), Instant::now(), jiff::Timestamp::now());
    let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
    let speaker = runtime
        .block_on(Speaker::bind(&fleet, None))
        .expect("a free port");
    let (status, stop) = (speaker.status(), CancellationToken::new());
    let task = runtime.spawn(speaker.run(cell, 1, stop.clone()));
    let mut stream = session(listen);
    let until = |what: &str, fine: &dyn Fn(&PeerStatus) -> bool| {
        let started = Instant::now();
        while !fine(&status.peers()[0]) {
            let peers = status.peers();
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "no {what}: {peers:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until("session", &|peer| peer.session.is_some());
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let started = Instant::now();
    stream.write_all(table).expect("the session stays up");
    until("full table", &|peer| peer.prefixes_in == u64::from(ROUTES));
    let took = started.elapsed();
    let most = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let stays = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    println!(
        "{ROUTES} routes in {} MB, \"{more}\": {} kB at most, {} kB stay; {took:?}",
        table.len() >> 20,
        most >> 10,
        stays >> 10
    );
    assert!(status.peers()[0].session.is_some(), "the session is up");
    stop.cancel();
    runtime.block_on(task).expect("in good order");
    (most, stays)
}

#[test]
fn a_million_routes_cost_what_is_read_at_once_and_what_limit_and_sample_were_given() {
    let table = table();
    let (most, stays) = growth("", &table);
    assert!(most < BOUND && stays < BOUND / 4, "{most} octets, {stays} stay");
    let (most, _) = growth("sample = 1000", &table);
    assert!(most < BOUND, "{most} octets with a sample");
    // A fingerprint has 8 octets, its place at most 18, and a table that grows has both its sizes for a moment.
    let (most, stays) = growth("max_prefixes = 1000000", &table);
    let fingerprints = 20 * ROUTES as usize;
    assert!(most < BOUND + 2 * fingerprints, "{most} octets with a limit");
    assert!(stays < BOUND + fingerprints, "{stays} octets stay with a limit");
}
