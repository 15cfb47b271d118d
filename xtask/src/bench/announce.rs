//! From the verdict to the UPDATE at the peer: steer, ExaBGP, GoBGP, BIRD and FRR with 1,000 prefixes and 20 peers
//! each, in turns, in one run.
//!
//! ```text
//! steer  ◄─ a health check fails ─ endpoint   │ start: `at` in the log line "verdict changed"
//! others ◄─ a command by their fastest way    │ start: the moment before it is written
//!   └─► 20 UPDATEs ─► 20 peers (receiver)     │ end: when the kernel of the peer's socket had the segment
//! ```
//!
//! All are in a network namespace of the bench's own; one prefix is withdrawn and announced again and again.

pub(super) mod speakers;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::daemon::{fresh_folder, own_network, quantile};
use super::probes;
use super::receiver::{Nanos, Net, Receiver};
use super::target::Target;
use crate::packages;
use crate::shell::release_steer;
use speakers::Speaker;

/// Prefixes of each speaker, the one that toggles included.
pub(super) const PREFIXES: usize = 1_000;
const PEERS: u8 = 20;
/// Turns of each speaker; they alternate, so that a noisy moment hits all of them.
const ROUNDS: usize = 5;
/// Changes per turn: half of them withdrawals.
const CHANGES: usize = 40;
/// Of the slow ones, which need a process per change.
const FEWER: usize = 10;
/// Until the next change; all UPDATEs are there by then.
const PAUSE: Duration = Duration::from_millis(5);
/// A change that is not there by then is a failure of the bench.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the project promises for steer.
const MEDIAN_BOUND_US: f64 = 150.0;
const P99_BOUND_US: f64 = 2_000.0;

/// The prefix that toggles.
const TOGGLED: &str = "192.0.2.0/24";
pub(super) const TOGGLED_NET: Net = (0xc000_0200, 24);

/// The figures of one speaker.
struct Figures {
    /// Microseconds from the start to each peer.
    each: Vec<f64>,
    /// To the last peer of each change.
    last: Vec<f64>,
    cpu: Duration,
    changes: u32,
}

/// Which speakers take part.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Only this one beside steer, by the name in the table; may be given several times.
    #[arg(long)]
    beside: Vec<String>,
    /// So many endpoints more, which steer checks over HTTP once a second all the while.
    #[arg(long, value_name = "N", default_value_t = 0)]
    checked: u32,
}

/// Where those are; their server is one for all.
const CHECKED_PORT: u16 = 8081;

pub(crate) fn bench(plan: &Plan) -> Result<(), String> {
    packages::ensure();
    let steer = release_steer()?;
    let folder = fresh_folder("bench-announce")?;
    own_network(&["10.9.0.0/16"])?;
    let peers: Vec<Ipv4Addr> = (1..=PEERS).map(|peer| Ipv4Addr::new(10, 9, 1, peer)).collect();
    let mut receiver = Receiver::bind(&peers)?;
    let mut tables = String::new();
    let mut target = None;
    if plan.checked > 0 {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CHECKED_PORT));
        target = Some(Target::start(address, 1)?);
        tables = probes::endpoints("kind = \"http\"", plan.checked, CHECKED_PORT);
    }
    let mut speakers = speakers::all(&folder, &peers, &steer, &tables)?;
    if !plan.beside.is_empty() {
        speakers.retain(|speaker| {
            speaker.name() == "steer" || plan.beside.iter().any(|name| name == speaker.name())
        });
    }
    for speaker in &mut speakers {
        eprintln!("{}: {}", speaker.name(), speaker.version());
        speaker.start()?;
        receiver.await_routes(speaker.address(), PREFIXES, Duration::from_secs(90))?;
    }
    let mut figures: Vec<Figures> = speakers.iter().map(|_| Figures::new()).collect();
    for round in 1..=ROUNDS {
        for (speaker, figures) in speakers.iter_mut().zip(&mut figures) {
            let before = figures.each.len();
            turn(speaker.as_mut(), &mut receiver, figures)?;
            let median = quantile(&mut figures.each[before..].to_vec(), 0.5);
            eprintln!("round {round}/{ROUNDS} {:14} {median:9.0} us", speaker.name());
        }
    }
    if let Some(target) = target {
        println!("{} HTTP checks were answered meanwhile", target.answered());
    }
    print(&speakers, &mut figures)
}

impl Figures {
    fn new() -> Self {
        Self {
            each: Vec::new(),
            last: Vec::new(),
            cpu: Duration::ZERO,
            changes: 0,
        }
    }
}

fn turn(speaker: &mut dyn Speaker, receiver: &mut Receiver, figures: &mut Figures) -> Result<(), String> {
    let changes = if speaker.is_slow() { FEWER } else { CHANGES };
    let cpu = speaker.cpu();
    for change in 0..changes {
        let announce = change % 2 == 1;
        receiver.forget();
        let start = speaker.set(announce)?;
        let arrivals = receiver.expect(speaker.address(), TOGGLED_NET, announce, PATIENCE)?;
        let times = arrivals.iter().map(|at| micros(start, *at));
        figures.each.extend(times.clone());
        figures.last.push(times.fold(0.0, f64::max));
        figures.changes += 1;
        receiver.pump(PAUSE)?;
        std::thread::sleep(PAUSE);
    }
    figures.cpu += speaker.cpu().saturating_sub(cpu);
    Ok(())
}

pub(super) fn micros(start: Nanos, end: Nanos) -> f64 {
    // A peer that heard before the start would be a fault of the measurement; it must be seen.
    (end as f64 - start as f64) / 1_000.0
}

fn print(speakers: &[Box<dyn Speaker>], figures: &mut [Figures]) -> Result<(), String> {
    println!(
        "\n{:14} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>12}  version",
        "us", "min", "median", "p99", "max", "last peer", "ratio", "CPU/change"
    );
    let own = figures
        .first_mut()
        .map_or(f64::NAN, |figures| quantile(&mut figures.each, 0.5));
    let mut bounds = Ok(());
    for (speaker, figures) in speakers.iter().zip(figures) {
        let mut at = |share| quantile(&mut figures.each, share);
        let (min, median, p99, max) = (at(0.0), at(0.5), at(0.99), at(1.0));
        let last = quantile(&mut figures.last, 0.5);
        let cpu = figures.cpu.as_secs_f64() * 1e6 / f64::from(figures.changes.max(1));
        println!(
            "{:14} {min:8.0} {median:8.0} {p99:8.0} {max:9.0} {last:9.0} {:9.1} {cpu:12.0}  {}",
            speaker.name(),
            median / own,
            speaker.version()
        );
        if speaker.name() == "steer" && (median > MEDIAN_BOUND_US || p99 > P99_BOUND_US) {
            bounds = Err(format!(
                "steer: median {median:.0} us and p99 {p99:.0} us, wanted at most {MEDIAN_BOUND_US} and {P99_BOUND_US}"
            ));
        }
    }
    println!(
        "{PREFIXES} prefixes, {PEERS} peers, {ROUNDS} alternating turns of {CHANGES} changes ({FEWER} with a process \
         per change); last peer: median over changes of the slowest of {PEERS}; ratio: its median divided by steer's; \
         CPU: of the daemon while it was its turn, with what else it does (steer: two health checks every 10 ms)"
    );
    bounds
}
