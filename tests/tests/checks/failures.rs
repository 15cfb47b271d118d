//! Each way to fail, of each kind of check, in front of real servers in a namespace of its own.
//!
//! All servers answer on eight addresses. On the first nothing stands in the way; on each other one the packet filter
//! does what a broken path or host does.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use steer_labs::netns::{World, can_run};
use steer_tests::{free_port, skip};

use crate::Watch;
use crate::servers::{self, Certificates, GrpcServer, Nginx, Unbound};

const NFT: &str = "/usr/sbin/nft";

/// What stands in the way: on the address that ends in this number, this rule of the input hook.
const WAYS: [(u8, &str, &str); 8] = [
    (1, "good", ""),
    (2, "silent", "drop"),
    (3, "refused", "meta l4proto tcp reject with tcp reset"),
    (
        3,
        "refused",
        "meta l4proto udp reject with icmp type port-unreachable",
    ),
    // The handshake of TCP is the kernel's; the rest never comes.
    (4, "half-open", "tcp flags & psh == psh drop"),
    (5, "reset", "tcp flags & psh == psh reject with tcp reset"),
    // By the routes of this host, not by the filter.
    (6, "no-host", ""),
    (7, "no-net", ""),
];

/// All are this host's own, but for the last two, to which there is no way.
fn address(last: u8) -> IpAddr {
    match last {
        6 | 7 => IpAddr::from([198, 51, 100, last]),
        _ => IpAddr::from([127, 0, 1, last]),
    }
}

#[test]
fn every_kind_tells_every_failure_by_its_reason() {
    let name = "every_kind_tells_every_failure_by_its_reason";
    let programs = ["/usr/sbin/nginx", "/usr/sbin/unbound", servers::GRPCIO, NFT];
    if programs
        .into_iter()
        .any(|program| servers::missing(program, name))
    {
        return;
    }
    if let Err(reason) = can_run() {
        return skip(name, &reason);
    }
    let world = World::new("check-failures").unwrap();
    let node = world.node("host").unwrap();
    node.sysctl("net.ipv4.ping_group_range", "0 2147483647").unwrap();
    let folder = world.dir().join("servers");
    std::fs::create_dir_all(&folder).unwrap();
    node.enter(|| in_the_namespace(&folder)).unwrap();
}

fn in_the_namespace(folder: &Path) {
    let certificates = Certificates::make(folder);
    let nginx = Nginx::start(folder, &certificates);
    let [page, tls] = [(); 2].map(|()| free_port().port());
    nginx.reload_with(&format!(
        "server {{ listen 0.0.0.0:{page}; return 200 \"ready\"; }}\n\
         server {{ listen 0.0.0.0:{tls} ssl; ssl_certificate {}; ssl_certificate_key {}; return 200 \"ready\"; }}\n",
        certificates.good.display(),
        certificates.key.display()
    ));
    let names = Unbound::start_on(folder, &(1..6).map(address).collect::<Vec<_>>());
    let grpc = GrpcServer::everywhere(folder);
    for port in [page, tls] {
        servers::listening(SocketAddr::new(address(1), port));
    }
    stand_in_the_way(folder);

    let over_tls = format!(
        "server_name = \"www.example.com\"\nroots = \"{}\"",
        certificates.root.display()
    );
    let kinds = [
        ("http", page, "kind = \"http\"".to_owned()),
        ("https", tls, format!("kind = \"https\"\n{over_tls}")),
        ("tls", tls, format!("kind = \"tls\"\n{over_tls}")),
        ("tcp", page, "kind = \"tcp\"".to_owned()),
        ("grpc", grpc.address.port(), "kind = \"grpc\"".to_owned()),
        (
            "dns",
            names.address.port(),
            "kind = \"dns\"\nquery = \"www.test\"".to_owned(),
        ),
        ("icmp", page, "kind = \"icmp\"".to_owned()),
        (
            "both",
            page,
            "kind = \"calculated\"\nwhen = \"check:http-good\"".to_owned(),
        ),
    ];
    let mut watch = Watch::new();
    let mut wanted = Vec::new();
    let mut ways: Vec<(u8, &str)> = WAYS.iter().map(|(last, way, _)| (*last, *way)).collect();
    ways.dedup();
    for (kind, port, check) in &kinds {
        for (last, way) in &ways {
            let Some((verdict, cause)) = reason(kind, way) else {
                continue;
            };
            let name = format!("{kind}-{way}");
            watch.add(&name, SocketAddr::new(address(*last), *port), check);
            wanted.push((name, verdict, cause));
        }
    }
    watch.start();
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(name, verdict, cause)| (name.as_str(), *verdict, *cause))
        .collect();
    watch.become_and_stay(&wanted);
}

/// The verdict and how its cause begins. `None`: the kind has no such failure.
fn reason(kind: &str, way: &str) -> Option<(&'static str, &'static str)> {
    let down = |cause| Some(("down", cause));
    match (kind, way) {
        ("http" | "https", "good") => Some(("up", "status 200")),
        ("tls", "good") => Some(("up", "TLS 1.")),
        ("grpc", "good") => Some(("up", "SERVING")),
        ("dns", "good") => Some(("up", "NOERROR")),
        ("icmp", "good") => Some(("up", "echo")),
        ("both", "good") => Some(("up", "http-good: status 200")),
        // A connection that opens is all that it asks for.
        ("tcp", "good" | "half-open" | "reset") => Some(("up", "connected")),

        ("icmp", "refused") | ("icmp" | "dns", "half-open" | "reset") => None,
        ("both", "silent") => down("http-good: no answer within 600 ms"),
        ("both", "refused") => down("http-good: connection refused"),
        ("both", "half-open") => down("http-good: connected, but no answer within 600 ms"),
        ("both", "reset") => down("http-good: connection reset"),
        ("both", "no-host") => down("http-good: no route to host"),
        ("both", "no-net") => down("http-good: network unreachable"),
        (_, "silent") => down("no answer within 600 ms"),
        (_, "refused") => down("connection refused"),
        ("https" | "tls", "half-open") => down("connected, but no TLS handshake within 600 ms"),
        (_, "half-open") => down("connected, but no answer within 600 ms"),
        (_, "reset") => down("connection reset"),
        (_, "no-host") => down("no route to host"),
        (_, "no-net") => down("network unreachable"),
        (_, _) => None,
    }
}

fn stand_in_the_way(folder: &Path) {
    let mut rules =
        "table ip failures {\n chain input {\n  type filter hook input priority 0; policy accept;\n"
            .to_owned();
    for (last, _, rule) in WAYS.iter().filter(|(_, _, rule)| !rule.is_empty()) {
        let _ = writeln!(rules, "  ip daddr {} {rule}", address(*last));
    }
    rules.push_str(" }\n}\n");
    let file = folder.join("failures.nft");
    std::fs::write(&file, rules).unwrap();
    let unreachable = address(6).to_string();
    run(Command::new(NFT).arg("-f").arg(&file));
    run(Command::new("/usr/sbin/ip").args(["route", "add", "unreachable", &unreachable]));
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
