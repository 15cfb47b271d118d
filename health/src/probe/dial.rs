//! A TCP connection to where an endpoint is probed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use steer_topology::{Check, Endpoint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::tls::{self, Tls};
use super::{Progress, Stage};
use crate::outcome::Outcome;

/// Octets both ways, whatever is below.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Stream for S {}

/// With these the kernel gives up after 25 s of silence.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// Where to, and where from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dial {
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
    manner: Manner,
}

/// How we talk on a connection; each option of a socket costs a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// We say nothing.
    Silent,
    /// One message, and then we listen.
    Once,
    /// Several in a row.
    Often,
}

impl Dial {
    pub(super) fn new(check: Option<&Check>, endpoint: &Endpoint) -> Self {
        let address = super::probed(check, endpoint);
        Self {
            address,
            source: check.and_then(|check| check.source.to(address)),
            manner: Manner::Silent,
        }
    }

    pub(super) fn with(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// A connection to talk over, through TLS where that is asked for; else the outcome of the probe.
    pub(super) async fn open(
        &self,
        tls: Option<&Tls>,
        timeout: Duration,
        progress: &Progress,
    ) -> Result<Box<dyn Stream>, Outcome> {
        let stream = self.connect().await;
        let stream = stream.map_err(|error| Outcome::of_io_error(&error, timeout))?;
        secured(stream, tls, timeout, progress).await
    }

    /// A connection that is held: a machine that went away in silence never ends its connections.
    pub(super) async fn connect_to_hold(&self) -> io::Result<TcpStream> {
        let stream = self.connect().await?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        Ok(stream)
    }

    /// A connection that is closed with a reset when dropped: no `TIME_WAIT` of ours stays behind.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let options = SockRef::from(&socket);
        options.set_linger(Some(Duration::ZERO))?;
        if self.manner != Manner::Silent {
            // What we say first acknowledges the handshake as well: one packet less.
            options.set_tcp_quickack(false)?;
        }
        if self.manner == Manner::Often {
            options.set_tcp_nodelay(true)?;
        }
        let stream = socket.connect(self.address).await?;
        Ok(stream)
    }
}

/// The same connection, through TLS where that is asked for, and ready for an answer.
pub(super) async fn secured(
    stream: TcpStream,
    tls: Option<&Tls>,
    timeout: Duration,
    progress: &Progress,
) -> Result<Box<dyn Stream>, Outcome> {
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            progress.wait_for(Stage::Handshake);
            let shaken = tls.shake(stream).await;
            Box::new(shaken.map_err(|error| tls::of_error(&error, timeout))?.0)
        }
    };
    progress.wait_for(Stage::Answer);
    Ok(stream)
}
