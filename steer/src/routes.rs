//! `steer status routes`, and the requests of those who announce from outside.

use comfy_table::{Cell, Color, Table};
use serde::de::DeserializeOwned;
use steer_anycast::announcer::status::{BindStatus, FlapStatus, LeaseStatus};
use steer_anycast::announcer::{DrainStatus, PrefixStatus, State};

use crate::admin::routes::{Carried, LeaseView, RouteView, RoutesView, SessionView};
use crate::cli::{AnnounceArgs, ClearFlapsArgs, RouteArgs, RoutesArgs, WithdrawArgs};
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::moment::{self, ago};
use crate::{run, table};

/// Prints what becomes of each prefix.
pub(crate) fn show(args: &RoutesArgs) -> Result<(), Failure> {
    run::runtime()?.block_on(async {
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
    run::runtime()?.block_on(async {
        let client = AdminClient::new(route.admin.admin)?;
        let done = client
            .put(&["v1", "routes", &route.prefix.to_string()], &query)
            .await?;
        say(route, &done, |granted: LeaseView| {
            let LeaseView {
                prefix,
                owner,
                granted_s: _,
                until,
            } = granted;
            format!(
                "{prefix} is leased to {owner} until {}; ask again before that",
                moment::end(until)
            )
        })
    })
}

/// Gives a lease back.
pub(crate) fn withdraw(args: &WithdrawArgs) -> Result<(), Failure> {
    let WithdrawArgs { route, owner } = args;
    let query = route.query([("owner", owner.name())]);
    run::runtime()?.block_on(async {
        let client = AdminClient::new(route.admin.admin)?;
        let path = ["v1", "routes", &route.prefix.to_string()];
        let done = client.delete(&path, &query).await?;
        say(route, &done, |done: Carried| {
            format!("{} is leased no more and withdrawn", done.prefix)
        })
    })
}

/// Forgets the flaps of a prefix.
pub(crate) fn clear_flaps(args: &ClearFlapsArgs) -> Result<(), Failure> {
    let route = &args.route;
    run::runtime()?.block_on(async {
        let client = AdminClient::new(route.admin.admin)?;
        let path = ["v1", "routes", &route.prefix.to_string(), "clear"];
        let done = client
            .post(&path, &route.query([]), &serde_json::Value::Null)
            .await?;
        say(route, &done, |done: Carried| {
            format!(
                "the flaps of {} are forgotten; nothing holds it back",
                done.prefix
            )
        })
    })
}

fn say<T: DeserializeOwned>(
    args: &RouteArgs,
    done: &serde_json::Value,
    text: impl Fn(T) -> String,
) -> Result<(), Failure> {
    if args.json {
        println!("{done}");
        return Ok(());
    }
    let done = T::deserialize(done).map_err(|error| Failure::runtime("the answer is no steer's", &error))?;
    println!("{}", text(done));
    Ok(())
}

/// The routes for a terminal: a row for each prefix, and one below it for each session.
pub(crate) fn render(view: &RoutesView, color: bool, width: Option<u16>) -> String {
    if view.routes.is_empty() {
        return format!(
            "snapshot {}: this steer has no prefix to announce\n",
            view.snapshot
        );
    }
    let head = [
        "prefix, peer",
        "site",
        "wanted",
        "announced",
        "since",
        "snapshot",
        "note",
    ];
    let mut table = table::new(&head, color);
    table::fit(&mut table, width);
    for route in &view.routes {
        add_route(&mut table, route);
    }
    format!("snapshot {}\n\n{table}\n", view.snapshot)
}

fn add_route(table: &mut Table, route: &RouteView) {
    let RouteView {
        site,
        status,
        sessions,
    } = route;
    let wanted = match status.state {
        State::Announced => Cell::new("announced").fg(Color::Green),
        State::Withdrawn => Cell::new("withdrawn").fg(Color::Red),
        between @ (State::Binding
        | State::BindFailed
        | State::Bound
        | State::Withdrawing
        | State::Lingering
        | State::Unbinding
        | State::UnbindFailed) => Cell::new(between.as_str()).fg(Color::Yellow),
    };
    let up = sessions.iter().filter(|session| session.route.announced).count();
    table.add_row([
        Cell::new(status.prefix),
        Cell::new(site.as_deref().unwrap_or("-")),
        wanted,
        Cell::new(format!("{up} of {}", sessions.len())),
        Cell::new(ago(status.since)),
        Cell::new(status.snapshot),
        Cell::new(notes(status).join("\n")),
    ]);
    for session in sessions {
        table.add_row(session_cells(session));
    }
}

fn session_cells(session: &SessionView) -> [Cell; 7] {
    let SessionView {
        peer,
        asn,
        state,
        route,
    } = session;
    let acknowledged = if route.acknowledged {
        ", acknowledged"
    } else {
        ", not yet acknowledged"
    };
    let announced = match (route.announced, route.wanted) {
        (true, _) => Cell::new(format!("yes{acknowledged}")),
        (false, true) => Cell::new("not yet").fg(Color::Yellow),
        (false, false) => Cell::new("no"),
    };
    let note = match &route.obstacle {
        Some(obstacle) => obstacle.to_string(),
        None if state.name() == "Established" => String::new(),
        None => format!("session is {}", state.name()),
    };
    [
        Cell::new(format!("  {peer} as {}", asn.get())),
        Cell::new(""),
        Cell::new(if route.wanted { "yes" } else { "no" }),
        announced,
        Cell::new(ago(route.since)),
        Cell::new(route.snapshot),
        Cell::new(note),
    ]
}

/// What is out of the ordinary with a prefix, a line for each.
fn notes(status: &PrefixStatus) -> Vec<String> {
    let mut notes: Vec<_> = status.reason.clone().into_iter().collect();
    if let Some(until) = status.held_until {
        notes.push(format!("not before {}", moment::end(until)));
    }
    notes.extend(status.drain.as_ref().map(drain_note));
    notes.extend(status.flaps.as_ref().map(flap_note));
    notes.extend(status.lease.as_ref().map(lease_note));
    notes.extend(status.bind.as_ref().map(bind_note));
    notes
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
        (None, _) => "no lease".to_owned(),
    }
}

fn bind_note(bind: &BindStatus) -> String {
    let is = if bind.bound { "is" } else { "is not" };
    format!("{} {is} on {}", bind.address, bind.interface)
}
