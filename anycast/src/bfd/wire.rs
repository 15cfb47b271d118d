//! The codec of control packets: what the octets mean, or the named reason to drop them (RFC 5880 §4, §6.8.6).

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

use serde::{Serialize, Serializer};

/// Where single hop packets go (RFC 5881 §4).
pub const SINGLE_HOP_PORT: u16 = 3784;

/// Where multihop packets go (RFC 5883 §5).
pub const MULTIHOP_PORT: u16 = 4784;

/// The only version there is.
const VERSION: u8 = 1;

/// The mandatory section.
pub const MANDATORY_LENGTH: usize = 24;

/// With the shortest possible Authentication Section: a type and a length.
const MINIMUM_WITH_AUTH: usize = MANDATORY_LENGTH + 2;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// State of a session, in the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Held down by its operator.
    AdminDown,
    /// Not up, or just created.
    Down,
    /// The other end is heard, but it does not hear us yet, as far as we know.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    /// All, by number.
    pub const ALL: [Self; 4] = [Self::AdminDown, Self::Down, Self::Init, Self::Up];

    /// As RFC 5880 writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        }
    }
}

/// Why a session changed its state last (RFC 5880 §4.1). Codes of others may be unknown to us, so it stays a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing went wrong.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for a Detection Time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The peer says that its end is down.
    pub const NEIGHBOR_SIGNALED: Self = Self(3);
    /// The operator's wish.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// The code.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// As RFC 5880 writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            9.. => "Reserved",
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The mandatory section. Intervals are microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's state changed last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants to know that we have this packet.
    pub poll: bool,
    /// The answer to such a packet of ours.
    pub is_final: bool,
    /// The sender's BFD outlives its control plane.
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets.
    pub demand: bool,
    /// So many packets in a row may be lost.
    pub multiplier: NonZeroU8,
    /// The sender's number of the session.
    pub my_discriminator: NonZeroU32,
    /// Our number of the session; 0: the sender does not know it.
    pub your_discriminator: u32,
    /// Least time between packets that the sender would like.
    pub desired_min_tx: u32,
    /// Least time between packets that the sender can take; 0: send none.
    pub required_min_rx: u32,
    /// The same for echo packets; 0: no Echo function.
    pub required_min_echo_rx: u32,
}

/// A packet that passed every check that needs no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The mandatory section.
    pub packet: Packet,
    /// Exactly as long as the Length field says: what a digest is taken over.
    pub octets: &'a [u8],
    /// The A bit: behind the mandatory section there is another.
    pub has_auth: bool,
}

impl<'a> Received<'a> {
    /// The Authentication Section; `None` without the A bit.
    #[must_use]
    pub fn auth_section(&self) -> Option<&'a [u8]> {
        self.octets.get(MANDATORY_LENGTH..).filter(|_| self.has_auth)
    }
}

/// Why a packet is dropped. Each is the label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// RFC 5881 §5, RFC 5883 §4 with a configured minimum.
    #[error("the TTL is too low: it came from farther away than the peer is")]
    Ttl,
    /// The version is not 1.
    #[error("the version is not 1")]
    Version,
    /// Shorter than a packet can be, by its own Length field or in fact.
    #[error("shorter than a control packet can be")]
    TooShort,
    /// The Length field reaches behind the end.
    #[error("the Length field reaches behind the end of the datagram")]
    Length,
    /// Detect Mult is 0.
    #[error("Detect Mult is 0")]
    Multiplier,
    /// The M bit.
    #[error("the Multipoint bit is set")]
    Multipoint,
    /// My Discriminator is 0.
    #[error("My Discriminator is 0")]
    MyDiscriminator,
    /// Your Discriminator is 0 in a state in which the sender must know it.
    #[error("Your Discriminator is 0 though the sender is in Init or Up")]
    YourDiscriminator,
    /// Your Discriminator is no session of ours.
    #[error("Your Discriminator belongs to no session")]
    UnknownDiscriminator,
    /// Nobody is configured at that address.
    #[error("no session with this sender is configured")]
    UnknownPeer,
    /// The A bit is set and no key is configured.
    #[error("authenticated, but no key is configured")]
    AuthUnexpected,
    /// A key is configured and the A bit is clear.
    #[error("not authenticated, but a key is configured")]
    AuthMissing,
    /// Another Auth Type than configured, or one that we do not know.
    #[error("another Auth Type than configured")]
    AuthType,
    /// Another Auth Key ID than configured.
    #[error("another Auth Key ID than configured")]
    AuthKeyId,
    /// Not the length that the type has.
    #[error("the Authentication Section has a wrong length")]
    AuthLength,
    /// The digest is wrong: another key, or changed on the way.
    #[error("the digest is wrong")]
    AuthDigest,
    /// Outside the window: replayed, or more packets were lost than a session survives.
    #[error("the sequence number is outside the window")]
    AuthSequence,
}

