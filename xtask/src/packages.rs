//! The peers that tests and labs run against: Debian packages, installed where we are root.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell;

/// A program that a test needs and the Debian package that brings it.
#[derive(Clone, Copy)]
struct Needed {
    program: &'static str,
    package: &'static str,
}

/// What a bench needs beyond the tests: program and package.
pub(crate) fn ensure_also(more: &[(&'static str, &'static str)]) {
    ensure_all(more.iter().map(|(program, package)| needed(program, package)));
}

const fn needed(program: &'static str, package: &'static str) -> Needed {
    Needed { program, package }
}

const NEEDED: &[Needed] = &[
    needed("/usr/sbin/bird", "bird2"),
    needed("/usr/lib/frr/bgpd", "frr"),
    needed("/usr/bin/gobgpd", "gobgpd"),
    needed("/usr/sbin/bgpd", "openbgpd"),
    needed("/usr/sbin/exabgp", "exabgp"),
    needed("/usr/sbin/pmbmpd", "pmacct"),
    needed("/usr/bin/bgpdump", "bgpdump"),
    needed("/usr/bin/stayrtr", "stayrtr"),
    needed("/usr/sbin/unbound", "unbound"),
    needed("/usr/sbin/named", "bind9"),
    needed("/usr/sbin/gdnsd", "gdnsd"),
    needed("/usr/bin/dig", "bind9-dnsutils"),
    needed("/usr/bin/kdig", "knot-dnsutils"),
    needed("/usr/sbin/knotd", "knot"),
    needed("/usr/sbin/nsd", "nsd"),
    needed("/usr/bin/drill", "ldnsutils"),
    needed("/usr/bin/dnsperf", "dnsperf"),
    needed("/usr/bin/h2load", "nghttp2-client"),
    needed("/usr/bin/openssl", "openssl"),
    needed("/usr/sbin/nginx", "nginx-light"),
    needed("/usr/sbin/haproxy", "haproxy"),
    needed(
        "/usr/lib/python3/dist-packages/grpc/__init__.py",
        "python3-grpcio",
    ),
    needed(
        "/usr/lib/python3/dist-packages/aiosmtpd/__init__.py",
        "python3-aiosmtpd",
    ),
    needed("/usr/sbin/ip", "iproute2"),
    needed("/usr/sbin/nft", "nftables"),
    needed("/usr/bin/etcd", "etcd-server"),
    needed("/usr/bin/etcdctl", "etcd-client"),
    needed("/usr/bin/pg_createcluster", "postgresql"),
    needed("/usr/sbin/nats-server", "nats-server"),
    needed("/usr/bin/javac", "default-jdk-headless"), // a broker of Kafka, and its own producer
    needed("/usr/bin/mvn", "maven"),
    needed("/usr/share/doc/ruby-grpc", "ruby-grpc"),
    needed("/usr/bin/curl", "curl"),
    needed("/usr/bin/chromium", "chromium"),
    needed("/usr/bin/xz", "xz-utils"),
    needed("/usr/bin/faketime", "faketime"),
    needed("/usr/sbin/dnsmasq", "dnsmasq-base"),
    needed("/usr/bin/pgrep", "procps"),
    needed("/usr/bin/tshark", "tshark"), // asks whether others may capture; noninteractive says no
    needed(
        "/usr/lib/python3/dist-packages/scapy/__init__.py",
        "python3-scapy",
    ),
];

/// Installs what is missing. Without root, or where apt fails, it says what will be skipped and goes on.
pub(crate) fn ensure() {
    ensure_all(NEEDED.iter().copied());
}

fn ensure_all(all: impl Iterator<Item = Needed>) {
    let missing: Vec<_> = all.filter(|needed| !present(needed)).collect();
    if missing.is_empty() {
        return;
    }
    let packages: Vec<_> = missing.iter().map(|needed| needed.package).collect();
    if !is_root() {
        say_skipped(&missing, "not root");
        return;
    }
    eprintln!("installing {}", packages.join(" "));
    if let Err(error) = install(&packages) {
        eprintln!("{error}");
    }
    let still: Vec<_> = missing.into_iter().filter(|needed| !present(needed)).collect();
    if !still.is_empty() {
        say_skipped(&still, "could not be installed");
    }
}

fn say_skipped(missing: &[Needed], why: &str) {
    for Needed { program, package } in missing {
        eprintln!("skip: tests that need {program} (Debian package {package}): {why}");
    }
}

fn present(needed: &Needed) -> bool {
    Path::new(needed.program).exists()
}

pub(crate) fn is_root() -> bool {
    shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn install(packages: &[&str]) -> Result<(), String> {
    let _quiet = NoDaemons::new()?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    shell::run(apt().arg("update"))?;
    shell::run(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
}

/// While it lives, packages that are installed do not start their daemons (Debian's policy-rc.d).
struct NoDaemons {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoDaemons {
    fn new() -> Result<Self, String> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").map_err(|error| format!("{POLICY}: {error}"))?;
        shell::output(Command::new("chmod").args(["755", POLICY]))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("{POLICY} could not be removed: {error}");
        }
    }
}
