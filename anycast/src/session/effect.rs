//! What a transition does: actions, timers, and the bookkeeping of its connection.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::wire::{Notification, Open, Reason};

use super::slot::News;
use super::{
    Action, Effect, End, MAX_PENALTY, OPEN_TIMEOUT, Peer, SEND_HOLD_MIN, STABLE, Side, State, Timer, Trigger,
    step,
};

impl Peer {
    /// Does one transition and what it asks for.
    pub(super) fn fire(&mut self, side: Side, trigger: Trigger, mut news: News, now: Instant) {
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
            Effect::SendOpen => {
                let open = self.our_open();
                self.slot_mut(side).offered = open.capabilities.clone();
                self.actions.push_back(Action::SendOpen(id, open));
            }
            Effect::SendKeepalive => self.actions.push_back(Action::SendKeepalive(id)),
            Effect::SendNotification => {
                let notification = self.notification(side, news);
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
            Effect::ArmSendHold => {
                if !self.slot(side).timers.runs(Timer::SendHold) {
                    let wait = self.send_hold_time(side);
                    self.arm_unless_zero(side, Timer::SendHold, wait, now);
                }
            }
            Effect::StopSendHold => self.slot_mut(side).timers.stop(Timer::SendHold),
            Effect::ClearTimers => self.slot_mut(side).timers.clear(),
            Effect::Up => {
                self.bare = false;
                self.slot_mut(side).established_at = Some(now);
                let negotiated = self.slot(side).negotiated.clone();
                self.actions
                    .extend(negotiated.map(|negotiated| Action::Up(id, negotiated)));
            }
            Effect::Deliver => self.actions.extend(news.delivery.take()),
            Effect::Penalty => self.penalize(news),
        }
    }

    fn our_open(&self) -> Open {
        let open = self.config.open();
        if !self.bare {
            return open;
        }
        Open {
            capabilities: Default::default(),
            ..open
        }
    }

    /// What the trigger wants said. RFC 8538 §3.1: a peer that would keep our routes hears of a real end.
    fn notification(&self, side: Side, news: &mut News) -> Notification {
        let plain = news
            .notification
            .take()
            .unwrap_or(Notification::bare(Reason::FsmUnspecific));
        let graceful = self
            .slot(side)
            .negotiated
            .as_ref()
            .is_some_and(|negotiated| negotiated.graceful_notification);
        if graceful && plain.is_final() {
            Notification::hard_reset(&plain)
        } else {
            plain
        }
    }

    fn penalize(&mut self, news: &News) {
        let (grows, damps) = match &news.end {
            // A Cease is a wish of the peer's operator, no fault.
            Some(End::Notified(notification)) if notification.is_cease() => {
                (notification.asks_for_patience(), false)
            }
            Some(_) | None => (true, true),
        };
        if grows {
            self.penalty = MAX_PENALTY.min(self.penalty + 1);
        }
        self.damped |= damps;
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
                self.fire(Side::Outgoing, Trigger::Collision, News::collision(), now);
            }
        }
    }

    /// What must hold after every event, decided in one place.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.waits_for_path() && matches!(self.outgoing.state, State::Connect | State::Active) {
            self.fire(
                Side::Outgoing,
                Trigger::PathDown,
                News::ending(End::PathDown),
                now,
            );
        }
        for side in [Side::Outgoing, Side::Incoming] {
            if self.slot(side).state == State::Established {
                // RFC 4271 §6.8: an established session stays; the other connection is not needed.
                self.fire(side.other(), Trigger::Collision, News::collision(), now);
                return;
            }
        }
        let resting = self.outgoing.state == State::Idle && !self.outgoing.timers.runs(Timer::Restart);
        if resting && !self.stopped && !self.waits_for_path() {
            let wait = self.jittered(self.config.connect_retry * 2_u32.pow(self.penalty.saturating_sub(1)));
            self.outgoing.timers.arm(Timer::Restart, now + wait);
        }
    }

    fn hold_time(&self, side: Side) -> Duration {
        self.slot(side)
            .negotiated
            .as_ref()
            .map_or(self.config.hold_time, |negotiated| negotiated.hold_time)
    }

    /// RFC 9687 §4: 8 minutes or twice the hold time, whichever is longer; none where the hold time is 0.
    pub(super) fn send_hold_time(&self, side: Side) -> Duration {
        match self.hold_time(side) {
            Duration::ZERO => Duration::ZERO,
            hold => SEND_HOLD_MIN.max(hold * 2),
        }
    }

    /// RFC 4271 §10: 75 to 100 % of the time.
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random_range(0.75..=1.0))
    }
}
