//! What one probe of one endpoint came to.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

/// What one probe came to. Three-valued on purpose: what says nothing of the endpoint must not count against it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It answered as it should.
    Success(Answer),
    /// It did not, and the fault may be its own.
    Failure(Failure),
    /// The probe says nothing of the endpoint: the fault is ours, or it was never sent.
    Void(Void),
}

/// The answer that counts as success.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The TCP connection opened.
    Connected,
    /// An HTTP status that the check wants.
    Status(u16),
    /// The number that an HTTP body holds.
    Value(f64),
    /// What else was seen, in words.
    Seen(Cow<'static, str>),
}

/// How a probe failed. Kept apart, because each sends the operator to a different place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody listens (RST to our SYN, or ICMP port unreachable).
    #[error("connection refused")]
    Refused,
    /// The connection was torn down while we waited (RST).
    #[error("connection reset")]
    Reset,
    /// The connection was closed in order before a whole answer came.
    #[error("connection closed before an answer")]
    Closed,
    /// Nothing, or not enough of an answer, within the time-out of the check.
    #[error("no answer within {}", spoken(*.0))]
    NoAnswer(Duration),
    /// The connection opened, and then nothing, or not enough of an answer, came: the kernel is there, the service is not.
    #[error("connected, but no {what} within {}", spoken(*.within))]
    HalfOpen {
        /// What we waited for.
        what: &'static str,
        /// The time-out of the check.
        within: Duration,
    },
    /// ICMP host unreachable, or nobody answers ARP or neighbour discovery.
    #[error("no route to host")]
    NoRouteToHost,
    /// No route, as our own table or a router says.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// HTTP, but not the status we want. A redirect is not followed and ends here as well.
    #[error("status {got}, want {want}")]
    Status {
        /// The status that came.
        got: u16,
        /// Those that would do.
        want: String,
    },
    /// Something other than HTTP came; the text is the parser's.
    #[error("no HTTP answer: {0}")]
    Malformed(String),
    /// The handshake failed; the text says which side did not like what.
    #[error("TLS: {0}")]
    Tls(String),
    /// An answer, but not the right one; the text says what was seen and what would be right.
    #[error("{0}")]
    Wrong(String),
    /// A program of ours said so; the text is its own, or tells how it ended.
    #[error("{0}")]
    Exec(String),
    /// Somebody reported it; the text is theirs.
    #[error("reported down: {0}")]
    Reported(String),
    /// BFD has lost the path; the text is its diagnostic.
    #[error("{0}")]
    Path(String),
    /// Nobody reported anything for so long.
    #[error("no report within {}", spoken(*.0))]
    LeaseOver(Duration),
    /// Anything else that the network reported.
    #[error("{0}")]
    Other(String),
}

/// Why a probe says nothing of its endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// As many probes as we allow at once were in flight; this one was not sent.
    #[error("not sent: too many probes in flight")]
    Skipped,
    /// We lack file descriptors, memory, buffers or local ports.
    #[error("not sent: this machine lacks what a probe needs ({0})")]
    Local(String),
    /// The time was over, but we were let run so much later that the endpoint may have answered in time.
    #[error("no answer, but the probe itself was {} late: this machine is too busy to tell", spoken(*.0))]
    Late(Duration),
    /// Nobody has reported anything new; what was reported last still stands.
    #[error("no report")]
    NoReport,
    /// The probe's code panicked.
    #[error("the probe panicked")]
    Panicked,
}

impl Outcome {
    /// Nothing came within the time-out.
    #[must_use]
    pub fn no_answer(within: Duration) -> Self {
        Self::Failure(Failure::NoAnswer(within))
    }

    /// Value of the `result` label of `steer_health_probes_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Success(_) => "success",
            Self::Failure(failure) => failure.label(),
            Self::Void(Void::Skipped) => "skipped",
            Self::Void(Void::Local(_)) => "local-fault",
            Self::Void(Void::Late(_)) => "late",
            Self::Void(Void::NoReport) => "no-report",
            Self::Void(Void::Panicked) => "panicked",
        }
    }

    /// What an error of a socket means for the endpoint, or for us.
    #[must_use]
    pub fn of_io_error(error: &io::Error, timeout: Duration) -> Self {
        use io::ErrorKind as Kind;
        if is_local_fault(error) {
            return Self::Void(Void::Local(error.to_string()));
        }
        // `ErrorKind` is open-ended: a kind that we do not name keeps the system's own words.
        #[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is non-exhaustive")]
        Self::Failure(match error.kind() {
            Kind::ConnectionRefused => Failure::Refused,
            Kind::ConnectionReset | Kind::BrokenPipe => Failure::Reset,
            Kind::ConnectionAborted | Kind::UnexpectedEof => Failure::Closed,
            Kind::TimedOut => Failure::NoAnswer(timeout),
            Kind::HostUnreachable => Failure::NoRouteToHost,
            Kind::NetworkUnreachable | Kind::NetworkDown => Failure::NetworkUnreachable,
            _ => Failure::Other(shortened(&error.to_string())),
        })
    }
}

