//! The live view: verdict, answer and route of every site, changing together.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Cell, Color};
use jiff::tz::TimeZone;
use serde::Serialize;
use steer_anycast::monitor::{Heard, MonitorEvent};
use steer_dns::{Engine, Explanation};
use steer_health::{Service, Snapshot, SnapshotCell, Verdict};
use steer_topology::{Name, SiteId, geography};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::scene::Endpoint;
use crate::cli::QuickstartArgs;
use crate::exit::Failure;
use crate::run::Running;
use crate::table;

/// How often the picture is compared with the last one shown.
const FRAME: Duration = Duration::from_millis(50);

/// Events shown below the table.
const EVENTS: usize = 8;

/// Sample clients: name, address inside the subnet, subnet for `dig`.
const CLIENTS: [(&str, Ipv4Addr, &str); 3] = [
    ("London", Ipv4Addr::new(81, 2, 69, 0), "81.2.69.0/24"),
    ("Pittsburgh", Ipv4Addr::new(128, 2, 1, 0), "128.2.1.0/24"),
    ("Tokyo", Ipv4Addr::new(133, 11, 0, 0), "133.11.0.0/24"),
];

/// What is shown; a change of it is what is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Picture {
    snapshot: u64,
    sites: Vec<SiteRow>,
    answers: Vec<AnswerRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct SiteRow {
    site: String,
    city: String,
    endpoint: String,
    verdict: Verdict,
    service: Service,
    cause: String,
    /// Prefixes that the monitor has from this site.
    routes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct AnswerRow {
    client: &'static str,
    subnet: &'static str,
    scope: u8,
    addresses: Vec<String>,
}

/// Shows the fleet until it stops.
pub(super) struct Live {
    dns: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    monitor: std::net::SocketAddr,
    config: PathBuf,
    endpoints: Vec<Endpoint>,
    cell: Arc<SnapshotCell>,
    engine: Arc<Engine>,
    name: Name,
    style: Style,
    /// By BGP Identifier: what the monitor has.
    routes: BTreeMap<Ipv4Addr, Vec<String>>,
    events: VecDeque<String>,
    shown: Option<Picture>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A terminal: redrawn in place.
    Screen { color: bool },
    /// A pipe or file: lines.
    Lines,
    /// One JSON object per change.
    Json,
}

impl Live {
    pub(super) fn new(
        args: &QuickstartArgs,
        config: PathBuf,
        endpoints: Vec<Endpoint>,
        running: &Running,
    ) -> Result<Self, Failure> {
        let name = "www.example.com"
            .parse()
            .map_err(|error| Failure::runtime("the sample name", &error))?;
        Ok(Self {
            dns: args.dns,
            admin: args.admin,
            monitor: args.monitor,
            config,
            endpoints,
            cell: Arc::clone(&running.cell),
            engine: Arc::clone(&running.engine),
            name,
            style: style(args.json),
            routes: BTreeMap::new(),
            events: VecDeque::new(),
            shown: None,
        })
    }

    pub(super) async fn run(mut self, mut heard: mpsc::Receiver<MonitorEvent>, stop: CancellationToken) {
        if self.style == Style::Lines {
            println!("{}", self.commands());
        }
        let mut frame = tokio::time::interval(FRAME);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = heard.recv() => self.on_heard(&event),
                _ = frame.tick() => self.on_frame(),
            }
        }
        // What was withdrawn on the way out is worth seeing.
        while let Ok(event) = heard.try_recv() {
            self.on_heard(&event);
        }
        self.show_changes();
    }

    fn on_heard(&mut self, event: &MonitorEvent) {
        if self.style == Style::Json {
            println!("{}", serde_json::json!(event));
        }
        let id = event.from.peer_id;
        let site = self.site_of(id);
        let routes = self.routes.entry(id).or_default();
        let text = match &event.heard {
            Heard::SessionUp => format!("route monitor  session with {site} up"),
            Heard::SessionDown { reason } => format!("route monitor  session with {site} down: {reason}"),
            Heard::Announced {
                prefix,
                next_hop,
                as_path,
                attributes: _,
            } => {
                routes.push(prefix.to_string());
                format!("route monitor  + {prefix} from {site}, next hop {next_hop}, AS path {as_path:?}")
            }
            Heard::Withdrawn { prefix, lost: _ } => {
                routes.retain(|held| *held != prefix.to_string());
                format!("route monitor  - {prefix} from {site}")
            }
        };
        routes.sort();
        routes.dedup();
        self.note(event.at, &text);
    }

    fn on_frame(&mut self) {
        let mut ended = Vec::new();
        for endpoint in &mut self.endpoints {
            if endpoint.pid != 0 && matches!(endpoint.child.try_wait(), Ok(Some(_))) {
                ended.push(format!(
                    "endpoint       {} (pid {}) has ended",
                    endpoint.site, endpoint.pid
                ));
                endpoint.pid = 0;
            }
        }
        for text in ended {
            self.note(jiff::Timestamp::now(), &text);
        }
        self.show_changes();
    }

    fn note(&mut self, at: jiff::Timestamp, text: &str) {
        let line = format!(
            "{} {text}",
            at.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f")
        );
        if self.style == Style::Lines {
            println!("{line}");
        }
        self.events.push_back(line);
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
        if let Style::Screen { color } = self.style
            && let Some(picture) = self.shown.clone()
        {
            self.draw(&picture, color);
        }
    }

    fn show_changes(&mut self) {
        let snapshot = self.cell.load();
        let tables = self.engine.tables();
        if tables.snapshot_number() != snapshot.number {
            return; // a table compile takes microseconds: the next frame shows both
        }
        let answers = CLIENTS.iter().map(|(client, address, subnet)| {
            let explanation = tables.explain(IpAddr::V4(*address), &self.name);
            answer_row(client, subnet, &explanation)
        });
        let picture = Picture {
            snapshot: snapshot.number,
            sites: self.site_rows(&snapshot),
            answers: answers.collect(),
        };
        if self.shown.as_ref() == Some(&picture) {
            return;
        }
        match self.style {
            Style::Screen { color } => self.draw(&picture, color),
            Style::Lines => println!("{}", line_of(&picture)),
            Style::Json => println!("{}", serde_json::json!(picture)),
        }
        self.shown = Some(picture);
    }

    fn site_rows(&self, snapshot: &Snapshot) -> Vec<SiteRow> {
        let fleet = &snapshot.fleet;
        let rows = fleet.endpoint_ids().map(|id| {
            let (endpoint, state) = (fleet.endpoint(id), snapshot.endpoint(id));
            let site = fleet.site(endpoint.site.unwrap_or(SiteId(0)));
            let routes = site
                .router_id
                .and_then(|id| self.routes.get(&id))
                .cloned()
                .unwrap_or_default();
            SiteRow {
                site: site.name.clone(),
                city: site.city.clone(),
                endpoint: endpoint.address.ip().to_string(),
                verdict: state.verdict,
                service: state.service.clone(),
                cause: state.cause.clone(),
                routes,
            }
        });
        rows.collect()
    }

    fn site_of(&self, id: Ipv4Addr) -> String {
        let snapshot = self.cell.load();
        let site = snapshot
            .fleet
            .sites
            .iter()
            .find(|site| site.router_id == Some(id));
        site.map_or_else(|| id.to_string(), |site| site.name.clone())
    }

    fn draw(&self, picture: &Picture, color: bool) {
        let mut out = String::from("\x1b[2J\x1b[H");
        let bold = |text: &str| {
            if color {
                format!("\x1b[1m{text}\x1b[0m")
            } else {
                text.to_owned()
            }
        };
        let _ = writeln!(
            out,
            "{}   one health truth, two actuators   snapshot {}\n",
            bold("steer quickstart"),
            picture.snapshot
        );
        let _ = writeln!(out, "{}\n", site_table(picture, color));
        let _ = writeln!(out, "{}\n", answer_table(picture, color));
        let _ = writeln!(out, "{}", bold("what happened"));
        for line in &self.events {
            let _ = writeln!(out, "  {line}");
        }
        let _ = write!(out, "\n{}", self.commands());
        println!("{out}");
    }

    /// Lines to copy and paste.
    fn commands(&self) -> String {
        let Self {
            dns,
            admin,
            monitor,
            config,
            ..
        } = self;
        let steer =
            std::env::current_exe().map_or_else(|_| "steer".to_owned(), |path| path.display().to_string());
        let mut text = format!(
            "try, in another shell (DNS {dns}, admin {admin}, route monitor {monitor}; Ctrl-C stops)\n"
        );
        for (client, _, subnet) in CLIENTS {
            let _ = writeln!(
                text,
                "  dig @{} -p {} +short www.example.com +subnet={subnet:<17} # a client in {client}",
                dns.ip(),
                dns.port()
            );
        }
        let _ = writeln!(
            text,
            "  {steer} explain --admin {admin} --name www.example.com --client {}",
            CLIENTS[2].1
        );
        let _ = writeln!(text, "  {steer} status --admin {admin}");
        for Endpoint {
            site, listen, pid, ..
        } in &self.endpoints
        {
            let _ = match pid {
                0 => writeln!(
                    text,
                    "  {steer} endpoint --name {site} --listen {listen} &   # revive {site}"
                ),
                pid => writeln!(text, "  kill {pid:<8} # kill the endpoint of {site} ({listen})"),
            };
        }
        let _ = writeln!(text, "the configuration of all this: {}", config.display());
        let _ = write!(
            text,
            "{}",
            geography::ATTRIBUTION.replace(". Country", ".\nCountry")
        );
        text
    }
}

