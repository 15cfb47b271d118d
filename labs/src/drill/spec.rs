//! `scenario.toml` of a drill: stages, what breaks in each and when, clients, and what is measured for each method.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde::Deserialize;
use steer_topology::fault::{Fault, Faults, Place};

use super::faults::Break;
use super::line::Over;
use crate::LabError;
use crate::scenario::Process;

/// A checked drill.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// One line for the head of the report.
    pub summary: String,
    /// Settings worth printing with the numbers: name and value.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
    /// How often the faults are repeated when nobody says.
    #[serde(default = "three")]
    pub repeat: u32,
    /// `[load]`: how the clients ask, unless their method says otherwise.
    #[serde(default)]
    pub load: Load,
    /// `[[prefix]]`: what is watched in the routers.
    #[serde(default, rename = "prefix")]
    pub prefixes: Vec<Watched>,
    /// `[[wan]]`: links that are long lines.
    #[serde(default)]
    pub wan: Vec<crate::link::Wan>,
    /// `[[process]]`: started in this order.
    #[serde(rename = "process")]
    pub processes: Vec<Process>,
    /// `[[client]]`
    #[serde(default, rename = "client")]
    pub clients: Vec<Client>,
    /// `[[stage]]`: one after the other, each from a fresh start of every process.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// `[[method]]`: those of one stage meet the same fault at the same time.
    #[serde(default, rename = "method")]
    pub methods: Vec<Method>,
    /// `[[bound]]`
    #[serde(default, rename = "bound")]
    pub bounds: Vec<Bound>,
}

/// The open loop of each client: a request is due every `every_ms` whatever became of those before.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Time between two requests of one client, each on a connection of its own.
    pub every_ms: u32,
    /// A request without its whole answer by then has failed.
    pub timeout_ms: u32,
    /// A request that was answered later than this was hit: its client was not yet served for good.
    pub late_ms: u32,
}

/// A prefix and where its routes are watched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// What methods call it.
    pub name: String,
    /// IPv4 in canonical form.
    pub prefix: String,
    /// In these nodes UPDATEs are captured and the kernel's routes are followed.
    pub routers: Vec<String>,
    /// The BGP peers whose UPDATEs are the act that is timed.
    pub from: Vec<Ipv4Addr>,
}

/// Somebody who asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// In reports, and for `{client}` in names.
    pub name: String,
    /// Where it runs.
    pub node: String,
    /// Resolvers by the word that methods use.
    #[serde(default)]
    pub resolvers: BTreeMap<String, SocketAddr>,
    /// Text that the replies carry before the fault.
    pub home: String,
    /// And after it; any of these.
    pub away: Vec<String>,
}

/// A fresh start, a fault, and what is waited for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// In logs and messages.
    pub name: String,
    /// Processes with the same word run, beside those without one.
    #[serde(default)]
    pub announcer: String,
    /// `@key@` in the lab's files stands for the value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Must hold before the fault.
    #[serde(default)]
    pub ready: Vec<Ready>,
    /// Every client must be served by its home for so long before the fault. Without clients the fault waits so long.
    pub stable_ms: u32,
    /// Then the fault waits up to this long, each repetition at another point.
    #[serde(default)]
    pub spread_ms: u32,
    /// Longest wait for convergence.
    pub converge_ms: u32,
    /// The clients are watched for so long after the last step at least.
    pub watch_ms: u32,
    /// And at most, while some are not served for good.
    pub limit_ms: u32,
    /// What happens, by the time after the fault.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// Log lines that are moments of the chain.
    #[serde(default, rename = "mark")]
    pub marks: Vec<Mark>,
    /// Who has the last word.
    pub verdict: Option<Verdict>,
}

/// A program that judges a stage, where clients are programs of the lab's own. `{run}/steps.jsonl` tells it what happened
/// when.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Node and process of those that are told to end before it (SIGTERM), and must end in good order.
    #[serde(default)]
    pub after: Vec<(String, String)>,
    /// How long each of them may take to end.
    #[serde(default = "half_a_minute")]
    pub limit_ms: u32,
    /// Where it runs.
    pub node: String,
    /// Program and arguments, as of a process. What it says is the end of the report, and the stage has failed when its exit
    /// code is not 0.
    pub run: Vec<String>,
}

fn half_a_minute() -> u32 {
    30_000
}

/// A command that must say something before the fault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Where.
    pub node: String,
    /// Program and arguments, as of a process.
    pub run: Vec<String>,
    /// A regular expression that its output must match.
    pub says: String,
}

/// Something that is done to the lab.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// After the fault; the first one is the fault, at 0.
    #[serde(default)]
    pub at_ms: u32,
    /// What breaks, in this order.
    #[serde(default, rename = "break")]
    pub breaks: Vec<Break>,
    /// What is taken back: everything that was broken so far.
    #[serde(default)]
    pub heal: bool,
}

