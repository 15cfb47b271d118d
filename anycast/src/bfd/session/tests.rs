//! The machine: its table row by row, its timers and answers, and two of them in virtual time.

mod keyed;
mod pair;
mod rows;

use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn config(interval: Duration, multiplier: u8) -> Config {
    Config {
        intervals: Intervals::both(interval),
        multiplier: NonZeroU8::new(multiplier).unwrap(),
        role: Role::Active,
        auth: None,
    }
}

fn number(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap()
}

/// A machine with discriminator 1, its clock, and a peer with discriminator 2 that says what the test wants.
struct Bench {
    machine: Session,
    now: Instant,
    peer: Packet,
}

impl Bench {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let peer = Packet {
            diagnostic: Diagnostic::NONE,
            state: State::Down,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: config.multiplier,
            my_discriminator: number(2),
            your_discriminator: 1,
            desired_min_tx: config.intervals.desired_min_tx,
            required_min_rx: config.intervals.required_min_rx,
            required_min_echo_rx: 0,
        };
        Self {
            machine: Session::new(config, number(1), 7, now),
            now,
            peer,
        }
    }

    /// A session that is up, agreed on its intervals, and has nothing to say at once.
    fn up(config: Config) -> Self {
        let mut bench = Self::new(config);
        bench.hear(State::Down);
        bench.hear(State::Init);
        bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
        bench.hear(State::Up);
        assert_eq!(bench.machine.state(), State::Up);
        bench
    }

    fn say(&mut self, change: impl FnOnce(&mut Packet)) -> Vec<Packet> {
        let mut packet = self.peer;
        change(&mut packet);
        let octets = wire::encode(&packet, 0);
        let received = wire::decode(&octets).unwrap();
        self.machine.receive(&received, self.now, self.now).unwrap();
        self.sent()
    }

    fn hear(&mut self, state: State) -> Vec<Packet> {
        self.say(|packet| packet.state = state)
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.poll_output()).collect()
    }

    fn sent(&mut self) -> Vec<Packet> {
        packets(&self.outputs())
    }

    /// Lets time pass; returns what was sent, and when.
    fn pass(&mut self, time: Duration) -> Vec<(Instant, Packet)> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(deadline) = self.machine.next_deadline(self.now).filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.machine.on_deadline(self.now, self.now);
            sent.extend(self.sent().into_iter().map(|packet| (self.now, packet)));
        }
        self.now = end;
        sent
    }

    /// As `pass`, with a peer that says Up every `interval`.
    fn pass_with_peer(&mut self, time: Duration, interval: Duration) -> Vec<(Instant, Packet)> {
        let mut sent = Vec::new();
        let end = self.now + time;
        while self.now < end {
            sent.extend(self.pass(interval));
            let said = self.hear(State::Up);
            sent.extend(said.into_iter().map(|packet| (self.now, packet)));
        }
        sent
    }
}

fn packets(outputs: &[Output]) -> Vec<Packet> {
    let packet = |output: &Output| match output {
        Output::Send(octets) => Some(wire::decode(octets).unwrap().packet),
        Output::Path(_) => None,
    };
    outputs.iter().filter_map(packet).collect()
}

