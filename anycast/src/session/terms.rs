//! What we offer a peer, and what the two OPENs agree on.

use std::net::Ipv4Addr;
use std::time::Duration;

use steer_topology::{Asn, GracefulRestart, Role, RoleName};

use crate::wire::{
    self, Capabilities, Context, EXTENDED_LENGTH, Families, LongLived, MAX_LENGTH, Malformed, Open, Outbound,
    Reason, RestartCapability,
};

/// What a machine has to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our AS number.
    pub local_asn: Asn,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The peer's AS number; `None` takes any (the route monitor).
    pub peer_asn: Option<Asn>,
    /// Hold time to offer: whole seconds, 0 or 3 to 65,535.
    pub hold_time: Duration,
    /// Mean time between two dials; jittered to 75 to 100 %.
    pub connect_retry: Duration,
    /// Never dial.
    pub passive: bool,
    /// What we carry.
    pub families: Families,
    /// Offer IPv4 routes with an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Offer messages of up to 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Our role (RFC 9234), and whether the peer must say its own.
    pub role: Option<Role>,
    /// Ask the peer to keep our routes while we restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// This process follows one that the peer may still remember: the R bit, until [`super::Event::Recovered`].
    pub restarted: bool,
    /// Our name, for the peer's display.
    pub hostname: Option<String>,
    /// Our software, for the peer's display.
    pub software: Option<String>,
    /// No connection before BFD is up, neither way.
    pub strict_bfd: bool,
}

impl Config {
    /// What is usual: both families, hold time 90 s, a dial every 5 s, extended messages, nothing else.
    #[must_use]
    pub fn basic(local_asn: Asn, router_id: Ipv4Addr) -> Self {
        Self {
            local_asn,
            router_id,
            peer_asn: None,
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(5),
            passive: false,
            families: Families::ALL,
            extended_next_hop: false,
            extended_messages: true,
            role: None,
            graceful_restart: None,
            restarted: false,
            hostname: None,
            software: None,
            strict_bfd: false,
        }
    }

    /// As the file has it for one peer. The host's name is the driver's to add.
    #[must_use]
    pub fn of(peer: &steer_topology::Peer, local_asn: Asn, router_id: Ipv4Addr) -> Self {
        Self {
            peer_asn: Some(peer.asn),
            hold_time: peer.hold_time,
            connect_retry: peer.connect_retry,
            passive: peer.passive,
            families: peer.families.into(),
            extended_next_hop: peer.extended_next_hop,
            extended_messages: peer.extended_messages,
            role: peer.role,
            graceful_restart: peer.graceful_restart,
            strict_bfd: peer.bfd.as_ref().is_some_and(|bfd| bfd.strict),
            software: Some(concat!("steer/", env!("CARGO_PKG_VERSION")).to_owned()),
            ..Self::basic(local_asn, router_id)
        }
    }
}

impl Config {
    /// Our OPEN.
    pub(super) fn open(&self) -> Open {
        let capabilities = Capabilities {
            families: Some(self.families),
            four_octet_as: true,
            route_refresh: true,
            enhanced_refresh: true,
            extended_next_hop: self.extended_next_hop,
            extended_messages: self.extended_messages,
            // RFC 9234 §4.1: for external peers alone.
            roles: self
                .role
                .iter()
                .filter(|_| self.peer_asn != Some(self.local_asn))
                .map(|role| wire::role_number(role.name).0)
                .collect(),
            graceful_restart: self.graceful_restart.map(|offer| self.restart_capability(offer)),
            long_lived: Vec::new(), // our stale routes shall not live long
            hostname: self.hostname.clone(),
            software: self.software.clone(),
            others: Vec::new(),
        };
        Open {
            asn: self.local_asn,
            hold_time: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            identifier: self.router_id,
            capabilities,
        }
    }

    fn restart_capability(&self, offer: GracefulRestart) -> RestartCapability {
        RestartCapability {
            restarted: self.restarted,
            notification: offer.notification,
            restart_time: offer.restart_time,
            families: self.families,
            // The host forwards whatever this process does, so nothing was lost by its restart.
            forwarding: self.families,
        }
    }

    /// RFC 4271 §6.2: what only the configuration can judge of the peer's OPEN. `ours` are our own capabilities.
    pub(super) fn check(&self, ours: &Capabilities, open: &Open) -> Result<(), Malformed> {
        if let Some(want) = self.peer_asn.filter(|want| *want != open.asn) {
            let text = format!("the peer is {}, configured is {want}", open.asn);
            return Err(Malformed::new(Reason::BadPeerAs, &[], text));
        }
        // RFC 6286 §2.2: the identifier need only differ inside an AS.
        if open.asn == self.local_asn && open.identifier == self.router_id {
            let text = format!("the peer has our own BGP Identifier {}", open.identifier);
            return Err(Malformed::new(Reason::BadIdentifier, &[], text));
        }
        if let Some(role) = self.role.filter(|_| open.asn != self.local_asn) {
            check_role(role, &open.capabilities.roles)?;
        }
        if ours.carried().and(open.capabilities.carried()).is_empty() {
            // RFC 5492 §5: the data are the capabilities that the peer lacks.
            let lacks = wire::encode_families(ours.carried());
            let text = "the peer carries no address family that we carry";
            return Err(Malformed::new(Reason::UnsupportedCapability, &lacks, text));
        }
        Ok(())
    }

