//! Everything at once, for who has just come or lacks much: by a stream.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Gossip;
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

impl Gossip {
    /// The first frame of a stream to `with`, and its session, to which the answer is bound.
    pub fn sync_request(&mut self, with: SiteName, at: Timestamp) -> (SessionId, Vec<u8>) {
        let items: Vec<_> = self.store.known().map(Item::Pull).collect();
        let mut sealer = Sealer::new(self.me, &self.keys, self.random.random());
        let frame = sealer.seal(Kind::Frame, with, None, &wire::encode(&[], &items), at);
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
        let told = |item: &Item| matches!(item, Item::Beat(_) | Item::Delta(_));
        self.on_items(opened.sender, items.into_iter().filter(told).collect(), when)?;
        Ok(is_last)
    }
}
