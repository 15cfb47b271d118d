//! `cargo xtask bench`: ratios against real peers, measured side by side in one run.

mod announce;
mod bfd;
mod compile;
mod daemon;
mod detect;
mod dns;
mod dnsperf;
mod edge;
mod flood;
mod grpc;
mod probes;
mod receiver;
mod reload;
mod rpc_edge;
mod swim;
mod target;
mod zones;

use clap::Subcommand;

/// What can be measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Bench {
    /// Plain UDP answers: queries per second and CPU per query beside Knot and NSD (Debian packages).
    Dns,
    /// Decision tables of 10,000 steered names at 50 sites: all of them, and again after one verdict.
    Compile,
    /// False alarms and detection time of fixed time-out, phi-normal and phi-empirical on the same traces.
    Detect,
    /// Verdict to UPDATE with 1,000 prefixes and 20 peers, beside ExaBGP, GoBGP, BIRD and FRR (needs root).
    Announce(announce::Plan),
    /// 1,000,000 routes from a peer: the session, our own announcements, memory and CPU beside GoBGP (needs root).
    Flood,
    /// 10,000 endpoints once a second from one core: CPU, memory and TIME_WAIT beside HAProxy (needs root).
    Probes(probes::Plan),
    /// 1,000,000 records in 1,000 zones: time to check and to load them, and memory, beside NSD.
    Zones,
    /// 1,000 zones reloaded again and again under 50,000 queries a second: none lost, none refused.
    Reload,
    /// Membership of up to 1,000 sites, simulated: detection, false alarms and octets; writes docs/swim.md and swim.svg.
    Swim,
    /// gRPC calls through `steer edge` beside HAProxy, nginx and Envoy: calls per second, CPU, added time, memory.
    Edge,
    /// The lab `rpc-edge` with `steer edge`, HAProxy, nginx and Envoy as its edges (needs root).
    RpcEdge(rpc_edge::Plan),
    /// No false BFD failure while every core is busy: steer with BIRD, and BIRD with BIRD (needs root).
    Bfd(bfd::Plan),
}

pub(crate) fn bench(what: Bench) -> Result<(), String> {
    match what {
        Bench::Dns => dns::bench(),
        Bench::Compile => compile::bench(),
        Bench::Detect => detect::bench(),
        Bench::Announce(plan) => announce::bench(&plan),
        Bench::Flood => flood::bench(),
        Bench::Probes(plan) => probes::bench(plan),
        Bench::Zones => zones::bench(),
        Bench::Reload => reload::bench(),
        Bench::Swim => swim::bench(),
        Bench::Edge => edge::bench(),
        Bench::RpcEdge(plan) => rpc_edge::bench(&plan),
        Bench::Bfd(plan) => bfd::bench(plan),
    }
}
