//! A TCP connection to where an endpoint is probed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use steer_topology::{Check, Endpoint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::tls::{self, Tls};
use super::{Progress, Stage};
use crate::outcome::Outcome;

/// Octets both ways, whatever is below.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where to, and where from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dial {
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
}

impl Dial {
    pub(super) fn new(check: Option<&Check>, endpoint: &Endpoint) -> Self {
        let address = super::probed(check, endpoint);
        Self {
            address,
            source: check.and_then(|check| check.source.to(address)),
        }
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

    /// A connection that is closed with a reset when dropped: no `TIME_WAIT` of ours stays behind.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(self.address).await?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
