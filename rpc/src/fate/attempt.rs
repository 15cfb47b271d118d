//! One attempt on one stream: what the transport tells of it, and the fate that follows. The one transition table.

use super::{Code, Fate};

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It waits for a connection or for a free stream.
    Waiting,
    /// Its HEADERS are handed to the connection, so they may have arrived.
    Sent,
    /// The peer's HEADERS have come: an application is at it.
    Answering,
    /// It is over.
    Ended(Fate),
}

/// What the transport or the clock tells of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum News {
    /// The HEADERS of the request are handed to the connection.
    Written,
    /// There is no connection, or none with a free stream.
    NoConnection,
    /// GOAWAY, and its last stream is before ours.
    Disowned,
    /// RST_STREAM with REFUSED_STREAM.
    Refused,
    /// The next hop is an edge and tells the fate: no application behind it has seen the call.
    Disclaimed,
    /// HEADERS that are not the end of the stream.
    Headers,
    /// The end of the stream, with a status that only the application gives ([`Code::is_proof`]).
    Answered,
    /// The end of the stream, with a status that libraries and proxies give as well.
    Doubtful,
    /// Another reset, the end of the connection, or a keepalive that was not answered.
    Lost,
    /// The deadline has passed.
    Expired,
    /// The caller is gone, or wants no more of this attempt.
    Cancelled,
}

impl Stage {
    /// Of an attempt that begins.
    pub const FIRST: Self = Self::Waiting;

    /// What follows from news. Late news change nothing.
    #[must_use]
    pub const fn next(self, news: News) -> Self {
        match (self, news) {
            (Self::Waiting, News::Written) => Self::Sent,
            (
                Self::Waiting,
                News::NoConnection
                | News::Disowned
                | News::Refused
                | News::Disclaimed
                | News::Lost
                | News::Expired
                | News::Cancelled,
            ) => Self::Ended(Fate::NotSent),
            // Who answers has received it, even if we were not told that it was written.
            (Self::Waiting | Self::Sent, News::Headers) => Self::Answering,
            (Self::Waiting | Self::Sent | Self::Answering, News::Answered) => Self::Ended(Fate::Committed),
            (Self::Waiting, News::Doubtful) => Self::Ended(Fate::Ambiguous),

            (Self::Sent, News::Written) => Self::Sent,
            // RFC 9113 §6.8: streams above the last one "might have been" sent again: they were not and will not be processed.
            // §8.7: REFUSED_STREAM is for a stream that is closed "prior to any processing having occurred".
            (Self::Sent, News::Disowned | News::Refused | News::Disclaimed) => Self::Ended(Fate::Unprocessed),
            (
                Self::Sent,
                News::NoConnection | News::Doubtful | News::Lost | News::Expired | News::Cancelled,
            ) => Self::Ended(Fate::Ambiguous),

            (Self::Answering, News::Written | News::Headers) => Self::Answering,
            // A peer that has answered and says then that it never saw the call contradicts itself: nothing is certain.
            (
                Self::Answering,
                News::NoConnection
                | News::Disowned
                | News::Refused
                | News::Disclaimed
                | News::Doubtful
                | News::Lost
                | News::Expired
                | News::Cancelled,
            ) => Self::Ended(Fate::Ambiguous),

            (
                Self::Ended(fate),
                News::Written
                | News::NoConnection
                | News::Disowned
                | News::Refused
                | News::Disclaimed
                | News::Headers
                | News::Answered
                | News::Doubtful
                | News::Lost
                | News::Expired
                | News::Cancelled,
            ) => Self::Ended(fate),
        }
    }

    /// The fate, once it is over.
    #[must_use]
    pub const fn fate(self) -> Option<Fate> {
        match self {
            Self::Ended(fate) => Some(fate),
            Self::Waiting | Self::Sent | Self::Answering => None,
        }
    }
}

/// REFUSED_STREAM (RFC 9113 §7).
const REFUSED_STREAM: u32 = 0x7;

impl News {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Written,
        Self::NoConnection,
        Self::Disowned,
        Self::Refused,
        Self::Disclaimed,
        Self::Headers,
        Self::Answered,
        Self::Doubtful,
        Self::Lost,
        Self::Expired,
        Self::Cancelled,
    ];

    /// What a GOAWAY says of a stream: nothing, where its last stream is not before it.
    #[must_use]
    pub const fn of_goaway(last: u32, stream: u32) -> Option<Self> {
        if stream > last { Some(Self::Disowned) } else { None }
    }

    /// What a RST_STREAM says, by its error code.
    #[must_use]
    pub const fn of_reset(code: u32) -> Self {
        match code {
            REFUSED_STREAM => Self::Refused,
            _ => Self::Lost,
        }
    }

    /// What the end of a stream says, by its status and by the fate that the next hop tells, if it is one that does.
    #[must_use]
    pub const fn of_status(code: Code, told: Option<Fate>) -> Self {
        match told {
            Some(Fate::NotSent | Fate::Unprocessed) if !matches!(code, Code::Ok) => Self::Disclaimed,
            Some(Fate::Ambiguous) if !matches!(code, Code::Ok) => Self::Doubtful,
            Some(Fate::NotSent | Fate::Unprocessed | Fate::Ambiguous | Fate::Committed) | None => {
                if code.is_proof() {
                    Self::Answered
                } else {
                    Self::Doubtful
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
