//! The simulation as a command; `cargo xtask sim` builds and calls it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use steer_tests::sim::{Failed, Report, Run, Size};

/// Run whole fleets under virtual time, and look for a broken rule.
#[derive(Debug, Parser)]
struct Args {
    /// Run this seed alone, and print what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Simulated minutes of each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Sites, where the seed is not to say it.
    #[arg(long)]
    sites: Option<usize>,
    /// Endpoints, where the seed is not to say it.
    #[arg(long)]
    endpoints: Option<usize>,
    /// Seeds at the same time.
    #[arg(long)]
    jobs: Option<usize>,
    /// Go on after a broken rule, and show what else is found.
    #[arg(long)]
    all: bool,
    /// With `--seed`: only what the run came to.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one(&args, seed),
        None => many(&args),
    }
}

impl Args {
    fn run(&self, seed: u64, aloud: bool) -> Run {
        Run {
            seed,
            time: Duration::from_secs(60 * self.minutes),
            size: Size {
                sites: self.sites,
                endpoints: self.endpoints,
            },
            aloud,
        }
    }
}

fn one(args: &Args, seed: u64) -> ExitCode {
    let began = Instant::now();
    match args.run(seed, !args.quiet).run() {
        Ok(report) => {
            let (sites, endpoints) = report.size;
            println!(
                "seed {seed}: {sites} sites, {endpoints} endpoints, no rule broken; digest {:016x}; {:.1} s\n{:#?}",
                report.digest,
                began.elapsed().as_secs_f64(),
                report.counts
            );
            ExitCode::SUCCESS
        }
        Err(failed) => {
            println!("{failed}");
            println!("digest {:016x}", failed.digest);
            ExitCode::FAILURE
        }
    }
}

/// What all runs came to together.
#[derive(Default)]
struct Totals {
    runs: u64,
    sites: Vec<usize>,
    endpoints: usize,
    events: u64,
    probes: u64,
    datagrams: u64,
    snapshots: u64,
    back: u64,
    faults: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<&'static str, u64>,
    agreed: Vec<Duration>,
    failed: Vec<Failed>,
    slowest: (Duration, u64),
}

impl Totals {
    fn add(&mut self, report: Report, took: Duration) {
        let counts = report.counts;
        self.runs += 1;
        self.sites.push(report.size.0);
        self.endpoints = self.endpoints.max(report.size.1);
        self.events += counts.events;
        self.probes += counts.probes;
        self.datagrams += counts.datagrams;
        self.snapshots += counts.snapshots;
        self.back += counts.back;
        for (kind, count) in counts.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (cause, count) in counts.dropped {
            *self.dropped.entry(cause).or_default() += count;
        }
        self.agreed.extend(counts.agreed_in);
        self.slowest = self.slowest.max((took, report.seed));
    }

    fn print(&mut self, took: Duration) {
        self.sites.sort_unstable();
        self.agreed.sort_unstable();
        let at = |list: &[Duration], of: usize| {
            list.get(list.len().saturating_sub(1) * of / 100)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{} runs in {:.0} s: {} broke a rule\n{} events, {} probes, {} datagrams, {} snapshots; up to {} sites and {} endpoints",
            self.runs + self.failed.len() as u64,
            took.as_secs_f64(),
            self.failed.len(),
            self.events,
            self.probes,
            self.datagrams,
            self.snapshots,
            self.sites.last().copied().unwrap_or_default(),
            self.endpoints
        );
        println!(
            "{} times a site came back as it had gone out together with the others",
            self.back
        );
        println!("faults: {:?}\ngossip refused: {:?}", self.faults, self.dropped);
        println!(
            "{} times all sites agreed after the last fault: within {:?} (median), {:?} (99 %), {:?} (all)",
            self.agreed.len(),
            at(&self.agreed, 50),
            at(&self.agreed, 99),
            at(&self.agreed, 100)
        );
        println!(
            "slowest: seed {} with {:.1} s",
            self.slowest.1,
            self.slowest.0.as_secs_f64()
        );
    }
}

fn many(args: &Args) -> ExitCode {
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let (next, stop, totals) = (
        AtomicU64::new(args.from),
        AtomicBool::new(false),
        Mutex::new(Totals::default()),
    );
    let end = args.from.saturating_add(args.seeds);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let started = Instant::now();
                    let result = args.run(seed, false).run();
                    let mut totals = totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match result {
                        Ok(report) => totals.add(report, started.elapsed()),
                        Err(failed) => {
                            if args.all {
                                println!(
                                    "seed {}: {:.1} s: {}",
                                    seed,
                                    failed.at.as_secs_f64(),
                                    failed.broken
                                );
                            } else {
                                stop.store(true, Ordering::Relaxed);
                            }
                            totals.failed.push(*failed);
                        }
                    }
                }
            });
        }
    });
    let mut totals = totals
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(failed) = totals.failed.first().filter(|_| !args.all) {
        println!("{failed}");
    }
    totals.print(began.elapsed());
    if totals.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