fn style(json: bool) -> Style {
    use std::io::IsTerminal;
    match (json, std::io::stdout().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Screen {
            color: crate::client::color(),
        },
        (false, false) => Style::Lines,
    }
}

fn answer_row(client: &'static str, subnet: &'static str, explanation: &Explanation) -> AnswerRow {
    let answer = explanation.answers.iter().find(|answer| answer.rtype == "A");
    let chain = answer.and_then(|answer| answer.chains.first());
    let addresses = chain
        .and_then(|chain| chain.answer.as_ref())
        .into_iter()
        .flatten();
    AnswerRow {
        client,
        subnet,
        scope: answer.map_or(0, |answer| answer.scope),
        addresses: addresses.map(ToString::to_string).collect(),
    }
}

fn site_table(picture: &Picture, color: bool) -> comfy_table::Table {
    let mut table = table::new(
        &[
            "site",
            "city",
            "endpoint",
            "verdict",
            "service",
            "route to the monitor",
            "cause",
        ],
        color,
    );
    for row in &picture.sites {
        let (route, route_color) = match row.routes.as_slice() {
            [] => ("withdrawn".to_owned(), Color::Red),
            routes => (format!("announced {}", routes.join(" ")), Color::Green),
        };
        table.add_row([
            Cell::new(&row.site),
            Cell::new(&row.city),
            Cell::new(&row.endpoint),
            table::verdict(row.verdict),
            table::service(&row.service),
            Cell::new(route).fg(route_color),
            Cell::new(&row.cause),
        ]);
    }
    table
}

