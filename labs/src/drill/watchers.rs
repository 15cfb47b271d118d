//! What is watched beside the clients: UPDATEs and kernel routes at the routers, answers of name servers.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use super::spec::{Method, Watched};
use crate::LabError;
use crate::netns::{NetError, World};
use crate::watch::answers::{self, Question};
use crate::watch::capture::{self, Pcap};
use crate::watch::{Nanos, Seen, Timeline, routes};
use crate::world::node;

/// Between two direct questions to a name server.
const ASK: Duration = Duration::from_millis(5);

type Thread = JoinHandle<Result<io::Result<()>, NetError>>;

/// The observers of the routers, for the whole run.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    views: Vec<View>,
    threads: Vec<Thread>,
}

/// One prefix at one router.
#[derive(Debug)]
struct View {
    prefix: String,
    from: Vec<Ipv4Addr>,
    timeline: Timeline,
}

/// What routing did about a prefix after a fault.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OnRoutes {
    /// The first UPDATE about it from the peers that are watched.
    pub(super) on_the_wire: Option<Nanos>,
    /// When the last of the routers changed its route.
    pub(super) converged: Option<Nanos>,
}

/// By the prefix's name.
#[derive(Debug, Default)]
pub(super) struct AllRoutes(BTreeMap<String, OnRoutes>);

impl AllRoutes {
    pub(super) fn of(&self, prefix: &str) -> OnRoutes {
        self.0.get(prefix).copied().unwrap_or_default()
    }
}

impl Watchers {
    pub(super) fn start(world: &World, prefixes: &[Watched]) -> Result<Self, LabError> {
        let mut watchers = Self::default();
        for prefix in prefixes {
            for router in &prefix.routers {
                watchers.watch(world, prefix, router)?;
            }
        }
        Ok(watchers)
    }

    fn watch(&mut self, world: &World, prefix: &Watched, router: &str) -> Result<(), LabError> {
        let bad = || LabError::failed(format!("`{}` is no IPv4 prefix", prefix.prefix));
        let wire = capture::wire_prefix(&prefix.prefix).ok_or_else(bad)?;
        let parts = prefix.parts().ok_or_else(bad)?;
        let node = node(world, router)?;
        let path = world.dir().join(format!("{router}-{}.pcap", prefix.name));
        let mut pcap = Pcap::create(&path).map_err(|source| LabError::io("create", &path, source))?;
        let socket = node
            .enter(capture::open)?
            .map_err(|source| LabError::io("capture in", router, source))?;
        let timeline = Timeline::default();
        let watched = timeline.clone();
        self.threads.push(node.thread("capture", move || {
            capture::watch(&socket, &mut pcap, &wire, &watched)
        })?);
        let watched = timeline.clone();
        self.threads
            .push(node.thread("routes", move || routes::watch(parts, &watched))?);
        self.views.push(View {
            prefix: prefix.name.clone(),
            from: prefix.from.clone(),
            timeline,
        });
        Ok(())
    }

    /// What was seen so far is of no interest.
    pub(super) fn forget(&self) {
        for view in &self.views {
            drop(view.timeline.take());
        }
    }

    /// What was seen from the fault until something was taken back.
    pub(super) fn take(&self, fault: Nanos, healed: Option<Nanos>) -> AllRoutes {
        let mut all = AllRoutes::default();
        for view in &self.views {
            let entry = all.0.entry(view.prefix.clone()).or_default();
            for event in view.timeline.take() {
                let at = event.at;
                if at < fault || healed.is_some_and(|healed| at >= healed) {
                    continue;
                }
                match event.seen {
                    Seen::Withdrawn { peer } | Seen::Announced { peer } if view.from.contains(&peer) => {
                        entry.on_the_wire = Some(entry.on_the_wire.map_or(at, |first| first.min(at)));
                    }
                    Seen::Routed { .. } => entry.converged = entry.converged.max(Some(at)),
                    Seen::Withdrawn { .. }
                    | Seen::Announced { .. }
                    | Seen::Answer { .. }
                    | Seen::Reply(_)
                    | Seen::FlowStarted { .. }
                    | Seen::FlowEnded { .. }
                    | Seen::Table { .. } => {}
                }
            }
        }
        all
    }

    /// Asks the name servers of these methods; `names` has node and name by method.
    #[expect(clippy::unused_self, reason = "they belong together")]
    pub(super) fn ask(
        &self,
        world: &World,
        methods: &[&Method],
        names: &BTreeMap<String, (String, String)>,
    ) -> Result<Polls, LabError> {
        let mut polls = Polls::default();
        for method in methods {
            if let (Some(server), Some((from, name))) = (method.server, names.get(&method.id)) {
                polls.start(world, &method.id, server, from, name)?;
            }
        }
        Ok(polls)
    }

    pub(super) fn stop(&mut self) {
        for view in &self.views {
            view.timeline.stop();
        }
        join(self.threads.drain(..));
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Questions to name servers during one stage.
#[derive(Debug, Default)]
pub(super) struct Polls {
    timelines: Vec<(String, Timeline)>,
    threads: Vec<Thread>,
}

/// When answers changed, by method.
#[derive(Debug)]
pub(super) struct Polled(Vec<(String, Vec<Nanos>)>);

impl Polled {
    pub(super) fn first_change(&self, method: &str, fault: Nanos) -> Option<Nanos> {
        let of = self.0.iter().filter(|(id, _)| id == method);
        of.flat_map(|(_, changes)| changes)
            .copied()
            .filter(|at| *at >= fault)
            .min()
    }
}

impl Polls {
    fn start(
        &mut self,
        world: &World,
        method: &str,
        server: SocketAddr,
        from: &str,
        name: &str,
    ) -> Result<(), LabError> {
        let question = Question::new(name, None).map_err(LabError::failed)?;
        let timeline = Timeline::default();
        let watched = timeline.clone();
        let thread = node(world, from)?.thread("answers", move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            answers::watch(&socket, server, &question, ASK, &watched)
        })?;
        self.threads.push(thread);
        self.timelines.push((method.to_owned(), timeline));
        Ok(())
    }

    pub(super) fn end(mut self) -> Polled {
        self.stop();
        let changes = |(method, timeline): &(String, Timeline)| {
            let changes = timeline.take().into_iter().map(|event| event.at).collect();
            (method.clone(), changes)
        };
        Polled(self.timelines.iter().map(changes).collect())
    }

    fn stop(&mut self) {
        for (_, timeline) in &self.timelines {
            timeline.stop();
        }
        join(self.threads.drain(..));
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        self.stop();
    }
}

fn join(threads: impl Iterator<Item = Thread>) {
    for thread in threads {
        match thread.join() {
            Ok(Ok(Ok(()))) => {}
            // What it did not see is missing in the report, and this says why.
            Ok(Ok(Err(error))) => eprintln!("an observer ended: {error}"),
            Ok(Err(error)) => eprintln!("an observer ended: {error}"),
            Err(_) => eprintln!("an observer panicked"),
        }
    }
}
