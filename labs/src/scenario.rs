//! `scenario.toml`: what runs in a lab, what breaks, what is measured, which bounds must hold.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use steer_topology::fault::{Fault, Faults, Place};

use crate::clab::Topology;
use crate::watch::capture;

/// A checked scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line for the head of the report.
    pub summary: String,
    /// Settings worth printing with the numbers: name and value.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
    /// `[[variant]]`: what is compared in one run. Without any, the lab has one nameless way to run.
    #[serde(default, rename = "variant")]
    pub variants: Vec<Variant>,
    /// `[[wan]]`: links that are long lines.
    #[serde(default)]
    pub wan: Vec<crate::link::Wan>,
    /// `[[process]]`: started in this order.
    #[serde(rename = "process")]
    pub processes: Vec<Process>,
    /// `[fault]`
    pub fault: FaultSpec,
    /// `[client]`
    pub client: Client,
    /// `[anycast]`
    pub anycast: Anycast,
    /// `[dns]`: the second method, where a lab has it.
    pub dns: Option<Dns>,
    /// `[wait]`
    pub wait: Wait,
    /// `[[bound]]`
    #[serde(default, rename = "bound")]
    pub bounds: Vec<Bound>,
    /// `[[ratio]]`
    #[serde(default, rename = "ratio")]
    pub ratios: Vec<Ratio>,
}

/// One way to run the lab. Each repetition breaks all of them, one after the other, so that what a busy machine adds
/// falls on all alike.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name in the report.
    pub name: String,
    /// Its own processes are those with the same word.
    pub announcer: String,
    /// `@key@` in the lab's files stands for the value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Instead of the one of `[wait]`.
    pub spread_ms: Option<u32>,
    /// The router's BFD session with the near edge must be up before the fault.
    #[serde(default)]
    pub bfd: bool,
}

/// A process of a node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Where it runs.
    pub node: String,
    /// What the fault and the logs call it; unique within the node.
    pub name: String,
    /// Program and arguments. `{steer}` is the binary under test, `{lab}` the lab's folder, `{run}` the folder
    /// of this run (sockets, logs), which is also the working directory.
    pub run: Vec<String>,
    /// Runs only in variants with this announcer; in all when absent.
    pub announcer: Option<String>,
    /// In a drill: runs only when one of these methods is asked for; always when absent.
    pub methods: Option<Vec<String>>,
    /// Programs that it starts in turn, so that a missing one is named before anything begins.
    #[serde(default)]
    pub needs: Vec<String>,
    /// It has a disk of its own of so many MiB, `{run}/NODE-NAME.disk`, that can be filled.
    pub disk_mb: Option<u32>,
    /// It has a wall clock of its own, that can step. Needs libfaketime.
    #[serde(default)]
    pub clock: bool,
}

/// What breaks, and is healed for the next repetition.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultSpec {
    /// `SIGKILL`: the kernel closes its sockets, new connections are refused. Healed by a new start.
    #[serde(rename = "kill-9")]
    Kill9 {
        /// Where.
        node: String,
        /// Which process.
        process: String,
    },
    /// `SIGSTOP`: its kernel goes on to accept connections, nobody answers. Healed by `SIGCONT`.
    Stop {
        /// Where.
        node: String,
        /// Which process.
        process: String,
    },
    /// The port of a switch forwards nothing any more, both ways, while every carrier stays up.
    Cut {
        /// The switch.
        node: String,
        /// Its port.
        port: String,
    },
    /// A command, such as a drain.
    Run {
        /// Where.
        node: String,
        /// Program and arguments, as of a process.
        run: Vec<String>,
        /// What takes it back.
        heal: Vec<String>,
    },
}

/// The clients: one per method, open loop. A request is due every `every_us` whatever became of the ones before.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Where they run.
    pub node: String,
    /// Time between two requests of one client, each on a connection of its own.
    pub every_us: u32,
    /// A request without its whole answer by then has failed. Above 1 s: then one that lost its SYN comes through.
    pub timeout_ms: u32,
    /// A request that was answered later than this was hit.
    pub late_ms: u32,
    /// Another client holds one connection and sends a request on it this often; absent: there is none.
    pub flow_every_ms: Option<u32>,
}

/// The anycast method: the client connects to one address, routing decides who answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anycast {
    /// What the client connects to.
    pub address: SocketAddr,
    /// The announced prefix, IPv4 in canonical form.
    pub prefix: String,
    /// The router where UPDATEs are captured and routes are watched.
    pub router: String,
    /// The near edge: BGP peer and next hop.
    pub near: Ipv4Addr,
    /// The far edge.
    pub far: Ipv4Addr,
}

