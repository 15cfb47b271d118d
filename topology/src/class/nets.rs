//! The networks that chains name, as one more source of borders.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::Prefix;
use crate::geography::{Family, Leaf};

/// The networks of one family, cut into runs of addresses with the same narrowest network.
pub(crate) struct Nets {
    /// By the index that [`Leaf::record`] holds.
    networks: Vec<Prefix>,
    /// Cover the whole family in order.
    runs: Vec<Leaf>,
    at: usize,
}

impl Nets {
    pub(crate) fn new(family: Family, networks: &BTreeSet<Prefix>) -> Self {
        let of_family = |prefix: &&Prefix| prefix.is_ipv4() == (family == Family::V4);
        let mut networks: Vec<Prefix> = networks.iter().filter(of_family).copied().collect();
        // Outer networks before those inside them.
        networks.sort_unstable_by_key(|prefix| (prefix.address(), prefix.length()));
        let mut nets = Self {
            networks,
            runs: Vec::new(),
            at: 0,
        };
        nets.cut(family);
        nets
    }

    /// The run of the current address.
    pub(crate) fn current(&self) -> Leaf {
        // There is always a run: they cover the family, and nobody goes past its end.
        self.runs.get(self.at).copied().unwrap_or(Leaf {
            first: 0,
            last: u128::MAX,
            record: None,
        })
    }

    /// The narrowest network around the current address.
    pub(crate) fn network(&self) -> Option<Prefix> {
        self.networks.get(self.current().record? as usize).copied()
    }

    pub(crate) fn advance_past(&mut self, last: u128) {
        if self.current().last == last {
            self.at += 1;
        }
    }

    fn cut(&mut self, family: Family) {
        let mut open: Vec<(u32, u128)> = Vec::new(); // networks around the cursor, outermost first, with their ends
        let mut cursor = Some(0);
        for (index, prefix) in (0..).zip(self.networks.clone()) {
            let (first, last) = bounds(family, prefix);
            while let Some((inner, end)) = open.last().copied()
                && end < first
            {
                self.run(&mut cursor, end, Some(inner));
                open.pop();
            }
            if let Some(before) = first.checked_sub(1) {
                self.run(&mut cursor, before, open.last().map(|(index, _)| *index));
            }
            open.push((index, last));
        }
        while let Some((inner, end)) = open.pop() {
            self.run(&mut cursor, end, Some(inner));
        }
        self.run(&mut cursor, family.last(), None);
    }

    /// Adds the run from the cursor to `last`, if there is anything between.
    fn run(&mut self, cursor: &mut Option<u128>, last: u128, record: Option<u32>) {
        if let Some(first) = *cursor
            && first <= last
        {
            self.runs.push(Leaf { first, last, record });
            *cursor = last.checked_add(1);
        }
    }
}

fn bounds(family: Family, prefix: Prefix) -> (u128, u128) {
    let first = match prefix.address() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let rest = family.last().checked_shr(prefix.length().into()).unwrap_or(0);
    (first, first | rest)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_cover_the_family_and_hold_the_narrowest_network(
            nets in proptest::collection::vec((prop_oneof![any::<u32>(), 0..4_u32], 0..=32_u8), 0..8),
            probes in proptest::collection::vec(any::<u32>(), 10),
        ) {
            let nets: BTreeSet<Prefix> = nets
                .into_iter()
                .map(|(bits, length)| Prefix::covering(Ipv4Addr::from_bits(bits).into(), length).unwrap())
                .collect();
            let made = Nets::new(Family::V4, &nets);
            let mut next = 0;
            for run in &made.runs {
                prop_assert_eq!(run.first, next);
                next = run.last + 1;
            }
            prop_assert_eq!(next, 1 << 32);
            let edges = made.runs.iter().flat_map(|run| [run.first as u32, run.last as u32]);
            for probe in edges.chain(probes) {
                let run = made.runs.iter().find(|run| (run.first..=run.last).contains(&probe.into())).unwrap();
                let address = Ipv4Addr::from_bits(probe).into();
                let expected = nets.iter().filter(|net| net.contains(address)).max_by_key(|net| net.length());
                prop_assert_eq!(run.record.map(|index| made.networks[index as usize]), expected.copied());
            }
        }
    }
}
