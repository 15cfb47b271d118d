//! Keyed SHA1 and Meticulous Keyed SHA1 (RFC 5880 §4.4, §6.7.4).

use std::fmt;

use sha1::{Digest, Sha1};
use steer_topology::BfdAuthKind;

use super::wire::Refusal;

/// Type, length, key ID, reserved, sequence number, digest.
pub(super) const SECTION_LENGTH: u8 = 28;

/// Where the digest starts in a section.
const DIGEST_AT: usize = 8;

const KEY_LENGTH: usize = 20;

/// What packets are signed and checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    kind: BfdAuthKind,
    key_id: u8,
    /// Padded with zeros.
    key: [u8; KEY_LENGTH],
}

/// The key cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has {length} octets; a BFD key has 1 to {KEY_LENGTH}")]
pub struct InvalidKey {
    /// Its length.
    pub length: usize,
}

impl Auth {
    /// Takes a key of 1 to 20 octets.
    pub fn new(kind: BfdAuthKind, key_id: u8, key: &[u8]) -> Result<Self, InvalidKey> {
        let length = key.len();
        let mut padded = [0; KEY_LENGTH];
        match padded.get_mut(..length) {
            Some(place) if length > 0 => place.copy_from_slice(key),
            Some(_) | None => return Err(InvalidKey { length }),
        }
        Ok(Self {
            kind,
            key_id,
            key: padded,
        })
    }

    /// Which algorithm.
    #[must_use]
    pub fn kind(&self) -> BfdAuthKind {
        self.kind
    }

    /// The sequence number moves with each packet, not only where contents change.
    pub(super) fn is_meticulous(&self) -> bool {
        match self.kind {
            BfdAuthKind::KeyedSha1 => false,
            BfdAuthKind::MeticulousKeyedSha1 => true,
        }
    }

    /// The section for a packet whose mandatory section is `mandatory`.
    pub(super) fn section(&self, mandatory: &[u8], sequence: u32) -> [u8; SECTION_LENGTH as usize] {
        let mut section = [0; SECTION_LENGTH as usize];
        let (head, digest) = section.split_at_mut(DIGEST_AT);
        let [a, b, c, d] = sequence.to_be_bytes();
        head.copy_from_slice(&[self.type_number(), SECTION_LENGTH, self.key_id, 0, a, b, c, d]);
        digest.copy_from_slice(&self.digest(mandatory, head));
        section
    }

    /// Checks the section at the end of a packet; returns its sequence number.
    ///
    /// The digest comes before the window, so that a packet without the key changes nothing. The RFC has it the
    /// other way round, which lets anybody set `bfd.RcvAuthSeq` while it is unknown.
    pub(super) fn check(&self, octets: &[u8], section: &[u8]) -> Result<u32, Refusal> {
        if section.first() != Some(&self.type_number()) {
            return Err(Refusal::AuthType);
        }
        if section.get(2) != Some(&self.key_id) {
            return Err(Refusal::AuthKeyId);
        }
        let whole: &[u8; SECTION_LENGTH as usize] = section.try_into().map_err(|_| Refusal::AuthLength)?;
        if whole[1] != SECTION_LENGTH {
            return Err(Refusal::AuthLength);
        }
        let (head, digest) = whole.split_at(DIGEST_AT);
        let mandatory = octets.get(..octets.len() - section.len()).unwrap_or_default();
        if !same(&self.digest(mandatory, head), digest) {
            return Err(Refusal::AuthDigest);
        }
        let sequence = head.last_chunk().map_or(0, |octets| u32::from_be_bytes(*octets));
        Ok(sequence)
    }

    /// RFC 5880 §6.7.4: over the whole packet, with the key in the place of the digest.
    fn digest(&self, mandatory: &[u8], head: &[u8]) -> [u8; KEY_LENGTH] {
        let mut hash = Sha1::new();
        hash.update(mandatory);
        hash.update(head);
        hash.update(self.key);
        hash.finalize().into()
    }

    fn type_number(&self) -> u8 {
        match self.kind {
            BfdAuthKind::KeyedSha1 => 4,
            BfdAuthKind::MeticulousKeyedSha1 => 5,
        }
    }
}

impl fmt::Debug for Auth {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, key_id) = (&self.kind, &self.key_id);
        f.debug_struct("Auth")
            .field("kind", kind)
            .field("key_id", key_id)
            .finish_non_exhaustive()
    }
}

/// In the same time wherever they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | a ^ b) == 0
}

/// `bfd.RcvAuthSeq` and `bfd.AuthSeqKnown`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window(Option<u32>);

impl Window {
    /// Takes the sequence number of a packet whose digest is right.
    pub(super) fn admit(&mut self, sequence: u32, meticulous: bool, multiplier: u8) -> Result<(), Refusal> {
        if let Some(last) = self.0 {
            let ahead = sequence.wrapping_sub(last); // a circular number space
            let least = u32::from(meticulous);
            if !(least..=3 * u32::from(multiplier)).contains(&ahead) {
                return Err(Refusal::AuthSequence);
            }
        }
        self.0 = Some(sequence);
        Ok(())
    }

    /// Nothing was heard for twice the Detection Time: the peer may have started anew.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests;
