//! One configured neighbour as a machine: no socket, no clock. Events and the time go in, actions come out.
//!
//! ```text
//!            ┌─ outgoing slot: one connection, one State ─┐     step(state, trigger) ─► state, effects
//! Event ──►  │                                            ├──►  Action
//!            └─ incoming slot: one connection, one State ─┘     collision: at most one gets to Established
//! ```
//!
//! Both directions may be open at once (RFC 4271 §6.8), so everything outside speaks of a [`SessionId`], one
//! per connection, and late news of a connection that is gone is dropped by its number.

mod event;
mod table;
mod terms;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::wire::{
    self, Context, EXTENDED_LENGTH, Family, Frame, Kind, MAX_LENGTH, Malformed, Message, Notification, Open,
    Reason,
};

pub use event::{Action, End, Event, Refusal, SessionId, Side};
pub use table::{Effect, State, Trigger, step};
pub use terms::{Config, Negotiated};
pub use timers::{Timer, Timers};

/// Time a peer has from TCP connection to OPEN. RFC 4271 §8.2.2 suggests 4 minutes; a peer that is silent for
/// one is no BGP speaker.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// A session that stood this long has shown that it can; what went wrong before is forgiven.
const STABLE: Duration = Duration::from_secs(60);

/// A connection in OpenSent takes part in a collision for this long.
const COLLISION_WINDOW: Duration = Duration::from_secs(1);

/// The wait between tries doubles this often at most: 8 times `connect_retry`.
const MAX_PENALTY: u32 = 4;

/// One configured neighbour.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    outgoing: Slot,
    incoming: Slot,
    stopped: bool,
    /// Faults of the peer in a row.
    penalty: u32,
    /// Between a fault and the end of the wait that it brought. No longer: two sides that refuse each other would
    /// never meet again.
    damped: bool,
    last_id: u64,
    rng: StdRng,
    actions: VecDeque<Action>,
}

/// One connection and its state.
#[derive(Debug)]
struct Slot {
    id: SessionId,
    state: State,
    timers: Timers,
    connected_at: Option<Instant>,
    /// There from OpenConfirm on.
    negotiated: Option<Negotiated>,
    established_at: Option<Instant>,
}

impl Slot {
    fn new() -> Self {
        let (id, state) = (SessionId(0), State::Idle);
        Self {
            id,
            state,
            timers: Timers::default(),
            connected_at: None,
            negotiated: None,
            established_at: None,
        }
    }

