//! One DNS query over UDP, from a port and with an id that nobody can guess.
//!
//! Gap: RFC 7766 §5: a truncated answer is not asked for again over TCP; it counts as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use steer_topology::DnsCheck;
use tokio::net::UdpSocket;

use super::dial::Dial;
use crate::outcome::{Answer, Failure, Outcome, Void, shortened};

/// One name server.
#[derive(Debug)]
pub(crate) struct DnsProbe {
    dial: Dial,
    name: Name,
    rtype: RecordType,
    rcode: ResponseCode,
    /// The mnemonic of `rcode`.
    wanted: String,
    answer: Option<String>,
}

/// RFC 6891 §6.2.5: what fits everywhere without fragments.
const PAYLOAD: u16 = 1232;

impl DnsProbe {
    pub(super) fn new(rules: &DnsCheck, dial: Dial) -> Result<Self, String> {
        let name = Name::from_ascii(rules.query.as_str())
            .map_err(|error| format!("query {}: {error}", rules.query))?;
        let rtype = rules
            .rtype
            .parse()
            .map_err(|error| format!("type {}: {error}", rules.rtype))?;
        let rcode = CODES.iter().find(|(word, _)| *word == rules.rcode);
        let (_, rcode) = rcode.ok_or_else(|| format!("rcode {} is unknown", rules.rcode))?;
        Ok(Self {
            dial,
            name,
            rtype,
            rcode: *rcode,
            wanted: rules.rcode.clone(),
            answer: rules.answer.clone(),
        })
    }

    pub(super) async fn probe(&self, timeout: Duration) -> Outcome {
        match self.ask().await {
            Ok(reply) => self.judge(&reply),
            Err(Lost::Io(error)) => Outcome::of_io_error(&error, timeout),
            Err(Lost::Ours(why)) => Outcome::Void(Void::Local(why)),
            Err(Lost::Malformed(why)) => Outcome::Failure(Failure::Wrong(format!("no DNS answer: {why}"))),
        }
    }

    async fn ask(&self) -> Result<Message, Lost> {
        let id = rand::random::<u16>();
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(self.name.clone(), self.rtype));
        message.metadata.recursion_desired = true;
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        message.edns = Some(edns);
        let query = message.to_vec().map_err(|error| Lost::Ours(error.to_string()))?;

        let any: IpAddr = match self.dial.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((self.dial.source.unwrap_or(any), 0)).await?;
        socket.connect(self.dial.address).await?; // so that a closed port is told to us
        socket.send(&query).await?;
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // RFC 5452 §9.1: what does not answer our question by its id is somebody else's, and waited past.
            if length < 2 || buffer[..2] != id.to_be_bytes() {
                continue;
            }
            return Message::from_vec(&buffer[..length])
                .map_err(|error| Lost::Malformed(shortened(&error.to_string())));
        }
    }

    fn judge(&self, reply: &Message) -> Outcome {
        let wrong = |why: String| Outcome::Failure(Failure::Wrong(why));
        let asked = reply
            .queries
            .first()
            .is_some_and(|query| query.name() == &self.name && query.query_type() == self.rtype);
        let rcode = reply.metadata.response_code;
        // A server that cannot read a question need not repeat it (RFC 1035 §4.1.1, FORMERR).
        if reply.metadata.message_type != MessageType::Response || (!asked && rcode == ResponseCode::NoError)
        {
            return wrong("the answer is to another question".to_owned());
        }
        if rcode != self.rcode {
            return wrong(format!("{}, want {}", mnemonic(rcode), self.wanted));
        }
        let Some(wanted) = &self.answer else {
            return Outcome::Success(Answer::Seen(
                format!("{}, {} records", mnemonic(rcode), reply.answers.len()).into(),
            ));
        };
        let of_type = reply
            .answers
            .iter()
            .filter(|record| record.record_type() == self.rtype);
        let seen: Vec<String> = of_type.map(|record| record.data.to_string()).collect();
        if seen.iter().any(|data| same(data, wanted)) {
            return Outcome::Success(Answer::Seen(format!("{}, with {wanted}", mnemonic(rcode)).into()));
        }
        let seen = if seen.is_empty() {
            "no record".to_owned()
        } else {
            shortened(&seen.join(", "))
        };
        wrong(format!("answer has {seen}, want {wanted}"))
    }
}

/// As master files are read: addresses by value, names and words in any case, with or without the last dot.
fn same(seen: &str, wanted: &str) -> bool {
    match (seen.parse::<IpAddr>(), wanted.parse::<IpAddr>()) {
        (Ok(seen), Ok(wanted)) => seen == wanted,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            let bare = |text: &str| text.trim_matches('"').trim_end_matches('.').to_ascii_lowercase();
            bare(seen) == bare(wanted)
        }
    }
}

const CODES: [(&str, ResponseCode); 6] = [
    ("FORMERR", ResponseCode::FormErr),
    ("NOERROR", ResponseCode::NoError),
    ("NOTIMP", ResponseCode::NotImp),
    ("NXDOMAIN", ResponseCode::NXDomain),
    ("REFUSED", ResponseCode::Refused),
    ("SERVFAIL", ResponseCode::ServFail),
];

fn mnemonic(rcode: ResponseCode) -> String {
    let known = CODES.iter().find(|(_, code)| *code == rcode);
    known.map_or_else(
        || format!("RCODE{}", u16::from(rcode)),
        |(word, _)| (*word).to_owned(),
    )
}

enum Lost {
    Io(std::io::Error),
    Malformed(String),
    /// Our own fault.
    Ours(String),
}

impl From<std::io::Error> for Lost {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
