//! `steer status routes`, and the requests of those who announce from outside.

use comfy_table::{Cell, Color, Table};
use steer_anycast::announcer::status::{BindStatus, FlapStatus, LeaseStatus};
use steer_anycast::announcer::{ConditionStatus, DrainStatus, PrefixStatus, State, Why};
use steer_anycast::session;
use steer_health::Holds;
use steer_topology::Prefix;

use crate::admin::flaps::Cleared;
use crate::admin::routes::{Carried, LeaseView, RouteView, RoutesView, SessionView};
use crate::cli::{AnnounceArgs, ClearFlapsArgs, RoutesArgs, WithdrawArgs};
use crate::client::{AdminClient, told};
use crate::exit::Failure;
use crate::moment::{self, ago};
use crate::{runtimes, table};

/// Prints what becomes of each prefix.
pub(crate) fn show(args: &RoutesArgs) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        if args.json {
            println!("{}", client.json("/v1/routes", &[]).await?);
        } else {
            print!("{}", client.text("/v1/routes", &table::look()).await?);
        }
        Ok(())
    })
}

/// Asks for a lease, or for another term of it.
pub(crate) fn announce(args: &AnnounceArgs) -> Result<(), Failure> {
    let AnnounceArgs { route, lease, owner } = args;
    let query = route.query([("lease", lease.clone()), ("owner", owner.name())]);
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(route.admin.admin)?;
        let done = client
            .put(&["v1", "routes", &route.prefix.to_string()], &query)
            .await?;
        told(route.json, &done, |granted: &LeaseView| {
            let LeaseView {
                prefix,
                owner,
                granted_s: _,
                until,
            } = granted;
            format!(
                "{prefix} is leased to {owner} until {}; ask again before that",
                moment::end(*until)
            )
        })
    })
}

/// Gives a lease back.
pub(crate) fn withdraw(args: &WithdrawArgs) -> Result<(), Failure> {
    let WithdrawArgs { route, owner } = args;
    let query = route.query([("owner", owner.name())]);
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(route.admin.admin)?;
        let path = ["v1", "routes", &route.prefix.to_string()];
        let done = client.delete(&path, &query).await?;
        told(route.json, &done, |done: &Carried| {
            format!("{} is leased no more and withdrawn", done.prefix)
        })
    })
}

/// Forgets the flaps of a prefix, or the falls of an endpoint.
pub(crate) fn clear_flaps(args: &ClearFlapsArgs) -> Result<(), Failure> {
    let ClearFlapsArgs {
        target,
        site,
        admin,
        json,
    } = args;
    let is_prefix = target.parse::<Prefix>().is_ok();
    let path = match is_prefix {
        true => vec!["v1", "routes", target, "clear"],
        false => vec!["v1", "flaps", target],
    };
    let query: Vec<_> = site.clone().map(|site| ("site", site)).into_iter().collect();
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(admin.admin)?;
        let done = client.post(&path, &query, &serde_json::Value::Null).await?;
        if is_prefix {
            told(*json, &done, |Carried { prefix, .. }: &Carried| {
                format!("the flaps of {prefix} are forgotten; nothing holds it back")
            })
        } else {
            told(*json, &done, |Cleared { target, snapshot }: &Cleared| {
                format!("the falls of {target} are forgotten; nothing holds it back (snapshot {snapshot})")
            })
        }
    })
}

/// The routes for a terminal: a row for each prefix, and one below it for each session.
pub(crate) fn render(view: &RoutesView, color: bool, width: Option<u16>) -> String {
    let RoutesView { snapshot, routes } = view;
    let Some(first) = routes.first() else {
        return format!("snapshot {snapshot}: this steer has no prefix to announce\n");
    };
    // Only quickstart runs as several sites.
    let is_one_site = routes.iter().all(|route| route.site == first.site);
    let mut text = match &first.site {
        Some(site) if is_one_site => format!("site {site}   snapshot {snapshot}\n"),
        _ => format!("snapshot {snapshot}\n"),
    };
    let head = ["prefix, peer", "route", "sent", "since", "snapshot", "note"];
    let mut table = table::new(&head, color);
    for route in routes {
        add_route(&mut table, route, is_one_site);
    }
    text.push_str(&format!("\n{}\n", table::text(table, width)));
    text
}

