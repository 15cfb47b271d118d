//! What a reader makes of one message, in words that every reader can say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use steer_anycast::wire::{Family, Message, Origin, SegmentKind, Update};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reading {
    Open(OpenReading),
    Update(UpdateReading),
    Notification {
        code: u8,
        subcode: u8,
    },
    Keepalive {},
    Refresh {
        afi: u16,
        subtype: u8,
        safi: u8,
    },
    /// The reader refuses the message, and says why.
    Refused(String),
}

/// What both sides must understand alike.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct OpenReading {
    pub(crate) asn: u32,
    pub(crate) hold_time: u16,
    pub(crate) identifier: String,
    /// AFI of each unicast family.
    pub(crate) families: BTreeSet<u16>,
    pub(crate) four_octet_as: bool,
    pub(crate) route_refresh: bool,
}

/// Routes of both families together, attributes that we look at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct UpdateReading {
    pub(crate) withdrawn: BTreeSet<String>,
    /// Prefix and next hop, the global one.
    pub(crate) routes: BTreeMap<String, String>,
    pub(crate) origin: Option<u8>,
    /// Kind (1 set, 2 sequence) and numbers of each segment.
    pub(crate) as_path: Vec<(u8, Vec<u32>)>,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) communities: Vec<u32>,
    pub(crate) large_communities: Vec<[u32; 3]>,
    pub(crate) extended_communities: Vec<[u8; 8]>,
    pub(crate) only_to_customer: Option<u32>,
}

impl Reading {
    /// The type octet; 0 for what was refused.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Refused(_) => 0,
            Self::Open(_) => 1,
            Self::Update(_) => 2,
            Self::Notification { .. } => 3,
            Self::Keepalive {} => 4,
            Self::Refresh { .. } => 5,
        }
    }
}

impl From<Message> for Reading {
    fn from(message: Message) -> Self {
        match message {
            Message::Open(open) => {
                let families = open.capabilities.families.unwrap_or_default();
                Self::Open(OpenReading {
                    asn: open.asn.get(),
                    hold_time: open.hold_time,
                    identifier: open.identifier.to_string(),
                    families: families.iter().map(|family| family.numbers().0).collect(),
                    four_octet_as: open.capabilities.four_octet_as,
                    route_refresh: open.capabilities.route_refresh,
                })
            }
            Message::Update(update) => Self::Update((*update).into()),
            Message::Notification(notification) => Self::Notification {
                code: notification.code,
                subcode: notification.subcode,
            },
            Message::Keepalive => Self::Keepalive {},
            Message::RouteRefresh(refresh) => Self::Refresh {
                afi: refresh.afi,
                subtype: refresh.subtype,
                safi: refresh.safi,
            },
        }
    }
}

impl From<Update> for UpdateReading {
    fn from(update: Update) -> Self {
        let mut reading = Self {
            withdrawn: update.withdrawn.iter().map(ToString::to_string).collect(),
            ..Self::default()
        };
        for reach in &update.reachable {
            for prefix in &reach.prefixes {
                let next_hop = reach.next_hop.address.to_string();
                reading.routes.insert(prefix.to_string(), next_hop);
            }
        }
        let Some(path) = update.path else { return reading };
        let segments = path.as_path.into_iter().map(|segment| {
            let kind = match segment.kind {
                SegmentKind::Set => 1,
                SegmentKind::Sequence => 2,
            };
            (kind, segment.asns)
        });
        reading.origin = Some(match path.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        });
        reading.as_path = segments.collect();
        reading.med = path.med;
        reading.local_pref = path.local_pref;
        reading.communities = path.communities;
        reading.large_communities = path.large_communities;
        reading.extended_communities = path.extended_communities;
        reading.only_to_customer = path.only_to_customer;
        reading
    }
}

/// AFI of what we carry.
pub(crate) fn afi(family: Family) -> u16 {
    family.numbers().0
}
