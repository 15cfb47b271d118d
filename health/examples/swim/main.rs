//! `cargo xtask bench swim`: the membership of up to 1,000 sites under virtual time, from one seed.
//!
//! Prints tables for people and for `docs/swim.md`; with a path as argument it writes their picture there.

#![expect(
    clippy::unwrap_used,
    reason = "a simulation that cannot go on ends by panicking"
)]

mod chart;
#[path = "../../src/gossip/sim.rs"]
#[expect(dead_code, reason = "the tests of the crate use the rest of it")]
mod sim;

use std::collections::BTreeSet;
use std::time::Duration;

use chart::{Line, Panel};
use sim::World;
// Where `sim` looks for its neighbours.
use steer_health::gossip::store::beat_every;
use steer_health::gossip::{core, keys, moment, observation, seal, site, swim};
use steer_health::snapshot;
use swim::MemberEvent;

const SEED: u64 = 1;
const SECOND: Duration = Duration::from_secs(1);

/// Members for which octets are counted, and the largest is the fleet for loss rates.
const SIZES: [usize; 5] = [10, 30, 100, 300, 1000];
const LOSSES: [u32; 6] = [0, 1, 5, 10, 20, 30];

/// Under the loss before anything is counted, then while false alarms and octets are.
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(40);

/// Sites that die, at one moment, and how long their end may take to be known.
const VICTIMS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// Once they are started again, without loss: a stream, and 5 s later another one, for whom the first left out because it
/// came from one of them or because the loss had made somebody a suspect; each has three attempts.
const BACK: Duration = Duration::from_secs(30);

fn met(count: usize) -> World {
    let mut world = World::new(count, SEED);
    world.run_until(SECOND * 120, World::agree_on_members).unwrap();
    // Until beats come as they always will.
    world.run_for(beat_every(count));
    world
}

/// Octets per second and member.
#[derive(Debug, Clone, Copy)]
struct Octets {
    members: f64,
    all: f64,
}

/// Runs a window; what it cost, and the living that somebody took for dead.
fn window(world: &mut World) -> (Octets, Alarms) {
    let sent = |world: &World| -> (u64, u64) {
        let sent: Vec<_> = world.running().map(|(_, gossip)| gossip.sent()).collect();
        let members = sent.iter().map(|sent| sent.members).sum();
        (members, sent.iter().map(|sent| sent.members + sent.words).sum())
    };
    let ((members, all), from) = (sent(world), world.events.len());
    world.run_for(WINDOW);
    let (members_now, all_now) = sent(world);
    let per = |octets: u64| octets as f64 / WINDOW.as_secs_f64() / world.sites.len() as f64;
    let octets = Octets {
        members: per(members_now - members),
        all: per(all_now - all),
    };
    (octets, Alarms::of(world, from, |_, _| true))
}

/// Living members that were called dead.
#[derive(Debug)]
struct Alarms {
    /// By how many pairs of who calls and who is called.
    pairs: usize,
    /// How many were called.
    members: usize,
}

impl Alarms {
    fn of(world: &World, from: usize, counts: impl Fn(usize, site::SiteName) -> bool) -> Self {
        let events = world.events[from..].iter();
        let downs = events.filter(|(_, at, of, event)| *event == MemberEvent::Down && counts(*at, *of));
        let of: Vec<_> = downs.map(|(_, _, of, _)| *of).collect();
        Self {
            pairs: of.len(),
            members: of.into_iter().collect::<BTreeSet<_>>().len(),
        }
    }
}

/// What one loss rate comes to among the most members.
struct AtLoss {
    loss: u32,
    octets: Octets,
    alarms: Alarms,
    /// Median and worst of the victims: when the first knew, and when all did.
    first: [Duration; 2],
    all: [Duration; 2],
    /// From when they were started again, without loss, until everybody knows of everybody.
    back: Duration,
}

/// The dead are started again afterwards.
fn at_loss(world: &mut World, loss: u32) -> AtLoss {
    let count = world.sites.len();
    world.loss = f64::from(loss) / 100.0;
    world.run_for(SETTLE);
    let (octets, alarms) = window(world);
    let (died, from) = (world.now, world.events.len());
    let step = count / VICTIMS;
    let victims: Vec<_> = (0..VICTIMS).map(|number| number * step).collect();
    victims.iter().for_each(|victim| world.kill(*victim));
    let gone = |world: &World| {
        let knows = |gossip: &core::Gossip| victims.iter().all(|victim| !gossip.is_up(sim::name(*victim)));
        world.running().all(|(_, gossip)| knows(gossip))
    };
    world.run_until(PATIENCE, gone).unwrap();
    let times = |victim: &usize| {
        let of = sim::name(*victim);
        let events = world.events[from..].iter();
        let downs = events.filter(move |event| event.2 == of && event.3 == MemberEvent::Down);
        let times: Vec<_> = downs.map(|event| event.0 - died).collect();
        (*times.iter().min().unwrap(), *times.iter().max().unwrap())
    };
    let (first, all): (Vec<_>, Vec<_>) = victims.iter().map(times).unzip();
    world.loss = 0.0;
    victims.iter().for_each(|victim| world.begin(*victim));
    let back = world.run_until(BACK, World::agree_on_members).unwrap();
    AtLoss {
        loss,
        octets,
        alarms,
        first: median_and_worst(first),
        all: median_and_worst(all),
        back,
    }
}

fn median_and_worst(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort();
    [times[times.len() / 2], times[times.len() - 1]]
}

/// What is wrong with some sites.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    /// A host without processor time: not let run for 9 to 14 s of 15.
    Stalls,
    /// 70 % of packets are lost at its uplink, each way.
    Uplink,
}

