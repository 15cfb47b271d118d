//! From what the clients saw to what they paid.

use super::clients::Sample;
use crate::report::{Moment, thin};
use crate::watch::{Nanos, ms_between};

/// An outage is over when nothing bad follows for so long.
pub(super) const CALM: Nanos = 1_000_000_000;

/// What one client paid for a fault.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Time without service, all outages added. One that begins within a second of the fault counts from the fault. A
    /// later one in which every request was answered, though late, is a busy machine and does not count.
    pub(super) outage_ms: f64,
    /// When the first outage was over; 0 without any.
    pub(super) recovered_ms: f64,
    /// The first good reply from one of the sites that the client is to end at.
    pub(super) first_good_ms: Option<f64>,
    pub(super) failed: u64,
    pub(super) wrong_site: u64,
}

impl Outcome {
    /// `samples` in order of their due times. `right`: sites that may serve this client; `away`: where it has to go.
    pub(super) fn of(samples: &[Sample], fault: Nanos, right: &[String], away: &[String]) -> Self {
        let after: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= fault).collect();
        let is_away = |sample: &&&Sample| {
            sample.due >= fault && sample.good && sample.reply.as_ref().is_ok_and(|site| away.contains(site))
        };
        let first_good = after.iter().filter(is_away).map(|sample| sample.at).min();
        let outages = outages(&after, fault);
        let length = |(from, to): &(Nanos, Nanos)| ms_between(*from, *to);
        Self {
            // Not `sum`: of nothing that is -0.
            outage_ms: outages.iter().map(length).fold(0.0, |all, one| all + one),
            recovered_ms: outages.first().map_or(0.0, |(_, to)| ms_between(fault, *to)),
            first_good_ms: first_good.map(|at| ms_between(fault, at)),
            failed: after.iter().filter(|sample| sample.reply.is_err()).count() as u64,
            wrong_site: after
                .iter()
                .filter(|sample| sample.reply.as_ref().is_ok_and(|site| !right.contains(site)))
                .count() as u64,
        }
    }
}

/// Begin and end of each. One that does not end before the samples do ends with the last of them.
fn outages(samples: &[&Sample], fault: Nanos) -> Vec<(Nanos, Nanos)> {
    let mut outages: Vec<(Nanos, Nanos)> = Vec::new();
    // Due time of the last bad one, and the end of the first good one after it.
    let mut open: Option<(Nanos, Nanos, Option<Nanos>)> = None;
    let is_lost = |from: Nanos, to: Nanos| {
        let within = samples
            .iter()
            .filter(|sample| sample.due >= from && sample.due <= to);
        from == fault || within.into_iter().any(|sample| !sample.good && !sample.late)
    };
    for sample in samples {
        open = match open {
            None if sample.good => None,
            None => {
                let from = if sample.due < fault + CALM {
                    fault
                } else {
                    sample.due
                };
                Some((from, sample.due, None))
            }
            Some((from, _, Some(end))) if sample.good && sample.due - last_bad(open) >= CALM => {
                if is_lost(from, end) {
                    outages.push((from, end));
                }
                None
            }
            Some((from, bad, end)) if sample.good => Some((from, bad, end.or(Some(sample.at)))),
            Some((from, ..)) => Some((from, sample.due, None)),
        };
    }
    if let Some((from, _, end)) = open {
        let last = samples.last().map_or(from, |sample| sample.at);
        if is_lost(from, last) {
            outages.push((from, end.unwrap_or(last)));
        }
    }
    outages
}

fn last_bad(open: Option<(Nanos, Nanos, Option<Nanos>)>) -> Nanos {
    open.map_or(0, |(_, bad, _)| bad)
}

/// For the page: from a second before the fault.
pub(super) fn timeline(client: &str, samples: &[Sample], fault: Nanos) -> Vec<Moment> {
    let moments = samples
        .iter()
        .filter(|sample| sample.at >= fault - CALM)
        .map(|sample| Moment {
            client: client.to_owned(),
            at_ms: ms_between(fault, sample.due),
            site: sample.reply.as_ref().ok().cloned(),
            ok: sample.good,
        });
    thin(moments.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Nanos = 5_000_000_000;

    /// One request every 100 ms, each over after 1 ms; by tenths of a second after the fault.
    fn samples(site: impl Fn(i64) -> Result<&'static str, &'static str>) -> Vec<Sample> {
        let one = |tenth: i64| {
            let due = FAULT + tenth * 100_000_000;
            let reply = site(tenth).map(str::to_owned).map_err(str::to_owned);
            Sample {
                due,
                at: due + 1_000_000,
                good: reply.as_ref().is_ok_and(|site| site != "jfk" && site != "late"),
                late: reply == Ok("late".to_owned()),
                reply,
            }
        };
        (-20..100).map(one).collect()
    }

    fn outcome(samples: &[Sample]) -> Outcome {
        let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Outcome::of(samples, FAULT, &words(&["fra", "nrt", "late"]), &words(&["nrt"]))
    }

    #[test]
    fn an_outage_counts_from_the_fault_to_the_first_good_reply() {
        let seen = outcome(&samples(|tenth| match tenth {
            ..0 => Ok("fra"),
            0..25 => Err("refused"),
            _ => Ok("nrt"),
        }));
        let want = Outcome {
            outage_ms: 2501.0,
            recovered_ms: 2501.0,
            first_good_ms: Some(2501.0),
            failed: 25,
            wrong_site: 0,
        };
        assert_eq!(seen, want);
    }

    #[test]
    fn good_replies_between_bad_ones_end_nothing_until_they_last() {
        let seen = outcome(&samples(|tenth| match tenth {
            ..0 => Ok("fra"),
            0..20 if tenth % 3 == 0 => Ok("nrt"),
            0..20 => Err("refused"),
            _ => Ok("nrt"),
        }));
        assert_eq!((seen.outage_ms, seen.first_good_ms), (2001.0, Some(1.0)));
    }

    #[test]
    fn a_later_outage_is_added_and_counts_from_its_own_beginning() {
        let seen = outcome(&samples(|tenth| match tenth {
            50..60 => Err("refused"),
            _ => Ok("fra"),
        }));
        assert_eq!((seen.outage_ms, seen.first_good_ms), (1001.0, None));
        assert_eq!(seen.failed, 10);
    }

    #[test]
    fn late_replies_are_an_outage_after_the_fault_and_noise_later() {
        let seen = |from: i64| {
            outcome(&samples(move |tenth| match tenth {
                _ if (from..from + 10).contains(&tenth) => Ok("late"),
                ..0 => Ok("fra"),
                _ => Ok("nrt"),
            }))
        };
        assert_eq!((seen(0).outage_ms, seen(50).outage_ms), (1001.0, 0.0));
    }

    #[test]
    fn a_reply_from_a_wrong_site_is_no_service() {
        let seen = outcome(&samples(|tenth| match tenth {
            ..0 => Ok("fra"),
            0..10 => Ok("jfk"),
            _ => Ok("nrt"),
        }));
        assert_eq!((seen.outage_ms, seen.failed, seen.wrong_site), (1001.0, 0, 10));
    }

    #[test]
    fn without_a_bad_reply_there_is_no_outage() {
        let seen = outcome(&samples(|tenth| Ok(if tenth < 7 { "fra" } else { "nrt" })));
        assert_eq!((seen.outage_ms, seen.recovered_ms), (0.0, 0.0));
        assert_eq!(seen.first_good_ms, Some(701.0));
    }
}
