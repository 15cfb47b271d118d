//! `steer status` and `GET /v1/status`: what a steer believes and does.

mod gossip;
mod observers;
mod store;

use comfy_table::{Cell, Color, Table};
use jiff::Timestamp;
use serde::Serialize;
use steer_anycast::bfd::{BfdService, PathState};
use steer_anycast::speaker::{PeerStatus, RouteStatus};
use steer_health::evidence::Latest;
use steer_health::{Service, Verdict};
use steer_rpc::edge::{EdgeStatus, Observer};
use steer_topology::Prefix;

use crate::admin::Admin;
use crate::admin::drains::{DrainView, DrainsView, KeptView};
use crate::admin::forces::ForceView;
use crate::admin::notify::ChannelView;
use crate::cli::{StatusArgs, StatusPart};
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::moment::{self, ago};
use crate::{notify, routes, runtimes, table};

use gossip::GossipRows;
use observers::ObserverRows;
use store::StoreRow;

/// The status document. Fields are added, never renamed.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// Version of this steer.
    version: &'static str,
    /// `[fleet] name`.
    fleet: String,
    /// The sites this process runs as: one, none where none is declared, three in quickstart.
    sites: Vec<String>,
    /// Number of the snapshot that all of this follows from.
    snapshot: u64,
    /// When that snapshot was made.
    snapshot_at: Timestamp,
    /// Number of the snapshot that DNS answers from; equal but for the microseconds of a compile.
    dns_snapshot: u64,
    /// Whether the first full round of checks is over.
    settled: bool,
    /// The operator's wishes that stand, oldest first.
    drains: Vec<DrainView>,
    /// The verdicts that an operator forces, oldest first.
    forces: Vec<ForceView>,
    /// Whether these wishes survive a restart.
    drains_kept: KeptView,
    /// The cluster that keeps the wishes of the whole fleet, where one is configured.
    store: Option<StoreRow>,
    /// Every endpoint of every pool.
    endpoints: Vec<EndpointRow>,
    /// Members and votes, where this site gossips.
    gossip: Option<GossipRows>,
    /// Where this site has an edge.
    edge: Option<EdgeRow>,
    /// Who is told what happens: `[[notify]]`.
    notify: Vec<ChannelView>,
    /// One speaker per site of this process.
    bgp: Vec<SpeakerRow>,
}

#[derive(Debug, Serialize)]
struct EndpointRow {
    pool: String,
    site: Option<String>,
    address: String,
    verdict: Verdict,
    service: Service,
    cause: String,
    since: Timestamp,
    /// What was seen last, which may not have decided anything.
    last: Option<Last>,
    /// When the certificate that it showed last ends.
    certificate_ends: Option<Timestamp>,
    /// Whether that is soon enough to warn.
    certificate_ends_soon: bool,
}

/// The last outcome of a probe.
#[derive(Debug, Serialize)]
struct Last {
    /// `success`, or the kind of failure; as in the metrics.
    result: &'static str,
    /// In words.
    seen: String,
    at: Timestamp,
    took_ms: f64,
    /// Successes or failures in a row.
    in_a_row: u32,
}

impl Last {
    fn of(latest: &Latest) -> Option<Self> {
        let (outcome, at) = latest.outcome.as_ref()?;
        Some(Self {
            result: outcome.label(),
            seen: outcome.to_string(),
            at: *at,
            took_ms: latest.took.as_secs_f64() * 1000.0,
            in_a_row: latest.in_a_row,
        })
    }
}

impl EndpointRow {
    /// Why the verdict is what it is, and what speaks against it by now.
    fn reason(&self) -> String {
        let mut reason = self.cause.clone();
        if let Some(last) = &self.last {
            let good = last.result == "success";
            let agrees = match self.verdict {
                Verdict::Up => good,
                Verdict::Down | Verdict::Unknown => !good,
            };
            if !agrees {
                reason.push_str(&format!("; now {} ({} in a row)", last.seen, last.in_a_row));
            }
        }
        if let Some(ends) = self.certificate_ends.filter(|_| self.certificate_ends_soon) {
            reason.push_str(&format!("; certificate ends {ends:.0}"));
        }
        reason
    }
}

/// The RPC edge of this process.
#[derive(Debug, Serialize)]
struct EdgeRow {
    listen: String,
    /// `open`, `leaving`, `closing` or `over`: whether clients are welcome.
    phase: &'static str,
    /// Clients that are connected.
    connections: usize,
    /// Calls under way.
    calls: usize,
}

impl EdgeRow {
    fn of(edge: &Observer) -> Self {
        let EdgeStatus {
            listen,
            phase,
            connections,
            calls,
        } = edge.status();
        Self {
            listen: listen.to_string(),
            phase: phase.as_str(),
            connections,
            calls,
        }
    }

    fn render(&self) -> String {
        let Self {
            listen,
            phase,
            connections,
            calls,
        } = self;
        format!("\nedge on {listen}: {phase}, {connections} clients, {calls} calls under way\n")
    }
}

