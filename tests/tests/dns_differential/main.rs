//! The same zones and the same questions to steer, Knot and NSD.
//!
//! ```text
//! seed ─► zones ──► steer, Knot, NSD
//!   └───► questions ─► three replies ─► as one of the peers says it? ─► an allowed difference? ─► else a failure
//! ```
//!
//! `STEER_SEED=N` tries other zones. Knot 3.2.6 hangs on some of them (1 is one): then it is Knot that does not answer.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod allowed;
mod message;
mod servers;
mod zones;

use std::collections::BTreeMap;

use steer_tests::skip;

use allowed::{ALLOWED, Case};
use message::{Reply, show_name};
use zones::Question;

const SEED: u64 = 20_261_128;
const ZONES: usize = 60;
const QUESTIONS: usize = 20_000;
/// Most differences that are shown.
const SHOWN: usize = 20;

/// What came of the questions.
#[derive(Default)]
struct Tally {
    /// All three say the same.
    alike: usize,
    /// The peers differ, and ours is as one of them.
    as_knot: usize,
    as_nsd: usize,
    /// By the name of what allows it.
    allowed: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn take(&mut self, case: &Case<'_>) {
        let Case { ours, knot, nsd, .. } = case;
        match (ours.says_the_same(knot), ours.says_the_same(nsd)) {
            (true, true) => self.alike += 1,
            (true, false) => self.as_knot += 1,
            (false, true) => self.as_nsd += 1,
            (false, false) => match ALLOWED.iter().find(|allowed| (allowed.applies)(case)) {
                Some(allowed) => *self.allowed.entry(allowed.name).or_default() += 1,
                None => self.wrong.push(show(case.question, [ours, knot, nsd])),
            },
        }
    }

    fn print(&self, questions: usize, seed: u64) {
        let Self {
            alike,
            as_knot,
            as_nsd,
            allowed,
            wrong,
        } = self;
        println!(
            "{questions} questions compared with {} (seed {seed})",
            servers::versions()
        );
        println!("{alike:6} alike");
        println!("{as_knot:6} as Knot, NSD differs");
        println!("{as_nsd:6} as NSD, Knot differs");
        for kind in ALLOWED {
            println!(
                "{:6} {}: {}",
                allowed.get(kind.name).unwrap_or(&0),
                kind.name,
                kind.why
            );
        }
        println!("{:6} wrong", wrong.len());
        for wrong in wrong.iter().take(SHOWN) {
            println!("{wrong}");
        }
    }
}

fn show(question: &Question, [ours, knot, nsd]: [&Reply; 3]) -> String {
    let name = show_name(&question.name);
    let Question { kind, payload, .. } = question;
    format!("? {name} TYPE{kind} payload {payload:?}\n  steer\n{ours}  Knot\n{knot}  NSD\n{nsd}")
}

#[test]
fn replies_are_those_of_knot_or_nsd_or_differ_as_an_rfc_allows() {
    if let Err(why) = servers::missing() {
        return skip(
            "replies_are_those_of_knot_or_nsd_or_differ_as_an_rfc_allows",
            &why,
        );
    }
    let seed = std::env::var("STEER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(SEED);
    let world = zones::world(seed, ZONES, QUESTIONS);
    let folder = tempfile::tempdir().unwrap();
    let servers = servers::Servers::start(folder.path(), &world.zones);
    let mut tally = Tally::default();
    for (number, question) in world.questions.iter().enumerate() {
        let [ours, knot, nsd] = &servers.ask(question, number);
        tally.take(&Case {
            servers: &servers,
            question,
            ours,
            knot,
            nsd,
        });
    }
    tally.print(world.questions.len(), seed);
    assert_eq!(tally.wrong.len(), 0, "see above");
}
