//! One line: our BFD service in one namespace, a daemon in another, a switch between them that can be cut.

use std::net::{IpAddr, UdpSocket};
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use steer_anycast::bfd::{Auth, Bfd, BfdStatus, Config, Hops, Id, Intervals, PathState, Ports, Role, Target};
use steer_labs::netns::{Node, Proc, World};
use steer_labs::wait;
use steer_tests::peers::Home;
use steer_tests::peers::bfd::{Daemon, Key, Path};
use steer_topology::BfdAuthKind;

/// Longer than anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

/// What a busy machine may add to a Detection Time.
const SLACK: Duration = Duration::from_millis(150);

pub(crate) const MULTIPLIER: u32 = 3;

/// How the two ends see each other.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) interval: Duration,
    /// A router between the switch and the daemon.
    pub(crate) multihop: bool,
    pub(crate) key: Option<(BfdAuthKind, Key)>,
}

impl Plan {
    pub(crate) fn every(interval_ms: u64) -> Self {
        Self {
            interval: Duration::from_millis(interval_ms),
            multihop: false,
            key: None,
        }
    }

    /// IPv4 and IPv6: ours and the daemon's.
    fn addresses(self) -> [(IpAddr, IpAddr); 2] {
        let pair = |ours: &str, theirs: &str| (ours.parse().unwrap(), theirs.parse().unwrap());
        if self.multihop {
            [pair("10.0.0.1", "10.0.1.2"), pair("2001:db8::1", "2001:db8:1::2")]
        } else {
            [pair("10.0.0.1", "10.0.0.2"), pair("2001:db8::1", "2001:db8::2")]
        }
    }

    fn detection(self) -> Duration {
        self.interval * MULTIPLIER
    }
}

/// A session of ours.
struct Watched {
    id: Id,
    ours: IpAddr,
}

/// How long after a cut each end saw it; per family.
pub(crate) struct Detected {
    pub(crate) family: &'static str,
    pub(crate) here: Duration,
    pub(crate) there: Duration,
}

pub(crate) struct Stage<'a> {
    plan: Plan,
    pub(crate) daemon: &'a dyn Daemon,
    pub(crate) home: Home,
    switch: Node,
    pub(crate) bfd: Bfd,
    watched: Vec<Watched>,
    _processes: Vec<Proc>,
}

impl<'a> Stage<'a> {
    /// Sets both ends up and waits until they are.
    pub(crate) fn set(world: &World, name: &str, daemon: &'a dyn Daemon, plan: Plan) -> Self {
        let node = world.node(&format!("{name}-steer")).unwrap();
        let other = world.node(&format!("{name}-peer")).unwrap();
        let switch = world.switch(&format!("{name}-switch")).unwrap();
        world.plug(&switch, "port1", (&node, "eth1")).unwrap();
        node.address("eth1", "10.0.0.1/24").unwrap();
        node.address("eth1", "2001:db8::1/64").unwrap();
        if plan.multihop {
            route_between(world, name, (&switch, &node), &other);
        } else {
            world.plug(&switch, "port2", (&other, "eth1")).unwrap();
            other.address("eth1", "10.0.0.2/24").unwrap();
            other.address("eth1", "2001:db8::2/64").unwrap();
        }
        let home = Home {
            node: other,
            dir: world.dir().join(name),
        };
        std::fs::create_dir_all(&home.dir).unwrap();
        for (_, theirs) in plan.addresses() {
            usable(&home.node, theirs);
        }
        let processes = daemon.start(&home, &paths(plan)).unwrap();
        let bfd = node
            .enter(|| Bfd::bind(Vec::new(), Ports::default()))
            .unwrap()
            .unwrap();
        let watched = plan.addresses().map(|(ours, theirs)| {
            let add = || bfd.add(target(plan, ours, theirs, daemon)).unwrap();
            let id = node.enter(add).unwrap();
            Watched { id, ours }
        });
        bfd.start(rand()).unwrap();
        Self {
            plan,
            daemon,
            home,
            switch,
            bfd,
            watched: watched.into(),
            _processes: processes,
        }
    }

