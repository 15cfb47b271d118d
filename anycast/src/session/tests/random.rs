//! Events in any order: what must hold whatever the driver is told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use steer_topology::GracefulRestart;

use super::*;
use crate::wire::tests::any_message;
use crate::wire::{Families, Kind, RestartCapability};

/// What a driver may be told, in any order.
#[derive(Debug, Clone)]
enum Step {
    Start,
    Stop(Reason),
    Restart,
    Recovered,
    Accept,
    Connected(u64),
    Lost(u64),
    Message(u64, bytes::Bytes),
    GoodOpen(u64),
    Keepalive(u64),
    Garbage(u64),
    TooManyPrefixes(u64),
    Blocked(u64),
    Progress(u64),
    Path(PathState),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = 0..4_u64; // counted back from the newest
    let reasons = vec![Reason::AdministrativeShutdown, Reason::AdministrativeReset];
    let paths = vec![
        PathState::Up,
        PathState::Up,
        PathState::Down,
        PathState::AdminDown,
    ];
    let of_session = prop_oneof![
        4 => id.clone().prop_map(Step::Connected),
        2 => id.clone().prop_map(Step::Lost),
        3 => (id.clone(), any_message()).prop_map(|(id, message)| Step::Message(id, message)),
        6 => id.clone().prop_map(Step::GoodOpen),
        6 => id.clone().prop_map(Step::Keepalive),
        1 => id.clone().prop_map(Step::Garbage),
        1 => id.clone().prop_map(Step::TooManyPrefixes),
        3 => id.clone().prop_map(Step::Blocked),
        1 => id.prop_map(Step::Progress),
    ];
    prop_oneof![
        1 => Just(Step::Start),
        1 => prop::sample::select(reasons).prop_map(Step::Stop),
        1 => Just(Step::Restart),
        1 => Just(Step::Recovered),
        4 => Just(Step::Accept),
        3 => prop::sample::select(paths).prop_map(Step::Path),
        25 => of_session,
        4 => (0..20_000_u64).prop_map(Step::Pass),
        1 => (0..900_000_u64).prop_map(Step::Pass), // longer than any timer
    ]
}

/// The configuration, and whether the peer's OPEN offers graceful restart with the N bit.
fn any_setting() -> impl Strategy<Value = (Config, bool)> {
    any::<[bool; 6]>().prop_map(|[passive, strict_bfd, graceful, ours, theirs, no_hold]| {
        let offer = GracefulRestart {
            restart_time: Duration::from_secs(30),
            notification: ours,
        };
        let hold_time = if no_hold {
            Duration::ZERO
        } else {
            config(1).hold_time
        };
        let config = Config {
            passive,
            strict_bfd,
            hold_time,
            graceful_restart: graceful.then_some(offer),
            ..config(1)
        };
        (config, theirs)
    })
}

fn good_open(notification: bool) -> Open {
    let mut open = their_open();
    open.capabilities.graceful_restart = Some(RestartCapability {
        notification,
        families: Families::ALL,
        ..RestartCapability::default()
    });
    open
}

/// What was heard and said on each connection, and whether it may still be used.
struct Ledger {
    opened: BTreeSet<SessionId>,
    closed: BTreeSet<SessionId>,
    said_open: BTreeSet<SessionId>,
    said_keepalive: BTreeSet<SessionId>,
    heard: BTreeMap<SessionId, Vec<Kind>>,
    up: Option<SessionId>,
    path: PathState,
    strict: bool,
    /// We set the N bit where we can.
    offers_hard: bool,
    /// Both sides may have set it.
    hard: bool,
}

impl Ledger {
    fn new(config: &Config, theirs: bool) -> Self {
        Self {
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
            said_open: BTreeSet::new(),
            said_keepalive: BTreeSet::new(),
            heard: BTreeMap::new(),
            up: None,
            path: PathState::Unknown,
            strict: config.strict_bfd,
            offers_hard: config.graceful_restart.is_some_and(|offer| offer.notification),
            hard: theirs && config.graceful_restart.is_some_and(|offer| offer.notification),
        }
    }

    fn hear(&mut self, id: SessionId, message: &[u8]) -> Event {
        let frame = frame(message);
        self.heard.entry(id).or_default().push(frame.kind);
        // Any message may be an OPEN that says other things than the usual one.
        if let Ok(wire::Message::Open(open)) = wire::decode(&frame, Context::default()) {
            let restart = open.capabilities.graceful_restart;
            self.hard |= self.offers_hard && restart.is_some_and(|restart| restart.notification);
        }
        Event::Frame(id, frame)
    }

    fn open(&mut self, id: SessionId) {
        assert!(self.opened.insert(id), "a number twice");
        assert!(
            !self.strict || self.path == PathState::Up,
            "a connection before BFD is up"
        );
    }

    fn live(&self) -> impl Iterator<Item = &SessionId> {
        self.opened.difference(&self.closed)
    }

