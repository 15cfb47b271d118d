//! NOTIFICATION: why a session ends, and every code and subcode that we send or name.

use std::fmt;

use serde::Serialize;

/// A NOTIFICATION message (RFC 4271 §4.5). Codes of others may be unknown to us, so they stay numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is "unspecific".
    pub subcode: u8,
    /// Depends on code and subcode.
    pub data: Vec<u8>,
}

/// The reasons we know. [`Reason::TABLE`] has their numbers and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table beside it names each one as its RFC does")]
pub enum Reason {
    ConnectionNotSynchronized,
    BadMessageLength,
    BadMessageType,
    OpenUnspecific,
    UnsupportedVersion,
    BadPeerAs,
    BadIdentifier,
    UnsupportedParameter,
    UnacceptableHoldTime,
    UnsupportedCapability,
    RoleMismatch,
    MalformedAttributeList,
    UnrecognizedWellKnown,
    MissingWellKnown,
    AttributeFlags,
    AttributeLength,
    InvalidOrigin,
    InvalidNextHop,
    OptionalAttribute,
    InvalidNetwork,
    MalformedAsPath,
    HoldTimerExpired,
    SendHoldTimerExpired,
    FsmUnspecific,
    UnexpectedInOpenSent,
    UnexpectedInOpenConfirm,
    UnexpectedInEstablished,
    MaximumPrefixes,
    AdministrativeShutdown,
    PeerDeconfigured,
    AdministrativeReset,
    ConnectionRejected,
    OtherConfigurationChange,
    ConnectionCollision,
    OutOfResources,
    HardReset,
    BfdDown,
    RefreshLength,
}

impl Reason {
    /// Code, subcode and name.
    pub const TABLE: &[(Self, u8, u8, &str)] = &[
        // RFC 4271 §6.1
        (
            Self::ConnectionNotSynchronized,
            1,
            1,
            "Message Header Error/Connection Not Synchronized",
        ),
        (
            Self::BadMessageLength,
            1,
            2,
            "Message Header Error/Bad Message Length",
        ),
        (
            Self::BadMessageType,
            1,
            3,
            "Message Header Error/Bad Message Type",
        ),
        // RFC 4271 §6.2, RFC 5492 §5, RFC 9234 §4.2
        (Self::OpenUnspecific, 2, 0, "OPEN Message Error/Unspecific"),
        (
            Self::UnsupportedVersion,
            2,
            1,
            "OPEN Message Error/Unsupported Version Number",
        ),
        (Self::BadPeerAs, 2, 2, "OPEN Message Error/Bad Peer AS"),
        (Self::BadIdentifier, 2, 3, "OPEN Message Error/Bad BGP Identifier"),
        (
            Self::UnsupportedParameter,
            2,
            4,
            "OPEN Message Error/Unsupported Optional Parameter",
        ),
        (
            Self::UnacceptableHoldTime,
            2,
            6,
            "OPEN Message Error/Unacceptable Hold Time",
        ),
        (
            Self::UnsupportedCapability,
            2,
            7,
            "OPEN Message Error/Unsupported Capability",
        ),
        (Self::RoleMismatch, 2, 11, "OPEN Message Error/Role Mismatch"),
        // RFC 4271 §6.3
        (
            Self::MalformedAttributeList,
            3,
            1,
            "UPDATE Message Error/Malformed Attribute List",
        ),
        (
            Self::UnrecognizedWellKnown,
            3,
            2,
            "UPDATE Message Error/Unrecognized Well-known Attribute",
        ),
        (
            Self::MissingWellKnown,
            3,
            3,
            "UPDATE Message Error/Missing Well-known Attribute",
        ),
        (
            Self::AttributeFlags,
            3,
            4,
            "UPDATE Message Error/Attribute Flags Error",
        ),
        (
            Self::AttributeLength,
            3,
            5,
            "UPDATE Message Error/Attribute Length Error",
        ),
        (
            Self::InvalidOrigin,
            3,
            6,
            "UPDATE Message Error/Invalid ORIGIN Attribute",
        ),
        (
            Self::InvalidNextHop,
            3,
            8,
            "UPDATE Message Error/Invalid NEXT_HOP Attribute",
        ),
        (
            Self::OptionalAttribute,
            3,
            9,
            "UPDATE Message Error/Optional Attribute Error",
        ),
        (
            Self::InvalidNetwork,
            3,
            10,
            "UPDATE Message Error/Invalid Network Field",
        ),
        (
            Self::MalformedAsPath,
            3,
            11,
            "UPDATE Message Error/Malformed AS_PATH",
        ),
        // RFC 4271 §6.5, RFC 9687 §3.2
        (Self::HoldTimerExpired, 4, 0, "Hold Timer Expired"),
        (Self::SendHoldTimerExpired, 8, 0, "Send Hold Timer Expired"),
        // RFC 6608 §3
        (Self::FsmUnspecific, 5, 0, "FSM Error/Unspecified Error"),
        (
            Self::UnexpectedInOpenSent,
            5,
            1,
            "FSM Error/Unexpected Message in OpenSent State",
        ),
        (
            Self::UnexpectedInOpenConfirm,
            5,
            2,
            "FSM Error/Unexpected Message in OpenConfirm State",
        ),
        (
            Self::UnexpectedInEstablished,
            5,
            3,
            "FSM Error/Unexpected Message in Established State",
        ),
        // RFC 4486 §3, RFC 8538 §3, RFC 9384 §3
        (
            Self::MaximumPrefixes,
            6,
            1,
            "Cease/Maximum Number of Prefixes Reached",
        ),
        (
            Self::AdministrativeShutdown,
            6,
            2,
            "Cease/Administrative Shutdown",
        ),
        (Self::PeerDeconfigured, 6, 3, "Cease/Peer De-configured"),
        (Self::AdministrativeReset, 6, 4, "Cease/Administrative Reset"),
        (Self::ConnectionRejected, 6, 5, "Cease/Connection Rejected"),
        (
            Self::OtherConfigurationChange,
            6,
            6,
            "Cease/Other Configuration Change",
        ),
        (
            Self::ConnectionCollision,
            6,
            7,
            "Cease/Connection Collision Resolution",
        ),
        (Self::OutOfResources, 6, 8, "Cease/Out of Resources"),
        (Self::HardReset, 6, 9, "Cease/Hard Reset"),
        (Self::BfdDown, 6, 10, "Cease/BFD Down"),
        // RFC 7313 §5
        (
            Self::RefreshLength,
            7,
            1,
            "ROUTE-REFRESH Message Error/Invalid Message Length",
        ),
    ];

