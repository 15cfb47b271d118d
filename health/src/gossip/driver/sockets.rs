//! What a site listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::SockRef;
use steer_topology::{Fleet, SiteId};
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};

use super::datagram;

use crate::gossip::core::Own;
use crate::gossip::site::name_of;

/// Octets that may wait in the socket.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The gossip cannot begin.
#[derive(Debug, Error)]
pub enum GossipUnavailable {
    /// A socket cannot be opened.
    #[error("cannot listen for gossip on {at}: {source}; free the port, or correct `gossip` of the [[site]]")]
    Bind {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Sockets that are open, and nothing runs yet.
#[derive(Debug)]
pub struct GossipSockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) own: Own,
    pub(super) local: SiteId,
}

impl GossipSockets {
    /// Opens the sockets of the site `local`; `None` where the fleet does not gossip, or the site takes no part.
    ///
    /// # Errors
    /// A socket cannot be opened.
    pub async fn bind(fleet: &Fleet, local: SiteId) -> Result<Option<Self>, GossipUnavailable> {
        let Some((address, site)) = fleet.site(local).gossip.zip(name_of(fleet, local)) else {
            return Ok(None);
        };
        if fleet.gossip.is_none() {
            return Ok(None);
        }
        let (udp, tcp) = match open(address).await {
            // Behind NAT the others know us by an address that this host does not have.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let any: IpAddr = match address.ip() {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let at = SocketAddr::new(any, address.port());
                tracing::info!(%address, listen = %at, "gossip: the address is not one of this host's");
                open(at)
                    .await
                    .map_err(|source| GossipUnavailable::Bind { at, source })?
            }
            opened => opened.map_err(|source| GossipUnavailable::Bind { at: address, source })?,
        };
        let own = Own { site, address };
        Ok(Some(Self { udp, tcp, own, local }))
    }
}

async fn open(at: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(at).await?;
    // A flood must fill more than a moment before it drives out what members send. The kernel gives what it allows.
    if let Err(error) = SockRef::from(&udp).set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(%error, "gossip: the receive buffer stays as it is");
    }
    datagram::stamp(&udp)?;
    Ok((udp, TcpListener::bind(at).await?))
}