    /// How long the connection has been open.
    fn opened(&self, now: Instant) -> Duration {
        self.connected_at
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How long the session has been up.
    fn stood(&self, now: Instant) -> Duration {
        self.established_at
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// What a trigger carries, for effects and for the end that it may bring.
#[derive(Debug, Default)]
struct News {
    notification: Option<Notification>,
    end: Option<End>,
    delivery: Option<Action>,
}

impl News {
    fn refusing(malformed: Malformed) -> Self {
        let Malformed { notification, text } = malformed;
        Self {
            end: Some(End::Refused(notification.clone(), text)),
            notification: Some(notification),
            delivery: None,
        }
    }

    fn ending(end: End) -> Self {
        Self {
            end: Some(end),
            ..Self::default()
        }
    }
}

impl Peer {
    /// A machine at rest; it needs [`Event::Start`].
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            outgoing: Slot::new(),
            incoming: Slot::new(),
            stopped: true,
            penalty: 0,
            damped: false,
            last_id: 0,
            rng: StdRng::seed_from_u64(seed),
            actions: VecDeque::new(),
        }
    }

    /// Takes one piece of news.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Start => {
                self.stopped = false;
                self.start(now);
            }
            Event::Stop { reason, text } => self.stop(&Notification::shutdown(reason, &text), now),
            Event::Connected(id) => self.on_session(id, Trigger::Connected, News::default(), now),
            Event::Lost(id, cause) => self.on_session(id, Trigger::Lost, News::ending(End::Lost(cause)), now),
            Event::Frame(id, frame) => self.on_frame(id, &frame, now),
            Event::Malformed(id, malformed) => {
                self.on_session(id, Trigger::Malformed, News::refusing(malformed), now);
            }
            Event::TooManyPrefixes { id, family, limit } => {
                let malformed = Malformed::too_many_prefixes(family, limit);
                self.on_session(id, Trigger::Malformed, News::refusing(malformed), now);
            }
            Event::Restart { text } => {
                self.stop(&Notification::shutdown(Reason::AdministrativeReset, &text), now);
            }
            Event::Recovered => self.config.restarted = false,
            Event::Blocked(_) | Event::Progress(_) => {}
            Event::PathUp | Event::PathDown | Event::PathAdminDown => {}
        }
        self.settle(now);
    }

    /// The peer has connected: a number for the connection, or the reason to close it.
    pub fn accept(&mut self, now: Instant) -> Result<SessionId, Refusal> {
        if self.stopped {
            return Err(Refusal::Stopped);
        }
        if self.state() == State::Established {
            return Err(Refusal::Established);
        }
        if self.damped && self.outgoing.timers.runs(Timer::Restart) {
            return Err(Refusal::Damped);
        }
        // A second connection from the same side: the peer has forgotten the first.
        self.fire(Side::Incoming, Trigger::Collision, collision(), now);
        let id = self.new_id();
        self.incoming.id = id;
        self.fire(Side::Incoming, Trigger::Connected, News::default(), now);
        self.settle(now);
        Ok(id)
    }

    /// The time has come: fires every timer that is due.
    pub fn on_deadline(&mut self, now: Instant) {
        for side in [Side::Outgoing, Side::Incoming] {
            while let Some(timer) = self.slot_mut(side).timers.pop_due(now) {
                self.on_timer(side, timer, now);
            }
        }
        self.settle(now);
    }

    /// When to call [`Peer::on_deadline`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.outgoing
            .timers
            .next()
            .into_iter()
            .chain(self.incoming.timers.next())
            .min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The state of the connection that has come furthest.
    #[must_use]
    pub fn state(&self) -> State {
        self.outgoing.state.max(self.incoming.state)
    }

    /// The longest message that `wire::take_frame` may take from this connection.
    #[must_use]
    pub fn frame_limit(&self, id: SessionId) -> usize {
        // RFC 8654 §4: who offers it takes long messages, whatever the peer offers; after the OPEN, which has none.
        let past_open = self.state_of(id).is_some_and(|state| state > State::OpenSent);
        if past_open && self.config.extended_messages {
            EXTENDED_LENGTH
        } else {
            MAX_LENGTH
        }
    }

    /// The state of one connection, if it is still ours.
    #[must_use]
    pub fn state_of(&self, id: SessionId) -> Option<State> {
        self.side_of(id).map(|side| self.slot(side).state)
    }

    fn start(&mut self, now: Instant) {
        self.damped = false;
        let trigger = if self.config.passive {
            Trigger::StartPassive
        } else {
            Trigger::Start
        };
        self.fire(Side::Outgoing, trigger, News::default(), now);
    }

    fn stop(&mut self, notification: &Notification, now: Instant) {
        self.stopped = true;
        self.penalty = 0; // RFC 4271 §8.2.2: ManualStop sets ConnectRetryCounter to zero
        for side in [Side::Outgoing, Side::Incoming] {
            let end = Some(End::Stopped(notification.clone()));
            let news = News {
                notification: Some(notification.clone()),
                end,
                delivery: None,
            };
            self.fire(side, Trigger::Stop, news, now);
        }
    }

    fn on_session(&mut self, id: SessionId, trigger: Trigger, news: News, now: Instant) {
        if let Some(side) = self.side_of(id) {
            self.fire(side, trigger, news, now);
        }
    }

    fn on_timer(&mut self, side: Side, timer: Timer, now: Instant) {
        match timer {
            Timer::Restart => self.start(now),
            Timer::Retry => {
                let news = News::ending(End::Lost("no answer to our connection attempt".to_owned()));
                self.fire(side, Trigger::RetryExpired, news, now);
            }
            Timer::Hold => {
                let waiting = if self.slot(side).state == State::OpenSent {
                    "OPEN"
                } else {
                    "KEEPALIVE"
                };
                let text = format!("the peer sent no {waiting} within the hold time");
                let malformed = Malformed {
                    notification: Notification::bare(Reason::HoldTimerExpired),
                    text,
                };
                self.fire(side, Trigger::HoldExpired, News::refusing(malformed), now);
            }
            Timer::Keepalive => self.fire(side, Trigger::KeepaliveExpired, News::default(), now),
        }
    }

    fn on_frame(&mut self, id: SessionId, frame: &Frame, now: Instant) {
        let Some(side) = self.side_of(id) else { return };
        if let Some(unexpected) = unexpected(self.slot(side).state, frame.kind) {
            return self.fire(side, trigger_of(frame.kind), News::refusing(unexpected), now);
        }
        match wire::decode(frame, self.context(side)) {
            Ok(message) => self.on_message(side, message, now),
            Err(malformed) => self.fire(side, Trigger::Malformed, News::refusing(malformed), now),
        }
    }

    fn on_message(&mut self, side: Side, message: Message, now: Instant) {
        let id = self.slot(side).id;
        let (trigger, news) = match message {
            Message::Open(open) => return self.on_open(side, &open, now),
            Message::Keepalive => (Trigger::Keepalive, News::default()),
            Message::Update(update) => {
                let delivery = Some(Action::Inbound(id, update));
                (
                    Trigger::Update,
                    News {
                        delivery,
                        ..News::default()
                    },
                )
            }
            Message::RouteRefresh(refresh) => {
                // RFC 2918 §4: a family that was not agreed on is ignored. Subtypes 1 and 2 are answers (RFC 7313).
                let family = Family::from_numbers(refresh.afi, refresh.safi).filter(|_| refresh.subtype == 0);
                let delivery = family.map(|family| Action::Refresh(id, family));
                (
                    Trigger::Refresh,
                    News {
                        delivery,
                        ..News::default()
                    },
                )
            }
            Message::Notification(notification) => {
                (Trigger::Notification, News::ending(End::Notified(notification)))
            }
        };
        self.fire(side, trigger, news, now);
    }

    fn on_open(&mut self, side: Side, open: &Open, now: Instant) {
        if let Err(malformed) = self.check_open(open) {
            return self.fire(side, Trigger::Malformed, News::refusing(malformed), now);
        }
        match self.colliding(side, open, now) {
            Some(loser) if loser == side => return self.fire(side, Trigger::Collision, collision(), now),
            Some(loser) => self.fire(loser, Trigger::Collision, collision(), now),
            None => {}
        }
        self.slot_mut(side).negotiated = Some(self.config.negotiate(open));
        self.fire(side, Trigger::Open, News::default(), now);
    }

    /// RFC 4271 §6.2: what only the configuration can judge.
    fn check_open(&self, open: &Open) -> Result<(), Malformed> {
        if let Some(want) = self.config.peer_asn.filter(|want| *want != open.asn) {
            let text = format!("the peer is {}, configured is {want}", open.asn);
            return Err(Malformed::new(Reason::BadPeerAs, &[], text));
        }
        // RFC 6286 §2.2: the identifier need only differ inside an AS.
        if open.asn == self.config.local_asn && open.identifier == self.config.router_id {
            let text = format!("the peer has our own BGP Identifier {}", open.identifier);
            return Err(Malformed::new(Reason::BadIdentifier, &[], text));
        }
        Ok(())
    }

    /// RFC 4271 §6.8: the connection to close now that `side` has its OPEN, if there are two.
    fn colliding(&self, side: Side, open: &Open, now: Instant) -> Option<Side> {
        // The connection that the higher identifier opened is kept; RFC 6286 §2.3: if equal, the higher AS.
        let ours = (self.config.router_id, self.config.local_asn);
        let keep = if ours > (open.identifier, open.asn) {
            Side::Outgoing
        } else {
            Side::Incoming
        };
        let other = self.slot(side.other());
        match other.state {
            State::Established => Some(side),
            State::OpenConfirm => Some(keep.other()),
            // Its OPEN is still to come, but this OPEN tells whose it is. Deciding now keeps the two ends from
            // each keeping another connection; a connection that stays silent does not count for long.
            State::OpenSent if other.opened(now) < COLLISION_WINDOW => Some(keep.other()),
            State::Idle | State::Connect | State::Active | State::OpenSent => None,
        }
    }

    /// Does one transition and what it asks for.
    fn fire(&mut self, side: Side, trigger: Trigger, mut news: News, now: Instant) {
        let before = self.slot(side).state;
        let (next, effects) = step(before, trigger);
        self.slot_mut(side).state = next;
        let id = self.slot(side).id;
        if next == State::Idle && self.slot(side).stood(now) >= STABLE {
            self.penalty = 0;
        }
        for effect in effects {
            self.apply(side, *effect, &mut news, now);
        }
        let ended = before.is_connected() && !next.is_connected();
        let undialled = before == State::Connect && matches!(trigger, Trigger::Lost | Trigger::RetryExpired);
        if ended || undialled {
            let established = before == State::Established;
            let end = news.end.unwrap_or(End::Lost("unexpected event".to_owned()));
            self.actions.push_back(Action::Ended { id, established, end });
        }
        if ended {
            self.after_end(side, now);
        }
    }

    fn apply(&mut self, side: Side, effect: Effect, news: &mut News, now: Instant) {
        let id = self.slot(side).id;
        match effect {
            Effect::Dial => {
                let id = self.new_id();
                self.slot_mut(side).id = id;
                self.actions.push_back(Action::Dial(id));
            }
            Effect::Close => self.actions.push_back(Action::Close(id)),
            Effect::SendOpen => self.actions.push_back(Action::SendOpen(id, self.config.open())),
            Effect::SendKeepalive => self.actions.push_back(Action::SendKeepalive(id)),
            Effect::SendNotification => {
                let notification = news
                    .notification
                    .take()
                    .unwrap_or(Notification::bare(Reason::FsmUnspecific));
                self.actions.push_back(Action::SendNotification(id, notification));
            }
            Effect::ArmRetry => {
                let wait = self.jittered(self.config.connect_retry);
                self.slot_mut(side).timers.arm(Timer::Retry, now + wait);
            }
            Effect::ArmOpenHold => {
                let slot = self.slot_mut(side);
                slot.connected_at = Some(now);
                slot.timers.arm(Timer::Hold, now + OPEN_TIMEOUT);
            }
            Effect::ArmHold => self.arm_hold(side, now),
            Effect::ArmKeepalive => {
                let wait = self.jittered(self.hold_time(side) / 3); // RFC 4271 §4.4: a third of the hold time
                self.arm_unless_zero(side, Timer::Keepalive, wait, now);
            }
            Effect::ClearTimers => self.slot_mut(side).timers.clear(),
            Effect::Up => {
                self.slot_mut(side).established_at = Some(now);
                let negotiated = self.slot(side).negotiated.clone();
                self.actions
                    .extend(negotiated.map(|negotiated| Action::Up(id, negotiated)));
            }
            Effect::Deliver => self.actions.extend(news.delivery.take()),
            Effect::Penalty => {
                // A Cease is a wish of the peer's operator, no fault.
                if !matches!(&news.end, Some(End::Notified(notification)) if notification.is_cease()) {
                    self.penalty = MAX_PENALTY.min(self.penalty + 1);
                    self.damped = true;
                }
            }
        }
    }

    /// Without a hold time the first KEEPALIVE must come all the same, or nothing would ever end OpenConfirm.
    fn arm_hold(&mut self, side: Side, now: Instant) {
        let hold = self.hold_time(side);
        let slot = self.slot_mut(side);
        match (hold.is_zero(), slot.state) {
            (false, _) => slot.timers.arm(Timer::Hold, now + hold),
            (true, State::OpenConfirm) => slot.timers.arm(Timer::Hold, now + OPEN_TIMEOUT),
            (true, _) => slot.timers.stop(Timer::Hold),
        }
    }

    fn arm_unless_zero(&mut self, side: Side, timer: Timer, wait: Duration, now: Instant) {
        if !wait.is_zero() {
            self.slot_mut(side).timers.arm(timer, now + wait);
        }
    }

    fn after_end(&mut self, side: Side, now: Instant) {
        let slot = self.slot_mut(side);
        slot.connected_at = None;
        slot.negotiated = None;
        slot.established_at = None;
        if side == Side::Incoming {
            // Dialling is the outgoing slot's business: an accepted connection that ended leaves nothing behind.
            slot.state = State::Idle;
            slot.timers.clear();
            if self.damped && self.outgoing.state == State::Active {
                // The peer waits out its penalty, whichever side it came from.
                self.fire(Side::Outgoing, Trigger::Collision, collision(), now);
            }
        }
    }

    /// What must hold after every event, decided in one place.
    fn settle(&mut self, now: Instant) {
        for side in [Side::Outgoing, Side::Incoming] {
            if self.slot(side).state == State::Established {
                // RFC 4271 §6.8: an established session stays; the other connection is not needed.
                self.fire(side.other(), Trigger::Collision, collision(), now);
                return;
            }
        }
        let resting = self.outgoing.state == State::Idle && !self.outgoing.timers.runs(Timer::Restart);
        if resting && !self.stopped {
            let wait = self.jittered(self.config.connect_retry * 2_u32.pow(self.penalty.saturating_sub(1)));
            self.outgoing.timers.arm(Timer::Restart, now + wait);
        }
    }

    fn context(&self, side: Side) -> Context {
        let negotiated = self.slot(side).negotiated.as_ref();
        negotiated.map_or(Context::default(), Negotiated::context)
    }

    fn hold_time(&self, side: Side) -> Duration {
        self.slot(side)
            .negotiated
            .as_ref()
            .map_or(self.config.hold_time, |negotiated| negotiated.hold_time)
    }

    /// RFC 4271 §10: 75 to 100 % of the time.
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random_range(0.75..=1.0))
    }

    fn new_id(&mut self) -> SessionId {
        self.last_id += 1;
        SessionId(self.last_id)
    }

    fn side_of(&self, id: SessionId) -> Option<Side> {
        [Side::Outgoing, Side::Incoming].into_iter().find(|side| {
            let slot = self.slot(*side);
            slot.id == id && !matches!(slot.state, State::Idle | State::Active)
        })
    }

    fn slot(&self, side: Side) -> &Slot {
        match side {
            Side::Outgoing => &self.outgoing,
            Side::Incoming => &self.incoming,
        }
    }

    fn slot_mut(&mut self, side: Side) -> &mut Slot {
        match side {
            Side::Outgoing => &mut self.outgoing,
            Side::Incoming => &mut self.incoming,
        }
    }
}