fn gaps(sent: &[(Instant, Packet)]) -> Vec<Duration> {
    sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

// Coming up

#[test]
fn the_first_packet_goes_at_once_and_knows_no_peer() {
    let mut bench = Bench::new(config(50 * MS, 3));
    let sent = bench.pass(Duration::ZERO);
    let [(_, packet)] = sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((packet.state, packet.your_discriminator), (State::Down, 0));
    assert_eq!(packet.my_discriminator, number(1));
    assert_eq!((packet.desired_min_tx, packet.required_min_rx), (SLOW, 50_000));
    assert_eq!((packet.required_min_echo_rx, packet.multiplier.get()), (0, 3));
    assert!(!packet.control_plane_independent && !packet.demand && !packet.poll && !packet.is_final);
}

#[test]
fn until_it_is_up_a_session_sends_once_a_second_at_most() {
    let mut bench = Bench::new(config(10 * MS, 3));
    let sent = bench.pass(60 * SECOND);
    let gaps = gaps(&sent);
    assert!(
        gaps.iter().all(|gap| (750 * MS..=SECOND).contains(gap)),
        "{gaps:?}"
    );
    assert!((60..=80).contains(&gaps.len()));
}

#[test]
fn a_passive_end_waits_to_be_spoken_to() {
    let passive = Config {
        role: Role::Passive,
        ..config(50 * MS, 3)
    };
    let mut bench = Bench::new(passive);
    assert_eq!(bench.pass(10 * SECOND), []);
    let sent = bench.hear(State::Down);
    assert_eq!((sent[0].state, sent[0].your_discriminator), (State::Init, 2));
    bench.pass(10 * SECOND);
    assert_eq!(bench.pass(10 * SECOND), [], "the peer is gone and forgotten");
}

#[test]
fn a_change_of_state_is_told_at_once() {
    let mut bench = Bench::new(config(50 * MS, 3));
    bench.pass(Duration::ZERO);
    let sent = bench.hear(State::Down);
    assert_eq!((sent[0].state, sent[0].your_discriminator), (State::Init, 2));
    let sent = bench.hear(State::Init);
    assert_eq!((sent[0].state, sent[0].diagnostic), (State::Up, Diagnostic::NONE));
    let sent = bench.hear(State::Down);
    assert_eq!(
        (sent[0].state, sent[0].diagnostic),
        (State::Down, Diagnostic::NEIGHBOR_SIGNALED)
    );
}

#[test]
fn coming_up_polls_until_the_peer_agrees_to_the_fast_interval() {
    let mut bench = Bench::new(config(50 * MS, 3));
    bench.hear(State::Down);
    let sent = bench.hear(State::Init);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].poll, sent[0].desired_min_tx), (true, 50_000));
    let sent = bench.pass_with_peer(SECOND, 50 * MS);
    assert!(sent.len() >= 20, "a shorter interval is kept at once");
    assert!(sent.iter().all(|(_, packet)| packet.poll), "until it is answered");
    bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
    let sent = bench.pass_with_peer(SECOND, 50 * MS);
    assert!(sent.iter().all(|(_, packet)| !packet.poll));
}

#[test]
fn an_interval_of_a_second_or_more_needs_no_poll() {
    let mut bench = Bench::new(config(2 * SECOND, 3));
    bench.hear(State::Down);
    assert!(!bench.hear(State::Init)[0].poll);
}

// Sending

#[test]
fn packets_go_at_75_to_100_percent_of_the_slower_interval() {
    for (ours, theirs, slower) in [(50, 20, 50), (20, 50, 50), (10, 10, 10), (60_000, 10, 60_000)] {
        let mut bench = Bench::new(config(ours * MS, 3));
        bench.peer.required_min_rx = theirs * 1000;
        bench.peer.desired_min_tx = slower * 1000;
        bench.peer.multiplier = NonZeroU8::new(255).unwrap();
        bench.hear(State::Down);
        bench.hear(State::Init);
        bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
        let gaps = gaps(&bench.pass(slower * MS * 200));
        let slower = slower * MS;
        assert!(
            gaps.iter().all(|gap| (slower * 3 / 4..=slower).contains(gap)),
            "{gaps:?}"
        );
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*least < slower * 80 / 100 && *most > slower * 95 / 100);
    }
}

#[test]
fn with_a_multiplier_of_1_packets_go_at_90_percent_at_most() {
    let mut bench = Bench::up(config(100 * MS, 1));
    let gaps = gaps(&bench.pass_with_peer(10 * SECOND, 50 * MS));
    assert!(
        gaps.iter().all(|gap| (75 * MS..=90 * MS).contains(gap)),
        "{gaps:?}"
    );
}

#[test]
fn a_peer_that_takes_no_packets_gets_none_but_answers() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.peer.required_min_rx = 0;
    bench.hear(State::Up);
    assert_eq!(bench.pass_with_peer(10 * SECOND, 50 * MS), []);
    let sent = bench.say(|packet| (packet.state, packet.poll) = (State::Up, true));
    assert!(sent[0].is_final);
    bench.peer.required_min_rx = 50_000;
    assert!(!bench.pass_with_peer(SECOND, 50 * MS).is_empty());
}

