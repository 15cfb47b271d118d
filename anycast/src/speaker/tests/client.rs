//! A peer by script: it opens as told, and reads what the speaker says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use steer_topology::Asn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::PATIENCE;
use crate::wire::{
    self, Capabilities, Context, EXTENDED_LENGTH, Families, Message, Open, Update, decode, take_frame,
};

pub(super) struct Client {
    pub(super) stream: TcpStream,
    inbox: BytesMut,
    context: Context,
}

/// What every speaker offers.
pub(super) fn capabilities() -> Capabilities {
    Capabilities {
        families: Some(Families::ALL),
        four_octet_as: true,
        route_refresh: true,
        ..Capabilities::default()
    }
}

pub(super) fn open(asn: u32, capabilities: Capabilities) -> Open {
    Open {
        asn: Asn::new(asn).expect("not zero"),
        hold_time: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 99),
        capabilities,
    }
}

impl Client {
    /// Connects from an address, with options on the socket.
    pub(super) async fn connect(
        from: IpAddr,
        to: SocketAddr,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        prepare(&socket)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
        Ok(Self {
            stream,
            inbox: BytesMut::new(),
            context: Context::default(),
        })
    }

    /// Connects and brings the session up.
    pub(super) async fn session(to: SocketAddr, open: &Open) -> Self {
        let from = Ipv4Addr::LOCALHOST.into();
        let mut client = Self::connect(from, to, |_| Ok(())).await.expect("listening");
        client.establish(open).await;
        client
    }

    /// Sends OPEN and KEEPALIVE; gives the speaker's OPEN once its KEEPALIVE has come too.
    pub(super) async fn establish(&mut self, open: &Open) -> Open {
        self.send(&wire::encode_open(open)).await;
        self.send(&wire::encode_keepalive()).await;
        let Some(Message::Open(theirs)) = self.next().await else {
            panic!("the first message is an OPEN")
        };
        self.context = Context {
            four_octet: open.capabilities.four_octet_as,
            internal: open.asn == theirs.asn,
            extended_next_hop: open.capabilities.extended_next_hop && theirs.capabilities.extended_next_hop,
            enhanced_refresh: open.capabilities.enhanced_refresh,
            ..Context::PLAIN
        };
        assert!(matches!(self.next().await, Some(Message::Keepalive)));
        theirs
    }

    pub(super) async fn send(&mut self, message: &Bytes) {
        self.stream.write_all(message).await.expect("open");
    }

    /// The next message; `None` when the speaker has closed.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            let frame = take_frame(&mut self.inbox, EXTENDED_LENGTH).expect("well-formed");
            if let Some(frame) = frame {
                return Some(decode(&frame, self.context).expect("well-formed"));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.inbox)).await;
            if read.expect("the speaker says something in time").ok()? == 0 {
                return None;
            }
        }
    }

    /// The next message that is no KEEPALIVE.
    pub(super) async fn said(&mut self) -> Option<Message> {
        loop {
            match self.next().await {
                Some(Message::Keepalive) => {}
                other => return other,
            }
        }
    }

    /// The next message, an UPDATE.
    pub(super) async fn update(&mut self) -> Update {
        match self.said().await {
            Some(Message::Update(update)) => *update,
            other => panic!("{other:?} is no UPDATE"),
        }
    }

    /// Reads up to the End-of-RIB marker of both families; the routes before.
    pub(super) async fn first_round(&mut self) -> Vec<Update> {
        let (mut updates, mut ends) = (Vec::new(), 0);
        while ends < 2 {
            let update = self.update().await;
            match update.end_of_rib {
                Some(_) => ends += 1,
                None => updates.push(update),
            }
        }
        updates
    }
}