    fn check(&mut self, action: &Action) {
        let open = |id: &SessionId| self.opened.contains(id) && !self.closed.contains(id);
        match action {
            Action::Dial(id) => self.open(*id),
            Action::SendOpen(id, _) => {
                assert!(open(id) && self.said_open.insert(*id), "one OPEN per connection");
            }
            Action::SendKeepalive(id) => {
                assert!(open(id));
                self.said_keepalive.insert(*id);
            }
            Action::SendNotification(id, notification) => {
                assert!(open(id) && self.said_open.contains(id) && notification.name().is_some());
                assert!(
                    self.hard || notification.enclosed().is_none(),
                    "a Hard Reset not agreed on"
                );
            }
            Action::Close(id) => assert!(
                self.opened.contains(id) && self.closed.insert(*id),
                "closed twice"
            ),
            Action::Up(id, _) => {
                assert!(open(id) && self.up.is_none(), "two sessions of one peer");
                assert!(self.said_open.contains(id) && self.said_keepalive.contains(id));
                assert_eq!(self.heard[id], vec![Kind::Open, Kind::Keepalive]);
                self.up = Some(*id);
            }
            Action::Ended { id, established, .. } => {
                assert_eq!(*established, self.up == Some(*id));
                if *established {
                    self.up = None;
                }
            }
            Action::Refresh(id, _) | Action::Demarcation(id, ..) | Action::Inbound(id, _) => {
                assert_eq!(self.up, Some(*id));
            }
        }
    }

    /// What must hold between two steps.
    fn check_rest(&self, machine: &Peer, passive: bool) {
        assert_eq!(self.up.is_some(), machine.state() == State::Established);
        if self.strict && matches!(self.path, PathState::Unknown | PathState::Down) {
            assert_eq!(self.live().count(), 0, "a connection while BFD is down");
        }
        for side in [Side::Outgoing, Side::Incoming] {
            let slot = machine.slot(side);
            let runs = |timer| slot.timers.runs(timer);
            let running: Vec<Timer> = Timer::ALL.into_iter().filter(|timer| runs(*timer)).collect();
            if slot.state == State::Idle {
                let rests = running.is_empty() || running == [Timer::Restart] && side == Side::Outgoing;
                assert!(rests, "{running:?} in Idle");
            }
            assert!(!runs(Timer::SendHold) || slot.state == State::Established);
        }
        if machine.stopped {
            assert_eq!((machine.state(), machine.next_deadline()), (State::Idle, None));
            assert_eq!(self.live().count(), 0);
        } else if !passive && !machine.waits_for_path() {
            let moves = machine.state() == State::Established || machine.next_deadline().is_some();
            assert!(moves, "nothing would ever happen again");
        }
    }
}

fn take(step: Step, bench: &mut Bench, ledger: &mut Ledger, open: &Open) -> Vec<Action> {
    let newest = ledger.opened.last().map_or(0, |id| id.0);
    let id = |back: u64| SessionId(newest.saturating_sub(back));
    let event = match step {
        Step::Accept => {
            if let Ok(id) = bench.machine.accept(bench.now) {
                ledger.open(id);
            }
            return bench.actions();
        }
        Step::Pass(milliseconds) => return bench.pass(Duration::from_millis(milliseconds)),
        Step::Start => Event::Start,
        Step::Stop(reason) => {
            let text = String::new();
            Event::Stop { reason, text }
        }
        Step::Restart => Event::Restart { text: String::new() },
        Step::Recovered => Event::Recovered,
        Step::Connected(back) => Event::Connected(id(back)),
        Step::Lost(back) => Event::Lost(id(back), "cut".to_owned()),
        Step::Message(back, message) => ledger.hear(id(back), &message),
        Step::GoodOpen(back) => ledger.hear(id(back), &wire::encode_open(open)),
        Step::Keepalive(back) => ledger.hear(id(back), &wire::encode_keepalive()),
        Step::Garbage(back) => {
            let malformed = Malformed::new(Reason::ConnectionNotSynchronized, &[], "garbage");
            Event::Malformed(id(back), malformed)
        }
        Step::TooManyPrefixes(back) => Event::TooManyPrefixes {
            id: id(back),
            family: Family::Ipv4Unicast,
            limit: 10,
        },
        Step::Blocked(back) => Event::Blocked(id(back)),
        Step::Progress(back) => Event::Progress(id(back)),
        Step::Path(path) => {
            ledger.path = path;
            match path {
                PathState::Up => Event::PathUp,
                PathState::AdminDown => Event::PathAdminDown,
                PathState::Down | PathState::Unknown => Event::PathDown,
            }
        }
    };
    bench.give(event)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn no_order_of_events_breaks_the_rules(
        steps in prop::collection::vec(any_step(), 1..120), (config, theirs) in any_setting(),
    ) {
        let (passive, open) = (config.passive, good_open(theirs));
        let mut ledger = Ledger::new(&config, theirs);
        let mut bench = Bench::new(config);
        for step in steps {
            let went_down = matches!(step, Step::Path(PathState::Down)) && ledger.path != PathState::Down;
            let actions = take(step, &mut bench, &mut ledger, &open);
            let before: Vec<SessionId> = ledger.live().copied().collect();
            for action in &actions {
                ledger.check(action);
            }
            if went_down {
                prop_assert!(before.iter().all(|id| ledger.closed.contains(id)), "BFD down drops all");
            }
            ledger.check_rest(&bench.machine, passive);
            // Nothing that is over is still waited for.
            prop_assert!(bench.machine.next_deadline().is_none_or(|at| at > bench.now));
        }
    }
}
