//! What is in the envelope: the octets of SWIM, then items, each a tag and fields of fixed length in network order.
//!
//! ```text
//! swim length (2)   swim   item   item   ..
//! item: 1 beat   origin (3)  epoch (8)  number (8)  age (4)
//!       2 delta  origin (3)  epoch (8)  after (8)  until (8)  count (2)  then per observation
//!                key (8)  number (8)  verdict (1)  since (8)  age (4)  reason length (1)  reason
//!       3 pull   origin (3)  epoch (8)  after (8)
//!       4 more   origin (3)
//!       5 end
//!       6 members  length (2)  members as SWIM writes them
//! ```

use bytes::{Buf, BufMut};
use jiff::Timestamp;

use super::observation::{Key, Observation, REASON_MAX, Version};
use super::seal::Dropped;
use super::site::SiteName;
use crate::snapshot::Verdict;

/// A part of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `origin` stands by all that it said up to a change.
    Beat(Beat),
    /// What `origin` said between two of its changes.
    Delta(Delta),
    /// Asks for what `origin` said after a change.
    Pull(Pull),
    /// The answer to a pull does not fit a packet; it is to be had by a stream.
    More(SiteName),
    /// Ends a stream that was sent whole.
    End,
    /// What is believed of members that are not simply there, for who has missed it. See `member`.
    Members(Vec<u8>),
}

/// See [`Item::Beat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Who says it.
    pub origin: SiteName,
    /// The newest of its changes.
    pub version: Version,
    /// Milliseconds since it was said, as far as the sender knows.
    pub age_ms: u32,
}

/// See [`Item::Delta`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Who said it.
    pub origin: SiteName,
    /// In which of its starts.
    pub epoch: u64,
    /// All that it said after this change
    pub after: u64,
    /// up to this one, as it stands now, is told. Equal to `after`: no such promise.
    pub until: u64,
    /// By change, oldest first.
    pub told: Vec<Told>,
}

/// One observation of a [`Delta`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Of which endpoint.
    pub key: Key,
    /// What is said of it.
    pub observation: Observation,
    /// Milliseconds since its origin last stood by it, as far as the sender knows.
    pub age_ms: u32,
}

/// See [`Item::Pull`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    /// Whose word is asked for.
    pub origin: SiteName,
    /// The last change up to which everything is known.
    pub known: Version,
}

const BEAT: u8 = 1;
const DELTA: u8 = 2;
const PULL: u8 = 3;
const MORE: u8 = 4;
const END: u8 = 5;
const MEMBERS: u8 = 6;

/// Octets of a delta without its observations.
pub const DELTA_HEAD: usize = 1 + SiteName::LENGTH + 8 + 8 + 8 + 2;
/// Octets of an observation without its reason.
const TOLD_HEAD: usize = 8 + 8 + 1 + 8 + 4 + 1;

impl Told {
    /// Octets on the wire.
    #[must_use]
    pub fn length(&self) -> usize {
        TOLD_HEAD + self.observation.reason.len()
    }
}

impl Item {
    /// Octets on the wire.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Self::Beat(_) => 1 + SiteName::LENGTH + 8 + 8 + 4,
            Self::Delta(delta) => DELTA_HEAD + delta.told.iter().map(Told::length).sum::<usize>(),
            Self::Pull(_) => 1 + SiteName::LENGTH + 8 + 8,
            Self::More(_) => 1 + SiteName::LENGTH,
            Self::End => 1,
            Self::Members(octets) => 1 + 2 + octets.len(),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Beat(Beat {
                origin,
                version,
                age_ms,
            }) => {
                out.put_u8(BEAT);
                out.put_slice(&origin.octets());
                out.put_u64(version.epoch);
                out.put_u64(version.number);
                out.put_u32(*age_ms);
            }
            Self::Delta(delta) => delta.put(out),
            Self::Pull(Pull { origin, known }) => {
                out.put_u8(PULL);
                out.put_slice(&origin.octets());
                out.put_u64(known.epoch);
                out.put_u64(known.number);
            }
            Self::More(origin) => {
                out.put_u8(MORE);
                out.put_slice(&origin.octets());
            }
            Self::End => out.put_u8(END),
            Self::Members(octets) => {
                out.put_u8(MEMBERS);
                out.put_u16(octets.len() as u16); // DATAGRAM_MAX at most
                out.put_slice(octets);
            }
        }
    }

    fn get(from: &mut &[u8]) -> Result<Self, Dropped> {
        match octet(from)? {
            BEAT => Ok(Self::Beat(Beat {
                origin: site(from)?,
                version: version(from)?,
                age_ms: from.try_get_u32().map_err(short)?,
            })),
            DELTA => Delta::get(from).map(Self::Delta),
            PULL => Ok(Self::Pull(Pull {
                origin: site(from)?,
                known: version(from)?,
            })),
            MORE => site(from).map(Self::More),
            END => Ok(Self::End),
            MEMBERS => {
                let length = usize::from(from.try_get_u16().map_err(short)?);
                let (octets, rest) = from.split_at_checked(length).ok_or(Dropped::Malformed)?;
                *from = rest;
                Ok(Self::Members(octets.to_vec()))
            }
            _ => Err(Dropped::Malformed),
        }
    }
}

