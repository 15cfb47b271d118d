//! What was seen last of each endpoint, whether or not it changed a verdict: for status and explanations.
//!
//! Beside the snapshots on purpose: it changes with every probe and decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use steer_topology::{EndpointId, Fleet};

use crate::outcome::{Outcome, Void};

/// By endpoint. One lock for all: it is held for one store.
#[derive(Debug)]
pub struct Evidence {
    latest: Mutex<Vec<Latest>>,
    /// What logs and metrics call them.
    names: Vec<String>,
}

/// What was seen last of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    /// What the last probe came to, and when.
    pub outcome: Option<(Outcome, Timestamp)>,
    /// How long it took.
    pub took: Duration,
    /// Outcomes in a row like the last one: successes, or failures.
    pub in_a_row: u32,
    /// The certificate that it showed last.
    pub certificate: Option<Certificate>,
    warned: Option<Timestamp>,
}

/// When a certificate ends, and how long before that somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// `notAfter`
    pub ends: Timestamp,
    /// `expiry_warning` of the check.
    pub warn_within: Duration,
}

impl Certificate {
    /// Below zero when it is over.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> SignedDuration {
        self.ends.duration_since(now)
    }

    /// Whether it ends soon, or has.
    #[must_use]
    pub fn ends_soon(&self, now: Timestamp) -> bool {
        let within = SignedDuration::try_from(self.warn_within).unwrap_or(SignedDuration::MAX);
        self.left(now) <= within
    }
}

/// Between two warnings of one certificate.
const WARN_EVERY: SignedDuration = SignedDuration::from_hours(24);

impl Evidence {
    /// Nothing yet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let name = |id| crate::operator::Target::Endpoint(id).name(fleet);
        Self {
            latest: Mutex::new(vec![Latest::default(); fleet.endpoints.len()]),
            names: fleet.endpoint_ids().map(name).collect(),
        }
    }

    /// Of one endpoint.
    #[must_use]
    pub fn latest(&self, endpoint: EndpointId) -> Latest {
        self.lock().get(endpoint.0 as usize).cloned().unwrap_or_default()
    }

    pub(crate) fn note(&self, endpoint: EndpointId, outcome: &Outcome, took: Duration) {
        if matches!(outcome, Outcome::Void(Void::NoReport)) {
            return; // what was reported last still stands
        }
        let now = Timestamp::now();
        let mut all = self.lock();
        let Some(latest) = all.get_mut(endpoint.0 as usize) else {
            return;
        };
        let before = latest
            .outcome
            .as_ref()
            .map(|(before, _)| std::mem::discriminant(before));
        let same = before == Some(std::mem::discriminant(outcome));
        latest.in_a_row = if same {
            latest.in_a_row.saturating_add(1)
        } else {
            1
        };
        latest.outcome = Some((outcome.clone(), now));
        latest.took = took;
    }

    /// A certificate was shown. Warns of one that ends soon, once a day.
    pub(crate) fn certificate(&self, endpoint: EndpointId, certificate: Certificate) {
        let now = Timestamp::now();
        let warn = {
            let mut all = self.lock();
            let Some(latest) = all.get_mut(endpoint.0 as usize) else {
                return;
            };
            latest.certificate = Some(certificate);
            let told = latest
                .warned
                .is_some_and(|at| now.duration_since(at) < WARN_EVERY);
            let warn = certificate.ends_soon(now) && !told;
            if warn {
                latest.warned = Some(now);
            }
            warn
        };
        let name = self.names.get(endpoint.0 as usize).cloned().unwrap_or_default();
        let left = certificate.left(now).as_secs();
        if warn {
            tracing::warn!(endpoint = name, ends = %certificate.ends, "a certificate ends soon");
        }
        metrics::gauge!("steer_health_certificate_seconds_left", "endpoint" => name).set(left as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Latest>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
