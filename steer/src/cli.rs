//! The command line. Shapes only; each command lives in its own module.

mod notify;
mod shop;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use steer_labs::Runtime;
use steer_topology::{Name, Prefix};

pub(crate) use notify::NotifyCommand;
pub(crate) use shop::{ShopCommand, ShopLoadArgs, ShopServeArgs, ShopVerdictArgs};
pub(crate) use watch::{DumpArgs, MonitorArgs};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Exit codes:
  0  done, or stopped in good order
  1  a failure at run time (port in use, no answer from the admin address, refused by the guard, ...)
  2  a fault in the configuration or on the command line (no such site, a time without unit, ...)

Start here:
  steer quickstart                       a whole fleet on this machine, no privileges needed
  steer check --config steer.toml        every fault in a configuration, with line and remedy
  steer run --config steer.toml --site fra";

/// Global traffic steering: geo-DNS and BGP anycast under one health verdict.
#[derive(Debug, Parser)]
#[command(name = "steer", version, about, after_help = AFTER_HELP, styles = STYLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one site of the fleet: probe, answer DNS, announce prefixes.
    Run(RunArgs),
    /// Run the RPC edge: a proxy for gRPC and HTTP/2 that sends again what may be. SIGTERM drains it.
    Edge(EdgeArgs),
    /// Check a configuration and its files, offline. Prints every fault with its line and remedy.
    Check(CheckArgs),
    /// Try everything on this machine: three endpoints, DNS, a BGP speaker per site and a route monitor.
    Quickstart(QuickstartArgs),
    /// Show what a running steer believes and does.
    Status(StatusArgs),
    /// Show why a client gets the answer it gets.
    Explain(ExplainArgs),
    /// Compare where a list of queries goes before and after a change of the configuration.
    Simulate(SimulateArgs),
    /// Send no new clients to a site or an endpoint, and withdraw its routes. Needs no restart.
    Drain(DrainArgs),
    /// End a drain: take a site or an endpoint back into service.
    Undrain(UndrainArgs),
    /// Force an endpoint, or all of a site, up: it serves, whatever its checks say.
    ForceUp(DrainArgs),
    /// Force an endpoint, or all of a site, down: it is out of service at once, whatever its checks say.
    ForceDown(DrainArgs),
    /// End a forced verdict: what the checks say counts again.
    Unforce(UndrainArgs),
    /// Tell what a site gets now, for the filter `overflow`. It counts for a while; tell it again before that is over.
    Load(LoadArgs),
    /// Read the configuration and the zones of a running steer again, without a lost query. SIGHUP does the same.
    Reload(ReloadArgs),
    /// Show who is told what happens (`[[notify]]`), test a channel, and send again what was not taken.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Listen to routes and print them as they come and go; follow how our own changes spread.
    Monitor(MonitorArgs),
    /// Record all that a running steer sends to its peers and hears from them, as MRT.
    Dump(DumpArgs),
    /// Announce a prefix for a while: take a lease on it, or another term. It ends by itself unless renewed.
    Announce(AnnounceArgs),
    /// Withdraw a prefix that was announced by a lease.
    Withdraw(WithdrawArgs),
    /// Forget the flaps of a prefix or the falls of an endpoint, so that nothing delays its return.
    ClearFlaps(ClearFlapsArgs),
    /// Rehearse failover in network namespaces (needs root).
    Lab(LabArgs),
    /// A small HTTP endpoint that answers 200 with its name. Used by quickstart and labs.
    #[command(hide = true)]
    Endpoint(EndpointArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The configuration of the whole fleet.
    #[arg(long, short, value_name = "FILE", default_value = "steer.toml")]
    pub(crate) config: PathBuf,
    /// The site this process runs as. Needed where the configuration declares sites.
    #[arg(long, short, value_name = "IATA")]
    pub(crate) site: Option<String>,
    /// Reload when the configuration, a zone file or a geography file changes.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// Where it listens, its pools of backends, and what holds for methods.
    #[arg(long, short, value_name = "FILE", default_value = "edge.toml")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// How log lines look. They go to stderr.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,steer_anycast=debug`.
    #[arg(long, value_name = "FILTER", env = "STEER_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line per event, for people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration to check.
    #[arg(long, short, value_name = "FILE", default_value = "steer.toml")]
    pub(crate) config: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The admin address of the running steer (`[admin] listen`).
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8053")]
    pub(crate) admin: SocketAddr,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct StatusArgs {
    #[command(subcommand)]
    pub(crate) part: Option<StatusPart>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Show it again on each change, until interrupted.
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Print the status document as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StatusPart {
    /// Each prefix: wanted, announced, acknowledged by each session, since when, by which snapshot, drain step,
    /// flap figure, lease.
    Routes(RoutesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print the routes as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    /// As in the `[[anycast]]` of the configuration.
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: Prefix,
    /// Which site, where the running steer is several (quickstart).
    #[arg(long, value_name = "IATA")]
    site: Option<String>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print what came of it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl RouteArgs {
    /// `more`, and the site where one is named.
    pub(crate) fn query<const N: usize>(
        &self,
        more: [(&'static str, String); N],
    ) -> Vec<(&'static str, String)> {
        let site = self.site.clone().map(|site| ("site", site));
        more.into_iter().chain(site).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct AnnounceArgs {
    #[command(flatten)]
    pub(crate) route: RouteArgs,
    /// How long, such as 30s. Run it again before that: the new term begins then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) lease: String,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    #[command(flatten)]
    pub(crate) route: RouteArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ClearFlapsArgs {
    /// A prefix of `[[anycast]]`, or an endpoint: ADDRESS:PORT, POOL/ADDRESS:PORT@SITE or POOL@SITE.
    #[arg(value_name = "PREFIX|ENDPOINT")]
    pub(crate) target: String,
    /// Which site, where the running steer is several (quickstart).
    #[arg(long, value_name = "IATA")]
    pub(crate) site: Option<String>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print what came of it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OwnerArgs {
    /// Whose lease: nobody else can renew or withdraw it. Default: your user name on this machine.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

impl OwnerArgs {
    /// As given, or the user who runs this.
    pub(crate) fn name(&self) -> String {
        self.owner.clone().unwrap_or_else(user_name)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The client's address.
    #[arg(long, short, value_name = "ADDRESS")]
    pub(crate) client: IpAddr,
    /// The name it asks for.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) name: Name,
    /// Explain offline from this configuration, with every verdict unknown, instead of asking a running steer.
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print the explanation as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Let the file take this prefix or steered name from more sites than the guard lets go. May be given several times.
    #[arg(long, value_name = "PREFIX|NAME")]
    pub(crate) allow_withdraw: Vec<String>,
    /// Take the file now, whatever the other sites try: without the stages of `[fleet] gossip` `staged`.
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print what came of it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// A file of lines CLIENT NAME [TYPE] [COUNT]; what follows a # is no query.
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: PathBuf,
    /// The configuration as it is.
    #[arg(long, value_name = "FILE", default_value = "steer.toml")]
    pub(crate) before: PathBuf,
    /// The configuration as it would be. In both every verdict is unknown, so everything counts as serving.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print the shares as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// A site, or an endpoint as ADDRESS:PORT, POOL/ADDRESS:PORT@SITE or POOL@SITE.
    #[arg(value_name = "SITE|ENDPOINT")]
    pub(crate) target: String,
    /// It ends by itself after this time, such as 30m or 2h. Without it: when somebody ends it.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) time: Option<String>,
    /// Why, for those who see it in status, logs and explanations.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Do it although the guard forbids it: the last site of a pool, too many at once, too little capacity left.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) author: AuthorArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print what came of it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UndrainArgs {
    /// What was drained or forced, by the name that `steer status` shows or a shorter one.
    #[arg(value_name = "SITE|ENDPOINT")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) author: AuthorArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print what came of it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The site.
    #[arg(value_name = "SITE")]
    pub(crate) site: String,
    /// Requests per second that it gets.
    #[arg(value_name = "N", required_unless_present = "clear", conflicts_with = "clear")]
    pub(crate) per_second: Option<u64>,
    /// Take the last figure back: what the configuration says counts again.
    #[arg(long)]
    pub(crate) clear: bool,
    /// How long it counts, at most a day.
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    pub(crate) time: String,
    #[command(flatten)]
    pub(crate) author: AuthorArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuthorArgs {
    /// Who wishes it, for the log. Default: your user name on this machine.
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

impl AuthorArgs {
    /// As given, or the user who runs this.
    pub(crate) fn name(&self) -> String {
        self.author.clone().unwrap_or_else(user_name)
    }
}

/// The user who runs this, or who became root for it.
fn user_name() -> String {
    let uid = nix::unistd::getuid();
    let asked = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
    let known = || nix::unistd::User::from_uid(uid).ok().flatten();
    let name = asked.or_else(|| known().map(|user| user.name));
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// A time goes to the server as it was written, once it is known to be one.
fn time(text: &str) -> Result<String, String> {
    match steer_topology::parse_duration(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write a number and a unit out of ms, s, m, h and d, for example 30m or 2h".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let pair = pair.map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "write KEY=VALUE, for example per_second=100".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// DNS, UDP and TCP.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    pub(crate) dns: SocketAddr,
    /// Status, explanations and metrics over HTTP.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8053")]
    pub(crate) admin: SocketAddr,
    /// The route monitor that the speakers peer with.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1790")]
    pub(crate) monitor: SocketAddr,
    /// The first of three ports for the local endpoints.
    #[arg(long, value_name = "PORT", default_value_t = 8101)]
    pub(crate) endpoints: u16,
    /// Print one JSON object per change instead of the live view.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Run a lab and print its table.
    Run(LabRunArgs),
    /// Make the page of a kept run anew: report.html beside its result.json.
    Report {
        /// A result.json or its folder.
        #[arg(value_name = "DIR")]
        result: PathBuf,
    },
    /// Write a twin of a fleet as a lab: its sites, peers, upstream networks, clients per region, and the delays between.
    Export {
        /// The configuration of the fleet.
        #[arg(long, short, value_name = "FILE", default_value = "steer.toml")]
        config: PathBuf,
        /// The folder of the lab; it must be empty or not there yet.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The services behind the edge of the lab `rpc-edge`, their clients, and the verdict on the charges.
    #[command(subcommand, hide = true)]
    Shop(ShopCommand),
    /// Put two kept runs side by side.
    Compare {
        /// A result.json or its folder.
        a: PathBuf,
        /// Another.
        b: PathBuf,
        /// Print the comparison as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LabRunArgs {
    /// A shipped lab's name, or a folder with a topology and a scenario.
    #[arg(value_name = "LAB")]
    pub(crate) name: String,
    /// How often each fault is repeated. Without it, as often as the lab says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: Option<u32>,
    /// Run only these methods or variants of the lab, separated by commas.
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Another value for what the lab sets, such as `per_second=100`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// Keep result, page, logs and captures in this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where the nodes live: `netns` (built in) or `containerlab` (that program with Docker).
    #[arg(long, value_name = "RUNTIME", default_value_t)]
    pub(crate) runtime: Runtime,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// What to answer.
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: String,
    /// Answer the datagrams of `steer lab`'s clients here too, each by one as long. Not 0.0.0.0: the answer would come from
    /// another address than the one that was asked.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) udp: Option<SocketAddr>,
    /// End when standard input closes, that is, with the process that started us.
    #[arg(long)]
    pub(crate) with_stdin: bool,
    /// Misbehave as this file says, which is read again and again: `well`, `500`, `slow 300ms`, `refuse`, `reset` or
    /// `half-open`. Without the file, well. For rehearsals.
    #[arg(long, value_name = "FILE")]
    pub(crate) behave: Option<PathBuf>,
}