impl Refusal {
    /// All, in order.
    pub const ALL: [Self; 17] = [
        Self::Ttl,
        Self::Version,
        Self::TooShort,
        Self::Length,
        Self::Multiplier,
        Self::Multipoint,
        Self::MyDiscriminator,
        Self::YourDiscriminator,
        Self::UnknownDiscriminator,
        Self::UnknownPeer,
        Self::AuthUnexpected,
        Self::AuthMissing,
        Self::AuthType,
        Self::AuthKeyId,
        Self::AuthLength,
        Self::AuthDigest,
        Self::AuthSequence,
    ];

    /// A label for metrics.
    #[must_use]
    pub fn cause(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Version => "version",
            Self::TooShort => "too-short",
            Self::Length => "length",
            Self::Multiplier => "multiplier",
            Self::Multipoint => "multipoint",
            Self::MyDiscriminator => "my-discriminator",
            Self::YourDiscriminator => "your-discriminator",
            Self::UnknownDiscriminator => "unknown-discriminator",
            Self::UnknownPeer => "unknown-peer",
            Self::AuthUnexpected => "auth-unexpected",
            Self::AuthMissing => "auth-missing",
            Self::AuthType => "auth-type",
            Self::AuthKeyId => "auth-key-id",
            Self::AuthLength => "auth-length",
            Self::AuthDigest => "auth-digest",
            Self::AuthSequence => "auth-sequence",
        }
    }
}

/// Decodes a datagram; the checks are those of RFC 5880 §6.8.6 in its order, as far as they need no session.
pub fn decode(datagram: &[u8]) -> Result<Received<'_>, Refusal> {
    let head: &[u8; 4] = datagram.first_chunk().ok_or(Refusal::TooShort)?;
    let [vers_diag, flags, multiplier, length] = *head;
    if vers_diag >> 5 != VERSION {
        return Err(Refusal::Version);
    }
    let has_auth = flags & AUTHENTICATION != 0;
    let minimum = if has_auth {
        MINIMUM_WITH_AUTH
    } else {
        MANDATORY_LENGTH
    };
    let length = usize::from(length);
    if length < minimum {
        return Err(Refusal::TooShort);
    }
    // Octets behind the Length are not ours to judge.
    let octets = datagram.get(..length).ok_or(Refusal::Length)?;
    let multiplier = NonZeroU8::new(multiplier).ok_or(Refusal::Multiplier)?;
    if flags & MULTIPOINT != 0 {
        return Err(Refusal::Multipoint);
    }
    let word = |index: usize| {
        let octets = octets.get(index * 4..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u32::from_be_bytes(*octets)) // the length was checked: always there
    };
    let my_discriminator = NonZeroU32::new(word(1)).ok_or(Refusal::MyDiscriminator)?;
    let your_discriminator = word(2);
    let state = match flags >> 6 {
        0 => State::AdminDown,
        1 => State::Down,
        2 => State::Init,
        _ => State::Up, // two bits
    };
    if your_discriminator == 0 && matches!(state, State::Init | State::Up) {
        return Err(Refusal::YourDiscriminator);
    }
    let packet = Packet {
        diagnostic: Diagnostic(vers_diag & 0x1f),
        state,
        poll: flags & POLL != 0,
        is_final: flags & FINAL != 0,
        control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
        demand: flags & DEMAND != 0,
        multiplier,
        my_discriminator,
        your_discriminator,
        desired_min_tx: word(3),
        required_min_rx: word(4),
        required_min_echo_rx: word(5),
    };
    Ok(Received {
        packet,
        octets,
        has_auth,
    })
}

/// Encodes the mandatory section. `auth_length` is that of the section that will follow; 0: none.
#[must_use]
pub fn encode(packet: &Packet, auth_length: u8) -> [u8; MANDATORY_LENGTH] {
    let Packet {
        diagnostic,
        state,
        poll,
        is_final,
        control_plane_independent,
        demand,
        multiplier,
        my_discriminator,
        your_discriminator,
        desired_min_tx,
        required_min_rx,
        required_min_echo_rx,
    } = *packet;
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = (state as u8) << 6
        | flag(poll, POLL)
        | flag(is_final, FINAL)
        | flag(control_plane_independent, CONTROL_PLANE_INDEPENDENT)
        | flag(auth_length > 0, AUTHENTICATION)
        | flag(demand, DEMAND);
    let length = (MANDATORY_LENGTH as u8).saturating_add(auth_length);
    let head = u32::from_be_bytes([
        VERSION << 5 | diagnostic.0 & 0x1f,
        flags,
        multiplier.get(),
        length,
    ]);
    let words = [
        head,
        my_discriminator.get(),
        your_discriminator,
        desired_min_tx,
        required_min_rx,
        required_min_echo_rx,
    ];
    let mut octets = [0; MANDATORY_LENGTH];
    for (place, word) in octets.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    octets
}