impl Delta {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(DELTA);
        out.put_slice(&self.origin.octets());
        out.put_u64(self.epoch);
        out.put_u64(self.after);
        out.put_u64(self.until);
        out.put_u16(self.told.len() as u16); // a frame holds 2,184 at most
        for Told {
            key,
            observation,
            age_ms,
        } in &self.told
        {
            let Observation {
                version,
                verdict,
                since,
                reason,
            } = observation;
            out.put_u64(key.0);
            out.put_u64(version.number);
            out.put_u8(verdict_octet(*verdict));
            out.put_i64(since.as_millisecond());
            out.put_u32(*age_ms);
            out.put_u8(reason.len() as u8); // REASON_MAX at most
            out.put_slice(reason.as_bytes());
        }
    }

    fn get(from: &mut &[u8]) -> Result<Self, Dropped> {
        let origin = site(from)?;
        let epoch = from.try_get_u64().map_err(short)?;
        let after = from.try_get_u64().map_err(short)?;
        let until = from.try_get_u64().map_err(short)?;
        let count = usize::from(from.try_get_u16().map_err(short)?);
        if until < after || from.len() < count * TOLD_HEAD {
            return Err(Dropped::Malformed);
        }
        let mut told = Vec::with_capacity(count);
        for _ in 0..count {
            let one = Self::told(from, epoch)?;
            let number = one.observation.version.number;
            if number == 0 || (until > after && !(after + 1..=until).contains(&number)) {
                return Err(Dropped::Malformed);
            }
            told.push(one);
        }
        Ok(Self {
            origin,
            epoch,
            after,
            until,
            told,
        })
    }

    fn told(from: &mut &[u8], epoch: u64) -> Result<Told, Dropped> {
        let key = Key(from.try_get_u64().map_err(short)?);
        let number = from.try_get_u64().map_err(short)?;
        let verdict = verdict(octet(from)?)?;
        let since = from.try_get_i64().map_err(short)?;
        let since = Timestamp::from_millisecond(since).map_err(|_| Dropped::Malformed)?;
        let age_ms = from.try_get_u32().map_err(short)?;
        let length = usize::from(octet(from)?);
        let (reason, rest) = from.split_at_checked(length).ok_or(Dropped::Malformed)?;
        *from = rest;
        if length > REASON_MAX {
            return Err(Dropped::Malformed);
        }
        let reason = std::str::from_utf8(reason)
            .map_err(|_| Dropped::Malformed)?
            .to_owned();
        let version = Version { epoch, number };
        Ok(Told {
            key,
            observation: Observation {
                version,
                verdict,
                since,
                reason,
            },
            age_ms,
        })
    }
}

/// Puts a packet together. The caller keeps within the length of an envelope.
#[must_use]
pub fn encode(swim: &[u8], items: &[Item]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + swim.len() + items.iter().map(Item::length).sum::<usize>());
    out.put_u16(swim.len() as u16); // DATAGRAM_MAX at most
    out.put_slice(swim);
    items.iter().for_each(|item| item.put(&mut out));
    out
}

/// Takes a packet apart: the octets of SWIM, which may be none, and the items.
///
/// # Errors
/// [`Dropped::Malformed`]. Nothing of such a packet is used.
pub fn decode(mut from: &[u8]) -> Result<(&[u8], Vec<Item>), Dropped> {
    let length = usize::from(from.try_get_u16().map_err(short)?);
    let (swim, mut from) = from.split_at_checked(length).ok_or(Dropped::Malformed)?;
    let mut items = Vec::new();
    while from.has_remaining() {
        items.push(Item::get(&mut from)?);
    }
    Ok((swim, items))
}

fn short(_: bytes::TryGetError) -> Dropped {
    Dropped::Malformed
}

fn octet(from: &mut &[u8]) -> Result<u8, Dropped> {
    from.try_get_u8().map_err(short)
}

fn site(from: &mut &[u8]) -> Result<SiteName, Dropped> {
    let (octets, rest) = from.split_first_chunk().ok_or(Dropped::Malformed)?;
    *from = rest;
    SiteName::from_octets(*octets).ok_or(Dropped::Malformed)
}

fn version(from: &mut &[u8]) -> Result<Version, Dropped> {
    Ok(Version {
        epoch: from.try_get_u64().map_err(short)?,
        number: from.try_get_u64().map_err(short)?,
    })
}

fn verdict_octet(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Unknown => 0,
        Verdict::Up => 1,
        Verdict::Down => 2,
    }
}

fn verdict(octet: u8) -> Result<Verdict, Dropped> {
    match octet {
        0 => Ok(Verdict::Unknown),
        1 => Ok(Verdict::Up),
        2 => Ok(Verdict::Down),
        _ => Err(Dropped::Malformed),
    }
}

#[cfg(test)]
mod tests;