/// The DNS method: the client asks its resolver for each request, the resolver honours the TTL.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// The steered name.
    pub name: String,
    /// The client's resolver.
    pub resolver: SocketAddr,
    /// The near edge's own server, polled directly to see when its answer changes.
    pub server: SocketAddr,
    /// Client subnet (RFC 7871) of the direct poll: address and prefix length.
    pub subnet: (IpAddr, u8),
    /// Time between two direct polls.
    pub poll_us: u32,
    /// Port of the service behind the answer.
    pub port: u16,
    /// The near edge's address in answers.
    pub near: IpAddr,
    /// The far edge's.
    pub far: IpAddr,
}

/// Waiting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The node and the process whose log says `verdict changed`, where a verdict is part of the chain.
    pub verdict: Option<(String, String)>,
    /// Whether the router must see the prefix withdrawn (after a cut it cannot).
    pub withdrawal: bool,
    /// Follow the router's table step by step until the near edge's route is gone.
    #[serde(default)]
    pub table: bool,
    /// Text that the near edge's replies carry.
    pub near: String,
    /// Text that the far edge's replies carry.
    pub far: String,
    /// Longest wait for convergence, and for recovery after the fault.
    pub limit_ms: u32,
    /// All must be well for so long before the fault.
    pub stable_ms: u32,
    /// Then the fault waits up to this long, each repetition at another point, so that it meets every phase of
    /// the check interval and of the TTL.
    pub spread_ms: u32,
}

/// What a method or variant must not exceed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// `anycast`, `dns`, or the name of a variant.
    pub method: String,
    /// The phase's id.
    pub phase: String,
    /// Largest median, milliseconds.
    pub median_ms: Option<f64>,
    /// Largest value of all repetitions, in the unit of the phase.
    pub most: Option<f64>,
}

/// How many times the median of one variant may be that of another.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// The variant that is held to it.
    pub of: String,
    /// The variant that sets it.
    pub to: String,
    /// The phase's id.
    pub phase: String,
    /// Largest ratio.
    pub most: f64,
}

impl Scenario {
    /// Reads `text`; the error names file, line and what would be right.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Faults> {
        toml::from_str(text).map_err(|error| {
            let remedy = "see the scenarios of the shipped labs";
            let message = error.message().to_owned();
            let fault = match error.span() {
                Some(span) => Fault::at(file, Place::of(text, span), message, remedy),
                None => Fault::of_file(file, message, remedy),
            };
            Faults::from(fault)
        })
    }
}

impl Scenario {
    /// Every node that is named must be in the topology, every process that is hit or read must be there.
    pub fn fits(&self, file: &Path, topology: &Topology) -> Result<(), Faults> {
        let mut faults = Vec::new();
        let mut fault = |message: String, remedy: &str| faults.push(Fault::of_file(file, message, remedy));
        let nodes: Vec<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
        let verdict = self.wait.verdict.as_ref();
        let named = [self.fault.node(), &self.client.node, &self.anycast.router];
        let named = named.into_iter().chain(verdict.map(|(node, _)| node.as_str()));
        for node in self
            .processes
            .iter()
            .map(|process| process.node.as_str())
            .chain(named)
        {
            if !nodes.contains(&node) {
                let remedy = format!("the topology has {}", nodes.join(", "));
                fault(format!("there is no node `{node}`"), &remedy);
            }
        }
        let verdict = verdict.map(|(node, name)| (node.as_str(), name.as_str()));
        for (node, name) in self.fault.process().into_iter().chain(verdict) {
            if !self
                .processes
                .iter()
                .any(|process| process.node == node && process.name == name)
            {
                fault(
                    format!("node `{node}` runs no process `{name}`"),
                    "name one of `[[process]]`",
                );
            }
        }
        let is_end = |node: &str, port: &str| {
            let ends = topology.links.iter().flat_map(|link| [&link.a, &link.b]);
            ends.into_iter()
                .any(|end| end.node == node && end.interface == port)
        };
        if let FaultSpec::Cut { node, port } = &self.fault
            && !is_end(node, port)
        {
            fault(
                format!("node `{node}` has no port `{port}`"),
                "name one end of a link",
            );
        }
        for process in self.processes.iter().filter(|process| process.run.is_empty()) {
            fault(
                format!("`run` of `{}` is empty", process.name),
                "write program and arguments",
            );
        }
        let announcers: Vec<&str> = self
            .variants
            .iter()
            .map(|variant| variant.announcer.as_str())
            .collect();
        for announcer in self
            .processes
            .iter()
            .filter_map(|process| process.announcer.as_deref())
        {
            if !announcers.contains(&announcer) {
                fault(
                    format!("no variant has the announcer `{announcer}`"),
                    "name one of a `[[variant]]`",
                );
            }
        }
        if self.client.every_us == 0 {
            fault(
                "`every_us` is 0".to_owned(),
                "write the time between two requests, such as 500",
            );
        }
        if capture::wire_prefix(&self.anycast.prefix).is_none() {
            fault(
                format!("`{}` is no IPv4 prefix", self.anycast.prefix),
                "write `192.0.2.53/32`",
            );
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Faults(faults))
        }
    }
}

