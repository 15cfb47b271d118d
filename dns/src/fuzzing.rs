//! What fuzz targets and their seeds reach without a socket or a file: `fuzz/src/dns_*.rs`.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_topology::Faults;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::lookup::{self, Answer, Steered, Steering};
use crate::master::Master;
use crate::quick;
use crate::reply::{Frame, Reply, Transport};
use crate::server::stream::{self, Service};
use crate::wire::{self, Head, Question};
use crate::zones::Zones;

/// What a TCP connection answers on which the client sends all of `octets` and then closes its half.
pub async fn converse(engine: &std::sync::Arc<Engine>, octets: &[u8], client: IpAddr) -> Vec<u8> {
    let service = Service {
        engine: std::sync::Arc::clone(engine),
        idle: Duration::from_secs(10),
        stop: CancellationToken::new(),
    };
    let mut out = Vec::new();
    let connection = tokio::io::join(octets, &mut out);
    stream::serve(connection, client, Transport::Tcp, &service).await;
    out
}

/// The quick path of one thread.
pub struct Quick(quick::Quick, SmallRng);

impl Quick {
    /// One that knows nothing yet.
    #[expect(clippy::new_without_default, reason = "for two callers")]
    #[must_use]
    pub fn new() -> Self {
        Self(quick::Quick::new(), SmallRng::seed_from_u64(1))
    }

    /// The reply to a datagram; `None` where the full path is to be asked.
    pub fn answer(&mut self, engine: &Engine, query: &[u8], client: IpAddr, now: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.write(engine, query, client, now, &mut out).then_some(out)
    }

    /// The same, in place of what `out` held.
    pub fn write(
        &mut self,
        engine: &Engine,
        query: &[u8],
        client: IpAddr,
        now: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        let Self(quick, rng) = self;
        engine
            .answer_quickly(quick, query, client, now, rng, out)
            .is_some()
    }
}

/// One record as a master file gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// The name in octets.
    pub owner: Vec<u8>,
    /// In seconds.
    pub ttl: Option<u32>,
    /// The number of the type.
    pub rtype: u16,
    /// Uncompressed.
    pub data: Vec<u8>,
}

/// A zone from a text.
#[derive(Debug)]
pub struct TextZone {
    /// In the order of the text.
    pub given: Vec<Given>,
    zones: Zones,
}

impl TextZone {
    /// Reads a text as the master file of `apex`, and refuses it as a load does.
    pub fn load(apex: &str, text: &str) -> Result<Self, Faults> {
        let apex = Name::from_ascii(apex).unwrap_or_default();
        let master = Master::of_text(Path::new("fuzz.zone"), text, &apex);
        let given = master.records.iter().map(|record| Given {
            owner: record.owner.to_vec(),
            ttl: record.ttl,
            rtype: record.rtype.into(),
            data: record.data.to_vec(),
        });
        Ok(Self {
            given: given.collect(),
            zones: Zones::of_master(&apex, master, &[])?,
        })
    }

    /// The reply over TCP to a question about a name in octets. `None` where the name or the reply is none.
    #[must_use]
    pub fn ask(&self, name: &[u8], rtype: u16) -> Option<Vec<u8>> {
        let question = Question {
            name: wire::name_of(name)?,
            key: name.to_ascii_lowercase().into(),
            rtype,
            class: 1,
        };
        let rtype = RecordType::from(rtype);
        let answer: Answer = lookup::answer(&self.zones, &question.name, rtype, &mut Unsteered);
        let frame = Frame {
            head: Head::default(),
            question: Some(&question),
            edns: None,
            limit: u16::MAX,
        };
        Reply::full(frame, answer).encode().ok()
    }
}

struct Unsteered;

impl Steering for Unsteered {
    fn pick(&mut self, _: &[u8], _: RecordType) -> Option<Steered> {
        None
    }
}