#[derive(Debug, Serialize)]
struct SpeakerRow {
    site: Option<String>,
    peers: Vec<PeerStatus>,
    #[serde(flatten)]
    observers: ObserverRows,
    /// The thread of its BFD sessions, where there are any.
    bfd: Option<BfdService>,
}

impl Status {
    /// The status of this moment.
    pub(crate) fn of(admin: &Admin) -> Self {
        let snapshot = admin.cell.load();
        let fleet = &snapshot.fleet;
        let site_name = |id| fleet.site(id).name.clone();
        let (evidence, now) = (admin.cell.evidence(), Timestamp::now());
        let endpoints = fleet.endpoint_ids().map(|id| {
            let (endpoint, state) = (fleet.endpoint(id), snapshot.endpoint(id));
            let latest = evidence.latest(id);
            EndpointRow {
                pool: fleet.pool(endpoint.pool).name.clone(),
                site: endpoint.site.map(site_name),
                address: endpoint.address.to_string(),
                verdict: state.verdict,
                service: state.service.clone(),
                cause: state.cause.clone(),
                since: state.since,
                last: Last::of(&latest),
                certificate_ends: latest.certificate.map(|certificate| certificate.ends),
                certificate_ends_soon: latest
                    .certificate
                    .is_some_and(|certificate| certificate.ends_soon(now)),
            }
        });
        let drains = DrainsView::of(admin, &snapshot);
        let speakers = admin
            .sites
            .iter()
            .zip(admin.speakers.iter())
            .zip(admin.observers.iter());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            fleet: fleet.name.clone(),
            sites: admin.sites.iter().flatten().map(|id| site_name(*id)).collect(),
            snapshot: snapshot.number,
            snapshot_at: snapshot.at,
            dns_snapshot: admin.engine.tables().snapshot_number(),
            settled: snapshot.settled,
            drains: drains.drains,
            forces: ForceView::all(&snapshot),
            drains_kept: drains.kept,
            store: admin.operator.keeping().fleet.map(StoreRow::new),
            endpoints: endpoints.collect(),
            notify: ChannelView::all(&admin.notifier),
            gossip: admin.gossip.as_ref().map(|gossip| GossipRows::of(gossip, fleet)),
            edge: admin.edge.as_ref().map(EdgeRow::of),
            bgp: speakers
                .map(|((site, speaker), observers)| SpeakerRow {
                    site: site.map(site_name),
                    peers: speaker.peers(),
                    observers: ObserverRows::of(observers),
                    bfd: speaker.bfd(),
                })
                .collect(),
        }
    }

    /// The status for a terminal.
    pub(crate) fn render(&self, color: bool, width: Option<u16>) -> String {
        let Self {
            version,
            fleet,
            sites,
            snapshot,
            dns_snapshot,
            settled,
            drains,
            forces,
            drains_kept,
            store,
            endpoints,
            gossip,
            edge,
            notify,
            bgp,
            snapshot_at,
        } = self;
        let site = if sites.is_empty() {
            String::new()
        } else {
            format!(" site {}", sites.join(", "))
        };
        let mut text = format!(
            "fleet {fleet}{site}   snapshot {snapshot} ({} ago)   steer {version}\n",
            ago(*snapshot_at)
        );
        if dns_snapshot != snapshot {
            text.push_str(&format!("DNS still answers from snapshot {dns_snapshot}\n"));
        }
        if !settled {
            text.push_str("the first round of checks is not over: nothing is announced or withdrawn on a condition yet\n");
        }
        if !drains.is_empty() {
            text.push_str(&format!("\n{}\n", table::text(drain_table(drains, color), width)));
        }
        if !forces.is_empty() {
            text.push_str(&format!("\n{}\n", table::text(force_table(forces, color), width)));
        }
        if let Some(why) = drains_kept
            .not_kept_because
            .as_deref()
            .filter(|_| !drains.is_empty() || !forces.is_empty())
        {
            text.push_str(&format!("these wishes end with the process: {why}\n"));
        }
        if !endpoints.is_empty() {
            text.push_str(&format!(
                "\n{}\n",
                table::text(endpoint_table(endpoints, color), width)
            ));
        }
        if let Some(store) = store {
            text.push_str(&store.render());
        }
        if let Some(gossip) = gossip {
            text.push_str(&gossip.render(color, width));
        }
        if let Some(edge) = edge {
            text.push_str(&edge.render());
        }
        if !notify.is_empty() {
            let channels = notify::channel_table(notify, color);
            text.push_str(&format!("\n{}\n", table::text(channels, width)));
        }
        for speaker in bgp {
            text.push_str(&format!(
                "\n{}\n",
                table::text(speaker_table(speaker, color), width)
            ));
            text.push_str(&speaker.observers.render(color));
        }
        text
    }
}

