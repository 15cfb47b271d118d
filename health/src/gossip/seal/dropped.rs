//! Why something that came is of no use.

/// Why something that came was dropped. Whoever sent it gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Dropped {
    /// Longer than [`super::DATAGRAM_MAX`], or [`super::FRAME_MAX`] on a stream.
    #[error("it is too long")]
    Oversized,
    /// Too short, or what was inside the envelope breaks the format.
    #[error("it is malformed")]
    Malformed,
    /// Another version of the format.
    #[error("its version is not 1")]
    Version,
    /// The sender is no site of the fleet with a `gossip` address.
    #[error("the sender is no member")]
    UnknownMember,
    /// We are the sender.
    #[error("it is our own")]
    Reflected,
    /// It was sealed long ago, or the clocks differ.
    #[error("the sender's clock differs from ours by more than a minute")]
    Stale,
    /// Seen before, or too old to tell.
    #[error("it is a replay")]
    Replayed,
    /// Of a session that is not known, from a source that has had too many of those that no key opened.
    #[error("its source has sent too many that no key of ours opened")]
    Flood,
    /// No key of ours opens it: another key, another receiver, or changed on the way.
    #[error("none of our keys opens it")]
    WrongKey,
}

impl Dropped {
    /// Every cause, for counters that begin at zero.
    pub const ALL: [Self; 9] = [
        Self::Oversized,
        Self::Malformed,
        Self::Version,
        Self::UnknownMember,
        Self::Reflected,
        Self::Stale,
        Self::Replayed,
        Self::Flood,
        Self::WrongKey,
    ];

    /// The word of the counter.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::UnknownMember => "unknown-member",
            Self::Reflected => "reflected",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Flood => "flood",
            Self::WrongKey => "wrong-key",
        }
    }
}
