//! Anything that can happen to one prefix, in any order, against what may never be.

use proptest::prelude::*;
use steer_health::Holds;
use steer_topology::Community;

use super::*;

/// What the file says of the prefix.
#[derive(Debug, Clone)]
struct Lines {
    rise: u64,
    fall: u64,
    hold_down: u64,
    budget: bool,
    bind: bool,
    lease: Option<&'static str>,
    ladder: bool,
}

const BUDGET: &str = "flap_budget = { penalty = 1000, half_life = \"60s\", suppress = 2500 }\n";
const LADDER: &str =
    "on_drain = [\"graceful-shutdown\", \"wait 4s\", \"prepend 3\", \"wait streams 6s\", \"withdraw\"]\n";

impl Lines {
    fn fleet(&self) -> Arc<Fleet> {
        let mut text = "while_up = \"pool:web@local\"\n".to_owned();
        for (key, seconds) in [
            ("rise", self.rise),
            ("fall", self.fall),
            ("hold_down", self.hold_down),
        ] {
            text += &format!("{key} = \"{seconds}s\"\n");
        }
        if self.budget {
            text += BUDGET;
        }
        if self.bind {
            text += "bind = { interface = \"lo\" }\n";
        }
        if let Some(on_expiry) = self.lease {
            text += &format!("lease = {{ max = \"60s\", on_expiry = \"{on_expiry}\" }}\n");
        }
        if self.ladder {
            text += LADDER;
        }
        one(&text)
    }
}

fn any_lines() -> impl Strategy<Value = Lines> {
    let lease = prop::sample::select(vec![None, None, Some("withdraw"), Some("deprefer"), Some("keep")]);
    ((0_u64..4, 0_u64..4, 0_u64..8), any::<(bool, bool, bool)>(), lease).prop_map(
        |((rise, fall, hold_down), (budget, bind, ladder), lease)| Lines {
            rise,
            fall,
            hold_down,
            budget,
            bind,
            lease,
            ladder,
        },
    )
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Health(Holds),
    /// From deadline to deadline.
    Wait(u64),
    /// The driver comes late.
    Oversleep(u64),
    Drain,
    Undrain,
    Lease(u64),
    Renew(u64),
    Delete,
    /// The kernel answers what it was asked; well or not.
    Answer(bool),
    /// Somebody takes the address off.
    Steal,
    /// The kernel tells its addresses.
    Addresses,
    /// Every session has sent what is to be sent.
    Sent,
    Streams(u64),
    ClearFlaps,
}

fn any_step() -> impl Strategy<Value = Step> {
    let health = prop_oneof![3 => Just(Holds::Yes), 3 => Just(Holds::No), 1 => Just(Holds::Unknown)];
    prop_oneof![
        6 => health.prop_map(Step::Health),
        6 => (0_u64..6_000).prop_map(Step::Wait),
        1 => (0_u64..6_000).prop_map(Step::Oversleep),
        2 => Just(Step::Drain),
        2 => Just(Step::Undrain),
        3 => (0_u64..20).prop_map(Step::Lease),
        2 => (0_u64..90).prop_map(Step::Renew),
        1 => Just(Step::Delete),
        8 => prop::bool::weighted(0.8).prop_map(Step::Answer),
        1 => Just(Step::Steal),
        1 => Just(Step::Addresses),
        4 => Just(Step::Sent),
        2 => (0_u64..3).prop_map(Step::Streams),
        1 => Just(Step::ClearFlaps),
    ]
}

/// The rest of the world, and what the rules make of it.
struct Model {
    lines: Lines,
    world: World,
    /// The host has the address.
    address: bool,
    /// Of what the kernel was asked.
    answered: usize,
    /// A session was given the route and has not sent the withdrawal.
    at_a_peer: bool,
    value: Holds,
    value_since: Duration,
    drained_at: Option<Duration>,
    counted_zero: bool,
    /// Until when, and whether the route may stay beyond that.
    lease: Option<Duration>,
    lapsed: bool,
    /// What a peer that never decays less than we think has counted.
    figure: f64,
    figure_at: Duration,
    told: usize,
}

