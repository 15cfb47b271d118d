//! The probe that is on its way: sent again as long as nobody answers, and answered or not in the end.
//!
//! foca sends each packet of a probe once. At 30 % loss that leaves one probe of five without an answer, and every one of
//! them is a suspicion that the whole fleet hears of. A packet more costs less than that.

use std::time::{Duration, Instant};

use foca::Message;

use super::awareness::Awareness;
use super::{PROBE_EVERY, PROBE_RTT};
use crate::gossip::member::Instance;
use crate::gossip::site::SiteName;

/// When a probe is sent again, after its start: first with the questions to others, then once more, with theirs, as late
/// as an answer can still come in time.
const AGAIN: [Duration; 2] = [
    PROBE_RTT,
    Duration::from_millis(PROBE_EVERY.as_millis() as u64 - 650),
];

/// One packet of a probe: to whom, and SWIM's octets without news.
pub(super) type Packet = (Instance, Vec<u8>);

/// The probe that is on its way, if any.
#[derive(Debug, Default)]
pub(super) struct Probe {
    of: Option<Of>,
}

#[derive(Debug)]
struct Of {
    target: SiteName,
    number: u8,
    packets: Vec<Packet>,
    /// When it is sent again, next first.
    again: Vec<Instant>,
}

impl Probe {
    /// foca sent a packet; those of probes are remembered.
    pub(super) fn on_sent(
        &mut self,
        message: &Message<Instance>,
        packet: Packet,
        now: Instant,
        health: Awareness,
    ) {
        match message {
            Message::Ping(number) => {
                self.of = Some(Of {
                    target: packet.0.site,
                    number: *number,
                    packets: vec![packet],
                    again: AGAIN.map(|after| now + health.stretch(after)).to_vec(),
                });
            }
            Message::PingReq { target, probe_number } => {
                if let Some(of) = &mut self.of
                    && of.is(target.site, *probe_number)
                {
                    of.packets.push(packet);
                }
            }
            Message::Ack(_)
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {}
        }
    }

    /// A packet came. True: it answers the probe, which is over.
    pub(super) fn on_heard(&mut self, sender: SiteName, message: &Message<Instance>) -> bool {
        let answers = |of: &Of| match message {
            Message::Ack(number) => of.is(sender, *number),
            Message::ForwardedAck { origin, probe_number } => of.is(origin.site, *probe_number),
            Message::Ping(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => false,
        };
        self.of.take_if(|of| answers(of)).is_some()
    }

    /// Its time is over: who has not answered, if so.
    pub(super) fn end(&mut self) -> Option<SiteName> {
        self.of.take().map(|of| of.target)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.of.as_ref()?.again.first().copied()
    }

    /// What is to be sent again now.
    pub(super) fn again(&mut self, now: Instant) -> Vec<Packet> {
        match &mut self.of {
            Some(of) if of.again.first().is_some_and(|at| *at <= now) => {
                of.again.remove(0);
                of.packets.clone()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// As [`super::timers::Timers::put_off`].
    pub(super) fn put_off(&mut self, by: Duration) {
        let again = self.of.iter_mut().flat_map(|of| &mut of.again);
        again.for_each(|at| *at += by);
    }
}

impl Of {
    fn is(&self, target: SiteName, number: u8) -> bool {
        self.target == target && self.number == number
    }
}
