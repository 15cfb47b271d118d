//! DNS as a client sees it: one question, one answer; and a poll that tells when the answer changes.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};

use super::{Seen, Timeline, now};

/// A question for A records, ready to be sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    bytes: Vec<u8>,
}

impl Question {
    /// `subnet` is sent as EDNS client subnet (RFC 7871).
    pub(crate) fn new(name: &str, subnet: Option<(IpAddr, u8)>) -> Result<Self, String> {
        let owner: Name = name
            .parse()
            .map_err(|error| format!("`{name}` is no name: {error}"))?;
        let mut message = Message::query();
        message.add_query(Query::query(owner, RecordType::A));
        message.metadata.recursion_desired = true;
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        if let Some((address, length)) = subnet {
            edns.options_mut()
                .insert(EdnsOption::Subnet(ClientSubnet::new(address, length, 0)));
        }
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(|error| error.to_string())?;
        Ok(Self { bytes })
    }

    /// The same question under another id.
    pub(crate) fn with_id(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(place) = bytes.get_mut(..2) {
            place.copy_from_slice(&id.to_be_bytes());
        }
        bytes
    }
}

/// The addresses of an answer with this id; an error for another id, another rcode or no address.
pub(crate) fn addresses(bytes: &[u8], id: u16) -> Result<Vec<IpAddr>, String> {
    let found = records(bytes, id)?;
    Ok(found.into_iter().map(|(address, _)| address).collect())
}

/// The first address, and how long it may be kept: the least TTL of the answer.
pub(crate) fn resolved(bytes: &[u8], id: u16) -> Result<(IpAddr, Duration), String> {
    let found = records(bytes, id)?;
    let ttl = found.iter().map(|(_, ttl)| *ttl).min().unwrap_or(0);
    let (address, _) = found.first().ok_or("an answer without address")?;
    Ok((*address, Duration::from_secs(ttl.into())))
}

/// Addresses with their TTLs in seconds.
fn records(bytes: &[u8], id: u16) -> Result<Vec<(IpAddr, u32)>, String> {
    let message = Message::from_vec(bytes).map_err(|error| error.to_string())?;
    if message.metadata.id != id {
        return Err(format!(
            "answer to question {} instead of {id}",
            message.metadata.id
        ));
    }
    if message.metadata.response_code != ResponseCode::NoError {
        return Err(format!("answered {}", message.metadata.response_code));
    }
    let found: Vec<(IpAddr, u32)> = message
        .answers
        .iter()
        .filter_map(|record| {
            if let RData::A(a) = &record.data {
                Some((IpAddr::V4(a.0), record.ttl))
            } else {
                None
            }
        })
        .collect();
    if found.is_empty() {
        Err("an answer without address".to_owned())
    } else {
        Ok(found)
    }
}

/// Asks `server` every `pause` from a socket of the namespace and notes each change, until stopped.
pub(crate) fn watch(
    socket: &UdpSocket,
    server: SocketAddr,
    question: &Question,
    pause: Duration,
    timeline: &Timeline,
) -> io::Result<()> {
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut last = Vec::new();
    let mut buffer = [0; 4096];
    let mut id: u16 = 0;
    while !timeline.stopped() {
        id = id.wrapping_add(1);
        // A server that is not there yet refuses or is silent: ask again.
        let received = socket
            .send(&question.with_id(id))
            .and_then(|_| socket.recv(&mut buffer));
        let at = now();
        if let Ok(length) = received
            && let Ok(found) = addresses(buffer.get(..length).unwrap_or_default(), id)
            && found != last
        {
            last.clone_from(&found);
            timeline.push(at, Seen::Answer { addresses: found });
        }
        std::thread::sleep(pause);
    }
    Ok(())
}