#[test]
fn a_peer_that_becomes_faster_is_served_faster_at_once() {
    let mut bench = Bench::new(config(10 * MS, 3));
    bench.peer.required_min_rx = 10_000_000;
    bench.peer.multiplier = NonZeroU8::new(255).unwrap();
    bench.hear(State::Down);
    bench.hear(State::Init);
    bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
    bench.pass(2 * SECOND);
    bench.peer.required_min_rx = 100_000;
    bench.hear(State::Up);
    let sent = bench.pass(Duration::ZERO);
    assert_eq!(sent.len(), 1, "the new interval is long past");
}

#[test]
fn a_peer_in_demand_mode_gets_no_periodic_packets_while_both_are_up() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.peer.demand = true;
    bench.hear(State::Up);
    assert_eq!(bench.pass_with_peer(10 * SECOND, 50 * MS), []);
    assert_eq!(bench.machine.state(), State::Up, "the peer still sends");
    let sent = bench.say(|packet| (packet.state, packet.poll) = (State::Up, true));
    assert_eq!((sent.len(), sent[0].is_final), (1, true));
    // A Poll Sequence of ours goes on all the same.
    bench.machine.set_intervals(Intervals::both(20 * MS), bench.now);
    let sent = bench.pass_with_peer(SECOND, 50 * MS);
    assert!(sent.len() > 10 && sent.iter().all(|(_, packet)| packet.poll));
    // Down ends it.
    let sent = bench.hear(State::Down);
    assert_eq!(sent[0].state, State::Down);
    assert!(!bench.pass(2 * SECOND).is_empty());
}

// Polls

#[test]
fn a_poll_is_answered_at_once_and_never_with_a_poll() {
    let mut bench = Bench::new(config(50 * MS, 3));
    for state in [State::Down, State::Init, State::Up] {
        let sent = bench.say(|packet| (packet.state, packet.poll) = (state, true));
        let answers: Vec<_> = sent.iter().filter(|packet| packet.is_final).collect();
        assert_eq!(answers.len(), 1, "{state:?}: {sent:?}");
        assert!(!answers[0].poll);
        bench.pass(20 * MS);
    }
}

#[test]
fn a_flood_of_polls_is_answered_every_10_ms() {
    let mut bench = Bench::up(config(50 * MS, 3));
    let mut answers = 0;
    for _ in 0..1000 {
        let sent = bench.say(|packet| (packet.state, packet.poll) = (State::Up, true));
        answers += sent.iter().filter(|packet| packet.is_final).count();
        let sent = bench.pass(MS / 10);
        answers += sent.iter().filter(|(_, packet)| packet.is_final).count();
    }
    assert!((10..=11).contains(&answers), "{answers} answers in 100 ms");
}

#[test]
fn going_slower_waits_for_the_answer() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.machine.set_intervals(Intervals::both(500 * MS), bench.now);
    let sent = bench.sent();
    assert_eq!((sent[0].poll, sent[0].desired_min_tx), (true, 500_000));
    assert!(
        bench.pass_with_peer(SECOND, 50 * MS).len() >= 20,
        "the old interval"
    );
    bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
    bench.pass_with_peer(SECOND, 50 * MS);
    let sent = bench.pass_with_peer(2 * SECOND, 50 * MS);
    assert!(sent.len() <= 6, "the new one");
}

#[test]
fn expecting_a_faster_peer_waits_for_the_answer() {
    let mut bench = Bench::up(config(500 * MS, 3));
    bench.peer.desired_min_tx = 10_000;
    bench.hear(State::Up);
    assert_eq!(bench.machine.picture().detection_time, Some(1500 * MS));
    bench.machine.set_intervals(Intervals::both(50 * MS), bench.now);
    bench.hear(State::Up);
    assert_eq!(bench.machine.picture().detection_time, Some(1500 * MS));
    bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
    assert_eq!(bench.machine.picture().detection_time, Some(150 * MS));
}

