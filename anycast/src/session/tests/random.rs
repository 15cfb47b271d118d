//! Events in any order: what must hold whatever the driver is told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::Kind;
use crate::wire::tests::any_message;

/// What a driver may be told, in any order.
#[derive(Debug, Clone)]
enum Step {
    Start,
    Stop,
    Accept,
    Connected(u64),
    Lost(u64),
    Message(u64, bytes::Bytes),
    GoodOpen(u64),
    Keepalive(u64),
    Garbage(u64),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = 0..4_u64; // counted back from the newest
    prop_oneof![
        1 => Just(Step::Start),
        1 => Just(Step::Stop),
        3 => Just(Step::Accept),
        4 => id.clone().prop_map(Step::Connected),
        2 => id.clone().prop_map(Step::Lost),
        3 => (id.clone(), any_message()).prop_map(|(id, message)| Step::Message(id, message)),
        6 => id.clone().prop_map(Step::GoodOpen),
        6 => id.clone().prop_map(Step::Keepalive),
        1 => id.prop_map(Step::Garbage),
        4 => (0..20_000_u64).prop_map(Step::Pass),
    ]
}

/// What was heard and said on each connection, and whether it may still be used.
#[derive(Default)]
struct Ledger {
    opened: BTreeSet<SessionId>,
    closed: BTreeSet<SessionId>,
    said_open: BTreeSet<SessionId>,
    said_keepalive: BTreeSet<SessionId>,
    heard: BTreeMap<SessionId, Vec<Kind>>,
    up: Option<SessionId>,
}

impl Ledger {
    fn check(&mut self, action: &Action) {
        let open = |id: &SessionId| self.opened.contains(id) && !self.closed.contains(id);
        match action {
            Action::Dial(id) => assert!(self.opened.insert(*id), "a number twice"),
            Action::SendOpen(id, _) => {
                assert!(open(id) && self.said_open.insert(*id), "one OPEN per connection");
            }
            Action::SendKeepalive(id) => {
                assert!(open(id));
                self.said_keepalive.insert(*id);
            }
            Action::SendNotification(id, notification) => {
                assert!(open(id) && self.said_open.contains(id) && notification.name().is_some());
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
                assert_eq!(self.up, Some(*id))
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn no_order_of_events_breaks_the_rules(steps in prop::collection::vec(any_step(), 1..120), passive: bool) {
        let mut bench = Bench::new(Config { passive, ..config(1) });
        let mut ledger = Ledger::default();
        let mut newest = 0_u64;
        let open = wire::encode_open(&their_open());
        for step in steps {
            let id = |back: u64| SessionId(newest.saturating_sub(back));
            let hear = |ledger: &mut Ledger, bench: &mut Bench, id: SessionId, message: &[u8]| {
                let frame = frame(message);
                ledger.heard.entry(id).or_default().push(frame.kind);
                bench.give(Event::Frame(id, frame))
            };
            let actions = match step {
                Step::Start => bench.give(Event::Start),
                Step::Stop => bench.give(Event::Stop { reason: Reason::AdministrativeShutdown, text: String::new() }),
                Step::Accept => {
                    let accepted = bench.machine.accept(bench.now);
                    ledger.opened.extend(accepted.ok());
                    bench.actions()
                }
                Step::Connected(back) => bench.give(Event::Connected(id(back))),
                Step::Lost(back) => bench.give(Event::Lost(id(back), "cut".to_owned())),
                Step::Message(back, message) => hear(&mut ledger, &mut bench, id(back), &message),
                Step::GoodOpen(back) => hear(&mut ledger, &mut bench, id(back), &open),
                Step::Keepalive(back) => hear(&mut ledger, &mut bench, id(back), &wire::encode_keepalive()),
                Step::Garbage(back) => {
                    let malformed = Malformed::new(Reason::ConnectionNotSynchronized, &[], "garbage");
                    bench.give(Event::Malformed(id(back), malformed))
                }
                Step::Pass(milliseconds) => bench.pass(Duration::from_millis(milliseconds)),
            };
            for action in &actions {
                ledger.check(action);
            }
            newest = newest.max(ledger.opened.last().map_or(0, |id| id.0));
            prop_assert_eq!(ledger.up.is_some(), bench.machine.state() == State::Established);
            // Nothing that is over is still waited for, and nothing waits for ever.
            prop_assert!(bench.machine.next_deadline().is_none_or(|at| at > bench.now));
            if bench.machine.stopped {
                prop_assert_eq!(bench.machine.state(), State::Idle);
                prop_assert_eq!(bench.machine.next_deadline(), None);
            } else if !passive {
                prop_assert!(bench.machine.state() == State::Established || bench.machine.next_deadline().is_some());
            }
        }
    }
}
