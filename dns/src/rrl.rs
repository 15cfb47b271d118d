//! Response rate limiting: how many UDP replies of a class a client network gets.
//!
//! A sender that is forged makes us answer somebody who did not ask. What a true client loses to the limit it
//! gets again: some of what is held back becomes a truncated reply, after which it asks over TCP.
//!
//! The table has a fixed size. Each key has a set of [`WAYS`] slots; where all are taken, the one that is longest
//! untouched is given away, and its owner starts anew with a full budget.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use steer_topology::Rrl;

use crate::siphash;
use crate::subnet::truncate;

/// Slots that one key may use.
const WAYS: usize = 4;
/// Locks; threads seldom want the same one.
const SHARDS: usize = 64;
/// Parts of a reply that budgets are counted in, so that a millisecond's share is a whole number.
const REPLY: u32 = 1000;

/// What replies are alike: each class has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Records in the answer section.
    Answer,
    /// A way to another server.
    Referral,
    /// The name exists, the type does not.
    Nodata,
    /// The name does not exist.
    Nxdomain,
    /// Any other code.
    Error,
}

/// What to do with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Within the budget.
    Send,
    /// Beyond it, and this time a truncated reply instead.
    Slip,
    /// Beyond it.
    Hold,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Limiter {
    rules: Rrl,
    /// So that nobody can choose which keys share a set.
    seed: [u8; 16],
    shards: Vec<Mutex<Vec<[Slot; WAYS]>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Hash of network and class; 0: free.
    key: u64,
    /// When it was last looked at, in milliseconds, modulo 2^32.
    touched: u32,
    /// What is left, in parts of a reply.
    budget: u32,
    /// Replies held back since the budget was last enough.
    held: u32,
}

impl Limiter {
    pub(crate) fn new(rules: Rrl) -> Self {
        Self::seeded(rules, rand::random())
    }

