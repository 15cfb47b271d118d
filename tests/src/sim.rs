//! The whole fleet in one thread, under virtual time, from one seed: `cargo xtask sim`.
//!
//! Every site runs the product's own machines ([`process`]): checks and detectors, gossip, agreement, judge, guard and
//! drains, decision tables, announcer and reconciler. The world around them is drawn ([`draw`], [`network`], [`faults`]),
//! and at every step rules are checked that are written down a second time ([`watch`]). What is simulated and what is
//! not: `docs/simulation.md`.

pub mod draw;
mod faults;
pub mod network;
pub mod process;
pub mod sessions;
pub mod trace;
pub mod watch;
mod world;

use std::fmt;
use std::time::Duration;

pub use draw::Size;
pub use watch::{Broken, Rule};
pub use world::{AGREE_WITHIN, Counts, World};

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What all is drawn from.
    pub seed: u64,
    /// Simulated time.
    pub time: Duration,
    /// How large the fleet shall be, where the seed is not to say it.
    pub size: Size,
    /// Prints every event.
    pub aloud: bool,
}

/// A run that broke no rule.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Sites and endpoints.
    pub size: (usize, usize),
    /// Of all events.
    pub digest: u64,
    /// What was done.
    pub counts: Counts,
}

/// A run that broke one.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What was run.
    pub run: Run,
    /// Sites and endpoints.
    pub size: (usize, usize),
    /// When.
    pub at: Duration,
    /// What.
    pub broken: Broken,
    /// The last events.
    pub trace: Vec<String>,
    /// Of all events.
    pub digest: u64,
}

impl Run {
    /// Ten minutes of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            time: Duration::from_mins(10),
            size: Size::default(),
            aloud: false,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// A rule was broken.
    pub fn run(self) -> Result<Report, Box<Failed>> {
        let failed = |broken, world: Option<&World>| {
            Box::new(Failed {
                run: self,
                size: world.map_or((0, 0), World::size),
                at: world.map_or(Duration::ZERO, World::now),
                broken,
                trace: world.map_or_else(Vec::new, |world| world.trace.last()),
                digest: world.map_or(0, |world| world.trace.digest()),
            })
        };
        let mut world = World::new(self.seed, self.size, self.aloud)
            .map_err(|error| failed(Rule::Names.broken(format!("no fleet: {error}")), None))?;
        match world.run(self.time) {
            Ok(()) => Ok(Report {
                seed: self.seed,
                size: world.size(),
                digest: world.trace.digest(),
                counts: world.counts,
            }),
            Err(broken) => Err(failed(broken, Some(&world))),
        }
    }

    /// The command that runs it again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("cargo xtask sim --seed {}", self.seed);
        if self.time != Duration::from_mins(10) {
            command += &format!(" --minutes {}", self.time.as_secs().div_ceil(60));
        }
        if let Some(sites) = self.size.sites {
            command += &format!(" --sites {sites}");
        }
        if let Some(endpoints) = self.size.endpoints {
            command += &format!(" --endpoints {endpoints}");
        }
        command
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sites, endpoints) = self.size;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "seed {} ({sites} sites, {endpoints} endpoints) broke a rule after {:.3} s\n  {}\nreplay it: {}",
            self.run.seed,
            self.at.as_secs_f64(),
            self.broken,
            self.run.command()
        )
    }
}
