//! Who is left out: outliers (gRFC A50), and who fails several times in a row. One limit for both.
//!
//! Failures in a row are after Envoy's `consecutive_5xx`: they are seen at once, where a comparison waits for its interval
//! and wants as many outcomes of the others.

use std::time::{Duration, Instant};

use steer_health::detect::Seen;
use steer_health::detect::outlier::{Outliers, Verdict};
use steer_topology::OutlierRules;

/// Who is left out. Sans-IO.
#[derive(Debug)]
pub(super) struct Ejections {
    rules: OutlierRules,
    in_a_row: u32,
    outliers: Outliers,
    rows: Vec<Row>,
    /// When there may be something to do.
    next: Instant,
}

/// Failures in a row of one backend.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    failures: u32,
    ejected: Option<Instant>,
    /// How often it was ejected; each interval without takes one off.
    multiplier: u32,
}

/// What has become of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Ejected {
        backend: usize,
        cause: Cause,
        because: String,
    },
    Back {
        backend: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Consecutive,
    Outlier,
}

impl Cause {
    /// As in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::Outlier => "outlier",
        }
    }
}

impl Ejections {
    /// `in_a_row` of 0: failures in a row eject nobody.
    pub(super) fn new(rules: OutlierRules, in_a_row: u32, backends: usize, now: Instant) -> Self {
        let outliers = Outliers::new(rules.clone(), backends, now);
        Self {
            rules,
            in_a_row,
            next: outliers.next_deadline(),
            outliers,
            rows: vec![Row::default(); backends],
        }
    }

    pub(super) fn is_ejected(&self, backend: usize) -> bool {
        self.outliers.is_ejected(backend) || self.rows.get(backend).is_some_and(|row| row.ejected.is_some())
    }

    /// An outcome. A success after so many failures that they would eject is a return as well: where the limit left the
    /// backend in.
    pub(super) fn observe(&mut self, backend: usize, seen: Seen, now: Instant) -> Option<Change> {
        self.outliers.observe(backend, seen);
        let has_failed = matches!(seen, Seen::Failure | Seen::Gone);
        let has_room = has_failed && !self.is_ejected(backend) && self.count() < self.limit();
        let row = self.rows.get_mut(backend)?;
        match seen {
            Seen::Success { .. } => {
                let failures = std::mem::take(&mut row.failures);
                let was_gone = self.in_a_row > 0 && failures >= self.in_a_row && row.ejected.is_none();
                was_gone.then_some(Change::Back { backend })
            }
            Seen::Failure | Seen::Gone => {
                row.failures = row.failures.saturating_add(1);
                let is_due = self.in_a_row > 0 && row.failures >= self.in_a_row;
                if !is_due || !has_room {
                    return None;
                }
                row.ejected = Some(now);
                row.multiplier += 1;
                let because = format!("{} failures in a row", row.failures);
                let multiplier = row.multiplier;
                self.next = self.next.min(now + self.time(multiplier));
                Some(Change::Ejected {
                    backend,
                    cause: Cause::Consecutive,
                    because,
                })
            }
        }
    }

    fn time(&self, multiplier: u32) -> Duration {
        let (base, longest) = (self.rules.base_ejection, self.rules.max_ejection);
        base.saturating_mul(multiplier).min(longest.max(base))
    }

    fn count(&self) -> usize {
        (0..self.rows.len())
            .filter(|backend| self.is_ejected(*backend))
            .count()
    }

    /// A50 "maximum ejection", for both together: at least one, and never the only one. Of two or three: one.
    fn limit(&self) -> usize {
        let all = self.rows.len();
        let share = all * usize::from(self.rules.max_ejected) / 100;
        share.max(1).min(all.saturating_sub(1))
    }

