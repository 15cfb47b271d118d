//! What shapes an announcement to one session: next hop, attributes, and what stands in the way.

use std::net::{IpAddr, Ipv6Addr};

use steer_topology::{Asn, Peer, Policy, Prefix};

use crate::session::Negotiated;
use crate::transport::is_link_local;
use crate::wanted::Decision;
use crate::wire::{Families, Family, NextHop, Outbound};

/// What shapes an announcement to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Our AS number.
    pub local_asn: Asn,
    /// Our end of the connection: the default NEXT_HOP.
    pub local: NextHop,
    /// The peer's configured address, by which `to` of a prefix names it.
    pub peer: IpAddr,
    /// Attributes that every prefix gets here.
    pub policy: Policy,
    /// Both carry these.
    pub families: Families,
    /// How messages have to look.
    pub outbound: Outbound,
    /// The peer is in our AS.
    pub internal: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// What is sent again is framed (RFC 7313 §4).
    pub enhanced_refresh: bool,
    /// ONLY_TO_CUSTOMER that every route needs here (RFC 9234 §5).
    pub only_to_customer: Option<u32>,
}

impl Terms {
    /// What is usual: both families, an external peer that can do what every speaker can.
    #[must_use]
    pub fn basic(local_asn: Asn, local: NextHop, peer: IpAddr) -> Self {
        Self {
            local_asn,
            local,
            peer,
            policy: Policy::default(),
            families: Families::ALL,
            outbound: Outbound::PLAIN,
            internal: false,
            extended_next_hop: false,
            enhanced_refresh: false,
            only_to_customer: None,
        }
    }

    /// The terms of a session that came up.
    #[must_use]
    pub fn of(negotiated: &Negotiated, peer: &Peer, local_asn: Asn, local: NextHop) -> Self {
        Self {
            policy: peer.policy.clone(),
            families: negotiated.families,
            outbound: negotiated.outbound(),
            internal: negotiated.internal,
            extended_next_hop: negotiated.extended_next_hop,
            enhanced_refresh: negotiated.enhanced_refresh,
            only_to_customer: negotiated.only_to_customer,
            ..Self::basic(local_asn, local, peer.address)
        }
    }

    /// Where the peer shall send packets for `prefix`, or why it cannot be told.
    pub fn next_hop(&self, prefix: &Prefix, decision: &Decision) -> Result<NextHop, Obstacle> {
        if !self.families.contains(Family::of(prefix)) {
            return Err(Obstacle::FamilyNotNegotiated);
        }
        let next_hop = decision.next_hop.map_or(self.local, NextHop::from);
        match (prefix.is_ipv4(), next_hop.address) {
            (true, IpAddr::V4(_)) | (false, IpAddr::V6(_)) => Ok(next_hop),
            (true, IpAddr::V6(_)) if self.extended_next_hop => Ok(next_hop),
            (true, IpAddr::V6(_)) if decision.next_hop.is_some() => Err(Obstacle::NextHopNotNegotiated),
            (true, IpAddr::V6(_)) | (false, IpAddr::V4(_)) => Err(Obstacle::NoNextHop),
        }
    }
}

/// The next hop that stands for our end of a connection. RFC 2545 §3: a link-local address goes beside a global
/// one; `global` is one of the same interface.
///
/// An interface with no global address gives its link-local one twice, as most speakers do for unnumbered links.
// Gap: RFC 2545 §3: between global addresses on one link the link-local address is not told beside.
#[must_use]
pub fn next_hop_of(local: IpAddr, global: Option<Ipv6Addr>) -> NextHop {
    match local {
        IpAddr::V6(link_local) if is_link_local(local) => NextHop {
            address: global.unwrap_or(link_local).into(),
            link_local: Some(link_local),
        },
        IpAddr::V4(_) | IpAddr::V6(_) => local.into(),
    }
}

/// Why a wanted route cannot be announced to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// The peer does not carry the family.
    FamilyNotNegotiated,
    /// The session runs over the other family and no `next_hop` is configured.
    NoNextHop,
    /// The configured `next_hop` is IPv6, the prefix IPv4, and the peer takes no such route.
    NextHopNotNegotiated,
    /// The configuration keeps the prefix from this peer.
    NotForThisPeer,
    /// The attributes leave no room for a prefix.
    TooManyAttributes,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FamilyNotNegotiated => "the peer does not carry this address family",
            Self::NoNextHop => "no next hop of this family: set `next_hop`",
            Self::NextHopNotNegotiated => {
                "the peer takes no IPv6 next hop for an IPv4 route (RFC 8950): set an IPv4 `next_hop`"
            }
            Self::NotForThisPeer => "kept from this peer by `to`",
            Self::TooManyAttributes => "the attributes fill the message: write fewer communities",
        })
    }
}
