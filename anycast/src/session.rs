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

mod effect;
mod event;
mod message;
mod slot;
mod table;
mod terms;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::wire::{Context, EXTENDED_LENGTH, MAX_LENGTH, Malformed, Notification, Reason};

use slot::{News, Slot};

pub use event::{Action, End, Event, Refusal, SessionId, Side};
pub use table::{Effect, State, Trigger, step};
pub use terms::{Config, Negotiated};
pub use timers::{Timer, Timers};

/// Time a peer has from TCP connection to OPEN. RFC 4271 §8.2.2 suggests 4 minutes; a peer that is silent for
/// one is no BGP speaker.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// RFC 9687 §4: so long a peer may take no octet that waits for it, or twice the hold time if that is longer.
pub const SEND_HOLD_MIN: Duration = Duration::from_secs(8 * 60);

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
    path: PathState,
    /// Faults of the peer in a row.
    penalty: u32,
    /// Between a fault and the end of the wait that it brought. No longer: two sides that refuse each other would
    /// never meet again.
    damped: bool,
    /// The peer knows no capabilities (RFC 5492 §3): the next OPEN has none.
    bare: bool,
    last_id: u64,
    rng: StdRng,
    actions: VecDeque<Action>,
}

/// What BFD last said of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathState {
    /// Nothing yet, or there is no BFD.
    Unknown,
    Up,
    Down,
    AdminDown,
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
            path: PathState::Unknown,
            penalty: 0,
            damped: false,
            bare: false,
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
            Event::Restart { text } => self.restart(&text, now),
            Event::Recovered => self.config.restarted = false,
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
            Event::Blocked(id) => self.on_session(id, Trigger::Blocked, News::default(), now),
            Event::Progress(id) => self.on_session(id, Trigger::Progress, News::default(), now),
            Event::PathUp => self.on_path(PathState::Up, now),
            Event::PathDown => self.on_path(PathState::Down, now),
            Event::PathAdminDown => self.on_path(PathState::AdminDown, now),
        }
        self.settle(now);
    }

    /// The peer has connected: a number for the connection, or the reason to close it.
    pub fn accept(&mut self, now: Instant) -> Result<SessionId, Refusal> {
        if self.stopped {
            return Err(Refusal::Stopped);
        }
        if self.waits_for_path() {
            return Err(Refusal::PathDown);
        }
        if self.state() == State::Established {
            let side = self.outlived(now).ok_or(Refusal::Established)?;
            let cause = "the peer has restarted and connects anew".to_owned();
            self.fire(side, Trigger::Lost, News::ending(End::Lost(cause)), now);
        }
        if self.damped && self.outgoing.timers.runs(Timer::Restart) {
            return Err(Refusal::Damped);
        }
        // A second connection from the same side: the peer has forgotten the first.
        self.fire(Side::Incoming, Trigger::Collision, News::collision(), now);
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
        let slot = self.side_of(id).map(|side| self.slot(side));
        // RFC 8654 §4: who offers it takes long messages, whatever the peer offers; after the OPEN, which is short.
        let long = slot.is_some_and(|slot| slot.state > State::OpenSent && slot.offered.extended_messages);
        if long { EXTENDED_LENGTH } else { MAX_LENGTH }
    }

    /// The state of one connection, if it is still ours.
    #[must_use]
    pub fn state_of(&self, id: SessionId) -> Option<State> {
        self.side_of(id).map(|side| self.slot(side).state)
    }

    /// Whether no connection is sought or taken because BFD must be up first.
    #[must_use]
    pub fn waits_for_path(&self) -> bool {
        self.config.strict_bfd && self.path != PathState::Up
    }

    fn start(&mut self, now: Instant) {
        self.damped = false;
        if self.waits_for_path() {
            return; // until `PathUp`
        }
        let trigger = if self.config.passive {
            Trigger::StartPassive
        } else {
            Trigger::Start
        };
        self.fire(Side::Outgoing, trigger, News::default(), now);
    }

    fn stop(&mut self, notification: &Notification, now: Instant) {
        self.forget();
        for side in [Side::Outgoing, Side::Incoming] {
            let news = News::telling(notification.clone(), End::Stopped(notification.clone()));
            self.fire(side, Trigger::Stop, news, now);
        }
    }

    fn restart(&mut self, text: &str, now: Instant) {
        self.forget();
        for side in [Side::Outgoing, Side::Incoming] {
            if self.is_bridged(side) {
                self.fire(side, Trigger::Leave, News::ending(End::Left), now);
            } else {
                let notification = Notification::shutdown(Reason::AdministrativeReset, text);
                let news = News::telling(notification.clone(), End::Stopped(notification));
                self.fire(side, Trigger::Stop, news, now);
            }
        }
    }

    /// RFC 4271 §8.2.2: ManualStop sets ConnectRetryCounter to zero.
    fn forget(&mut self) {
        self.stopped = true;
        self.penalty = 0;
        self.bare = false;
    }

    /// Whether the peer keeps our routes when this connection ends without a word, and not when it hears a
    /// NOTIFICATION (RFC 4724 §4.2). Where its OPEN is still to come, it may.
    fn is_bridged(&self, side: Side) -> bool {
        match &self.slot(side).negotiated {
            Some(negotiated) => !negotiated.retained.is_empty() && !negotiated.graceful_notification,
            None => self.config.graceful_restart.is_some(),
        }
    }

    /// The established session, if the peer connects anew because it has restarted (RFC 4724 §5): it said that it
    /// may, and ours is old enough not to be one of two that were dialled at once.
    fn outlived(&self, now: Instant) -> Option<Side> {
        [Side::Outgoing, Side::Incoming].into_iter().find(|side| {
            let slot = self.slot(*side);
            let theirs = slot
                .negotiated
                .as_ref()
                .and_then(|negotiated| negotiated.graceful_restart);
            theirs.is_some_and(|theirs| !theirs.families.is_empty()) && slot.stood(now) >= STABLE
        })
    }

    fn on_path(&mut self, path: PathState, now: Instant) {
        let before = std::mem::replace(&mut self.path, path);
        match (before, path) {
            (PathState::Up, PathState::Up) | (PathState::Down, PathState::Down) => {}
            (PathState::Unknown | PathState::Down | PathState::AdminDown, PathState::Up) => self.hurry(now),
            (PathState::Unknown | PathState::Up | PathState::AdminDown, PathState::Down) => {
                for side in [Side::Outgoing, Side::Incoming] {
                    let news = News::telling(Notification::bare(Reason::BfdDown), End::PathDown);
                    self.fire(side, Trigger::PathDown, news, now);
                }
            }
            // RFC 5882 §4.2: no path failure. A session stays; where BFD must be first, none begins.
            (_, PathState::AdminDown | PathState::Unknown) => {}
        }
    }

    /// The path is there: what waits for it waits no longer, unless the peer was at fault.
    fn hurry(&mut self, now: Instant) {
        if self.stopped || self.damped || self.incoming.state.is_connected() {
            return;
        }
        match self.outgoing.state {
            State::Idle => self.start(now),
            State::Connect | State::Active if self.outgoing.timers.runs(Timer::Retry) => {
                self.outgoing.timers.stop(Timer::Retry);
                let news = News::ending(End::Lost("dialled again: BFD is up".to_owned()));
                self.fire(Side::Outgoing, Trigger::RetryExpired, news, now);
            }
            State::Connect | State::Active => {}
            State::OpenSent | State::OpenConfirm | State::Established => {}
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
                self.expire(side, Trigger::HoldExpired, Reason::HoldTimerExpired, text, now);
            }
            Timer::Keepalive => self.fire(side, Trigger::KeepaliveExpired, News::default(), now),
            Timer::SendHold => {
                let waited = self.send_hold_time(side).as_secs();
                let text = format!("the peer took no octet of ours for {waited} s");
                let reason = Reason::SendHoldTimerExpired;
                self.expire(side, Trigger::SendHoldExpired, reason, text, now);
            }
        }
    }

    fn expire(&mut self, side: Side, trigger: Trigger, reason: Reason, text: String, now: Instant) {
        let notification = Notification::bare(reason);
        self.fire(
            side,
            trigger,
            News::refusing(Malformed { notification, text }),
            now,
        );
    }

    fn context(&self, side: Side) -> Context {
        let negotiated = self.slot(side).negotiated.as_ref();
        negotiated.map_or(Context::default(), Negotiated::context)
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
