//! What a message of the peer means to the machine.

use std::time::Instant;

use crate::wire::{self, Demarcation, Family, Frame, Kind, Malformed, Message, Open, Reason, RouteRefresh};

use super::slot::News;
use super::{Action, COLLISION_WINDOW, End, Peer, SessionId, Side, State, Trigger};

impl Peer {
    pub(super) fn on_frame(&mut self, id: SessionId, frame: &Frame, now: Instant) {
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
            Message::Update(update) => (
                Trigger::Update,
                News::delivering(Some(Action::Inbound(id, update))),
            ),
            Message::RouteRefresh(refresh) => {
                let delivery = self.on_refresh(side, refresh);
                (Trigger::Refresh, News::delivering(delivery))
            }
            Message::Notification(notification) => {
                // RFC 5492 §3: who does not know the parameter of capabilities gets an OPEN without.
                let unknown = Reason::UnsupportedParameter.numbers();
                if self.slot(side).state == State::OpenSent
                    && (notification.code, notification.subcode) == unknown
                {
                    self.bare = true;
                }
                (Trigger::Notification, News::ending(End::Notified(notification)))
            }
        };
        self.fire(side, trigger, news, now);
    }

    /// RFC 2918 §4, RFC 7313 §4 and §5: what was not agreed on is ignored, be it a family or a subtype.
    fn on_refresh(&self, side: Side, refresh: RouteRefresh) -> Option<Action> {
        let slot = self.slot(side);
        let negotiated = slot.negotiated.as_ref()?;
        let family = Family::from_numbers(refresh.afi, refresh.safi)?;
        if !negotiated.families.contains(family) {
            return None;
        }
        let framed = negotiated.enhanced_refresh;
        match refresh.subtype {
            0 => Some(Action::Refresh(slot.id, family)),
            1 if framed => Some(Action::Demarcation(slot.id, family, Demarcation::Begin)),
            2 if framed => Some(Action::Demarcation(slot.id, family, Demarcation::End)),
            _ => None,
        }
    }

    fn on_open(&mut self, side: Side, open: &Open, now: Instant) {
        let offered = &self.slot(side).offered;
        if let Err(malformed) = self.config.check(offered, open) {
            return self.fire(side, Trigger::Malformed, News::refusing(malformed), now);
        }
        match self.colliding(side, open, now) {
            Some(loser) if loser == side => {
                return self.fire(side, Trigger::Collision, News::collision(), now);
            }
            Some(loser) => self.fire(loser, Trigger::Collision, News::collision(), now),
            None => {}
        }
        let negotiated = self.config.negotiate(&self.slot(side).offered, open);
        self.slot_mut(side).negotiated = Some(negotiated);
        self.fire(side, Trigger::Open, News::default(), now);
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