fn collision() -> News {
    let notification = Some(Notification::bare(Reason::ConnectionCollision));
    News {
        notification,
        end: Some(End::Collision),
        delivery: None,
    }
}

fn trigger_of(kind: Kind) -> Trigger {
    match kind {
        Kind::Open => Trigger::Open,
        Kind::Update => Trigger::Update,
        Kind::Notification => Trigger::Notification,
        Kind::Keepalive => Trigger::Keepalive,
        Kind::RouteRefresh => Trigger::Refresh,
    }
}

/// RFC 6608 §3: a message that the state does not expect; the data is its type.
fn unexpected(state: State, kind: Kind) -> Option<Malformed> {
    let (reason, expected): (_, &[Kind]) = match state {
        State::OpenSent => (Reason::UnexpectedInOpenSent, &[Kind::Open]),
        State::OpenConfirm => (Reason::UnexpectedInOpenConfirm, &[Kind::Keepalive]),
        State::Established => (
            Reason::UnexpectedInEstablished,
            &[Kind::Update, Kind::Keepalive, Kind::RouteRefresh],
        ),
        State::Idle | State::Connect | State::Active => return None,
    };
    let fine = kind == Kind::Notification || expected.contains(&kind);
    let text = || format!("{} message in state {}", kind.name(), state.name());
    (!fine).then(|| Malformed::new(reason, &[kind.octet()], text()))
}
