//! What the announcer says of each prefix, as pictures that can be compared.

use std::time::Duration;

use jiff::Timestamp;
use steer_anycast::announcer::{AnnouncerHandle, PrefixStatus, State, Why};
use steer_health::Holds;
use steer_health::events::{Moment, RoutePicture, RouteState};
use steer_topology::{Fleet, SiteId};

/// The announcer is asked this often, as long as it has few prefixes: it answers on the thread that withdraws them.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// So many are few.
const FEW: u32 = 1_000;

/// When to look again after `count` pictures were taken: little of its time goes into it.
pub(super) fn next_look(count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    LOOK_EVERY.saturating_mul(count.div_ceil(FEW).max(1))
}

/// Every prefix of this process. `None`: an announcer has stopped, and an orderly end is no news.
pub(super) async fn pictures(
    announcers: &[AnnouncerHandle],
    sites: &[Option<SiteId>],
    fleet: &Fleet,
) -> Option<Vec<RoutePicture>> {
    let mut pictures = Vec::new();
    for (announcer, site) in announcers.iter().zip(sites) {
        let statuses = announcer.status().await.ok()?;
        let site = site.and_then(|site| fleet.sites.get(usize::from(site.0)));
        let site = site.map(|site| site.name.as_str());
        pictures.extend(statuses.iter().map(|status| picture(status, site)));
    }
    Some(pictures)
}

fn picture(status: &PrefixStatus, site: Option<&str>) -> RoutePicture {
    let prefix = status.prefix;
    RoutePicture {
        name: site.map_or_else(|| prefix.to_string(), |site| format!("{prefix}@{site}")),
        stands: stands(status),
        by: Moment {
            snapshot: status.snapshot,
            at: status.since,
        },
    }
}

fn stands(status: &PrefixStatus) -> Option<(RouteState, Option<String>)> {
    match status.state {
        State::Announced => Some(match &status.drain {
            None => (RouteState::Announced, None),
            Some(drain) if drain.steps == 0 => (RouteState::Draining, None),
            Some(drain) => {
                let step = format!("step {} of {}: {}", drain.step, drain.steps, drain.doing);
                (RouteState::Draining, Some(step))
            }
        }),
        State::Binding | State::Bound => None,
        State::Withdrawn
        | State::BindFailed
        | State::Withdrawing
        | State::Lingering
        | State::Unbinding
        | State::UnbindFailed => not_announced(status),
    }
}

fn not_announced(status: &PrefixStatus) -> Option<(RouteState, Option<String>)> {
    let reason = status.reason.clone();
    // An orderly end is no news, and the next start is none.
    if reason
        .as_ref()
        .is_some_and(|reason| *reason == Why::Stopping.to_string())
    {
        return None;
    }
    let held = status.flaps.as_ref().and_then(|flaps| flaps.held_until);
    if let Some(until) = held {
        let reason = reason.unwrap_or_else(|| "flap budget spent".to_owned());
        return Some((RouteState::Held, Some(until_text(&reason, until))));
    }
    if status.is_undecided {
        return None;
    }
    let failing = status.conditions.iter().filter(|one| one.holds == Holds::No);
    let failing: Vec<_> = failing
        .map(|one| format!("{} does not hold", one.condition))
        .collect();
    let why = match (reason, failing.as_slice()) {
        (reason, []) => reason,
        (Some(reason), [..]) => Some(format!("{reason}: {}", failing.join(", "))),
        (None, [..]) => Some(failing.join(", ")),
    };
    Some((RouteState::Withdrawn, why))
}

fn until_text(reason: &str, until: Timestamp) -> String {
    format!("{reason}, not before {until:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_prefixes_is_asked_less_often() {
        assert_eq!(next_look(0), LOOK_EVERY);
        assert_eq!(next_look(1_000), LOOK_EVERY);
        assert_eq!(next_look(1_001), LOOK_EVERY * 2);
        assert_eq!(next_look(100_000), Duration::from_secs(25));
    }
}