    fn seeded(rules: Rrl, seed: [u8; 16]) -> Self {
        let sets = (rules.table as usize).div_ceil(WAYS * SHARDS).max(1);
        let shard = || Mutex::new(vec![[Slot::default(); WAYS]; sets]);
        Self {
            rules,
            seed,
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    /// Whether judgements are only counted.
    pub(crate) fn is_log_only(&self) -> bool {
        self.rules.log_only
    }

    /// The client's network.
    pub(crate) fn network(&self, client: IpAddr) -> (IpAddr, u8) {
        let client = client.to_canonical();
        let length = if client.is_ipv4() {
            self.rules.v4_prefix
        } else {
            self.rules.v6_prefix
        };
        (truncate(client, length), length)
    }

    /// Judges one reply. `now`: milliseconds, modulo 2^32.
    pub(crate) fn judge(&self, client: IpAddr, class: Class, now: u32) -> Judgement {
        let key = self.key(client, class);
        let Some(shard) = self.shards.get(key as usize % SHARDS) else {
            return Judgement::Send;
        };
        let mut sets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (key as usize / SHARDS) % sets.len();
        let Some(set) = sets.get_mut(at) else {
            return Judgement::Send;
        };
        let slot = find(set, key, now, self.full());
        self.draw(slot, now)
    }

    /// A second's worth.
    fn full(&self) -> u32 {
        self.rules.rate.saturating_mul(REPLY)
    }

    fn draw(&self, slot: &mut Slot, now: u32) -> Judgement {
        let passed = u64::from(now.wrapping_sub(slot.touched));
        // parts per millisecond are replies per second
        let earned = passed.saturating_mul(u64::from(self.rules.rate));
        let budget = u64::from(slot.budget)
            .saturating_add(earned)
            .min(self.full().into());
        slot.touched = now;
        slot.budget = u32::try_from(budget).unwrap_or(u32::MAX);
        if let Some(left) = slot.budget.checked_sub(REPLY) {
            slot.budget = left;
            slot.held = 0;
            return Judgement::Send;
        }
        slot.held = slot.held.wrapping_add(1);
        match slot.held.checked_rem(u32::from(self.rules.slip)) {
            Some(0) => Judgement::Slip,
            Some(_) | None => Judgement::Hold,
        }
    }

    fn key(&self, client: IpAddr, class: Class) -> u64 {
        let (network, _) = self.network(client);
        let (family, octets) = match network {
            IpAddr::V4(network) => (4, network.to_ipv6_mapped().octets()),
            IpAddr::V6(network) => (6, network.octets()),
        };
        let mut message = [0; 18];
        let parts = octets.into_iter().chain([family, class as u8]);
        message.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        siphash::hash(self.seed, &message).max(1)
    }
}

/// The slot of a key, or the one to be given away, made ready.
fn find(set: &mut [Slot; WAYS], key: u64, now: u32, full: u32) -> &mut Slot {
    let known = set.iter().position(|slot| slot.key == key);
    let age = |slot: &Slot| {
        if slot.key == 0 {
            u32::MAX
        } else {
            now.wrapping_sub(slot.touched)
        }
    };
    let oldest = || {
        (0..WAYS)
            .max_by_key(|at| set.get(*at).map_or(0, age))
            .unwrap_or_default()
    };
    let at = known.unwrap_or_else(oldest);
    let slot = &mut set[at.min(WAYS - 1)];
    if slot.key != key {
        *slot = Slot {
            key,
            touched: now,
            budget: full,
            held: 0,
        };
    }
    slot
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn rules(rate: u32, slip: u8) -> Rrl {
        Rrl {
            rate,
            slip,
            v4_prefix: 24,
            v6_prefix: 56,
            table: 1024,
            log_only: false,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_gets_its_rate_of_each_class_and_every_second_one_beyond_slips() {
        let limiter = Limiter::seeded(rules(5, 2), [0; 16]);
        let judge = |client: &str, class, now| limiter.judge(ip(client), class, now);
        for host in 0..5 {
            let client = format!("192.0.2.{host}");
            assert_eq!(judge(&client, Class::Answer, 0), Judgement::Send);
        }
        assert_eq!(judge("192.0.2.9", Class::Answer, 0), Judgement::Hold);
        assert_eq!(judge("192.0.2.9", Class::Answer, 0), Judgement::Slip);
        assert_eq!(judge("::ffff:192.0.2.9", Class::Answer, 0), Judgement::Hold);
        assert_eq!(judge("192.0.2.9", Class::Nxdomain, 0), Judgement::Send);
        assert_eq!(judge("192.0.3.9", Class::Answer, 0), Judgement::Send);
        assert_eq!(judge("2001:db8::1", Class::Answer, 0), Judgement::Send);
        // a fifth of a second later there is one more
        assert_eq!(judge("192.0.2.1", Class::Answer, 200), Judgement::Send);
        assert_eq!(judge("192.0.2.1", Class::Answer, 200), Judgement::Hold);
    }

    #[test]
    fn slip_0_holds_all_and_slip_1_none() {
        for (slip, expected) in [(0, Judgement::Hold), (1, Judgement::Slip)] {
            let limiter = Limiter::seeded(rules(1, slip), [0; 16]);
            assert_eq!(limiter.judge(ip("192.0.2.1"), Class::Error, 9), Judgement::Send);
            for _ in 0..10 {
                assert_eq!(limiter.judge(ip("192.0.2.1"), Class::Error, 9), expected);
            }
        }
    }

    #[test]
    fn a_full_table_forgets_those_longest_untouched_and_does_not_grow() {
        let limiter = Limiter::seeded(rules(1, 0), [0; 16]);
        for network in 0..100_000_u32 {
            let client = IpAddr::from((network << 8).to_be_bytes());
            assert_eq!(limiter.judge(client, Class::Answer, network), Judgement::Send);
        }
        let slots: usize = limiter
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len() * WAYS)
            .sum();
        assert_eq!(slots, 1024);
        let last = IpAddr::from((99_999_u32 << 8).to_be_bytes());
        assert_eq!(limiter.judge(last, Class::Answer, 100_000), Judgement::Hold);
    }

    proptest! {
        /// Whatever comes when, a network gets at most a second's worth and its rate since.
        #[test]
        fn no_network_gets_more_than_its_rate(
            start in any::<u32>(),
            rate in 1_u32..50,
            steps in prop::collection::vec((0_u32..200, 0_u8..3), 1..400),
        ) {
            let limiter = Limiter::seeded(rules(rate, 2), [7; 16]);
            let mut sent: HashMap<u8, u64> = HashMap::new();
            let mut passed = 0_u64;
            for (wait, network) in steps {
                passed += u64::from(wait);
                let now = start.wrapping_add(passed as u32);
                if limiter.judge(IpAddr::from([10, 0, network, 1]), Class::Answer, now) == Judgement::Send {
                    *sent.entry(network).or_default() += 1;
                }
                let bound = u64::from(rate) + passed * u64::from(rate) / 1000;
                prop_assert!(sent.values().all(|sent| *sent <= bound));
            }
        }
    }
}
