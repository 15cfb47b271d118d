//! What is measured of calls: the names of gRFC A66, as OpenTelemetry's exporter writes them for Prometheus.
//!
//! A method is named where the configuration or a descriptor set names it, and is `other` else (A66 asks for that), so that no
//! client can make new series. `grpc_target` is the name of the pool. What is no gRPC is not counted here.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use metrics::{Counter, Histogram, SharedString, counter, histogram};

use crate::fate::{Code, Fate};

/// A66 "Latency buckets", in seconds.
pub(super) const LATENCY: [f64; 41] = [
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008,
    0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4,
    0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// A66 "Size buckets", in octets.
pub(super) const SIZE: [f64; 14] = [
    0.0,
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// Histograms of seconds, and of octets.
pub(super) const DURATIONS: [&str; 3] = [
    "grpc_client_attempt_duration_seconds",
    "grpc_client_call_duration_seconds",
    "grpc_server_call_duration_seconds",
];
pub(super) const SIZES: [&str; 4] = [
    "grpc_client_attempt_sent_total_compressed_message_size_bytes",
    "grpc_client_attempt_rcvd_total_compressed_message_size_bytes",
    "grpc_server_call_sent_total_compressed_message_size_bytes",
    "grpc_server_call_rcvd_total_compressed_message_size_bytes",
];

/// What the calls of a method in a pool are counted in. To look a series up costs more than to count, so it is done once.
pub(super) struct Series {
    method: SharedString,
    target: SharedString,
    calls: Counter,
    attempts: Counter,
    ends: [OnceLock<Ends>; Code::ALL.len()],
}

/// What the calls that ended with one status are counted in.
struct Ends {
    server: Sizes,
    attempt: Sizes,
    call: Histogram,
}

/// How long, and how much.
struct Sizes {
    took: Histogram,
    sent: Histogram,
    received: Histogram,
}

impl Sizes {
    fn record(&self, began: Instant, sent: &Tally, received: &Tally) {
        self.took.record(began.elapsed().as_secs_f64());
        self.sent.record(sent.get());
        self.received.record(received.get());
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Series {
    fn new(method: SharedString, target: SharedString) -> Self {
        let of_both = [("grpc_method", method.clone()), ("grpc_target", target.clone())];
        Self {
            calls: counter!("grpc_server_call_started_total", "grpc_method" => method.clone()),
            attempts: counter!("grpc_client_attempt_started_total", &of_both),
            ends: Default::default(),
            method,
            target,
        }
    }

    fn ends(&self, code: Code) -> &Ends {
        self.ends[usize::from(code.number())].get_or_init(|| {
            let status = SharedString::const_str(code.name());
            let served = [
                ("grpc_method", self.method.clone()),
                ("grpc_status", status.clone()),
            ];
            let called = [
                ("grpc_method", self.method.clone()),
                ("grpc_target", self.target.clone()),
                ("grpc_status", status),
            ];
            Ends {
                server: Sizes {
                    took: histogram!("grpc_server_call_duration_seconds", &served),
                    sent: histogram!(
                        "grpc_server_call_sent_total_compressed_message_size_bytes",
                        &served
                    ),
                    received: histogram!(
                        "grpc_server_call_rcvd_total_compressed_message_size_bytes",
                        &served
                    ),
                },
                attempt: Sizes {
                    took: histogram!("grpc_client_attempt_duration_seconds", &called),
                    sent: histogram!(
                        "grpc_client_attempt_sent_total_compressed_message_size_bytes",
                        &called
                    ),
                    received: histogram!(
                        "grpc_client_attempt_rcvd_total_compressed_message_size_bytes",
                        &called
                    ),
                },
                call: histogram!("grpc_client_call_duration_seconds", &called),
            }
        })
    }
}

/// The series of a pool, by method: those that a file names, and one of all others.
#[derive(Debug)]
pub(super) struct Meters {
    target: SharedString,
    series: Mutex<HashMap<Box<str>, Arc<Series>>>,
}

impl Meters {
    pub(super) fn new(target: SharedString) -> Self {
        let series = Mutex::default();
        Self { target, series }
    }

    /// Of a method that a file names, without its first slash; of any other where there is none.
    pub(super) fn of(&self, method: Option<&str>) -> Arc<Series> {
        let method = method.unwrap_or("other");
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = series.get(method) {
            return known.clone();
        }
        let name = SharedString::from(Arc::<str>::from(method));
        let made = Arc::new(Series::new(name, self.target.clone()));
        series.insert(method.into(), made.clone());
        made
    }
}

/// Calls by fate and status.
pub(super) struct Fates([[OnceLock<Counter>; Code::ALL.len()]; Fate::ALL.len()]);

impl Fates {
    pub(super) fn new() -> Self {
        Self(Default::default())
    }

    pub(super) fn count(&self, fate: Fate, code: Code) {
        let counter = self.0[fate as usize][usize::from(code.number())].get_or_init(
            || counter!("steer_rpc_calls_total", "fate" => fate.name(), "status" => code.name()),
        );
        counter.increment(1);
    }
}

impl fmt::Debug for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fates")
    }
}

/// Octets of messages that have passed. Clones are the same; the default counts nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Option<Arc<AtomicU64>>);

impl Tally {
    pub(super) fn new() -> Self {
        Self(Some(Arc::default()))
    }

    fn add(&self, octets: u64) {
        if let Some(tally) = &self.0 {
            tally.fetch_add(octets, Ordering::Relaxed);
        }
    }

    fn get(&self) -> f64 {
        let octets = self.0.as_ref().map(|tally| tally.load(Ordering::Relaxed));
        octets.unwrap_or_default() as f64
    }
}

/// Counts messages in a stream of frames of any size; not their prefixes, as A66 asks for the octets of messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    tally: Tally,
    /// The prefix: a flag, and the length; and how many of its octets have come.
    prefix: [u8; PREFIX],
    come: usize,
    /// Octets of the message that are to come.
    left: usize,
}

/// `PROTOCOL-HTTP2.md`: Length-Prefixed-Message.
const PREFIX: usize = 5;

impl Messages {
    pub(super) fn new(tally: Tally) -> Self {
        Self {
            tally,
            ..Self::default()
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.clone()
    }

    pub(super) fn take(&mut self, mut octets: &[u8]) {
        let mut count = 0;
        while !octets.is_empty() {
            if self.left > 0 {
                let part = self.left.min(octets.len());
                count += part as u64;
                self.left -= part;
                octets = &octets[part..];
                continue;
            }
            let part = (PREFIX - self.come).min(octets.len());
            self.prefix[self.come..self.come + part].copy_from_slice(&octets[..part]);
            self.come += part;
            octets = &octets[part..];
            if self.come == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.come = 0;
            }
        }
        if count > 0 {
            self.tally.add(count);
        }
    }
}

/// A call as the edge serves it, and as the edge makes it. Who drops it without an end has lost its client.
#[derive(Debug)]
pub(super) struct CallMeter {
    /// `None`: it is no gRPC, or has ended.
    series: Option<Arc<Series>>,
    began: Instant,
    /// Whether the edge has begun to call somebody.
    is_calling: bool,
    pub(super) received: Tally,
    pub(super) sent: Tally,
}

impl CallMeter {
    /// `None`: it is no gRPC.
    pub(super) fn new(series: Option<Arc<Series>>, now: Instant) -> Self {
        if let Some(series) = &series {
            series.calls.increment(1);
        }
        Self {
            series,
            began: now,
            is_calling: false,
            received: Tally::default(),
            sent: Tally::default(),
        }
    }

    /// An attempt begins.
    pub(super) fn attempt(&mut self, now: Instant) -> AttemptMeter {
        self.is_calling = true;
        AttemptMeter::new(self.series.clone(), now)
    }

    pub(super) fn end(&mut self, code: Code) {
        let Some(series) = self.series.take() else {
            return;
        };
        let ends = series.ends(code);
        ends.server.record(self.began, &self.sent, &self.received);
        if self.is_calling {
            ends.call.record(self.began.elapsed().as_secs_f64());
        }
    }
}

impl Drop for CallMeter {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// An attempt at a backend. Who drops it without an end has cancelled it.
#[derive(Debug)]
pub(super) struct AttemptMeter {
    series: Option<Arc<Series>>,
    began: Instant,
    pub(super) sent: Tally,
    pub(super) received: Tally,
}

impl AttemptMeter {
    fn new(series: Option<Arc<Series>>, now: Instant) -> Self {
        if let Some(series) = &series {
            series.attempts.increment(1);
        }
        Self {
            series,
            began: now,
            sent: Tally::new(),
            received: Tally::new(),
        }
    }

    pub(super) fn end(&mut self, code: Code) {
        if let Some(series) = self.series.take() {
            series
                .ends(code)
                .attempt
                .record(self.began, &self.sent, &self.received);
        }
    }
}

impl Drop for AttemptMeter {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn octets_of_messages_are_counted_and_their_prefixes_are_not_in_pieces_of_any_size(
            lengths in prop::collection::vec(0_u32..50, 0..10), piece in 1_usize..20
        ) {
            let octets: Vec<u8> = lengths
                .iter()
                .flat_map(|length| [&[0][..], &length.to_be_bytes(), &vec![7; *length as usize]].concat())
                .collect();
            let tally = Tally::new();
            let mut messages = Messages::new(tally.clone());
            for piece in octets.chunks(piece) {
                messages.take(piece);
            }
            prop_assert_eq!(tally.get(), f64::from(lengths.iter().sum::<u32>()));
        }
    }
}
