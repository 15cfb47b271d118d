//! DNS questions over a plain socket, so that a test sees what is on the wire.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    name: Name,
    kind: RecordType,
    subnet: Option<ClientSubnet>,
}

impl Question {
    /// `name` and type, without EDNS.
    ///
    /// # Panics
    /// When `name` is no domain name.
    #[must_use]
    pub fn new(name: &str, kind: RecordType) -> Self {
        Self {
            name: Name::from_str(name).expect("a domain name"),
            kind,
            subnet: None,
        }
    }

    /// With an EDNS client subnet.
    #[must_use]
    pub fn from_subnet(mut self, address: IpAddr, source: u8) -> Self {
        self.subnet = Some(ClientSubnet::new(address, source, 0));
        self
    }

    /// Asks over UDP; `None` when nothing comes within `patience`.
    #[must_use]
    pub fn ask(&self, server: SocketAddr, patience: Duration) -> Option<Answer> {
        let socket = UdpSocket::bind((server.ip(), 0)).ok()?;
        socket.set_read_timeout(Some(patience)).ok()?;
        socket.connect(server).ok()?;
        self.ask_on(&socket)
    }

    /// Asks on a connected socket that has a read timeout.
    #[must_use]
    pub fn ask_on(&self, socket: &UdpSocket) -> Option<Answer> {
        socket.send(&self.message().to_vec().ok()?).ok()?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Message::from_vec(&buffer[..length]).ok().map(Answer)
    }

    fn message(&self) -> Message {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(self.name.clone(), self.kind));
        if let Some(subnet) = &self.subnet {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            edns.options_mut().insert(EdnsOption::Subnet(*subnet));
            message.edns = Some(edns);
        }
        message
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer(pub Message);

impl Answer {
    /// The addresses in the answer section, in order.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let records = self.0.answers.iter();
        records.filter_map(|record| address_of(&record.data)).collect()
    }

    /// The ECS scope, where one came back.
    #[must_use]
    pub fn scope(&self) -> Option<u8> {
        let option = self.0.edns.as_ref()?.option(EdnsCode::Subnet)?;
        if let EdnsOption::Subnet(subnet) = option {
            Some(subnet.scope_prefix())
        } else {
            None
        }
    }
}

fn address_of(data: &RData) -> Option<IpAddr> {
    if let RData::A(a) = data {
        return Some(IpAddr::V4(a.0));
    }
    if let RData::AAAA(aaaa) = data {
        Some(IpAddr::V6(aaaa.0))
    } else {
        None
    }
}
