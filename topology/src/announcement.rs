//! What a site announces, on which conditions, and how it stops: `[[anycast]]`.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::Serialize;

use crate::{CheckId, Policy, PoolId, Prefix, SiteId};

/// A prefix that is announced while its conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anycast {
    /// The prefix.
    pub prefix: Prefix,
    /// Sites that announce it; all sites when not written, empty in a fleet without sites.
    pub sites: Vec<SiteId>,
    /// All must hold. Empty: announced as long as the process runs.
    pub while_up: Vec<Condition>,
    /// NEXT_HOP; the session's own address when absent.
    pub next_hop: Option<IpAddr>,
    /// Attributes for every peer; see [`Policy::over`].
    pub policy: Policy,
    /// Peers that get something else.
    pub to: Vec<ToPeer>,
    /// The conditions must hold this long without a break before the announcement. Default 0.
    pub rise: Duration,
    /// The conditions must fail this long without a break before the withdrawal. Default 0.
    pub fall: Duration,
    /// No announcement earlier than this after the start of the process. Default 0.
    pub hold_down: Duration,
    /// Models the peers' route flap damping and delays the announcement that would cross it; absent: never delays.
    pub flap_budget: Option<FlapBudget>,
    /// The service address is put on this interface before the announcement and taken off after the withdrawal.
    pub bind: Option<Bind>,
    /// Announced only while somebody outside renews a lease on it.
    pub lease: Option<Lease>,
    /// What a drain of this site does, in order. Default: withdraw at once.
    pub on_drain: Vec<DrainStep>,
}

/// What one peer gets of a prefix instead of what all get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToPeer {
    /// Address of a configured peer.
    pub peer: IpAddr,
    /// False: this peer never gets it. Default true.
    pub announce: bool,
    /// On top of the policies of prefix and peer; see [`Policy::over`].
    pub policy: Policy,
}

/// A condition on what is up. Three-valued: what is unknown changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// `pool:web@local`, `check:web@local`, `2 of pool:web`
    InService(InService),
    /// `address:192.0.2.53`: the host has this address on an interface (any, also loopback).
    Address(IpAddr),
    /// `A and B`
    All(Vec<Condition>),
    /// `A or B`
    Any(Vec<Condition>),
    /// `not A`
    Not(Box<Condition>),
    /// `2 of (A, B, C)`
    AtLeast {
        /// How many must hold.
        count: NonZeroU16,
        /// Of these.
        of: Vec<Condition>,
    },
}

/// Holds while at least `at_least` endpoints of the subject, at the place, are in service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InService {
    /// Which endpoints.
    pub subject: Subject,
    /// Whose of them count.
    pub at: At,
    /// How many. Default 1.
    pub at_least: NonZeroU16,
}

/// The endpoints that a condition speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// `pool:web`
    Pool(PoolId),
    /// `check:web`: those of every pool with this check.
    Check(CheckId),
}

/// Whose endpoints an [`InService`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// `pool:web`
    Anywhere,
    /// `pool:web@local`: those of the site this process runs as.
    Local,
    /// `pool:web@fra`
    Site(SiteId),
}

/// Route flap damping as the peers are assumed to do it (RFC 2439 §4.2; figures of its §4.8 tables).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlapBudget {
    /// Figure of merit per withdrawal. Default 1000.
    pub penalty: u32,
    /// Time in which the figure halves. Default 15 min.
    pub half_life: Duration,
    /// At this figure the peers suppress the route. Default 2000.
    pub suppress: u32,
}

/// Where the service address of a prefix is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bind {
    /// Interface. Default `lo`.
    pub interface: String,
    /// The address. Default the prefix's own, which must then be a host prefix.
    pub address: IpAddr,
}

/// An announcement that lives from renewals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// The longest that one renewal may ask for. Default 1 h.
    pub max: Duration,
    /// What the end of a lease does.
    pub on_expiry: OnExpiry,
}

/// What the end of a lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    /// The route is withdrawn. The default.
    Withdraw,
    /// The route stays with GRACEFUL_SHUTDOWN until a renewal or a deletion: the last resort of others.
    Deprefer,
    /// The route stays as it is until a deletion; the expiry is logged and shown.
    Keep,
}

/// One step of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainStep {
    /// `graceful-shutdown`: announce with the community 65535:0 (RFC 8326).
    GracefulShutdown,
    /// `prepend 3`: our AS number so many times more.
    Prepend(u8),
    /// `med 100`
    Med(u32),
    /// `wait 30s`
    Wait(Duration),
    /// `wait dns-horizon`: until answers that named this site have left the caches that honour TTLs: the longest
    /// TTL of a steered name with an endpoint here.
    WaitDnsHorizon,
    /// `wait streams 5m`: until no TCP connection to the service address is left, at most so long.
    WaitStreams(Duration),
    /// `withdraw`
    Withdraw,
}
