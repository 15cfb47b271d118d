//! What an edge tells the others, as the store has it: protobuf, one value for each edge.
//!
//! | field | type | |
//! | --- | --- | --- |
//! | 1 | `uint32` | version: 1 |
//! | 2 | `bytes` | shows which secret the names are made with: 8 octets |
//! | 3 | `uint64` | number of the newest interval, counted from the edge's start |
//! | 4 | `uint32` | length of an interval in milliseconds |
//! | 5 | `bytes` | clients, 16 octets each |
//! | 6 | `repeated uint32` | for each client the calls that the edge admitted in each of the last eight intervals, the newest first |

use std::time::Duration;

use prost::Message;

use super::bucket::WINDOW;
use super::who::{ClientId, Mark};

/// The version that we write and read.
const VERSION: u32 = 1;

/// Most clients that an edge tells of: some 30 kB.
pub(super) const TOLD_MAX: usize = 1_000;

/// Most that are read. etcd takes no value above 1.5 MiB.
const READ_MAX: usize = 10_000;

/// Shortest and longest interval.
pub(in crate::edge) const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// What an edge admitted lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which secret the names are made with.
    pub mark: Mark,
    /// The newest interval.
    pub number: u64,
    /// How long an interval is.
    pub every: Duration,
    /// Calls of each client by interval, the newest first.
    pub clients: Vec<(ClientId, [u32; WINDOW])>,
}

/// Why a value is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTold {
    /// It is no such message.
    #[error("no message: {0}")]
    Syntax(#[from] prost::DecodeError),
    /// Another version.
    #[error("version {0}; we read {VERSION}")]
    Version(u32),
    /// A field of another length than it has.
    #[error("{0} has {1} octets or numbers, which it cannot have")]
    Length(&'static str, usize),
    /// An interval that nobody has.
    #[error("an interval of {0} ms; 100 to 60,000 are possible")]
    Every(u32),
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    mark: Vec<u8>,
    #[prost(uint64, tag = "3")]
    number: u64,
    #[prost(uint32, tag = "4")]
    every_ms: u32,
    #[prost(bytes = "vec", tag = "5")]
    clients: Vec<u8>,
    #[prost(uint32, repeated, tag = "6")]
    calls: Vec<u32>,
}

impl Told {
    /// As the store has it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            version: VERSION,
            mark: self.mark.to_vec(),
            number: self.number,
            every_ms: u32::try_from(self.every.as_millis()).unwrap_or(u32::MAX),
            clients: self.clients.iter().flat_map(|(client, _)| client.0).collect(),
            calls: self.clients.iter().flat_map(|(_, calls)| *calls).collect(),
        };
        wire.encode_to_vec()
    }

    /// Reads what a member of the fleet put, or somebody else.
    ///
    /// # Errors
    ///
    /// See [`InvalidTold`].
    pub fn decode(value: &[u8]) -> Result<Self, InvalidTold> {
        let Wire {
            version,
            mark,
            number,
            every_ms,
            clients,
            calls,
        } = Wire::decode(value)?;
        if version != VERSION {
            return Err(InvalidTold::Version(version));
        }
        let mark =
            Mark::try_from(mark.as_slice()).map_err(|_| InvalidTold::Length("the mark", mark.len()))?;
        let every = Duration::from_millis(every_ms.into());
        if every < EVERY.0 || every > EVERY.1 {
            return Err(InvalidTold::Every(every_ms));
        }
        let (ids, rest) = clients.as_chunks();
        if !rest.is_empty() || ids.len() > READ_MAX {
            return Err(InvalidTold::Length("the field of clients", clients.len()));
        }
        let (rows, rest) = calls.as_chunks();
        if !rest.is_empty() || rows.len() != ids.len() {
            return Err(InvalidTold::Length("the field of calls", calls.len()));
        }
        let clients = ids.iter().map(|id| ClientId(*id)).zip(rows.iter().copied());
        Ok(Self {
            mark,
            number,
            every,
            clients: clients.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(clients: usize) -> Told {
        let client = |number: usize| {
            let mut id = [7; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            (ClientId(id), [u32::MAX; WINDOW])
        };
        Told {
            mark: *b"12345678",
            number: u64::MAX,
            every: Duration::from_secs(1),
            clients: (0..clients).map(client).collect(),
        }
    }

    fn wire(change: impl Fn(&mut Wire)) -> Vec<u8> {
        let mut wire = Wire::decode(&*told(2).encode()).unwrap();
        change(&mut wire);
        wire.encode_to_vec()
    }

    #[test]
    fn the_largest_value_is_below_what_etcd_takes() {
        assert!(told(TOLD_MAX).encode().len() < 100_000);
    }

    #[test]
    fn what_cannot_be_right_is_refused_with_the_reason() {
        let rows: [(Vec<u8>, &str); 9] = [
            (b"{\"version\": 1}".to_vec(), "no message"),
            (Vec::new(), "version 0; we read 1"),
            (wire(|wire| wire.version = 2), "version 2"),
            (wire(|wire| wire.mark.push(1)), "the mark has 9"),
            (wire(|wire| wire.every_ms = 0), "an interval of 0 ms"),
            (
                wire(|wire| wire.every_ms = u32::MAX),
                "an interval of 4294967295 ms",
            ),
            (wire(|wire| wire.clients.truncate(31)), "clients has 31"),
            (wire(|wire| wire.calls.truncate(15)), "calls has 15"),
            (wire(|wire| wire.clients.truncate(16)), "calls has 16"),
        ];
        for (value, why) in rows {
            let refused = Told::decode(&value).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let many = Told::decode(&told(READ_MAX + 1).encode()).unwrap_err();
        assert_eq!(many, InvalidTold::Length("the field of clients", 160_016));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            mark: Mark,
            number: u64,
            every in 100..=60_000_u64,
            clients in prop::collection::vec((any::<[u8; 16]>().prop_map(ClientId), any::<[u32; WINDOW]>()), 0..20),
        ) {
            let told = Told { mark, number, every: Duration::from_millis(every), clients };
            prop_assert_eq!(Told::decode(&told.encode()), Ok(told));
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, value: u8) {
            let _ = Told::decode(&octets);
            let mut changed = told(3).encode();
            let at = at.index(changed.len());
            changed[at] = value;
            let _ = Told::decode(&changed);
            let _ = Told::decode(&changed[..at]);
        }
    }
}