impl Scenario {
    /// Whether the process whose log says the verdict runs in this variant.
    pub(crate) fn judges(&self, variant: &Variant) -> bool {
        let Some((node, name)) = &self.wait.verdict else {
            return false;
        };
        self.processes.iter().any(|process| {
            let announcer = process.announcer.as_ref();
            process.node == *node
                && process.name == *name
                && announcer.is_none_or(|announcer| *announcer == variant.announcer)
        })
    }

    /// Whether there is a variant of this name.
    #[must_use]
    pub fn has_variant(&self, name: &str) -> bool {
        self.variants.iter().any(|variant| variant.name == name)
    }
}

impl FaultSpec {
    /// Where it happens.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Kill9 { node, .. }
            | Self::Stop { node, .. }
            | Self::Cut { node, .. }
            | Self::Run { node, .. } => node,
        }
    }

    /// Node and name of the process that is hit, if one is.
    #[must_use]
    pub fn process(&self) -> Option<(&str, &str)> {
        match self {
            Self::Kill9 { node, process } | Self::Stop { node, process } => Some((node, process)),
            Self::Cut { .. } | Self::Run { .. } => None,
        }
    }
}

/// In words, for the head of the report.
impl fmt::Display for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill9 { node, process } => write!(f, "kill -9 of `{process}` on `{node}`"),
            Self::Stop { node, process } => write!(f, "SIGSTOP of `{process}` on `{node}`"),
            Self::Cut { node, port } => write!(f, "switch `{node}` drops everything at `{port}`, in silence"),
            Self::Run { node, run, heal: _ } => write!(f, "`{}` on `{node}`", run.join(" ")),
        }
    }
}

/// A count of milliseconds from a file.
pub(crate) fn ms(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clab;

    const TOPOLOGY: &str = include_str!("../silent-death/silent-death.clab.yml");
    const SCENARIO: &str = include_str!("../silent-death/scenario.toml");

    /// What is wrong with the shipped scenario after one change.
    fn faults(from: &str, to: &str) -> String {
        assert!(SCENARIO.contains(from), "{from}");
        let file = Path::new("scenario.toml");
        let topology = clab::parse(Path::new("silent-death.clab.yml"), TOPOLOGY).unwrap();
        let scenario = Scenario::parse(file, &SCENARIO.replace(from, to));
        let fits = scenario.and_then(|scenario| scenario.fits(file, &topology));
        fits.unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_that_does_not_fit_its_topology_says_where() {
        for (from, to, want) in [
            (
                "port = \"port2\"",
                "port = \"port9\"",
                "node `wire` has no port `port9`",
            ),
            ("node = \"wire\"", "node = \"wier\"", "there is no node `wier`"),
            (
                "announcer = \"bird\"\nset",
                "announcer = \"brid\"\nset",
                "no variant has the announcer `bird`",
            ),
            ("every_us = 500", "every_us = 0", "`every_us` is 0"),
            (
                "prefix = \"192.0.2.53/32\"",
                "prefix = \"192.0.2.53\"",
                "is no IPv4 prefix",
            ),
            ("kind = \"cut\"", "kind = \"cat\"", "unknown variant `cat`"),
            (
                "kind = \"cut\"\nnode = \"wire\"\nport = \"port2\"",
                "kind = \"stop\"\nnode = \"fra\"\nprocess = \"servant\"",
                "node `fra` runs no process `servant`",
            ),
        ] {
            let said = faults(from, to);
            assert!(said.contains(want), "{want}: {said}");
        }
    }
}
