//! Opening sockets.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps for us until we accept them.
const LISTEN_BACKLOG: i32 = 1024;
/// Octets of queries that the kernel keeps for one thread while that is not let run: about 100 ms of 50,000 queries a
/// second, which count there with their bookkeeping. Without CAP_NET_ADMIN the host's `net.core.rmem_max` limits it.
const UDP_RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// Tries to find a port that is free in both UDP and TCP, where port 0 leaves the choice to us.
const PORT_TRIES: usize = 16;

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    /// One per thread.
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: TcpListener,
}

impl Sockets {
    /// TCP first: its port cannot be shared, so that two servers do not take each other's datagrams.
    pub(super) fn open(address: SocketAddr, threads: usize) -> io::Result<Self> {
        let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            let tcp = listener(address)?;
            let bound = tcp.local_addr()?;
            let udp = (0..threads.max(1)).map(|_| open(bound, Type::DGRAM, true).map(UdpSocket::from));
            match udp.collect::<io::Result<Vec<_>>>() {
                Ok(udp) => {
                    return Ok(Self {
                        address: bound,
                        udp,
                        tcp,
                    });
                }
                Err(error) if tries == 0 || error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                Err(_) => {}
            }
        }
    }
}

/// A listener alone.
pub(super) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(open(address, Type::STREAM, false)?.into())
}

/// A socket for datagrams whose port nobody else has.
pub(super) fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    open(address, Type::DGRAM, false).map(UdpSocket::from)
}

fn open(address: SocketAddr, kind: Type, is_shared: bool) -> io::Result<Socket> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            // `[::]` beside `0.0.0.0` on the same port
            socket.set_only_v6(true)?;
        }
        if kind == Type::STREAM {
            // a restart does not wait for connections of the last run
            socket.set_reuse_address(true)?;
        } else {
            socket.set_reuse_port(is_shared)?;
            enlarge_buffer(&socket)?;
            tell_destinations(&socket, address)?;
        }
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(LISTEN_BACKLOG)?;
        }
        Ok(socket)
    };
    open().map_err(|error: io::Error| {
        let protocol = if kind == Type::STREAM { "TCP" } else { "UDP" };
        let is_held = error.kind() == io::ErrorKind::AddrInUse;
        let holder = is_held
            .then(|| crate::holder::of(address, kind == Type::STREAM))
            .flatten();
        let holder = holder.map_or_else(String::new, |holder| format!(" (held by {holder})"));
        io::Error::new(
            error.kind(),
            format!("cannot listen on {protocol} {address}: {error}{holder}"),
        )
    })
}

fn enlarge_buffer(socket: &Socket) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &UDP_RECEIVE_BUFFER).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &UDP_RECEIVE_BUFFER)?; // as much as is permitted
    }
    Ok(())
}

/// A host has several addresses, and a reply from another one than was asked is no reply. A socket on one
/// address alone knows which it is.
fn tell_destinations(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if !address.ip().is_unspecified() {
        return Ok(());
    }
    if address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    Ok(())
}