#[test]
fn a_second_change_waits_until_the_first_poll_is_surely_over() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.machine.set_intervals(Intervals::both(100 * MS), bench.now);
    assert_eq!(bench.sent()[0].desired_min_tx, 100_000);
    bench.machine.set_intervals(Intervals::both(200 * MS), bench.now);
    let sent = bench.pass_with_peer(SECOND, 50 * MS);
    assert!(sent.iter().all(|(_, packet)| packet.desired_min_tx == 100_000));
    let sent = bench.say(|packet| (packet.state, packet.is_final) = (State::Up, true));
    assert!(sent.is_empty(), "the answer to an earlier packet may still come");
    let sent = bench.hear(State::Up);
    assert_eq!((sent[0].poll, sent[0].desired_min_tx), (true, 200_000));
}

// Silence

#[test]
fn silence_is_the_peers_multiplier_times_the_slower_interval() {
    for (ours, theirs, multiplier, silence) in [(50, 10, 3, 150), (10, 50, 3, 150), (10, 10, 5, 50)] {
        let mut bench = Bench::up(config(ours * MS, 7));
        bench.peer.desired_min_tx = theirs * 1000;
        bench.peer.multiplier = NonZeroU8::new(multiplier).unwrap();
        bench.hear(State::Up);
        bench.pass(silence * MS - Duration::from_nanos(1));
        assert_eq!(bench.machine.state(), State::Up);
        bench.pass(Duration::from_nanos(1));
        assert_eq!(bench.machine.state(), State::Down);
        let picture = bench.machine.picture();
        assert_eq!(picture.path, PathState::Down(Diagnostic::DETECTION_TIME_EXPIRED));
        assert_eq!(picture.remote_discriminator, 0, "forgotten");
    }
}

#[test]
fn silence_is_told_and_then_the_pace_is_slow_again() {
    let mut bench = Bench::up(config(50 * MS, 3));
    let sent = bench.pass(10 * SECOND);
    let down: Vec<_> = sent
        .iter()
        .copied()
        .filter(|(_, packet)| packet.state == State::Down)
        .collect();
    assert_eq!(down[0].1.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
    assert_eq!((down[0].1.desired_min_tx, down[0].1.poll), (SLOW, false));
    assert!(gaps(&down).iter().all(|gap| (750 * MS..=SECOND).contains(gap)));
}

#[test]
fn what_arrived_before_the_deadline_counts_though_it_is_read_after_it() {
    let mut bench = Bench::up(config(50 * MS, 3));
    let arrived = bench.now + 100 * MS;
    bench.now += 400 * MS;
    assert!(bench.machine.is_silent(bench.now));
    bench.machine.on_deadline(bench.now, arrived); // there is more to read
    assert_eq!(bench.machine.state(), State::Up);
    let octets = wire::encode(
        &Packet {
            state: State::Up,
            ..bench.peer
        },
        0,
    );
    let received = wire::decode(&octets).unwrap();
    bench
        .machine
        .receive(&received, bench.now - 50 * MS, bench.now)
        .unwrap();
    bench.machine.on_deadline(bench.now, bench.now);
    assert_eq!(bench.machine.state(), State::Up);
    bench.pass(100 * MS);
    assert_eq!(
        bench.machine.state(),
        State::Down,
        "the time counts from the arrival"
    );
}

#[test]
fn a_peer_that_is_silent_in_init_is_given_up() {
    let mut bench = Bench::new(config(50 * MS, 3));
    bench.hear(State::Down);
    bench.pass(150 * MS);
    assert_eq!(bench.machine.state(), State::Down);
}

// Operators

#[test]
fn our_own_admin_down_is_told_as_often_as_packets_may_be_lost() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.machine.disable(bench.now);
    let outputs = bench.outputs();
    assert!(outputs.contains(&Output::Path(PathState::AdminDown)));
    let first = packets(&outputs)[0];
    assert_eq!(
        (first.state, first.diagnostic, first.desired_min_tx),
        (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, SLOW)
    );
    assert!(!bench.machine.is_said());
    let sent = bench.pass(150 * MS);
    assert_eq!(sent.len(), 2, "three in all");
    assert!(bench.machine.is_said());
    let gaps = gaps(&bench.pass(10 * SECOND));
    assert!(gaps.iter().all(|gap| *gap >= 750 * MS), "then slowly");
}

