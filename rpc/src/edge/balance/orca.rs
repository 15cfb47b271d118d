//! ORCA: what a backend tells of its load with an answer (`endpoint-load-metrics-bin`), and the weight that follows.
//!
//! After gRPC proposals A51 (the trailer) and A58 (weighted round robin): `qps / (utilization + eps / qps)`. Who tells no
//! rate of calls or no utilization has no weight.

use std::time::{Duration, Instant};

use data_encoding::BASE64_NOPAD;
use prost::Message;

/// The key in the trailers of an answer.
pub const LOAD_HEADER: &str = "endpoint-load-metrics-bin";

/// A58 `blackout_period`: the first reports of a backend are of little load.
const BLACKOUT: Duration = Duration::from_secs(10);

/// A58 `weight_expiration_period`.
const EXPIRY: Duration = Duration::from_secs(180);

/// The fields of `xds.data.orca.v3.OrcaLoadReport` that A58 needs; others are skipped.
#[derive(Clone, PartialEq, Message)]
struct OrcaLoadReport {
    #[prost(double, tag = "1")]
    cpu_utilization: f64,
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

/// A load report that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLoad {
    /// The trailer.
    #[error("{LOAD_HEADER}: no base64")]
    Base64,
    /// What is in it.
    #[error("{LOAD_HEADER}: no OrcaLoadReport")]
    Proto,
    /// A value that cannot be.
    #[error("{LOAD_HEADER}: a rate or a utilization is negative or no number")]
    Value,
}

/// What a backend can do, as it tells: calls per second at full use. `None`: it does not tell enough.
///
/// # Errors
///
/// See [`InvalidLoad`].
pub fn parse_load(value: &[u8]) -> Result<Option<f64>, InvalidLoad> {
    // `PROTOCOL-HTTP2.md`: padded or not. A key that is there twice is joined by commas; the first counts.
    let first = value.split(|octet| *octet == b',').next().unwrap_or_default();
    let end = first
        .iter()
        .rposition(|octet| *octet != b'=')
        .map_or(0, |at| at + 1);
    let octets = BASE64_NOPAD
        .decode(&first[..end])
        .map_err(|_| InvalidLoad::Base64)?;
    let report = OrcaLoadReport::decode(&octets[..]).map_err(|_| InvalidLoad::Proto)?;
    report.capacity()
}

impl OrcaLoadReport {
    fn capacity(&self) -> Result<Option<f64>, InvalidLoad> {
        let values = [
            self.cpu_utilization,
            self.rps_fractional,
            self.eps,
            self.application_utilization,
        ];
        if values.iter().any(|value| !value.is_finite() || *value < 0.0) {
            return Err(InvalidLoad::Value);
        }
        let utilization = if self.application_utilization > 0.0 {
            self.application_utilization
        } else {
            self.cpu_utilization
        };
        if utilization <= 0.0 || self.rps_fractional <= 0.0 {
            return Ok(None);
        }
        let capacity = self.rps_fractional / (utilization + self.eps / self.rps_fractional);
        Ok((capacity.is_finite() && capacity > 0.0).then_some(capacity))
    }
}

/// The weight of one backend.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    capacity: f64,
    first: Instant,
    last: Instant,
}

impl Weight {
    pub(super) fn on_report(&mut self, capacity: f64, now: Instant) {
        let before = self.told.filter(|told| !told.is_over(now));
        let first = before.map_or(now, |told| told.first);
        let last = now;
        self.told = Some(Told {
            capacity,
            first,
            last,
        });
    }

    /// What counts of it at the moment.
    pub(super) fn get(&self, now: Instant) -> Option<f64> {
        let told = self.told.filter(|told| !told.is_over(now))?;
        (now.saturating_duration_since(told.first) >= BLACKOUT).then_some(told.capacity)
    }
}

impl Told {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= EXPIRY
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(cpu: f64, rps: f64, eps: f64, application: f64) -> String {
        let report = OrcaLoadReport {
            cpu_utilization: cpu,
            rps_fractional: rps,
            eps,
            application_utilization: application,
        };
        BASE64_NOPAD.encode(&report.encode_to_vec())
    }

    #[test]
    fn capacity_is_the_rate_over_the_utilization_and_errors_make_it_less() {
        let rows = [
            (report(0.5, 100.0, 0.0, 0.0), Ok(Some(200.0))),
            (report(0.5, 100.0, 0.0, 0.25), Ok(Some(400.0))),
            (report(0.5, 100.0, 50.0, 0.0), Ok(Some(100.0))),
            (report(0.5, 0.0, 0.0, 0.0), Ok(None)),
            (report(0.0, 100.0, 0.0, 0.0), Ok(None)),
            (report(-0.5, 100.0, 0.0, 0.0), Err(InvalidLoad::Value)),
            (report(f64::NAN, 100.0, 0.0, 0.0), Err(InvalidLoad::Value)),
            (report(0.5, f64::INFINITY, 0.0, 0.0), Err(InvalidLoad::Value)),
            ("!".to_owned(), Err(InvalidLoad::Base64)),
            ("////".to_owned(), Err(InvalidLoad::Proto)),
            (String::new(), Ok(None)),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_load(text.as_bytes()), expected, "{text:?}");
        }
        let twice = format!("{}=,{}", report(0.5, 10.0, 0.0, 0.0), report(0.5, 20.0, 0.0, 0.0));
        assert_eq!(parse_load(twice.as_bytes()), Ok(Some(20.0)), "the first, padded");
    }

    /// The field numbers are those of `xds/data/orca/v3/orca_load_report.proto`.
    #[test]
    fn a_report_with_fields_that_we_do_not_need_is_read_as_well() {
        let mut octets = vec![0x09];
        octets.extend(0.5_f64.to_le_bytes()); // 1: cpu_utilization
        octets.extend([0x11, 0, 0, 0, 0, 0, 0, 0, 0]); // 2: mem_utilization
        octets.extend([0x18, 7]); // 3: rps, of old
        octets.extend([0x22, 3, 0x0a, 1, b'a']); // 4: request_cost
        octets.push(0x31);
        octets.extend(100.0_f64.to_le_bytes()); // 6: rps_fractional
        let text = BASE64_NOPAD.encode(&octets);
        assert_eq!(parse_load(text.as_bytes()), Ok(Some(200.0)));
    }

    #[test]
    fn a_weight_counts_after_the_first_seconds_and_until_nothing_more_is_told() {
        let now = Instant::now();
        let mut weight = Weight::default();
        assert_eq!(weight.get(now), None);
        weight.on_report(5.0, now);
        assert_eq!(weight.get(now), None, "the blackout");
        weight.on_report(6.0, now + BLACKOUT);
        assert_eq!(weight.get(now + BLACKOUT), Some(6.0));
        let late = now + BLACKOUT + EXPIRY;
        assert_eq!(weight.get(late), None);
        weight.on_report(7.0, late);
        assert_eq!(weight.get(late), None, "it begins anew");
    }

    proptest! {
        #[test]
        fn no_report_panics_or_makes_a_weight_that_is_none(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            for text in [octets.clone(), BASE64_NOPAD.encode(&octets).into_bytes()] {
                if let Ok(Some(capacity)) = parse_load(&text) {
                    prop_assert!(capacity.is_finite() && capacity > 0.0);
                }
            }
        }
    }
}
