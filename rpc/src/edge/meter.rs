//! What is measured of calls: the names of gRFC A66, as OpenTelemetry's exporter writes them for Prometheus.
//!
//! A method is named where the configuration or a descriptor set names it, and is `other` else (A66 asks for that), so that no
//! client can make new series. `grpc_target` is the name of the pool. What is no gRPC is not counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metrics::{SharedString, counter, histogram};

use crate::fate::Code;

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

/// What a call is counted under.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    pub(super) method: SharedString,
    pub(super) target: SharedString,
}

/// Octets of messages that have passed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<AtomicU64>);

impl Tally {
    fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64
    }
}

/// Counts messages in a stream of frames of any size; not their prefixes, as A66 asks for the octets of messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    tally: Tally,
    /// Octets of the prefix that has begun: a flag, and the length.
    prefix: Vec<u8>,
    /// Octets of the message that are to come.
    left: usize,
}

/// `PROTOCOL-HTTP2.md`: Length-Prefixed-Message.
const PREFIX: usize = 5;

impl Messages {
    pub(super) fn new(tally: Tally) -> Self {
        Self {
            tally,
            prefix: Vec::with_capacity(PREFIX),
            left: 0,
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
            let part = (PREFIX - self.prefix.len()).min(octets.len());
            self.prefix.extend_from_slice(&octets[..part]);
            octets = &octets[part..];
            if let [_, a, b, c, d] = self.prefix[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.prefix.clear();
            }
        }
        if count > 0 {
            self.tally.0.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// A call as the edge serves it, and as the edge makes it. Who drops it without an end has lost its client.
#[derive(Debug)]
pub(super) struct CallMeter {
    labels: Option<Labels>,
    began: Instant,
    /// Whether the edge has begun to call somebody.
    is_calling: bool,
    pub(super) received: Tally,
    pub(super) sent: Tally,
}

impl CallMeter {
    /// `None`: it is no gRPC.
    pub(super) fn new(labels: Option<Labels>) -> Self {
        if let Some(labels) = &labels {
            counter!("grpc_server_call_started_total", "grpc_method" => labels.method.clone()).increment(1);
        }
        Self {
            labels,
            began: Instant::now(),
            is_calling: false,
            received: Tally::default(),
            sent: Tally::default(),
        }
    }

    /// An attempt begins.
    pub(super) fn attempt(&mut self) -> AttemptMeter {
        self.is_calling = true;
        AttemptMeter::new(self.labels.clone())
    }

    pub(super) fn end(&mut self, code: Code) {
        let Some(Labels { method, target }) = self.labels.take() else {
            return;
        };
        let took = self.began.elapsed().as_secs_f64();
        let labels = [
            ("grpc_method", method.clone()),
            ("grpc_status", SharedString::const_str(code.name())),
        ];
        histogram!("grpc_server_call_duration_seconds", &labels).record(took);
        histogram!(
            "grpc_server_call_sent_total_compressed_message_size_bytes",
            &labels
        )
        .record(self.sent.get());
        histogram!(
            "grpc_server_call_rcvd_total_compressed_message_size_bytes",
            &labels
        )
        .record(self.received.get());
        if self.is_calling {
            histogram!(
                "grpc_client_call_duration_seconds",
                "grpc_method" => method, "grpc_target" => target, "grpc_status" => code.name()
            )
            .record(took);
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
    labels: Option<Labels>,
    began: Instant,
    pub(super) sent: Tally,
    pub(super) received: Tally,
}

impl AttemptMeter {
    fn new(labels: Option<Labels>) -> Self {
        if let Some(Labels { method, target }) = &labels {
            counter!(
                "grpc_client_attempt_started_total",
                "grpc_method" => method.clone(), "grpc_target" => target.clone()
            )
            .increment(1);
        }
        Self {
            labels,
            began: Instant::now(),
            sent: Tally::default(),
            received: Tally::default(),
        }
    }

    pub(super) fn end(&mut self, code: Code) {
        let Some(Labels { method, target }) = self.labels.take() else {
            return;
        };
        let labels = [
            ("grpc_method", method),
            ("grpc_target", target),
            ("grpc_status", SharedString::const_str(code.name())),
        ];
        histogram!("grpc_client_attempt_duration_seconds", &labels)
            .record(self.began.elapsed().as_secs_f64());
        histogram!(
            "grpc_client_attempt_sent_total_compressed_message_size_bytes",
            &labels
        )
        .record(self.sent.get());
        histogram!(
            "grpc_client_attempt_rcvd_total_compressed_message_size_bytes",
            &labels
        )
        .record(self.received.get());
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
            let tally = Tally::default();
            let mut messages = Messages::new(tally.clone());
            for piece in octets.chunks(piece) {
                messages.take(piece);
            }
            prop_assert_eq!(tally.get(), f64::from(lengths.iter().sum::<u32>()));
        }
    }
}