    /// What our capabilities and the peer's OPEN, which is good, have in common.
    pub(super) fn negotiate(&self, ours: &Capabilities, open: &Open) -> Negotiated {
        let theirs = &open.capabilities;
        let families = ours.carried().and(theirs.carried());
        let internal = open.asn == self.local_asn;
        let role = self.role.filter(|_| !internal).map(|role| role.name);
        let both = ours.graceful_restart.zip(theirs.graceful_restart);
        Negotiated {
            peer_asn: open.asn,
            peer_id: open.identifier,
            hold_time: self.hold_time.min(Duration::from_secs(open.hold_time.into())),
            families,
            four_octet: ours.four_octet_as && theirs.four_octet_as,
            internal,
            extended_messages: ours.extended_messages && theirs.extended_messages,
            extended_next_hop: ours.extended_next_hop && theirs.extended_next_hop,
            route_refresh: ours.route_refresh && theirs.route_refresh,
            enhanced_refresh: ours.enhanced_refresh && theirs.enhanced_refresh,
            graceful_restart: theirs.graceful_restart,
            retained: both.map_or(Families::default(), |(ours, _)| ours.families.and(families)),
            graceful_notification: both
                .is_some_and(|(ours, theirs)| ours.notification && theirs.notification),
            // RFC 9494 §4.2: without graceful restart it means nothing.
            long_lived: theirs
                .graceful_restart
                .map_or(Vec::new(), |_| theirs.long_lived.clone()),
            role,
            peer_role: theirs.roles.first().copied().and_then(wire::role_of),
            only_to_customer: role
                .filter(|role| sends_down(*role))
                .map(|_| self.local_asn.get()),
            hostname: theirs.hostname.clone(),
            software: theirs.software.clone(),
        }
    }
}

/// RFC 9234 §4.2: the roles that the peer named, by number, must be one, and the counterpart of ours.
fn check_role(ours: Role, theirs: &[u8]) -> Result<(), Malformed> {
    let (_, name) = wire::role_number(ours.name);
    let said = match *theirs {
        [] if ours.strict => "says none".to_owned(),
        [] => return Ok(()),
        [number] => match wire::role_of(number) {
            Some(theirs) if theirs == counterpart(ours.name) => return Ok(()),
            Some(theirs) => format!("is `{}`", wire::role_number(theirs).1),
            None => format!("has number {number}, which is no role"),
        },
        [..] => format!("says several, {theirs:?}"),
    };
    let (_, want) = wire::role_number(counterpart(ours.name));
    let text = format!("our role is `{name}`, so the peer's must be `{want}`, but it {said}");
    Err(Malformed::new(Reason::RoleMismatch, &[], text))
}

/// RFC 9234 §4.2, table 2.
fn counterpart(role: RoleName) -> RoleName {
    match role {
        RoleName::Provider => RoleName::Customer,
        RoleName::Customer => RoleName::Provider,
        RoleName::RouteServer => RoleName::RouteServerClient,
        RoleName::RouteServerClient => RoleName::RouteServer,
        RoleName::Peer => RoleName::Peer,
    }
}

/// RFC 9234 §5: what a route server, a provider or a peer sends goes on to customers alone.
fn sends_down(role: RoleName) -> bool {
    match role {
        RoleName::Provider | RoleName::RouteServer | RoleName::Peer => true,
        RoleName::Customer | RoleName::RouteServerClient => false,
    }
}

/// What both OPENs agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS number.
    pub peer_asn: Asn,
    /// The peer's BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// The shorter of both; zero: the session never expires.
    pub hold_time: Duration,
    /// What both carry.
    pub families: Families,
    /// Both speak 4-octet AS numbers.
    pub four_octet: bool,
    /// The peer is in our AS.
    pub internal: bool,
    /// Both take messages of up to 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer sends its routes again when asked (RFC 2918).
    pub route_refresh: bool,
    /// Routes that are sent again are framed (RFC 7313 §4).
    pub enhanced_refresh: bool,
    /// Graceful restart as the peer offers it (RFC 4724).
    pub graceful_restart: Option<RestartCapability>,
    /// Families whose routes the peer keeps while we restart: we asked, and it can.
    pub retained: Families,
    /// Both sides take a NOTIFICATION for a graceful end unless it is a Hard Reset (RFC 8538).
    pub graceful_notification: bool,
    /// Long-lived graceful restart as the peer offers it (RFC 9494), per family.
    pub long_lived: Vec<LongLived>,
    /// Our role, which decides what ONLY_TO_CUSTOMER means here (RFC 9234 §5).
    pub role: Option<RoleName>,
    /// The role that the peer said.
    pub peer_role: Option<RoleName>,
    /// ONLY_TO_CUSTOMER that our routes need here (RFC 9234 §5): the peer is to give them to its customers alone.
    pub only_to_customer: Option<u32>,
    /// The peer's name, for display.
    pub hostname: Option<String>,
    /// The peer's software, for display.
    pub software: Option<String>,
}

impl Negotiated {
    /// How to read the peer's messages.
    pub(super) fn context(&self) -> Context {
        Context {
            four_octet: self.four_octet,
            internal: self.internal,
            extended_next_hop: self.extended_next_hop,
            enhanced_refresh: self.enhanced_refresh,
            role: self.role,
            peer_asn: self.peer_asn.get(),
        }
    }

    /// How our UPDATEs must look.
    #[must_use]
    pub fn outbound(&self) -> Outbound {
        Outbound {
            four_octet: self.four_octet,
            max_length: if self.extended_messages {
                EXTENDED_LENGTH
            } else {
                MAX_LENGTH
            },
        }
    }
}
