//! What a monitor reports: who said what, and when.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use steer_topology::{Asn, Community, Prefix};

use crate::wire::{Origin, Path};

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Source {
    /// The peer's end of the TCP connection; of a peer that a router tells of by BMP, with port 0.
    pub remote: SocketAddr,
    /// Its AS number.
    pub asn: Asn,
    /// Its BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// Who tells of it; absent: the peer itself, in a session with us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmp: Option<BmpView>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bmp {
            None => write!(f, "{} {}", self.asn, self.remote.ip()),
            Some(BmpView {
                router,
                rib: Rib::LocRib,
            }) => write!(f, "{} by BMP, loc-rib", router.ip()),
            Some(BmpView { router, rib }) => {
                write!(
                    f,
                    "{} {} by BMP from {}, {}",
                    self.asn,
                    self.remote.ip(),
                    router.ip(),
                    rib.name()
                )
            }
        }
    }
}

/// A view of a router, told by BMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BmpView {
    /// The router.
    pub router: SocketAddr,
    /// Which of its tables.
    pub rib: Rib,
}

/// A table of a router (RFC 7854 §5, RFC 8671 §4, RFC 9069 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the RFCs'")]
pub enum Rib {
    AdjRibInPre,
    AdjRibInPost,
    AdjRibOutPre,
    AdjRibOutPost,
    LocRib,
}

impl Rib {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AdjRibInPre => "adj-rib-in-pre",
            Self::AdjRibInPost => "adj-rib-in-post",
            Self::AdjRibOutPre => "adj-rib-out-pre",
            Self::AdjRibOutPost => "adj-rib-out-post",
            Self::LocRib => "loc-rib",
        }
    }
}

/// What the monitor heard, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MonitorEvent {
    /// When the octets were read; of a router's report, when the router heard it, if it says so.
    pub at: Timestamp,
    /// From whom.
    pub from: Source,
    /// What.
    #[serde(flatten)]
    pub heard: Heard,
}

/// What a peer said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Heard {
    /// The session is up.
    SessionUp,
    /// The session is over; every route of it is gone (reported as withdrawn first).
    SessionDown {
        /// Why, for people.
        reason: String,
    },
    /// A route is new or has changed.
    Announced {
        /// The prefix.
        prefix: Prefix,
        /// Where packets should go.
        next_hop: IpAddr,
        /// AS numbers, nearest first.
        as_path: Vec<u32>,
        /// The rest.
        #[serde(flatten)]
        attributes: Arc<Attributes>,
    },
    /// A route is gone.
    Withdrawn {
        /// The prefix.
        prefix: Prefix,
        /// With its session; nobody has withdrawn it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
    },
}

/// Attributes beside next hop and AS path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// ORIGIN
    pub origin: Origin,
    /// MULTI_EXIT_DISC
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// LOCAL_PREF
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// Of all kinds that we read.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_texts")]
    pub communities: Vec<Community>,
}

impl Attributes {
    /// Those of a path.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let standard = path.communities.iter().copied().map(Community::Standard);
        let extended = path.extended_communities.iter().copied().map(Community::Extended);
        let large = path.large_communities.iter().copied().map(Community::Large);
        Self {
            origin: path.origin,
            med: path.med,
            local_pref: path.local_pref,
            communities: standard.chain(extended).chain(large).collect(),
        }
    }
}

impl fmt::Display for Attributes {
    /// Those that are not what one expects, each with a blank before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Igp => {}
            Origin::Egp => f.write_str(" origin egp")?,
            Origin::Incomplete => f.write_str(" origin incomplete")?,
        }
        if let Some(med) = self.med {
            write!(f, " med {med}")?;
        }
        if let Some(local_pref) = self.local_pref {
            write!(f, " local-pref {local_pref}")?;
        }
        self.communities
            .iter()
            .try_for_each(|community| write!(f, " {}", Text(*community)))
    }
}

/// A community as people write it.
struct Text(Community);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Community::GRACEFUL_SHUTDOWN => f.write_str("graceful-shutdown"),
            Community::BLACKHOLE => f.write_str("blackhole"),
            Community::NO_EXPORT => f.write_str("no-export"),
            Community::NO_ADVERTISE => f.write_str("no-advertise"),
            Community::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Community::Large([administrator, first, second]) => write!(f, "{administrator}:{first}:{second}"),
            Community::Extended(octets) => write!(f, "ext:0x{:016x}", u64::from_be_bytes(octets)),
        }
    }
}

fn as_texts<S: Serializer>(communities: &[Community], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(communities.iter().map(|community| Text(*community).to_string()))
}
