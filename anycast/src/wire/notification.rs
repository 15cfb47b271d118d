//! NOTIFICATION: why a session ends, and every code and subcode that we send or name.

use std::fmt;

use serde::Serialize;

use super::Family;

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
    #[rustfmt::skip]
    pub const TABLE: &[(Self, u8, u8, &str)] = &[
        // RFC 4271 §6.1
        (Self::ConnectionNotSynchronized, 1, 1, "Message Header Error/Connection Not Synchronized"),
        (Self::BadMessageLength, 1, 2, "Message Header Error/Bad Message Length"),
        (Self::BadMessageType, 1, 3, "Message Header Error/Bad Message Type"),
        // RFC 4271 §6.2, RFC 5492 §5, RFC 9234 §4.2
        (Self::OpenUnspecific, 2, 0, "OPEN Message Error/Unspecific"),
        (Self::UnsupportedVersion, 2, 1, "OPEN Message Error/Unsupported Version Number"),
        (Self::BadPeerAs, 2, 2, "OPEN Message Error/Bad Peer AS"),
        (Self::BadIdentifier, 2, 3, "OPEN Message Error/Bad BGP Identifier"),
        (Self::UnsupportedParameter, 2, 4, "OPEN Message Error/Unsupported Optional Parameter"),
        (Self::UnacceptableHoldTime, 2, 6, "OPEN Message Error/Unacceptable Hold Time"),
        (Self::UnsupportedCapability, 2, 7, "OPEN Message Error/Unsupported Capability"),
        (Self::RoleMismatch, 2, 11, "OPEN Message Error/Role Mismatch"),
        // RFC 4271 §6.3
        (Self::MalformedAttributeList, 3, 1, "UPDATE Message Error/Malformed Attribute List"),
        (Self::UnrecognizedWellKnown, 3, 2, "UPDATE Message Error/Unrecognized Well-known Attribute"),
        (Self::MissingWellKnown, 3, 3, "UPDATE Message Error/Missing Well-known Attribute"),
        (Self::AttributeFlags, 3, 4, "UPDATE Message Error/Attribute Flags Error"),
        (Self::AttributeLength, 3, 5, "UPDATE Message Error/Attribute Length Error"),
        (Self::InvalidOrigin, 3, 6, "UPDATE Message Error/Invalid ORIGIN Attribute"),
        (Self::InvalidNextHop, 3, 8, "UPDATE Message Error/Invalid NEXT_HOP Attribute"),
        (Self::OptionalAttribute, 3, 9, "UPDATE Message Error/Optional Attribute Error"),
        (Self::InvalidNetwork, 3, 10, "UPDATE Message Error/Invalid Network Field"),
        (Self::MalformedAsPath, 3, 11, "UPDATE Message Error/Malformed AS_PATH"),
        // RFC 4271 §6.5, RFC 9687 §3.2
        (Self::HoldTimerExpired, 4, 0, "Hold Timer Expired"),
        (Self::SendHoldTimerExpired, 8, 0, "Send Hold Timer Expired"),
        // RFC 6608 §3
        (Self::FsmUnspecific, 5, 0, "FSM Error/Unspecified Error"),
        (Self::UnexpectedInOpenSent, 5, 1, "FSM Error/Unexpected Message in OpenSent State"),
        (Self::UnexpectedInOpenConfirm, 5, 2, "FSM Error/Unexpected Message in OpenConfirm State"),
        (Self::UnexpectedInEstablished, 5, 3, "FSM Error/Unexpected Message in Established State"),
        // RFC 4486 §3, RFC 8538 §3, RFC 9384 §3
        (Self::MaximumPrefixes, 6, 1, "Cease/Maximum Number of Prefixes Reached"),
        (Self::AdministrativeShutdown, 6, 2, "Cease/Administrative Shutdown"),
        (Self::PeerDeconfigured, 6, 3, "Cease/Peer De-configured"),
        (Self::AdministrativeReset, 6, 4, "Cease/Administrative Reset"),
        (Self::ConnectionRejected, 6, 5, "Cease/Connection Rejected"),
        (Self::OtherConfigurationChange, 6, 6, "Cease/Other Configuration Change"),
        (Self::ConnectionCollision, 6, 7, "Cease/Connection Collision Resolution"),
        (Self::OutOfResources, 6, 8, "Cease/Out of Resources"),
        (Self::HardReset, 6, 9, "Cease/Hard Reset"),
        (Self::BfdDown, 6, 10, "Cease/BFD Down"),
        // RFC 7313 §5
        (Self::RefreshLength, 7, 1, "ROUTE-REFRESH Message Error/Invalid Message Length"),
    ];

    /// Names of what we never send: unspecific ones, and two that RFC 4271 deprecated.
    #[rustfmt::skip]
    const HEARD: &[(u8, u8, &str)] = &[
        (1, 0, "Message Header Error/Unspecific"),
        (2, 5, "OPEN Message Error/Authentication Failure (deprecated)"),
        (3, 0, "UPDATE Message Error/Unspecific"),
        (3, 7, "UPDATE Message Error/AS Routing Loop (deprecated)"),
        (6, 0, "Cease/Unspecific"),
        (7, 0, "ROUTE-REFRESH Message Error/Unspecific"),
    ];

    /// Names of the codes, for a subcode that nobody has defined.
    const CODES: [&str; 8] = [
        "Message Header Error",
        "OPEN Message Error",
        "UPDATE Message Error",
        "Hold Timer Expired",
        "FSM Error",
        "Cease",
        "ROUTE-REFRESH Message Error",
        "Send Hold Timer Expired",
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

    /// Says that the session is over for good and no route shall be kept (RFC 8538 §3.1): `of` is why.
    #[must_use]
    pub fn hard_reset(of: &Self) -> Self {
        let mut data = vec![of.code, of.subcode];
        data.extend_from_slice(&of.data);
        Self::new(Reason::HardReset, data)
    }

    /// What a Hard Reset encloses (RFC 8538 §3.1); a peer may leave it out, and then there is nothing to show.
    #[must_use]
    pub fn enclosed(&self) -> Option<Self> {
        let is_hard_reset = (self.code, self.subcode) == Reason::HardReset.numbers();
        let (&[code, subcode], data) = self.data.split_first_chunk::<2>().filter(|_| is_hard_reset)?;
        let data = data.to_vec();
        Some(Self { code, subcode, data })
    }

    /// Whether the peer should forget our routes though it would keep them over a restart. RFC 8538 §5.1 suggests
    /// the first three; when BFD is down, traffic to kept routes would be lost.
    #[must_use]
    pub fn is_final(&self) -> bool {
        [
            Reason::MaximumPrefixes,
            Reason::AdministrativeShutdown,
            Reason::PeerDeconfigured,
            Reason::BfdDown,
        ]
        .iter()
        .any(|reason| reason.numbers() == (self.code, self.subcode))
    }

    /// Whether the peer ended the session in good order.
    #[must_use]
    pub fn is_cease(&self) -> bool {
        self.code == 6 && self.enclosed().is_none_or(|enclosed| enclosed.code == 6)
    }

    /// Whether coming back at once would only bring the same end again: we announce too much, or the peer has no
    /// room (RFC 4486 §4).
    #[must_use]
    pub fn asks_for_patience(&self) -> bool {
        let this = self.enclosed().unwrap_or_else(|| self.clone());
        [Reason::MaximumPrefixes, Reason::OutOfResources]
            .iter()
            .any(|reason| reason.numbers() == (this.code, this.subcode))
    }

    /// The name as its RFC writes it, where we know it.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        let numbers = (self.code, self.subcode);
        let sent = Reason::TABLE
            .iter()
            .map(|(_, code, subcode, name)| (*code, *subcode, *name));
        let all = sent.chain(Reason::HEARD.iter().copied());
        all.into_iter()
            .find(|(code, subcode, _)| (*code, *subcode) == numbers)
            .map(|(.., name)| name)
    }

    /// The name of the code alone.
    fn code_name(&self) -> &'static str {
        let index = usize::from(self.code).checked_sub(1);
        index
            .and_then(|index| Reason::CODES.get(index))
            .copied()
            .unwrap_or("unknown notification")
    }

    /// RFC 4486 §4: the family and the limit that we crossed, where the peer says them.
    fn prefix_limit(&self) -> Option<String> {
        let &[afi_high, afi_low, safi, a, b, c, d] = self.data.as_array::<7>()?;
        if (self.code, self.subcode) != Reason::MaximumPrefixes.numbers() {
            return None;
        }
        let afi = u16::from_be_bytes([afi_high, afi_low]);
        let limit = u32::from_be_bytes([a, b, c, d]);
        let family = Family::from_numbers(afi, safi);
        let family = family.map_or_else(|| format!("AFI {afi} SAFI {safi}"), |family| family.to_string());
        Some(format!("limit of {limit} {family} prefixes"))
    }
}

pub(super) fn printable(c: char) -> impl Iterator<Item = char> {
    // A peer's text goes to terminals and logs: no control characters.
    let c = if c.is_control() { '\u{fffd}' } else { c };
    std::iter::once(c)
}

/// `Cease/Administrative Shutdown (6/2): "text"`; a Hard Reset with what it encloses.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_name(f)?;
        // One level: what a peer may enclose in it again is not worth a line.
        let Some(enclosed) = self.enclosed() else {
            return self.write_details(f);
        };
        f.write_str(" of ")?;
        enclosed.write_name(f)?;
        enclosed.write_details(f)
    }
}

impl Notification {
    fn write_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, subcode, .. } = self;
        let name = self.name().unwrap_or_else(|| self.code_name());
        write!(f, "{name} ({code}/{subcode})")
    }

    fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.shutdown_text() {
            write!(f, ": {text:?}")?;
        }
        if let Some(limit) = self.prefix_limit() {
            write!(f, ": {limit}")?;
        }
        Ok(())
    }
}
