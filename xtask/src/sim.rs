//! `cargo xtask sim`: whole fleets under virtual time, and whether the simulation finds faults that are put into the
//! code on purpose.

mod mutations;
mod rpc;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::shell::{cargo, output, run, target, workspace};
use mutations::{MUTATIONS, Mutation};

/// Seeds in which a fault that was put in must be found.
const SEEDS: u64 = 60;

#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// Run this seed alone, and print what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run [default: 100; with a mutation 60].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long)]
    from: Option<u64>,
    /// Simulated minutes of each [default: 10].
    #[arg(long)]
    minutes: Option<u64>,
    /// Sites, where the seed is not to say it.
    #[arg(long)]
    sites: Option<u64>,
    /// Endpoints, where the seed is not to say it.
    #[arg(long)]
    endpoints: Option<u64>,
    /// Seeds at the same time [default: one per core].
    #[arg(long)]
    jobs: Option<u64>,
    /// Go on after a broken rule, and show what else is found.
    #[arg(long)]
    all: bool,
    /// With --seed: only what the run came to.
    #[arg(long)]
    quiet: bool,
    /// Calls and idempotency keys instead of fleets (docs/rpc.md).
    #[arg(long)]
    rpc: bool,
    /// Put this fault into a copy of the code first; `all` tries all of them. The command fails unless it is found.
    #[arg(long)]
    mutation: Option<String>,
}

impl Sim {
    fn args(&self) -> Vec<String> {
        let numbers = [
            ("--seed", self.seed),
            ("--seeds", self.seeds),
            ("--from", self.from),
            ("--minutes", self.minutes),
            ("--sites", self.sites),
            ("--endpoints", self.endpoints),
            ("--jobs", self.jobs),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(flag, value)| Some((flag, value?)));
        let mut args: Vec<_> = numbers
            .flat_map(|(flag, value)| [flag.to_owned(), value.to_string()])
            .collect();
        let flags = [("--all", self.all), ("--quiet", self.quiet)];
        args.extend(
            flags
                .iter()
                .filter(|(_, on)| *on)
                .map(|(flag, _)| (*flag).to_owned()),
        );
        args
    }
}

/// What is simulated.
struct World {
    /// Built by `cargo build --profile sim` with these.
    build: [&'static str; 4],
    /// Where cargo puts it.
    binary: &'static str,
    mutations: &'static [Mutation],
}

const FLEETS: World = World {
    build: ["--package", "steer-tests", "--bin", "sim"],
    binary: "sim/sim",
    mutations: &MUTATIONS,
};

const CALLS: World = World {
    build: ["--package", "steer-rpc", "--example", "sim"],
    binary: "sim/examples/sim",
    mutations: &rpc::MUTATIONS,
};

pub(crate) fn sim(sim: &Sim) -> Result<(), String> {
    let world = if sim.rpc { CALLS } else { FLEETS };
    match sim.mutation.as_deref() {
        None => {
            run(&mut build(&world, &workspace(), &target()))?;
            run(Command::new(target().join(world.binary)).args(sim.args()))
        }
        Some("all") => world
            .mutations
            .iter()
            .try_for_each(|mutation| try_out(&world, mutation, sim)),
        Some(name) => match world.mutations.iter().find(|mutation| mutation.name == name) {
            Some(mutation) => try_out(&world, mutation, sim),
            None => {
                let names: Vec<_> = world.mutations.iter().map(|mutation| mutation.name).collect();
                Err(format!(
                    "no mutation is called {name:?}; there are {}",
                    names.join(", ")
                ))
            }
        },
    }
}

fn build(world: &World, tree: &Path, target: &Path) -> Command {
    let mut command = cargo(&["build", "--profile", "sim"]);
    command.args(world.build);
    command.current_dir(tree).env("CARGO_TARGET_DIR", target);
    command
}

/// Builds the code with a fault in it, and runs seeds until a rule is broken.
fn try_out(world: &World, mutation: &Mutation, sim: &Sim) -> Result<(), String> {
    let tree = copy()?;
    put_in(mutation, &tree)?;
    // A folder of their own: cargo takes two copies of a workspace for one, and would run the wrong code later.
    let built = target().join("mutations-built");
    run(&mut build(world, &tree, &built))?;
    let seeds = sim.seeds.unwrap_or(SEEDS);
    let mut command = Command::new(built.join(world.binary));
    command.args(sim.args());
    if sim.seed.is_none() && sim.seeds.is_none() {
        command.args(["--seeds", &seeds.to_string()]);
    }
    let began = Instant::now();
    let found = command
        .output()
        .map_err(|error| format!("the simulation: {error}"))?;
    let said = String::from_utf8_lossy(&found.stdout);
    let broken = said
        .lines()
        .skip_while(|line| !line.contains("broke a rule after"))
        .take(2);
    let broken: Vec<_> = broken.map(str::trim).collect();
    if found.status.success() || broken.is_empty() {
        return Err(format!(
            "mutation {}: not found in {seeds} seeds\n{said}{}",
            mutation.name,
            String::from_utf8_lossy(&found.stderr)
        ));
    }
    println!(
        "mutation {}: found after {:.0} s: {}",
        mutation.name,
        began.elapsed().as_secs_f64(),
        broken.join(": ")
    );
    Ok(())
}

/// Every file that git knows of, as it stands here; what is the same is left alone, so that it is not built anew.
fn copy() -> Result<PathBuf, String> {
    let tree = target().join("mutations");
    let listed = output(
        Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(workspace()),
    )?;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (workspace().join(name), tree.join(name));
        if !from.is_file() {
            continue; // removed, and git is not told yet
        }
        let wrong = |error: std::io::Error| format!("{}: {error}", to.display());
        let octets = fs::read(&from).map_err(wrong)?;
        if fs::read(&to).is_ok_and(|there| there == octets) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        fs::write(&to, octets).map_err(wrong)?;
    }
    Ok(tree)
}

fn put_in(mutation: &Mutation, tree: &Path) -> Result<(), String> {
    let path = tree.join(mutation.file);
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(wrong)?;
    let places = text.matches(mutation.from).count();
    if places != 1 {
        return Err(format!(
            "mutation {}: {} has its text {places} times, and once is wanted; write it anew in xtask/src/sim/mutations.rs",
            mutation.name, mutation.file
        ));
    }
    fs::write(&path, text.replace(mutation.from, mutation.to)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_still_has_its_place_in_the_code() {
        for mutation in FLEETS.mutations.iter().chain(CALLS.mutations) {
            let text = fs::read_to_string(workspace().join(mutation.file)).unwrap();
            assert_eq!(text.matches(mutation.from).count(), 1, "{}", mutation.name);
            assert_ne!(mutation.from, mutation.to, "{}", mutation.name);
        }
    }
}
