//! Which trace a call belongs to: `traceparent` of W3C Trace Context, level 1. Sans-IO.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use rand::{Rng, RngExt};

/// §3.2.
pub(in crate::edge) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// §3.3.
pub(in crate::edge) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// So many characters of `tracestate` are recorded (§3.3.1.5: "at least 512 characters" are passed on, and all are).
const STATE_MAX: usize = 512;

/// §3.2.2: version, trace-id, parent-id and trace-flags, with the dashes between them.
const LENGTH: usize = 55;

/// The only one that is forbidden (§3.2.2.1).
const NO_VERSION: u8 = 0xff;

/// Whether the caller records the trace (§3.2.2.5.1).
const SAMPLED: u8 = 0x01;

/// A trace: 16 octets, not all of them zero (§3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// A span of a trace: 8 octets, not all of them zero (§3.2.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// As in OTLP.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// As in OTLP.
    #[must_use]
    pub const fn octets(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// What `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span of who calls.
    pub span: SpanId,
    /// Whether who calls records it.
    pub is_sampled: bool,
}

/// A `traceparent` that is none: whoever gets it begins a new trace (§3.2.2.2, §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent; one as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 is wanted")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// Reads the value of the header. A version above 00 is read as far as 00 goes (§4.3).
    ///
    /// # Errors
    ///
    /// See [`InvalidTraceParent`].
    pub fn parse(value: &[u8]) -> Result<Self, InvalidTraceParent> {
        Self::read(value).ok_or(InvalidTraceParent)
    }

    fn read(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let version = u8::try_from(hex(known.get(..2)?)?).ok()?;
        // What a later version adds comes after another dash; 00 has nothing to add.
        let ends_well = rest.is_empty() || (version > 0 && rest.starts_with(b"-"));
        let has_dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
        if version == NO_VERSION || !ends_well || !has_dashes {
            return None;
        }
        let trace = NonZeroU128::new(hex(known.get(3..35)?)?)?;
        let span = NonZeroU64::new(u64::try_from(hex(known.get(36..52)?)?).ok()?)?;
        let flags = u8::try_from(hex(known.get(53..)?)?).ok()?;
        Some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            is_sampled: flags & SAMPLED != 0,
        })
    }

    /// Of a call: none where it brings none, what is none, or several.
    pub(in crate::edge) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let first = values.next()?;
        let is_alone = values.next().is_none();
        Self::parse(first.as_bytes()).ok().filter(|_| is_alone)
    }

    /// As it is sent.
    pub(in crate::edge) fn value(self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(self.to_string()).ok()?;
        // It is another one each time, as `grpc-timeout` is: see `attempt::leave`.
        value.set_sensitive(true);
        Some(value)
    }
}

/// Version 00; flags that nobody has defined are zero (§3.2.2.5.2).
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            is_sampled,
        } = self;
        let flags = u8::from(*is_sampled) * SAMPLED;
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", trace.0, span.0)
    }
}

/// Lowercase alone (§3.2.2: HEXDIGLC).
fn hex(digits: &[u8]) -> Option<u128> {
    let digit = |octet: &u8| match octet {
        b'0'..=b'9' => Some(u128::from(octet - b'0')),
        b'a'..=b'f' => Some(u128::from(octet - b'a') + 10),
        _ => None,
    };
    digits
        .iter()
        .try_fold(0_u128, |value, octet| Some(value << 4 | digit(octet)?))
}

/// `tracestate` as it is recorded: lists of several headers are one (§3.3.1). What is too long, or not text, is left out.
pub(super) fn state(headers: &HeaderMap) -> String {
    let values = headers.get_all(TRACESTATE).iter();
    let values: Option<Vec<_>> = values.map(|value| value.to_str().ok()).collect();
    let state = values.unwrap_or_default().join(",");
    if state.len() > STATE_MAX {
        return String::new();
    }
    state
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of §3.2.3.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let read = TraceParent::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(
            read.trace.octets(),
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()
        );
        assert_eq!(read.span.octets(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert!(read.is_sampled);
        assert_eq!(read.to_string(), EXAMPLE);
    }

    #[test]
    fn each_row_is_read_or_refused_as_the_standard_says() {
        let long = format!("cc{}-what-the-future-will-be", &EXAMPLE[2..]);
        let (later, forbidden) = (format!("cc{}", &EXAMPLE[2..]), format!("ff{}", &EXAMPLE[2..]));
        let rows = [
            (later.as_str(), Some(true)),
            (&long, Some(true)),
            (&forbidden, None),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                Some(false),
            ),
            // Flags that nobody has defined say nothing.
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe",
                Some(false),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
                Some(true),
            ),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e473600f067aa0ba902b7--01", None),
            ("0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = TraceParent::parse(text.as_bytes()).ok();
            assert_eq!(read.map(|read| read.is_sampled), expected, "{text}");
        }
    }

    #[test]
    fn several_parents_are_none() {
        let one = ("traceparent", EXAMPLE);
        assert_eq!(
            TraceParent::of(&headers(&[one])),
            TraceParent::parse(EXAMPLE.as_bytes()).ok()
        );
        assert_eq!(TraceParent::of(&headers(&[one, one])), None);
        assert_eq!(TraceParent::of(&headers(&[("traceparent", "00")])), None);
        assert_eq!(TraceParent::of(&headers(&[])), None);
    }

    #[test]
    fn a_state_in_several_headers_is_one_list_and_one_that_is_too_long_is_not_recorded() {
        let both = headers(&[("tracestate", "a=1,b=2"), ("tracestate", "c=3")]);
        assert_eq!(state(&both), "a=1,b=2,c=3");
        let long = HeaderValue::try_from("x".repeat(STATE_MAX + 1)).unwrap();
        assert_eq!(state(&HeaderMap::from_iter([(TRACESTATE, long)])), "");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(
            trace in 1_u128.., span in 1_u64.., is_sampled: bool
        ) {
            let written = TraceParent {
                trace: TraceId(NonZeroU128::new(trace).unwrap()),
                span: SpanId(NonZeroU64::new(span).unwrap()),
                is_sampled,
            };
            let (text, value) = (written.to_string(), written.value().unwrap());
            prop_assert_eq!(TraceParent::parse(text.as_bytes()), Ok(written));
            prop_assert_eq!(value.as_bytes(), text.as_bytes());
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(read) = TraceParent::parse(&octets) {
                prop_assert_eq!(TraceParent::parse(read.to_string().as_bytes()), Ok(read));
            }
        }

        /// Most octets are refused at once; an example with a few others in it comes further.
        #[test]
        fn an_example_with_other_octets_in_it_is_read_or_refused(
            changes in prop::collection::vec((0_usize..55, any::<u8>()), 0..4), rest in ".{0,4}"
        ) {
            let mut octets = [EXAMPLE.as_bytes(), rest.as_bytes()].concat();
            for (at, octet) in changes {
                octets[at] = octet;
            }
            if let Ok(read) = TraceParent::parse(&octets) {
                prop_assert_eq!(TraceParent::parse(read.to_string().as_bytes()), Ok(read));
            }
        }
    }
}