/// A hundred sites, something wrong with some: false alarms about the others.
fn unwell(wrong: Wrong, count: usize, is_aware: bool) -> Alarms {
    const COUNT: usize = 100;
    let mut world = met(COUNT);
    if !is_aware {
        world.clock_first = true;
        (0..COUNT).for_each(|site| world.with(site, |gossip, _| gossip.ignore_own_health()));
    }
    let from = world.events.len();
    for round in 0..12_u64 {
        for site in 0..count {
            match wrong {
                Wrong::Stalls => {
                    let stall = Duration::from_millis(9_000 + (site as u64 * 733 + round * 1_277) % 5_000);
                    world.stalled[site] = world.now + stall;
                }
                Wrong::Uplink => world.uplink[site] = 0.7,
            }
        }
        world.run_for(SECOND * 15);
    }
    let wrong: Vec<_> = (0..count).map(sim::name).collect();
    Alarms::of(&world, from, |_, of| !wrong.contains(&of))
}

fn main() {
    let picture = std::env::args().nth(1);
    println!("Seed {SEED}.\n");
    let largest = SIZES[SIZES.len() - 1];
    println!(
        "| loss | false alarms: members of {largest} in {} s | pairs | death known to the first: median, worst of {VICTIMS} | to all: median, worst | started again: all agree | octets/s per member: SWIM | all |",
        WINDOW.as_secs()
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut losses = Vec::new();
    let mut world = met(largest);
    for loss in LOSSES {
        let row = at_loss(&mut world, loss);
        let [first, all] = [row.first, row.all]
            .map(|[median, worst]| format!("{:.1} s, {:.1} s", median.as_secs_f64(), worst.as_secs_f64()));
        println!(
            "| {loss} % | {} | {} | {first} | {all} | {:.1} s | {:.0} | {:.0} |",
            row.alarms.members,
            row.alarms.pairs,
            row.back.as_secs_f64(),
            row.octets.members,
            row.octets.all
        );
        losses.push(row);
    }
    println!("\n| members | octets/s per member: SWIM | all | at 30 % loss: SWIM | all |");
    println!("|---|---|---|---|---|");
    let mut sizes = Vec::new();
    for size in SIZES {
        let at = |loss: f64| {
            let mut world = met(size);
            world.loss = loss;
            world.run_for(SETTLE);
            window(&mut world).0
        };
        // The largest was counted above.
        let counted = |loss: u32| {
            let row = losses.iter().find(|row: &&AtLoss| row.loss == loss);
            row.filter(|_| size == largest).map(|row| row.octets)
        };
        let calm = counted(0).unwrap_or_else(|| at(0.0));
        let lossy = counted(30).unwrap_or_else(|| at(0.3));
        println!(
            "| {size} | {:.0} | {:.0} | {:.0} | {:.0} |",
            calm.members, calm.all, lossy.members, lossy.all
        );
        sizes.push((size, calm, lossy));
    }
    println!(
        "\n| of 100 members | own health | false alarms about the others in 3 minutes: members | pairs |"
    );
    println!("|---|---|---|---|");
    for (wrong, what) in [(Wrong::Stalls, "are not let run"), (Wrong::Uplink, "lose 70 %")] {
        for count in [2, 5, 10] {
            for (is_aware, health) in [(false, "ignored"), (true, "known")] {
                let Alarms { pairs, members } = unwell(wrong, count, is_aware);
                println!("| {count} {what} | {health} | {members} | {pairs} |");
            }
        }
    }
    if let Some(path) = picture {
        std::fs::write(path, draw(&losses, &sizes)).unwrap();
    }
}

fn draw(losses: &[AtLoss], sizes: &[(usize, Octets, Octets)]) -> String {
    let by_loss = |label: &str, value: &dyn Fn(&AtLoss) -> f64| Line {
        label: label.to_owned(),
        points: losses
            .iter()
            .map(|row| (f64::from(row.loss), value(row)))
            .collect(),
    };
    let by_size = |label: &str, value: &dyn Fn(&Octets, &Octets) -> f64| Line {
        label: label.to_owned(),
        points: sizes
            .iter()
            .map(|(size, calm, lossy)| ((*size as f64).log10(), value(calm, lossy)))
            .collect(),
    };
    let largest = SIZES[SIZES.len() - 1];
    let ticks = LOSSES.map(|loss| (f64::from(loss), format!("{loss} %"))).to_vec();
    let panels = [
        Panel {
            title: format!("A death is known ({largest} members)"),
            across: "loss of packets".to_owned(),
            up: "seconds".to_owned(),
            ticks: ticks.clone(),
            lines: vec![
                by_loss("to all, worst", &|row| row.all[1].as_secs_f64()),
                by_loss("to all, median", &|row| row.all[0].as_secs_f64()),
                by_loss("to the first, median", &|row| row.first[0].as_secs_f64()),
            ],
        },
        Panel {
            title: format!("False alarms ({largest} members)"),
            across: "loss of packets".to_owned(),
            up: "living members called dead".to_owned(),
            ticks,
            lines: vec![by_loss("members", &|row| row.alarms.members as f64)],
        },
        Panel {
            title: "Octets".to_owned(),
            across: "members".to_owned(),
            up: "octets/s per member".to_owned(),
            ticks: SIZES
                .map(|size| ((size as f64).log10(), size.to_string()))
                .to_vec(),
            lines: vec![
                by_size("all, 30 % loss", &|_, lossy| lossy.all),
                by_size("SWIM, 30 % loss", &|_, lossy| lossy.members),
                by_size("all, no loss", &|calm, _| calm.all),
                by_size("SWIM, no loss", &|calm, _| calm.members),
            ],
        },
    ];
    chart::draw(&panels)
}