    /// Who is back, and who is out by comparison.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<Change> {
        if now < self.next {
            return Vec::new();
        }
        let mut changes = self.returning(now);
        if now >= self.outliers.next_deadline() {
            for verdict in self.outliers.on_deadline(now) {
                changes.extend(self.judge(verdict));
            }
            for row in self.rows.iter_mut().filter(|row| row.ejected.is_none()) {
                row.multiplier = row.multiplier.saturating_sub(1);
            }
        }
        let returns = self.rows.iter().filter_map(|row| {
            let since = row.ejected?;
            Some(since + self.time(row.multiplier))
        });
        self.next = returns.fold(self.outliers.next_deadline(), Instant::min);
        changes
    }

    fn returning(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for backend in 0..self.rows.len() {
            let row = self.rows[backend];
            let is_over = |since: Instant| now.saturating_duration_since(since) >= self.time(row.multiplier);
            if row.ejected.is_some_and(is_over) {
                changes.extend(self.give_back(backend));
            }
        }
        changes
    }

    /// Ends an ejection for failures in a row.
    fn give_back(&mut self, backend: usize) -> Option<Change> {
        let row = &mut self.rows[backend];
        (row.ejected, row.failures) = (None, 0);
        (!self.outliers.is_ejected(backend)).then_some(Change::Back { backend })
    }

    fn judge(&mut self, verdict: Verdict) -> Vec<Change> {
        match verdict {
            Verdict::Return { member } if self.is_ejected(member) => Vec::new(),
            Verdict::Return { member } => vec![Change::Back { backend: member }],
            Verdict::Eject { member, because } => {
                let mut changes = vec![Change::Ejected {
                    backend: member,
                    cause: Cause::Outlier,
                    because,
                }];
                // The comparison keeps its own limit and does not know of the others: they make room.
                while self.count() > self.limit() {
                    let longest = (0..self.rows.len())
                        .filter(|backend| *backend != member)
                        .filter_map(|backend| Some((self.rows[backend].ejected?, backend)))
                        .min();
                    let Some((_, backend)) = longest else { break };
                    changes.extend(self.give_back(backend));
                }
                changes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: OutlierRules = OutlierRules::DEFAULT;

    /// So many failures of one backend; whether it is ejected then.
    fn fail(ejections: &mut Ejections, backend: usize, times: u32, now: Instant) -> bool {
        for _ in 0..times {
            ejections.observe(backend, Seen::Failure, now);
        }
        ejections.is_ejected(backend)
    }

    #[test]
    fn failures_in_a_row_eject_at_once_and_a_success_between_them_does_not_let_it_come_so_far() {
        let now = Instant::now();
        let mut ejections = Ejections::new(RULES, 5, 10, now);
        assert!(!fail(&mut ejections, 0, 4, now));
        ejections.observe(0, Seen::Success { took: Duration::ZERO }, now);
        assert!(!fail(&mut ejections, 0, 4, now));
        let change = ejections.observe(0, Seen::Failure, now);
        let expected = Change::Ejected {
            backend: 0,
            cause: Cause::Consecutive,
            because: "5 failures in a row".to_owned(),
        };
        assert_eq!(change, Some(expected));
    }

    #[test]
    fn of_one_backend_nobody_is_ejected_and_of_two_or_three_at_most_one() {
        for (backends, most) in [(1, 0), (2, 1), (3, 1), (10, 1), (20, 2), (40, 4)] {
            let now = Instant::now();
            let mut ejections = Ejections::new(RULES, 5, backends, now);
            for backend in 0..backends {
                fail(&mut ejections, backend, 50, now);
            }
            assert_eq!(ejections.count(), most, "of {backends}");
        }
    }

    #[test]
    fn who_comes_back_and_fails_again_stays_out_longer() {
        let mut now = Instant::now();
        let mut ejections = Ejections::new(RULES, 5, 3, now);
        for times in [1, 2, 3] {
            assert!(fail(&mut ejections, 1, 5, now));
            now += RULES.base_ejection * times - Duration::from_millis(1);
            assert_eq!(ejections.on_time(now), [], "{times}");
            now += Duration::from_millis(1);
            assert_eq!(ejections.on_time(now), [Change::Back { backend: 1 }]);
        }
    }

    #[test]
    fn who_could_not_be_ejected_and_answers_again_is_back_as_well() {
        let now = Instant::now();
        let mut ejections = Ejections::new(RULES, 5, 1, now);
        assert!(!fail(&mut ejections, 0, 7, now));
        let answered = ejections.observe(0, Seen::Success { took: Duration::ZERO }, now);
        assert_eq!(answered, Some(Change::Back { backend: 0 }));
    }

    #[test]
    fn both_ways_of_ejecting_share_one_limit() {
        let mut now = Instant::now();
        let mut ejections = Ejections::new(RULES, 30, 3, now);
        // 0 fails in a row; 1 fails four times in five, and never so often in a row.
        assert!(fail(&mut ejections, 0, 30, now));
        for round in 0..100 {
            let took = Duration::from_millis(5);
            ejections.observe(2, Seen::Success { took }, now);
            let seen = if round % 5 == 0 {
                Seen::Success { took }
            } else {
                Seen::Failure
            };
            ejections.observe(1, seen, now);
        }
        now += RULES.interval;
        ejections.on_time(now);
        assert_eq!(ejections.count(), 1);
        assert!(ejections.is_ejected(0) || ejections.is_ejected(1));
    }

    #[test]
    fn failures_in_a_row_can_be_switched_off() {
        let now = Instant::now();
        assert!(!fail(&mut Ejections::new(RULES, 0, 3, now), 0, 1000, now));
    }
}
