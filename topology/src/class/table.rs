//! Ranges of addresses with a value each, and the look-up in them.

use std::fmt::Debug;

/// Buckets of the first-level index: one per value of the top 16 bits.
const BUCKETS: usize = 1 << 16;

/// An address as a number.
pub(crate) trait Address: Copy + Ord + Debug + Into<u128> {
    const BITS: u8;
    const MIN: Self;
    const MAX: Self;
    /// The low bits of `bits`.
    fn from_bits(bits: u128) -> Self;
    fn top16(self) -> usize;
    /// Leading bits that both have in common.
    fn common(self, other: Self) -> u8;
    fn before(self) -> Option<Self>;
}

macro_rules! address {
    ($number:ty) => {
        impl Address for $number {
            const BITS: u8 = <$number>::BITS as u8;
            const MIN: Self = <$number>::MIN;
            const MAX: Self = <$number>::MAX;

            fn from_bits(bits: u128) -> Self {
                bits as Self
            }

            fn top16(self) -> usize {
                (self >> (Self::BITS - 16)) as usize
            }

            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }

            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}

address!(u32);
address!(u128);

/// Covers the whole space: range `n` reaches from `firsts[n]` to just before `firsts[n + 1]`. Neighbours differ.
#[derive(Debug, Clone)]
pub(crate) struct Table<A> {
    /// Sorted; the first is the lowest address.
    firsts: Vec<A>,
    /// As many as `firsts`.
    values: Vec<u16>,
    /// Per bucket, the range that holds its first address; one more entry for the end, the last range.
    index: Vec<u32>,
}

/// A [`Table`] that grows from the lowest address up.
pub(crate) struct TableBuilder<A> {
    firsts: Vec<A>,
    values: Vec<u16>,
}

impl<A: Address> TableBuilder<A> {
    pub(crate) fn new() -> Self {
        Self {
            firsts: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The next range begins at `first`, just after the one before. Equal neighbours become one.
    pub(crate) fn push(&mut self, first: A, value: u16) {
        if self.values.last() != Some(&value) {
            self.firsts.push(first);
            self.values.push(value);
        }
    }

    /// The last range reaches to the highest address.
    pub(crate) fn build(mut self) -> Table<A> {
        self.firsts.shrink_to_fit();
        self.values.shrink_to_fit();
        let index = index(&self.firsts);
        Table {
            firsts: self.firsts,
            values: self.values,
            index,
        }
    }
}

impl<A: Address> Table<A> {
    /// One value everywhere.
    pub(crate) fn of_one(value: u16) -> Self {
        let mut builder = TableBuilder::new();
        builder.push(A::MIN, value);
        builder.build()
    }

    /// The value at `address`, and the length of the widest network around it with that value alone.
    pub(crate) fn find(&self, address: A) -> (u16, u8) {
        let bucket = address.top16();
        let low = self.index[bucket] as usize;
        let high = self.index[bucket + 1] as usize;
        // The range that holds the bucket's first address begins at or before it, so at least `low` fits.
        let range = low + self.firsts[low + 1..=high].partition_point(|first| *first <= address);
        (self.values[range], self.scope(address, range))
    }

    /// The value, where it is the same everywhere.
    pub(crate) fn only_value(&self) -> Option<u16> {
        if let [value] = *self.values {
            Some(value)
        } else {
            None
        }
    }

    /// First address, last address and value of every range.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (A, A, u16)> + '_ {
        (0..self.firsts.len()).map(|range| {
            let last = self
                .firsts
                .get(range + 1)
                .and_then(|next| next.before())
                .unwrap_or(A::MAX);
            (self.firsts[range], last, self.values[range])
        })
    }

    /// A network around `address` that reaches past an end of the range holds the address just past it. So it is
    /// to be longer than what `address` has in common with either.
    fn scope(&self, address: A, range: usize) -> u8 {
        let below = self.firsts[range]
            .before()
            .map_or(0, |outside| address.common(outside) + 1);
        let above = self
            .firsts
            .get(range + 1)
            .map_or(0, |outside| address.common(*outside) + 1);
        below.max(above)
    }
}

fn index<A: Address>(firsts: &[A]) -> Vec<u32> {
    let mut index = Vec::with_capacity(BUCKETS + 1);
    for (range, first) in firsts.iter().enumerate().skip(1) {
        // Buckets that begin before `first` begin in an earlier range.
        let begin: u128 = (*first).into();
        let bits_below = A::BITS - 16;
        let buckets_before =
            (begin >> bits_below) as usize + usize::from(begin & ((1 << bits_below) - 1) != 0);
        index.resize(buckets_before.max(index.len()), range as u32 - 1);
    }
    index.resize(BUCKETS + 1, firsts.len() as u32 - 1);
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(starts: &[u32]) -> Table<u32> {
        let mut builder = TableBuilder::new();
        builder.push(0, 0);
        for (n, first) in starts.iter().enumerate() {
            builder.push(*first, 1 + (n % 3) as u16);
        }
        builder.build()
    }

    fn by_scan(table: &Table<u32>, address: u32) -> (u16, u8) {
        let (first, last, value) = table
            .ranges()
            .find(|(first, last, _)| (*first..=*last).contains(&address))
            .unwrap();
        let fits = |length: &u8| {
            let rest = u32::MAX.checked_shr(u32::from(*length)).unwrap_or(0);
            address & !rest >= first && address | rest <= last
        };
        (value, (0..=32).find(fits).unwrap())
    }

    proptest! {
        #[test]
        fn look_up_is_as_a_scan_finds_it(
            mut starts in proptest::collection::vec(prop_oneof![
                any::<u32>(), (0..40_u32).prop_map(|n| n << 14), (0..70_000_u32).prop_map(|n| n << 16),
            ].prop_map(|n| n.max(1)), 0..20),
            probes in proptest::collection::vec(any::<u32>(), 20),
        ) {
            starts.sort_unstable();
            starts.dedup();
            let table = table(&starts);
            let edges = starts.iter().flat_map(|first| [first - 1, *first, first.saturating_add(1)]);
            for probe in probes.iter().copied().chain(edges).chain([0, u32::MAX]) {
                prop_assert_eq!(table.find(probe), by_scan(&table, probe), "{:#x}", probe);
            }
        }
    }
}