fn answer_table(picture: &Picture, color: bool) -> comfy_table::Table {
    let mut table = table::new(&["client", "subnet", "answer", "from", "scope"], color);
    for row in &picture.answers {
        let from = row.addresses.iter().map(|address| {
            let site = picture.sites.iter().find(|site| site.endpoint == *address);
            site.map_or("?", |site| site.city.as_str())
        });
        table.add_row([
            Cell::new(row.client),
            Cell::new(row.subnet),
            Cell::new(row.addresses.join(" ")),
            Cell::new(from.collect::<Vec<_>>().join(" ")).fg(Color::Cyan),
            Cell::new(format!("/{}", row.scope)),
        ]);
    }
    table
}

/// One change in one line.
fn line_of(picture: &Picture) -> String {
    let sites = picture.sites.iter().map(|row| {
        let route = if row.routes.is_empty() {
            "withdrawn"
        } else {
            "announced"
        };
        format!("{} {} {route}", row.site, row.verdict.as_str())
    });
    let answers = picture
        .answers
        .iter()
        .map(|row| format!("{} -> {}", row.client, row.addresses.join(" ")));
    let (sites, answers) = (
        sites.collect::<Vec<_>>().join(", "),
        answers.collect::<Vec<_>>().join(", "),
    );
    format!("snapshot {}: {sites}; {answers}", picture.snapshot)
}
