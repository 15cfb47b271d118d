//! Messages in a stream: two octets of length, then the message (RFC 1035 §4.2.2, RFC 7766 §8).

use bytes::{Buf, BufMut, BytesMut};

/// Octets in front of every message.
const PREFIX: usize = 2;

/// What was read and not yet taken out.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Where the stream is read into. It holds at most one unfinished message and one read beyond it, for whole
    /// messages are taken out before the next read.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        let (prefix, rest) = self.buffer.split_first_chunk::<PREFIX>()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        if rest.len() < length {
            return None;
        }
        self.buffer.advance(PREFIX);
        Some(self.buffer.split_to(length))
    }
}

/// Appends a message with its length. `false`, and nothing appended, where it is too long for a stream.
pub(super) fn append(out: &mut Vec<u8>, message: &[u8]) -> bool {
    let Ok(length) = u16::try_from(message.len()) else {
        return false;
    };
    out.put_u16(length);
    out.put_slice(message);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_whole_however_the_stream_is_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(1_usize..40, 1..200),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                prop_assert!(append(&mut stream, message));
            }
            let mut frames = Frames::default();
            let mut out = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.buffer().extend_from_slice(now);
                while let Some(message) = frames.next() { out.push(message.to_vec()); }
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(out, messages);
            prop_assert!(frames.buffer().is_empty());
        }
    }

    #[test]
    fn a_message_beyond_two_octets_of_length_is_not_begun() {
        let mut out = Vec::new();
        assert!(!append(&mut out, &[0; 65536]));
        assert!(out.is_empty());
    }
}
