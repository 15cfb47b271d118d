//! Whole messages out of pieces of any size: what was cut in the midst is not passed on.

use bytes::{Buf, Bytes, BytesMut};

/// The prefix of a message (`PROTOCOL-HTTP2.md`): one octet whether it is compressed, four of its length.
const PREFIX: usize = 5;

/// Finds the messages of a stream.
#[derive(Debug)]
pub struct Frames {
    kept: BytesMut,
    message_max: usize,
}

/// A message that is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {length} octets; {max} are the most")]
pub struct TooLong {
    /// Its length.
    pub length: usize,
    /// The bound.
    pub max: usize,
}

impl Frames {
    /// For messages of so many octets at most.
    #[must_use]
    pub fn new(message_max: usize) -> Self {
        Self {
            kept: BytesMut::new(),
            message_max,
        }
    }

    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.kept.extend_from_slice(piece);
    }

    /// The next whole message with its prefix, if there is one. To be asked until there is none before more is pushed, so
    /// that no more than a message and a piece are kept.
    ///
    /// # Errors
    ///
    /// See [`TooLong`]; nothing can be read after it.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some([_, length @ ..]) = self.kept.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.message_max {
            return Err(TooLong {
                length,
                max: self.message_max,
            });
        }
        if self.kept.remaining() < PREFIX + length {
            return Ok(None);
        }
        Ok(Some(self.kept.split_to(PREFIX + length).freeze()))
    }

    /// The stream was cut: what there is of a message is none.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0], &length[..], payload].concat()
    }

    proptest! {
        #[test]
        fn messages_are_found_whole_in_pieces_of_any_size(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8), piece in 1_usize..50,
            cut in 0_usize..20
        ) {
            let framed: Vec<_> = messages.iter().map(|message| framed(message)).collect();
            let octets = framed.concat();
            // All but the last octets come; what they cut is not a message.
            let octets = &octets[..octets.len().saturating_sub(cut)];
            let (mut frames, mut found) = (Frames::new(40), Vec::new());
            for piece in octets.chunks(piece) {
                frames.push(piece);
                while let Some(message) = frames.next_message().unwrap() {
                    found.push(message.to_vec());
                }
            }
            let mut whole = Vec::new();
            let mut length = 0;
            for message in framed {
                length += message.len();
                if length <= octets.len() {
                    whole.push(message);
                }
            }
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_kept() {
        let mut frames = Frames::new(9);
        frames.push(&[0, 0, 0, 0, 10]);
        assert_eq!(frames.next_message(), Err(TooLong { length: 10, max: 9 }));
    }
}
