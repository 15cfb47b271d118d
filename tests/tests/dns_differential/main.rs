//! The same zones and the same questions to steer, Knot and NSD.
//!
//! ```text
//! seed ─► zones ──► steer, Knot, NSD
//!   └───► questions ─► three replies ─► as one of the peers says it? ─► an allowed difference? ─► else a failure
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod message;
mod servers;
mod zones;

use steer_tests::skip;

const SEED: u64 = 20_261_128;
const ZONES: usize = 60;
const QUESTIONS: usize = 20_000;

#[test]
fn replies_are_those_of_knot_or_nsd() {
    if let Err(why) = servers::missing() {
        return skip("replies_are_those_of_knot_or_nsd", &why);
    }
    let seed = std::env::var("STEER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(SEED);
    let world = zones::world(seed, ZONES, QUESTIONS);
    let folder = tempfile::tempdir().unwrap();
    let servers = servers::Servers::start(folder.path(), &world.zones);
    let mut different = 0;
    for (number, question) in world.questions.iter().enumerate() {
        let [ours, knot, nsd] = servers.ask(question, number);
        if ours != knot && ours != nsd {
            different += 1;
            if different < 20 {
                println!(
                    "{} TYPE{} {:?}\n ours\n{ours} knot\n{knot} nsd\n{nsd}",
                    message::show_name(&question.name),
                    question.kind,
                    question.payload
                );
            }
        }
    }
    println!("{different} of {} differ", world.questions.len());
}
