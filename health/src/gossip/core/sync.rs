//! Everything at once, for who has just come or lacks much: by a stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Gossip, SYNC_EVERY};
use crate::gossip::moment::Moment;
use crate::gossip::observation::Version;
use crate::gossip::seal::{Dropped, FRAME_MAX, Kind, OVERHEAD, Sealer, SessionId};
use crate::gossip::site::SiteName;
use crate::gossip::wire::{self, Item, Pull};

use rand::RngExt;

/// Frames of one stream; what does not fit is left for another.
pub const SYNC_FRAMES_MAX: usize = 1024;

/// Octets in a frame for us.
const FRAME_ROOM: usize = FRAME_MAX - OVERHEAD - 2;

/// Between two streams while there is a site of which nobody has told us anything: longer each time, up to this.
const ASK_ON_MAX: Duration = Duration::from_secs(320);

/// How long we ask on: until a stream has left out no site of the fleet. One does where it comes from somebody who has just come
/// too, and leaves out whom the other suspects. Nobody knows a site that never was: it is asked for less and less.
#[derive(Debug)]
pub(super) struct Asking {
    is_over: bool,
    next: Instant,
    wait: Duration,
}

impl Asking {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            is_over: false,
            next: now,
            wait: SYNC_EVERY,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_over && self.next <= now
    }

    /// A stream came to its end.
    fn on_end(&mut self, knows_all: bool, now: Instant) {
        self.is_over |= knows_all;
        self.next = now + self.wait;
        self.wait = self.wait.saturating_mul(2).min(ASK_ON_MAX);
    }
}

impl Gossip {
    /// The first frame of a stream to `with`, and its session, to which the answer is bound.
    pub fn sync_request(&mut self, with: SiteName, when: Moment) -> (SessionId, Vec<u8>) {
        self.sync_asked = when.now;
        let items: Vec<_> = self.store.known().map(Item::Pull).collect();
        let mut sealer = Sealer::new(self.me, &self.keys, self.random.random());
        let frame = sealer.seal(Kind::Frame, with, None, &wire::encode(&[], &items), when.at);
        (sealer.session(), frame)
    }

    /// The frames that answer the first frame of a stream.
    ///
    /// # Errors
    /// Why there is none: the stream is closed without a word.
    pub fn sync_answer(&mut self, frame: &[u8], when: Moment) -> Result<Vec<Vec<u8>>, Dropped> {
        let opened = self
            .opener
            .open(Kind::Frame, self.members.roster(), None, frame, when.at)?;
        let (_, asked) = wire::decode(&opened.content)?;
        let mut known: BTreeMap<SiteName, Pull> = BTreeMap::new();
        for item in asked {
            if let Item::Pull(pull) = item {
                known.insert(pull.origin, pull);
            }
        }
        let mut sealer = Sealer::new(self.me, &self.keys, self.random.random());
        let mut frames = Vec::new();
        let (mut items, mut used) = (Vec::new(), 0);
        let mut seal = |items: &mut Vec<Item>| {
            let content = wire::encode(&[], items);
            items.clear();
            sealer.seal(
                Kind::Frame,
                opened.sender,
                Some(opened.session),
                &content,
                when.at,
            )
        };
        for part in self.members.all() {
            let item = Item::Members(part);
            if used + item.length() > FRAME_ROOM {
                frames.push(seal(&mut items));
                used = 0;
            }
            used += item.length();
            items.push(item);
        }
        for origin in self.store.origins().filter(|origin| *origin != opened.sender) {
            let nothing = Pull {
                origin,
                known: Version { epoch: 0, number: 0 },
            };
            let pull = known.get(&origin).unwrap_or(&nothing);
            let left = SYNC_FRAMES_MAX.saturating_sub(frames.len() + 2);
            let Some(parts) = self.store.beyond(pull, FRAME_ROOM, left, when.now) else {
                continue;
            };
            let beat = self.store.beat(origin, when.now).map(Item::Beat);
            for item in parts.into_iter().map(Item::Delta).chain(beat) {
                if used + item.length() > FRAME_ROOM {
                    frames.push(seal(&mut items));
                    used = 0;
                }
                used += item.length();
                items.push(item);
            }
        }
        if used + Item::End.length() > FRAME_ROOM {
            frames.push(seal(&mut items));
        }
        items.push(Item::End);
        frames.push(seal(&mut items));
        Ok(frames)
    }

    /// A frame of the answer to a stream of the session `request`. True: it was the last.
    ///
    /// # Errors
    /// Why it was dropped: the stream is to be closed.
    pub fn sync_apply(&mut self, request: SessionId, frame: &[u8], when: Moment) -> Result<bool, Dropped> {
        let roster = self.members.roster();
        let opened = self
            .opener
            .open(Kind::Frame, roster, Some(request), frame, when.at)?;
        let (_, items) = wire::decode(&opened.content)?;
        let is_last = items.contains(&Item::End);
        for item in &items {
            if let Item::Members(octets) = item {
                self.members.on_all(octets, when)?;
            }
        }
        self.follow_members(when);
        let told = |item: &Item| matches!(item, Item::Beat(_) | Item::Delta(_));
        // What waited for us on the way is at least as new as our request.
        let told = items.into_iter().filter(told).collect();
        self.on_items(opened.sender, told, self.sync_asked, when)?;
        if is_last {
            self.asking.on_end(self.members.knows_all(), when.now);
        }
        Ok(is_last)
    }
}

#[cfg(test)]
mod tests;