#[test]
fn nothing_that_a_peer_says_ends_our_admin_down() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.machine.disable(bench.now);
    bench.sent();
    for state in State::ALL {
        let sent = bench.say(|packet| (packet.state, packet.poll) = (state, true));
        assert_eq!((bench.machine.state(), sent.len()), (State::AdminDown, 0));
    }
    bench.machine.enable(bench.now);
    assert_eq!(
        (bench.machine.state(), bench.machine.path()),
        (State::Down, PathState::Down(Diagnostic::NONE))
    );
    bench.hear(State::Down);
    bench.hear(State::Init);
    assert_eq!(bench.machine.path(), PathState::Up);
}

#[test]
fn the_admin_down_of_the_peer_is_no_failure() {
    let mut bench = Bench::up(config(50 * MS, 3));
    bench.hear(State::AdminDown);
    assert_eq!(bench.machine.state(), State::Down);
    assert_eq!(bench.machine.path(), PathState::PeerAdminDown);
    bench.pass(10 * SECOND);
    assert_eq!(
        bench.machine.path(),
        PathState::PeerAdminDown,
        "silence changes nothing"
    );
    bench.hear(State::Down);
    assert_eq!(bench.machine.state(), State::Init);
    bench.hear(State::Up);
    assert_eq!(bench.machine.path(), PathState::Up);
}

// Anything at all

proptest! {
    /// Whatever comes, the machine sends nothing too fast and is up only with a peer that it knows.
    #[test]
    fn random_packets_and_times_break_no_rule(
        seed: u64,
        steps in proptest::collection::vec((any::<u64>(), 0_u64..40_000, 0_u8..12), 1..300),
    ) {
        let mut bench = Bench::new(config(10 * MS, 3));
        let mut rng = StdRng::seed_from_u64(seed);
        let mut last_periodic = None;
        for (bits, micros, kind) in steps {
            let end = bench.now + Duration::from_micros(micros);
            while let Some(at) = bench.machine.next_deadline(bench.now).filter(|at| *at <= end) {
                bench.now = bench.now.max(at);
                let state = bench.machine.state();
                bench.machine.on_deadline(bench.now, bench.now);
                let sent = bench.sent();
                let unchanged = bench.machine.state() == state && bench.machine.is_said();
                for _ in sent.iter().filter(|packet| !packet.is_final && unchanged) {
                    if let Some(last) = last_periodic {
                        prop_assert!(bench.now - last >= 10 * MS * 3 / 4, "too fast");
                    }
                    last_periodic = Some(bench.now);
                }
                for packet in sent {
                    prop_assert!(!(packet.poll && packet.is_final));
                    let slow = packet.state == State::Up || packet.desired_min_tx >= SLOW;
                    prop_assert!(slow, "fast though {:?}", packet.state);
                }
            }
            bench.now = end;
            match kind {
                0 => bench.machine.disable(bench.now),
                1 => bench.machine.enable(bench.now),
                2 => bench.machine.set_intervals(Intervals::both(MS * rng.random_range(10..2000)), bench.now),
                _ => drop(bench.say(|packet| {
                    packet.state = State::ALL[(bits & 3) as usize];
                    packet.poll = bits & 4 != 0;
                    packet.is_final = bits & 8 != 0;
                    packet.demand = bits & 0x30 == 0x30;
                    packet.my_discriminator = number(2 + (bits >> 6 & 1) as u32);
                    packet.desired_min_tx = (bits >> 8 & 0xffff) as u32;
                    packet.required_min_rx = (bits >> 24 & 0xffff) as u32;
                    packet.multiplier = NonZeroU8::new((bits >> 40) as u8 | 1).unwrap();
                })),
            }
            bench.sent();
            let picture = bench.machine.picture();
            prop_assert!(picture.state != State::Up || picture.remote_discriminator != 0);
            prop_assert_eq!(picture.path == PathState::Up, picture.state == State::Up);
            prop_assert!(bench.machine.poll_output().is_none());
        }
    }
}