fn add_route(table: &mut Table, route: &RouteView, is_one_site: bool) {
    let RouteView {
        site,
        status,
        sessions,
    } = route;
    let prefix = match site {
        Some(site) if !is_one_site => format!("{} at {site}", status.prefix),
        _ => status.prefix.to_string(),
    };
    let color = match status.state {
        State::Announced => Color::Green,
        State::Withdrawn => Color::Red,
        State::Binding
        | State::BindFailed
        | State::Bound
        | State::Withdrawing
        | State::Lingering
        | State::Unbinding
        | State::UnbindFailed => Color::Yellow,
    };
    let has_it = sessions.iter().filter(|session| session.route.announced).count();
    table.add_row([
        Cell::new(prefix),
        Cell::new(status.state.as_str()).fg(color),
        Cell::new(format!("{has_it} of {}", sessions.len())),
        Cell::new(ago(status.since)),
        Cell::new(status.snapshot),
        Cell::new(notes(status).join("\n")),
    ]);
    for session in sessions {
        table.add_row(session_cells(session));
    }
}

fn session_cells(session: &SessionView) -> [Cell; 6] {
    let SessionView {
        peer,
        asn,
        state,
        route,
    } = session;
    let is_up = *state == session::State::Established;
    let sent = match (route.wanted, route.announced, route.acknowledged) {
        (_, true, true) => Cell::new("acknowledged").fg(Color::Green),
        (_, true, false) => Cell::new("on its way").fg(Color::Yellow),
        (true, false, _) => Cell::new("not yet").fg(Color::Yellow),
        (false, false, true) if is_up => Cell::new("acknowledged"),
        (false, false, _) => Cell::new("-"),
    };
    let note = match &route.obstacle {
        Some(obstacle) => obstacle.to_string(),
        None if is_up => String::new(),
        None => format!("session is {}", state.name()),
    };
    [
        Cell::new(format!("  {peer} as {}", asn.get())),
        Cell::new(if route.wanted { "wanted" } else { "not wanted" }),
        sent,
        Cell::new(ago(route.since)),
        Cell::new(route.snapshot),
        Cell::new(note),
    ]
}

/// What is out of the ordinary with a prefix, a line for each.
fn notes(status: &PrefixStatus) -> Vec<String> {
    // Drain and lease tell it better below.
    let told_below = [Why::Drained, Why::NoLease].map(|why| why.to_string());
    let reason = status
        .reason
        .clone()
        .filter(|reason| !told_below.contains(reason));
    let mut notes: Vec<_> = reason.into_iter().collect();
    notes.extend(status.conditions.iter().filter_map(condition_note));
    if let Some(until) = status.held_until {
        notes.push(format!("not before {}", moment::end(until)));
    }
    notes.extend(status.drain.as_ref().map(drain_note));
    notes.extend(status.flaps.as_ref().map(flap_note));
    notes.extend(status.lease.as_ref().map(lease_note));
    notes.extend(status.bind.as_ref().map(bind_note));
    notes
}

/// "pool:web@local does not hold"
fn condition_note(condition: &ConditionStatus) -> Option<String> {
    let ConditionStatus { condition, holds } = condition;
    match holds {
        Holds::Yes => None,
        Holds::No => Some(format!("{condition} does not hold")),
        Holds::Unknown => Some(format!("{condition} is not decided yet")),
    }
}

/// "drain step 2 of 4: wait 30s, next in 12s; 3 streams left"
fn drain_note(drain: &DrainStatus) -> String {
    let mut text = match drain.steps {
        0 => "drained: withdrawn at once".to_owned(),
        steps => format!("drain step {} of {steps}: {}", drain.step, drain.doing),
    };
    if let Some(next) = drain.next_at {
        text.push_str(&format!(", next in {}", moment::ahead(next)));
    }
    if let Some(streams) = drain.streams {
        text.push_str(&format!("; {streams} streams left"));
    }
    text
}

fn flap_note(flaps: &FlapStatus) -> String {
    let FlapStatus {
        figure,
        penalty: _,
        suppress,
        held_until: _,
    } = flaps;
    format!("flap figure {figure:.0}, suppressed at {suppress}")
}

fn lease_note(lease: &LeaseStatus) -> String {
    match (&lease.owner, lease.until) {
        (Some(owner), _) if lease.expired => format!("lease of {owner} expired"),
        (Some(owner), Some(until)) => format!("lease of {owner} until {}", moment::end(until)),
        (Some(owner), None) => format!("lease of {owner}"),
        (None, _) => "nobody holds a lease on it".to_owned(),
    }
}

fn bind_note(bind: &BindStatus) -> String {
    let is = if bind.bound { "is" } else { "is not" };
    format!("{} {is} on {}", bind.address, bind.interface)
}