impl Model {
    fn new(lines: Lines) -> Self {
        let mut world = World::before_start(lines.fleet(), FRA, [UNKNOWN, UP]);
        world.addresses(&[]);
        world.look();
        Self {
            lines,
            world,
            address: false,
            answered: 0,
            at_a_peer: false,
            value: Holds::Unknown,
            value_since: Duration::ZERO,
            drained_at: None,
            counted_zero: false,
            lease: None,
            lapsed: false,
            figure: 0.0,
            figure_at: Duration::ZERO,
            told: 0,
        }
    }

    fn now(&self) -> Duration {
        self.world.elapsed
    }

    fn tell_addresses(&mut self) {
        let all: &[&str] = if self.address { &["192.0.2.1"] } else { &[] };
        self.world.addresses(all);
    }

    fn health(&mut self, value: Holds) {
        if value != self.value {
            (self.value, self.value_since) = (value, self.now());
        }
        self.world.fra(match value {
            Holds::Yes => UP,
            Holds::No => DOWN,
            Holds::Unknown => UNKNOWN,
        });
    }

    fn answer(&mut self, well: bool) {
        let Some((_, ask)) = self.world.asked.get(self.answered).copied() else {
            return;
        };
        self.answered += 1;
        let well = well || self.address == (ask == Ask::Bind); // nothing is left to fail
        if well {
            self.address = ask == Ask::Bind;
        }
        let result = if well { Ok(()) } else { Err("no".to_owned()) };
        self.world.act(|announcer, moment| match ask {
            Ask::Bind => announcer.on_bound(prefix(P), result, moment),
            Ask::Unbind => announcer.on_unbound(prefix(P), result, moment),
        });
    }

    fn granted(&mut self, granted: bool, ttl: u64) {
        if granted {
            self.lease = Some(self.now() + s(ttl.min(60)));
            self.lapsed = false;
        }
    }

    fn lapse(&mut self) {
        if self.lease.is_some_and(|until| until <= self.now()) {
            self.lease = None;
            self.lapsed = self.lines.lease != Some("withdraw");
        }
    }

    fn take(&mut self, step: Step) {
        let moment = self.world.moment();
        match step {
            Step::Health(value) => self.health(value),
            Step::Wait(time) => self.world.run(ms(time)),
            Step::Oversleep(time) => {
                self.world.elapsed += ms(time);
                self.world.act(Announcer::on_deadline);
            }
            Step::Drain if self.drained_at.is_none() => {
                (self.drained_at, self.counted_zero) = (Some(self.now()), false);
                self.world.drain();
            }
            Step::Undrain => {
                self.drained_at = None;
                self.world.undrain();
            }
            Step::Lease(ttl) => {
                let granted = self.world.announcer.lease(prefix(P), s(ttl), "a", moment);
                self.granted(granted.is_ok(), ttl);
            }
            Step::Renew(ttl) => {
                let granted = self.world.announcer.renew(prefix(P), s(ttl), "a", moment);
                self.granted(granted.is_ok(), ttl);
            }
            Step::Delete => {
                if self.world.announcer.delete(prefix(P), "a", moment).is_ok() {
                    (self.lease, self.lapsed) = (None, false);
                }
            }
            Step::Answer(well) => self.answer(well),
            Step::Steal => {
                self.address = false;
                self.tell_addresses();
            }
            Step::Addresses => self.tell_addresses(),
            Step::Sent => self.sent(),
            Step::Streams(count) => {
                let waits = self.age().is_some_and(|age| age >= s(4) && age < s(10));
                self.counted_zero |= waits && count == 0;
                self.world.streams(count);
            }
            Step::ClearFlaps => {
                self.figure = 0.0;
                self.world
                    .act(|announcer, moment| announcer.clear_flaps(prefix(P), moment).unwrap());
            }
            Step::Drain => {}
        }
        self.world.collect();
        self.lapse();
        self.check();
    }

    fn sent(&mut self) {
        self.at_a_peer = self.world.announced();
        if !self.at_a_peer {
            self.world.withdrawn(P);
        }
    }

