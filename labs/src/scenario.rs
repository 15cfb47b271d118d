//! `scenario.toml`: what runs in a lab, what breaks, what is measured, which bounds must hold.

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
    /// `[[process]]`: started in this order.
    #[serde(rename = "process")]
    pub processes: Vec<Process>,
    /// `[fault]`
    pub fault: FaultSpec,
    /// `[client]`
    pub client: Client,
    /// `[anycast]`
    pub anycast: Anycast,
    /// `[dns]`
    pub dns: Dns,
    /// `[wait]`
    pub wait: Wait,
    /// `[[bound]]`
    #[serde(default, rename = "bound")]
    pub bounds: Vec<Bound>,
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
}

/// What breaks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// How.
    pub kind: FaultKind,
    /// Where.
    pub node: String,
    /// The process that is hit; it is started again for the next repetition.
    pub process: String,
}

/// How something breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// `SIGKILL`: the kernel closes its sockets, new connections are refused.
    #[serde(rename = "kill-9")]
    Kill9,
}

/// The clients: one per method, open loop. A request is due every `every_ms` whatever became of the ones before.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Where they run.
    pub node: String,
    /// Time between two requests of one client.
    pub every_ms: u32,
    /// A request without its whole answer by then has failed.
    pub timeout_ms: u32,
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
    /// The node and the process whose log says `verdict changed`.
    pub verdict_node: String,
    /// The process.
    pub verdict_process: String,
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

/// A median that must not be exceeded.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// `anycast` or `dns`.
    pub method: String,
    /// The phase's id.
    pub phase: String,
    /// Largest median.
    pub median_ms: f64,
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
        let nodes: Vec<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
        let mut faults = Vec::new();
        let named = [
            &self.fault.node,
            &self.client.node,
            &self.anycast.router,
            &self.wait.verdict_node,
        ];
        for node in self.processes.iter().map(|process| &process.node).chain(named) {
            if !nodes.contains(&node.as_str()) {
                let remedy = format!("the topology has {}", nodes.join(", "));
                faults.push(Fault::of_file(file, format!("there is no node `{node}`"), remedy));
            }
        }
        for (node, name) in [
            (&self.fault.node, &self.fault.process),
            (&self.wait.verdict_node, &self.wait.verdict_process),
        ] {
            if self.process(node, name).is_none() {
                let message = format!("node `{node}` runs no process `{name}`");
                faults.push(Fault::of_file(file, message, "name one of `[[process]]`"));
            }
        }
        if let Some(process) = self.processes.iter().find(|process| process.run.is_empty()) {
            let message = format!("`run` of `{}` is empty", process.name);
            faults.push(Fault::of_file(file, message, "write program and arguments"));
        }
        if capture::wire_prefix(&self.anycast.prefix).is_none() {
            let message = format!("`{}` is no IPv4 prefix", self.anycast.prefix);
            faults.push(Fault::of_file(file, message, "write `192.0.2.53/32`"));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Faults(faults))
        }
    }

    /// The process called `name` on `node`.
    #[must_use]
    pub fn process(&self, node: &str, name: &str) -> Option<&Process> {
        self.processes
            .iter()
            .find(|process| process.node == node && process.name == name)
    }
}

/// A count of milliseconds from a file.
pub(crate) fn ms(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}
