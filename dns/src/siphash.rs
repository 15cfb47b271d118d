//! SipHash-2-4 (Aumasson, Bernstein 2012), which RFC 9018 §4.4 asks for: servers of one address, whatever
//! their make, must find the same cookie.

/// The hash of `message` under `key`. Numbers are little-endian, as in the reference.
pub(crate) fn hash(key: [u8; 16], message: &[u8]) -> u64 {
    let mut state = State::new(key);
    let mut blocks = message.chunks_exact(8);
    for block in &mut blocks {
        state.block(number(block));
    }
    let length = (message.len() as u64) << 56; // modulo 256, as it shall be
    state.block(number(blocks.remainder()) | length);
    state.finish()
}

/// At most eight octets, the first of which is the lowest.
fn number(octets: &[u8]) -> u64 {
    octets
        .iter()
        .rev()
        .fold(0, |all, octet| all << 8 | u64::from(*octet))
}

struct State([u64; 4]);

impl State {
    fn new(key: [u8; 16]) -> Self {
        let (low, high) = key.split_at(8);
        let (low, high) = (number(low), number(high));
        Self([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ])
    }

    fn block(&mut self, block: u64) {
        self.0[3] ^= block;
        self.round();
        self.round();
        self.0[0] ^= block;
    }

    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.0.into_iter().fold(0, |all, part| all ^ part)
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix A of the paper, and the first lines of the reference's `vectors.h`.
    #[test]
    fn the_published_vectors_come_out() {
        let key: [u8; 16] = std::array::from_fn(|index| index as u8);
        let message: [u8; 15] = std::array::from_fn(|index| index as u8);
        assert_eq!(hash(key, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(hash(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(hash(key, &[0]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(hash(key, &message[..8]), 0x93f5_f579_9a93_2462);
    }
}