/// A lack of ours that would hit every endpoint at once; taken for failures, it would take the fleet out.
fn is_local_fault(error: &io::Error) -> bool {
    // Linux numbers; ENFILE, EMFILE, ENOMEM and ENOBUFS have no stable `ErrorKind` of their own.
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    let lack = matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS));
    // AddrNotAvailable: no local port is free, or this machine has no address of that family.
    lack || matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
    )
}

/// `300 ms`, `60 s`: whole seconds as seconds, all else in milliseconds.
pub(crate) fn spoken(time: Duration) -> String {
    match (time.as_secs(), time.subsec_nanos()) {
        (seconds @ 1.., 0) => format!("{seconds} s"),
        _ => format!("{} ms", time.as_millis()),
    }
}

/// What a peer sends may not grow log lines and snapshots: at most this many bytes of a foreign text are kept.
const FOREIGN_TEXT_MAX: usize = 120;

/// `text`, cut to [`FOREIGN_TEXT_MAX`] bytes at a character boundary.
pub(crate) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(FOREIGN_TEXT_MAX)].to_owned()
}

impl Failure {
    /// Whether the endpoint's own machine says that nobody serves there (any more), rather than nothing or too little.
    #[must_use]
    pub fn says_gone(&self) -> bool {
        match self {
            Self::Refused | Self::Reset => true,
            Self::Closed
            | Self::NoAnswer(_)
            | Self::HalfOpen { .. }
            | Self::NoRouteToHost
            | Self::NetworkUnreachable
            | Self::Status { .. }
            | Self::Malformed(_)
            | Self::Tls(_)
            | Self::Wrong(_)
            | Self::Exec(_)
            | Self::Reported(_)
            | Self::Path(_)
            | Self::LeaseOver(_)
            | Self::Other(_) => false,
        }
    }

    /// Value of the `result` label of `steer_health_probes_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::NoAnswer(_) => "no-answer",
            Self::HalfOpen { .. } => "half-open",
            Self::NoRouteToHost => "no-route-to-host",
            Self::NetworkUnreachable => "network-unreachable",
            Self::Status { .. } => "status",
            Self::Malformed(_) => "malformed",
            Self::Tls(_) => "tls",
            Self::Wrong(_) => "wrong-answer",
            Self::Exec(_) => "exec",
            Self::Reported(_) => "reported",
            Self::Path(_) => "path",
            Self::LeaseOver(_) => "lease-over",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success(answer) => answer.fmt(f),
            Self::Failure(failure) => failure.fmt(f),
            Self::Void(void) => void.fmt(f),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Value(value) => write!(f, "value {value}"),
            Self::Seen(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    #[test]
    fn reasons_read_like_sentences() {
        assert_eq!(Failure::NoAnswer(TIMEOUT).to_string(), "no answer within 300 ms");
        assert_eq!(
            Failure::Status {
                got: 503,
                want: "200-299".to_owned()
            }
            .to_string(),
            "status 503, want 200-299"
        );
        assert_eq!(
            Failure::NoAnswer(Duration::from_secs(5)).to_string(),
            "no answer within 5 s"
        );
        assert_eq!(
            Failure::NoAnswer(Duration::from_millis(1_500)).to_string(),
            "no answer within 1500 ms"
        );
        assert_eq!(Answer::Status(204).to_string(), "status 204");
    }

    #[test]
    fn errno_becomes_the_reason_it_stands_for() {
        let of = |errno| Outcome::of_io_error(&io::Error::from_raw_os_error(errno), TIMEOUT);
        assert_eq!(of(111), Outcome::Failure(Failure::Refused));
        assert_eq!(of(104), Outcome::Failure(Failure::Reset));
        assert_eq!(of(110), Outcome::Failure(Failure::NoAnswer(TIMEOUT)));
        assert_eq!(of(113), Outcome::Failure(Failure::NoRouteToHost));
        assert_eq!(of(101), Outcome::Failure(Failure::NetworkUnreachable));
    }

    #[test]
    fn a_lack_of_our_own_never_counts_against_the_endpoint() {
        for errno in [12, 23, 24, 99, 105] {
            let outcome = Outcome::of_io_error(&io::Error::from_raw_os_error(errno), TIMEOUT);
            assert!(
                matches!(outcome, Outcome::Void(Void::Local(_))),
                "errno {errno}: {outcome:?}"
            );
        }
    }

    #[test]
    fn foreign_text_is_cut_at_a_character() {
        let long = "é".repeat(200);
        assert_eq!(shortened(&long).len(), FOREIGN_TEXT_MAX);
        assert_eq!(shortened("short"), "short");
    }
}
