//! Many seeds of the simulated calls and keys, on all cores: `cargo xtask sim --rpc`.

#![expect(
    clippy::unwrap_used,
    reason = "the world of the test, where a fault is a panic"
)]

#[path = "../tests/sim/world/mod.rs"]
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Tally, World};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    let number = |flag: &str| {
        let at = args.iter().position(|arg| arg == flag)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = number("--seed") {
        return report(seed, World::with_seed(seed).run());
    }
    let (first, seeds) = (number("--from").unwrap_or(0), number("--seeds").unwrap_or(100));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let (tally, broken) = run_all(first, seeds, number("--jobs").unwrap_or(cores));
    match broken {
        None => {
            println!("{seeds} seeds: {tally}: 0 lost, 0 double");
            ExitCode::SUCCESS
        }
        Some((seed, story)) => {
            let code = report(seed, Err(story));
            println!("once more: cargo xtask sim --rpc --seed {seed}");
            code
        }
    }
}

/// What all came to, and the first that broke a rule.
fn run_all(first: u64, seeds: u64, jobs: u64) -> (Tally, Option<(u64, String)>) {
    let next = AtomicU64::new(first);
    let sum = Mutex::new((Tally::default(), None));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + seeds || sum.lock().unwrap().1.is_some() {
            return;
        }
        match World::with_seed(seed).run() {
            Ok(tally) => sum.lock().unwrap().0.add(tally),
            Err(story) => sum.lock().unwrap().1 = Some((seed, story)),
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap()
}

fn report(seed: u64, outcome: Result<Tally, String>) -> ExitCode {
    match outcome {
        Ok(tally) => {
            println!("seed {seed}: {tally}, digest {:016x}", tally.digest);
            ExitCode::SUCCESS
        }
        Err(story) => {
            println!("{story}");
            ExitCode::FAILURE
        }
    }
}