    fn age(&self) -> Option<Duration> {
        Some(self.now() - self.drained_at?)
    }

    /// Whether the ladder has come to its end.
    fn drained(&self) -> bool {
        let done = |age| !self.lines.ladder || age >= s(10) || (age >= s(4) && self.counted_zero);
        self.age().is_some_and(done)
    }

    fn decayed(&self, at: Duration) -> f64 {
        self.figure * 0.5_f64.powf((at - self.figure_at).as_secs_f64() / 60.0)
    }

    /// What may never be, after each step.
    fn check(&mut self) {
        let announced = self.world.announced();
        self.check_told();
        self.at_a_peer |= announced;
        assert!(
            self.world.asked.len() <= self.answered + 1,
            "one question at a time"
        );
        if let Some((_, Ask::Unbind)) = self.world.asked.get(self.answered) {
            assert!(!announced && !self.at_a_peer, "the address goes after the route");
        }
        if !announced {
            return;
        }
        let now = self.now();
        assert!(
            self.address || !self.lines.bind,
            "the address comes before the route"
        );
        assert!(now >= s(self.lines.hold_down));
        if self.value == Holds::No {
            assert!(now - self.value_since < s(self.lines.fall));
            assert!(self.drained_at.is_none(), "a drain has no patience");
        }
        assert!(!self.drained());
        assert!(self.lines.lease.is_none() || self.lease.is_some() || self.lapsed);
        self.check_attributes();
    }

    fn check_attributes(&self) {
        let policy = &self.world.decision(P).policy;
        let age = self.age().filter(|_| self.lines.ladder);
        let last_resort = age.is_some() || (self.lapsed && self.lines.lease == Some("deprefer"));
        let communities = if last_resort {
            vec![Community::GRACEFUL_SHUTDOWN]
        } else {
            vec![]
        };
        assert_eq!(policy.communities, communities);
        let prepend = if age.is_some_and(|age| age >= s(4)) { 3 } else { 0 };
        assert_eq!(policy.prepend, prepend);
    }

    /// Every flip that was told: whether it was allowed, and what it costs.
    fn check_told(&mut self) {
        let flips = self.world.flips();
        for (at, up) in flips[self.told..].iter().copied() {
            if up {
                assert!(self.value != Holds::No || self.value_since >= at);
                let room = self.decayed(at) + 1_000.0 < 2_500.0;
                assert!(room || !self.lines.budget, "{}", self.decayed(at));
                assert!(at >= s(self.lines.hold_down));
                let held_for = at.saturating_sub(self.value_since);
                assert!(self.value != Holds::Yes || held_for >= s(self.lines.rise));
            } else {
                (self.figure, self.figure_at) = (self.decayed(at) + 1_000.0, at);
                assert!(
                    self.figure < 2_500.0 || !self.lines.budget,
                    "suppressed at {}",
                    self.figure
                );
            }
        }
        self.told = flips.len();
    }

    /// A calm hour: the kernel and the sessions do what they are asked.
    fn calm(&mut self, wanted: bool) {
        self.take(Step::Undrain);
        self.take(Step::Health(if wanted { Holds::Yes } else { Holds::No }));
        for second in 0..3_600 {
            if self.lines.lease.is_some() && second % 30 == 0 {
                self.take(Step::Lease(60));
            }
            self.take(Step::Wait(1_000));
            self.take(Step::Answer(true));
            self.take(Step::Sent);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_the_rules_hold_and_calm_brings_what_is_wanted(
        lines in any_lines(),
        steps in prop::collection::vec(any_step(), 1..120),
        wanted in any::<bool>(),
    ) {
        let mut model = Model::new(lines);
        for step in steps {
            model.take(step);
        }
        model.calm(wanted);
        prop_assert_eq!(model.world.announced(), wanted);
        prop_assert_eq!(model.address, wanted && model.lines.bind);
        let state = if wanted { State::Announced } else { State::Withdrawn };
        prop_assert_eq!(model.world.state(), state);
    }
}