    /// Waits until both sessions are up at both ends and go at the interval that was asked for.
    pub(crate) fn agreed(&self) {
        self.until("both ends up and agreed", |stage| {
            for watched in &stage.watched {
                let status = stage.status(watched.id);
                let wanted = u64::try_from(stage.plan.interval.as_micros()).unwrap();
                let agreed = status.path.state == PathState::Up
                    && status.transmit_interval_us == Some(wanted)
                    && status.detection_time_us == Some(wanted * u64::from(MULTIPLIER));
                if !agreed {
                    return Err(format!("{status:?}"));
                }
            }
            let mut up = stage.daemon.up(&stage.home)?;
            up.sort_unstable();
            let wanted = u64::try_from(stage.plan.interval.as_millis()).unwrap();
            let wanted: Vec<_> = stage
                .watched
                .iter()
                .map(|watched| (watched.ours, wanted))
                .collect();
            if up == wanted {
                Ok(())
            } else {
                Err(format!("the daemon shows {up:?}"))
            }
        });
    }

    /// How often each end has failed so far: ours and the daemon's, all sessions together.
    pub(crate) fn failures(&self) -> (u64, usize) {
        let ours = self
            .watched
            .iter()
            .map(|watched| self.status(watched.id).path.failures);
        let theirs = self.watched.iter().map(|watched| self.downs(watched));
        (ours.sum(), theirs.sum())
    }