/// Log lines that mean something.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// `detected`: the first of them counts. `decided`: the last of the processes that say it.
    pub phase: MarkPhase,
    /// Node and process.
    pub processes: Vec<(String, String)>,
    /// A regular expression; the line begins with a time, or is JSON with `at` or `timestamp`.
    pub line: String,
    /// Only for these methods; for all of the stage when absent.
    pub methods: Option<Vec<String>>,
}

/// Which moment a log line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkPhase {
    /// Somebody knows.
    Detected,
    /// All that have to act know what to do.
    Decided,
}

/// One way to bring clients back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Key in the report.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// Whose fault it meets.
    pub stage: String,
    /// Clients connect to this address.
    pub connect: Option<SocketAddr>,
    /// Or ask for this name first, `{client}` filled in, and keep the answer for its TTL.
    pub resolve: Option<String>,
    /// Of whom, by the word in `resolvers`.
    #[serde(default)]
    pub resolver: String,
    /// The client keeps the first answer for as long as it runs, as many programs do.
    #[serde(default)]
    pub pin: bool,
    /// What its requests go over.
    #[serde(default)]
    pub over: Over,
    /// Port of the service behind the answer.
    #[serde(default = "http")]
    pub port: u16,
    /// The TTL as clients see it at most: they begin to ask spread over it, so that the fault meets all of its phases.
    #[serde(default)]
    pub ttl_s: u32,
    /// Only these clients; all when absent.
    pub clients: Option<Vec<String>>,
    /// The name of a `[[prefix]]`.
    pub prefix: Option<String>,
    /// A name server that is asked directly, to see when its answer changes.
    pub server: Option<SocketAddr>,
    /// Instead of that of the clients.
    pub away: Option<Vec<String>>,
    /// Where clients must be in the end.
    #[serde(default)]
    pub ends: Ends,
    /// Instead of that of `[load]`.
    pub every_ms: Option<u32>,
}

fn three() -> u32 {
    3
}

fn http() -> u16 {
    80
}

/// Where a method's clients must be served in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ends {
    /// By a site of `away`.
    #[default]
    Away,
    /// By `home`: nothing may have moved, or it came back.
    Home,
    /// By any of them.
    Any,
    /// Nothing is asked for; what happens is counted.
    Nowhere,
}

/// What must hold over all repetitions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Key of the method.
    pub method: String,
    /// `outage`, `failed`, `wrong_site`, or a phase.
    pub what: String,
    /// Largest value.
    pub most: Option<f64>,
    /// Of each repetition, the most may be exceeded by this phase of the same repetition.
    pub plus: Option<String>,
    /// The median must be below the median of each of these methods.
    #[serde(default)]
    pub below: Vec<String>,
    /// With `below`: the median may be this many times the other's instead.
    pub times: Option<f64>,
}

impl Drill {
    /// Whether what breaks means something with the values of its stage.
    pub(crate) fn is_plain(&self) -> Result<(), LabError> {
        let of_stage = |stage: &Stage| {
            let mut breaks = stage.steps.iter().flat_map(|step| &step.breaks);
            breaks.try_for_each(|broken| broken.is_plain(&stage.set))
        };
        self.stages.iter().try_for_each(of_stage)
    }

    /// Whether a scenario is a drill: it has stages.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.lines().any(|line| line.trim_end() == "[[stage]]")
    }

    /// Reads `text`; the error names file, line and what would be right.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Faults> {
        toml::from_str(text).map_err(|error| {
            let remedy = "see docs/labs.md and the scenarios of the shipped labs";
            let message = error.message().to_owned();
            let fault = match error.span() {
                Some(span) => Fault::at(file, Place::of(text, span), message, remedy),
                None => Fault::of_file(file, message, remedy),
            };
            Faults::from(fault)
        })
    }

    /// The clients of a method.
    pub(crate) fn clients_of<'a>(&'a self, method: &'a Method) -> impl Iterator<Item = &'a Client> {
        let wanted = method.clients.as_ref();
        self.clients
            .iter()
            .filter(move |client| wanted.is_none_or(|names| names.contains(&client.name)))
    }

    pub(crate) fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    pub(crate) fn prefix(&self, name: &str) -> Option<&Watched> {
        self.prefixes.iter().find(|prefix| prefix.name == name)
    }
}

impl Watched {
    /// Address and length.
    pub(crate) fn parts(&self) -> Option<(IpAddr, u8)> {
        let (address, length) = self.prefix.split_once('/')?;
        Some((address.parse().ok()?, length.parse().ok()?))
    }
}
