//! What the loop counts.

use std::time::Duration;

use metrics::{Counter, Histogram};

use crate::outcome::Outcome;

/// Counters that each probe needs: to look them up by name would cost as much as a system call.
pub(super) struct Meters {
    took: Histogram,
    results: Vec<(&'static str, Counter)>,
}

impl Meters {
    pub(super) fn new() -> Self {
        describe_metrics();
        Self {
            took: metrics::histogram!("steer_health_probe_seconds"),
            results: Vec::new(),
        }
    }

    /// A probe ended, or was not sent.
    pub(super) fn probe(&mut self, outcome: &Outcome, took: Duration) {
        if !matches!(outcome, Outcome::Void(_)) {
            self.took.record(took);
        }
        let label = outcome.label();
        match self.results.iter().find(|(known, _)| *known == label) {
            Some((_, counter)) => counter.increment(1),
            None => {
                let counter = metrics::counter!("steer_health_probes_total", "result" => label);
                counter.increment(1);
                self.results.push((label, counter));
            }
        }
    }
}

fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("steer_health_probes_total", "Probes by result");
    describe_counter!(
        "steer_health_probes_skipped_total",
        "Probes not sent: too many in flight"
    );
    describe_counter!(
        "steer_health_slots_missed_total",
        "Probe slots that went by while the loop was late"
    );
    describe_counter!("steer_health_snapshots_total", "Snapshots made after the first");
    describe_counter!(
        "steer_health_guard_refusals_total",
        "Endpoints that the guard held in service, by rule"
    );
    describe_counter!(
        "steer_health_brought_back_total",
        "Own endpoints that came back as they had gone out together with the others, by rule"
    );
    describe_counter!(
        "steer_health_tripwire_cuts_total",
        "Held connections that ended, by how"
    );
    describe_counter!(
        "steer_health_tripwires_skipped_total",
        "Connections not held: too many at once"
    );
    describe_gauge!("steer_health_tripwires_held", "Connections held to endpoints");
    describe_counter!(
        "steer_health_drain_refusals_total",
        "Drains and forced verdicts refused, by rule"
    );
    describe_counter!(
        "steer_health_drains_forced_total",
        "Drains and forced verdicts that overruled the guard, by rule"
    );
    describe_counter!("steer_health_store_failures_total", "Failures of the store");
    describe_gauge!(
        "steer_health_store_ok",
        "1 the store has all wishes, 0 it failed or is away"
    );
    describe_gauge!(
        "steer_health_store_revision",
        "The newest revision of the store of the fleet that is in force here"
    );
    describe_counter!(
        "steer_health_store_unreadable_total",
        "Keys of the store of the fleet that could not be read"
    );
    describe_counter!(
        "steer_health_store_forgot_total",
        "Times that the store of the fleet had lost its past"
    );
    describe_counter!(
        "steer_health_memory_failures_total",
        "Failures to write down what is out of service"
    );
    describe_gauge!(
        "steer_health_drains",
        "Drains that stand, of sites and of endpoints"
    );
    describe_gauge!(
        "steer_health_forced",
        "Verdicts that an operator forces, by which; of a site or of an endpoint"
    );
    describe_gauge!("steer_health_damped", "Endpoints that are up and held back");
    describe_counter!(
        "steer_health_dampings_total",
        "Times that an endpoint was held back on its return"
    );
    describe_gauge!("steer_health_verdict", "1 up, 0 down, -1 unknown");
    describe_gauge!(
        "steer_health_certificate_seconds_left",
        "Until the certificate of an endpoint ends, at the last handshake"
    );
    describe_counter!(
        "steer_health_reports_total",
        "Reports of others on endpoints under external checks"
    );
    describe_counter!(
        "steer_health_ejections_total",
        "Endpoints taken for outliers of their pool"
    );
    describe_counter!(
        "steer_health_numbers_total",
        "Numbers asked for to steer by, by result"
    );
    describe_gauge!("steer_health_snapshot", "Number of the newest snapshot");
    describe_histogram!(
        "steer_health_probe_seconds",
        Unit::Seconds,
        "Time from sending a probe to its outcome"
    );
}