    /// Code and subcode.
    #[must_use]
    pub fn numbers(self) -> (u8, u8) {
        let row = Self::TABLE.iter().find(|(reason, ..)| *reason == self);
        row.map_or((6, 0), |(_, code, subcode, _)| (*code, *subcode)) // a test holds the table complete
    }
}

/// RFC 9003 §2: the length is one octet.
const SHUTDOWN_TEXT_MAX: usize = 255;

impl Notification {
    /// A NOTIFICATION with data.
    #[must_use]
    pub fn new(reason: Reason, data: Vec<u8>) -> Self {
        let (code, subcode) = reason.numbers();
        Self { code, subcode, data }
    }

    /// A NOTIFICATION without data.
    #[must_use]
    pub fn bare(reason: Reason) -> Self {
        Self::new(reason, Vec::new())
    }

    /// Cease with a Shutdown Communication (RFC 9003 §2). A text beyond 255 octets is cut at a character.
    #[must_use]
    pub fn shutdown(reason: Reason, text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(SHUTDOWN_TEXT_MAX)];
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX); // at most 255 by the line above
        let mut data = vec![length];
        data.extend_from_slice(text.as_bytes());
        Self::new(reason, data)
    }

    /// The Shutdown Communication of a Cease with subcode 2 or 4, made safe to print.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<String> {
        if self.code != 6 || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (&length, rest) = self.data.split_first()?;
        // RFC 9003 §4: an invalid length or invalid UTF-8 is logged and ignored, never an error.
        let text = std::str::from_utf8(rest.get(..usize::from(length))?).ok()?;
        (!text.is_empty()).then(|| text.chars().flat_map(printable).collect())
    }

    /// Whether the peer ended the session in good order.
    #[must_use]
    pub fn is_cease(&self) -> bool {
        self.code == 6
    }

    /// The name as its RFC writes it, where we know it.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        let row = Reason::TABLE
            .iter()
            .find(|(_, code, subcode, _)| (*code, *subcode) == (self.code, self.subcode));
        row.map(|(.., name)| *name)
    }
}

pub(super) fn printable(c: char) -> impl Iterator<Item = char> {
    // A peer's text goes to terminals and logs: no control characters.
    let c = if c.is_control() { '\u{fffd}' } else { c };
    std::iter::once(c)
}

/// `Cease/Administrative Shutdown (6/2): "text"`
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, subcode, .. } = self;
        write!(
            f,
            "{} ({code}/{subcode})",
            self.name().unwrap_or("unknown notification")
        )?;
        match self.shutdown_text() {
            Some(text) => write!(f, ": {text:?}"),
            None => Ok(()),
        }
    }
}