    /// Cuts the line without a sign to either end; how long each end took to see it.
    pub(crate) fn cut(&self) -> Vec<Detected> {
        let before: Vec<_> = self.watched.iter().map(|watched| self.downs(watched)).collect();
        let start = Instant::now();
        self.switch.set_link("br0", false).unwrap();
        let cut = Instant::now();
        let mut seen: Vec<(Option<Duration>, Option<Duration>)> = vec![(None, None); self.watched.len()];
        while seen.iter().any(|(here, there)| here.is_none() || there.is_none()) {
            for ((watched, before), (here, there)) in self.watched.iter().zip(&before).zip(&mut seen) {
                let path = self.status(watched.id).path.state;
                if here.is_none() && path != PathState::Up {
                    *here = Some(cut.elapsed());
                }
                if there.is_none() && self.downs(watched) > *before {
                    *there = Some(cut.elapsed());
                }
            }
            if cut.elapsed() > PATIENCE {
                self.fail(&format!("nobody saw the cut: {seen:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let lasted = cut - start;
        let detected = seen
            .into_iter()
            .zip(["IPv4", "IPv6"])
            .map(|((here, there), family)| Detected {
                family,
                here: here.unwrap_or_default(),
                there: there.unwrap_or_default(),
            });
        let detected: Vec<_> = detected.collect();
        for Detected { family, here, there } in &detected {
            for (end, took) in [("here", here), ("there", there)] {
                let most = self.plan.detection() + SLACK;
                // The last packet may be an interval old.
                let least =
                    (self.plan.interval * (MULTIPLIER - 1)).saturating_sub(lasted + Duration::from_millis(5));
                let fits = (least..=most).contains(took);
                self.check(
                    fits,
                    &format!("{family}, seen {end} after {took:?}, want {least:?} to {most:?}"),
                );
            }
        }
        detected
    }

    pub(crate) fn heal(&self) {
        self.switch.set_link("br0", true).unwrap();
    }

    pub(crate) fn hold_down(&self, down: bool) {
        for watched in &self.watched {
            if down {
                self.bfd.admin_down(watched.id);
            } else {
                self.bfd.admin_up(watched.id);
            }
        }
    }

    /// Waits until the daemon knows of our wish for every session; its words for the first.
    pub(crate) fn wish_known(&self) -> String {
        let words = self.watched.iter().map(|watched| {
            self.until("AdminDown there", |stage| {
                stage.daemon.knows_admin_down(&stage.home, watched.ours)
            })
        });
        words.collect::<Vec<_>>().swap_remove(0)
    }

    pub(crate) fn until_paths(&self, what: &str, wanted: impl Fn(&BfdStatus) -> bool) {
        self.until(what, |stage| {
            let statuses: Vec<_> = stage
                .watched
                .iter()
                .map(|watched| stage.status(watched.id))
                .collect();
            if statuses.iter().all(&wanted) {
                Ok(())
            } else {
                Err(format!("{statuses:?}"))
            }
        });
    }

    pub(crate) fn check(&self, holds: bool, otherwise: &str) {
        if !holds {
            self.fail(otherwise);
        }
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Result<T, String>) -> T {
        match wait::until(PATIENCE, POLL, || look(self)) {
            Ok(value) => value,
            Err(error) => self.fail(&format!("{what}: {error}")),
        }
    }

    fn fail(&self, why: &str) -> ! {
        let report = (self.bfd.service(), self.bfd.statuses());
        let log = self
            .home
            .read(&format!("{}.log", self.log_stem()))
            .unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(60).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        panic!(
            "{}: {why}\n--- ours: {report:#?}\n--- log:\n{}",
            self.daemon.name(),
            tail.join("\n")
        );
    }

    fn log_stem(&self) -> &'static str {
        if self.daemon.name() == "frr" {
            "bfdd"
        } else {
            "bird"
        }
    }

    fn downs(&self, watched: &Watched) -> usize {
        self.daemon
            .downs(&self.home, watched.ours)
            .map_or(0, |lines| lines.len())
    }

    fn status(&self, id: Id) -> BfdStatus {
        self.bfd.status(id).unwrap()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.bfd.stop();
    }
}

/// A router behind the switch, and the daemon's own network behind that.
fn route_between(world: &World, name: &str, (switch, node): (&Node, &Node), other: &Node) {
    let router = world.node(&format!("{name}-router")).unwrap();
    world.plug(switch, "port2", (&router, "eth1")).unwrap();
    world.link((&router, "eth2"), (other, "eth1")).unwrap();
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        router.sysctl(key, "1").unwrap();
    }
    for (interface, address) in [
        ("eth1", "10.0.0.254/24"),
        ("eth1", "2001:db8::254/64"),
        ("eth2", "10.0.1.254/24"),
        ("eth2", "2001:db8:1::254/64"),
    ] {
        router.address(interface, address).unwrap();
    }
    other.address("eth1", "10.0.1.2/24").unwrap();
    other.address("eth1", "2001:db8:1::2/64").unwrap();
    for (host, v4, v6) in [
        (node, "10.0.0.254", "2001:db8::254"),
        (other, "10.0.1.254", "2001:db8:1::254"),
    ] {
        host.route("0.0.0.0/0", v4).unwrap();
        host.route("::/0", v6).unwrap();
    }
}

/// The kernel lets nobody use an IPv6 address for a moment after it was added, and BIRD tries once.
fn usable(node: &Node, address: IpAddr) {
    let bind = || UdpSocket::bind((address, 0)).map_err(|error| error.to_string());
    let bound = || node.enter(bind).map_err(|error| error.to_string())?;
    wait::until(PATIENCE, POLL, bound).unwrap();
}

fn paths(plan: Plan) -> Vec<Path> {
    let path = |(ours, theirs)| Path {
        local: theirs,
        steer: ours,
        interval: plan.interval,
        multihop: plan.multihop,
        key: plan.key.map(|(_, key)| key),
    };
    plan.addresses().map(path).into()
}

fn target(plan: Plan, ours: IpAddr, theirs: IpAddr, daemon: &dyn Daemon) -> Target {
    let auth = plan
        .key
        .map(|(kind, key)| Auth::new(kind, 1, key.secret.as_bytes()).unwrap());
    Target {
        peer: theirs,
        interface: None,
        source: Some(ours),
        hops: if plan.multihop {
            Hops::Multi {
                minimum_ttl: daemon.multihop_ttl(),
            }
        } else {
            Hops::Single
        },
        config: Config {
            intervals: Intervals::both(plan.interval),
            multiplier: NonZeroU8::new(3).unwrap(),
            role: Role::Active,
            auth,
        },
    }
}

/// Discriminators must differ between runs; that is all the seed is for.
fn rand() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| {
        u64::from(now.subsec_nanos()) << 32 | u64::from(std::process::id())
    })
}