fn drain_table(rows: &[DrainView], color: bool) -> Table {
    let mut table = table::new(&["drained", "since", "until", "by", "reason"], color);
    for row in rows {
        let until = row.until.map_or_else(|| "undrained".to_owned(), moment::end);
        table.add_row([
            Cell::new(&row.target).fg(Color::Yellow),
            Cell::new(ago(row.since)),
            Cell::new(until),
            Cell::new(&row.author),
            Cell::new(&row.reason),
        ]);
    }
    table
}

fn force_table(rows: &[ForceView], color: bool) -> Table {
    let mut table = table::new(&["forced", "to", "since", "until", "by", "reason"], color);
    for row in rows {
        let until = row.until.map_or_else(|| "unforced".to_owned(), moment::end);
        table.add_row([
            Cell::new(&row.target).fg(Color::Yellow),
            Cell::new(row.to),
            Cell::new(ago(row.since)),
            Cell::new(until),
            Cell::new(&row.author),
            Cell::new(&row.reason),
        ]);
    }
    table
}

fn endpoint_table(rows: &[EndpointRow], color: bool) -> Table {
    let mut table = table::new(
        &["pool", "site", "address", "verdict", "service", "since", "cause"],
        color,
    );
    for row in rows {
        table.add_row([
            Cell::new(&row.pool),
            Cell::new(row.site.as_deref().unwrap_or("-")),
            Cell::new(&row.address),
            table::verdict(row.verdict),
            table::service(&row.service),
            Cell::new(ago(row.since)),
            Cell::new(row.reason()),
        ]);
    }
    table
}

fn speaker_table(speaker: &SpeakerRow, color: bool) -> Table {
    let mut table = table::new(
        &[
            "site", "peer", "as", "session", "since", "bfd", "prefix", "route", "snapshot", "note",
        ],
        color,
    );
    let site = speaker.site.as_deref().unwrap_or("-");
    for peer in &speaker.peers {
        let session = [
            Cell::new(site),
            Cell::new(peer.address),
            Cell::new(peer.asn.get()),
            Cell::new(peer.state.name()).fg(if peer.session.is_some() {
                Color::Green
            } else {
                Color::Red
            }),
            Cell::new(ago(peer.since)),
            bfd_cell(peer),
        ];
        let note = if peer.session.is_some() {
            ""
        } else {
            peer.last_error.as_deref().unwrap_or("")
        };
        if peer.routes.is_empty() {
            table.add_row(
                session
                    .iter()
                    .cloned()
                    .chain(["-", "-", "-", note].map(Cell::new)),
            );
        }
        // Why a session is down is told once, not for each of its prefixes.
        let notes = std::iter::once(note).chain(std::iter::repeat(""));
        for ((prefix, route), note) in peer.routes.iter().zip(notes) {
            table.add_row(session.iter().cloned().chain(route_cells(*prefix, route, note)));
        }
    }
    table
}

fn bfd_cell(peer: &PeerStatus) -> Cell {
    let Some(bfd) = &peer.bfd else {
        return Cell::new("-");
    };
    let color = match bfd.path.state {
        PathState::Up => Color::Green,
        PathState::Down(_) => Color::Red,
        PathState::AdminDown | PathState::PeerAdminDown => Color::Yellow,
    };
    Cell::new(bfd.path.state).fg(color)
}

fn route_cells(prefix: Prefix, route: &RouteStatus, note: &str) -> [Cell; 4] {
    let (text, color) = match (route.wanted, route.announced) {
        (true, true) => ("announced", Color::Green),
        (true, false) => ("wanted", Color::Yellow),
        (false, true) => ("to withdraw", Color::Yellow),
        (false, false) => ("withdrawn", Color::Red),
    };
    let note = route
        .obstacle
        .map_or_else(|| note.to_owned(), |obstacle| obstacle.to_string());
    [
        Cell::new(prefix),
        Cell::new(text).fg(color),
        Cell::new(route.snapshot),
        Cell::new(note),
    ]
}

/// Prints the status of a running steer, once or on each change, or one part of it.
pub(crate) fn show(args: &StatusArgs) -> Result<(), Failure> {
    if let Some(StatusPart::Routes(routes)) = &args.part {
        return routes::show(routes);
    }
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let mut after = None;
        loop {
            let number = print(&client, args, after).await?;
            if !args.watch {
                return Ok(());
            }
            after = Some(number);
        }
    })
}

/// Prints one status and returns its snapshot number.
async fn print(client: &AdminClient, args: &StatusArgs, after: Option<u64>) -> Result<u64, Failure> {
    let after: Vec<_> = after
        .map(|number| ("after", number.to_string()))
        .into_iter()
        .collect();
    let document: serde_json::Value = client.json("/v1/status", &after).await?;
    if args.json {
        println!("{document}");
    } else {
        let text = client.text("/v1/status", &table::look()).await?;
        if args.watch {
            print!("\x1b[2J\x1b[H");
        }
        print!("{text}");
    }
    Ok(document["snapshot"].as_u64().unwrap_or_default())
}
