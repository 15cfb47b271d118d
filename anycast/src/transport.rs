//! The sockets of a peer: key, TTLs, interface, source. What has to hold before an octet of it is trusted.
//!
//! ```text
//! dial      every option, then connect
//! listener  keys by peer address; TTL 255 out; the SYN of each connection is kept for `admit`
//! accepted  by address and interface to a peer; its TTL rules, checked on the SYN and set for what follows
//! ```

mod key;
mod sockopt;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::Arc;

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, c_int};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use socket2::{Domain, Protocol, Socket, Type};
use steer_topology::{Asn, Peer, PeerReach};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub(crate) use key::Key;
pub use key::{KeyError, Md5Key};
pub(crate) use sockopt::unacknowledged;

/// A packet that comes with this less N has passed at most N routers (RFC 5082 §3).
const MAX_TTL: u8 = 255;

/// Of the headers of a SYN that was kept, all that we read.
const IP_HEADER: usize = 20;

/// How the sockets of one peer are set up.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) address: IpAddr,
    port: u16,
    interface: Option<String>,
    source: Option<IpAddr>,
    /// TTL or hop limit that we send; `None`: the system's.
    ttl: Option<u8>,
    /// The least that we take (RFC 5082).
    least_ttl: Option<u8>,
    key: Option<Key>,
}

/// Why a connection of a configured peer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsafe {
    /// Its SYN came from further away than agreed, or its distance cannot be told (RFC 5082 §3).
    Far,
    /// The kernel did not take an option.
    Option,
}

impl Unsafe {
    /// A label for metrics.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Far => "ttl",
            Self::Option => "socket-option",
        }
    }
}

impl Transport {
    /// Reads the key file, once.
    pub(crate) fn of(peer: &Peer, local_asn: Asn) -> Result<Self, KeyError> {
        let key = Key::of(peer)?;
        let (ttl, least_ttl) = match peer.reach {
            PeerReach::Default => ((peer.asn != local_asn).then_some(1), None),
            // 256 − N: a direct neighbour is one hop away, and no router has taken one off.
            PeerReach::TtlSecurity(hops) => (Some(MAX_TTL), Some(MAX_TTL - (hops.get() - 1))),
            PeerReach::Multihop(hops) => (Some(hops.get()), None),
        };
        Ok(Self {
            address: peer.address,
            port: peer.port,
            interface: peer.interface.clone(),
            source: peer.source,
            ttl,
            least_ttl,
            key,
        })
    }

    /// Whether one key, or none, does for both.
    pub(crate) fn shares_key(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// What signs its segments.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The least TTL taken, where GTSM is in use.
    pub(crate) fn least_ttl(&self) -> Option<u8> {
        self.least_ttl
    }

    /// TTL that we send, unless it is the system's.
    pub(crate) fn ttl(&self) -> Option<u8> {
        self.ttl
    }

    /// The other end as the user wrote it.
    pub(crate) fn remote(&self) -> String {
        let address = match (&self.interface, self.address) {
            (None, _) => return SocketAddr::new(self.address, self.port).to_string(),
            (Some(interface), IpAddr::V6(address)) => format!("[{address}%{interface}]"),
            (Some(interface), IpAddr::V4(address)) => format!("{address}%{interface}"),
        };
        format!("{address}:{}", self.port)
    }

    /// Whether a connection from there is this peer's: by address and, where one is configured, by interface.
    pub(crate) fn is(&self, from: SocketAddr) -> bool {
        self.address == from.ip().to_canonical() && (!self.is_scoped() || self.has_scope_of(from))
    }

    /// The same name may get another index while we run, so it is asked each time.
    fn has_scope_of(&self, from: SocketAddr) -> bool {
        match from {
            SocketAddr::V6(from) => self.scope().is_ok_and(|scope| scope == from.scope_id()),
            SocketAddr::V4(_) => false,
        }
    }

    /// A link-local address means nothing without its interface (RFC 4007 §6).
    fn is_scoped(&self) -> bool {
        self.interface.is_some() && is_link_local(self.address)
    }

    /// Index of the interface; 0 without one.
    fn scope(&self) -> io::Result<u32> {
        let Some(name) = &self.interface else { return Ok(0) };
        nix::net::if_::if_nametoindex(name.as_str()).map_err(|error| {
            io::Error::new(
                io::Error::from(error).kind(),
                format!("interface {name}: {error}"),
            )
        })
    }

    /// Connects, with every option set before the SYN goes out.
    pub(crate) async fn dial(self: Arc<Self>) -> io::Result<TcpStream> {
        let remote = self.scoped(self.address, self.port)?;
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(name) = self.interface.as_ref().filter(|_| !self.is_scoped()) {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        self.set_ttls(&socket)?;
        if let Some(key) = &self.key {
            key.sign(&socket, self.address)?;
        }
        if let Some(source) = self.source {
            socket.bind(&self.scoped(source, 0)?.into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(remote).await
    }

    fn scoped(&self, address: IpAddr, port: u16) -> io::Result<SocketAddr> {
        Ok(match address {
            IpAddr::V6(v6) if is_link_local(address) => SocketAddrV6::new(v6, port, 0, self.scope()?).into(),
            IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(address, port),
        })
    }

    /// Before anything is read from an accepted connection: where it came from, and the rules for what follows.
    pub(crate) fn admit(&self, stream: &TcpStream) -> Result<(), Unsafe> {
        self.set_ttls(stream).map_err(|_| Unsafe::Option)?;
        // What came before the rule was set could have come from anywhere; but the SYN tells how far away its
        // sender is. Without it (SYN cookies keep none) the distance is not known.
        let near = |least: u8| syn_ttl(stream).is_some_and(|ttl| ttl >= least);
        match self.least_ttl {
            Some(least) if !near(least) => Err(Unsafe::Far),
            Some(_) | None => Ok(()),
        }
    }

    fn set_ttls(&self, socket: &impl AsFd) -> io::Result<()> {
        let v4 = self.address.is_ipv4();
        if let Some(ttl) = self.ttl {
            set_ttl(socket, v4, ttl)?;
        }
        if let Some(least) = self.least_ttl {
            set_least_ttl(socket, v4, least)?;
        }
        Ok(())
    }
}

/// The TTL or hop limit of the SYN that opened an accepted connection.
fn syn_ttl(stream: &TcpStream) -> Option<u8> {
    let mut headers = [0; IP_HEADER];
    // The kernel refuses to cut: it wants room for all headers, at most 60 + 60 octets.
    let mut syn = [0; 120];
    let length = sockopt::get(stream, IPPROTO_TCP, libc::TCP_SAVED_SYN, &mut syn).ok()?;
    headers.copy_from_slice(syn.get(..length)?.get(..IP_HEADER)?);
    match headers[0] >> 4 {
        4 => Some(headers[8]),
        6 => Some(headers[7]),
        _ => None,
    }
}

fn set_ttl(socket: &impl AsFd, v4: bool, ttl: u8) -> io::Result<()> {
    let (level, name) = if v4 {
        (IPPROTO_IP, libc::IP_TTL)
    } else {
        (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
    };
    sockopt::set(socket, level, name, &c_int::from(ttl).to_ne_bytes())
}

fn set_least_ttl(socket: &impl AsFd, v4: bool, least: u8) -> io::Result<()> {
    let (level, name) = if v4 {
        (IPPROTO_IP, libc::IP_MINTTL)
    } else {
        (IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT)
    };
    sockopt::set(socket, level, name, &c_int::from(least).to_ne_bytes())
}

/// Unicast link-local (RFC 4291 §2.5.6).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// A global IPv6 address of an interface, if it has one.
pub(crate) fn global_address(interface: &str) -> Option<Ipv6Addr> {
    let of_interface = |found: &InterfaceAddress| found.interface_name == interface;
    let addresses = getifaddrs().ok()?.filter(of_interface);
    let addresses = addresses.filter_map(|found| {
        found
            .address?
            .as_sockaddr_in6()
            .map(nix::sys::socket::SockaddrIn6::ip)
    });
    let global = |address: &Ipv6Addr| !address.is_unicast_link_local() && !address.is_loopback();
    addresses.filter(global).min()
}

/// Asks the kernel for the signature before anything depends on it.
pub(crate) fn try_key(transport: &Transport) -> io::Result<()> {
    let Some(key) = &transport.key else { return Ok(()) };
    let domain = if transport.address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    key.sign(
        &Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?,
        transport.address,
    )
}

/// An IPv6 listener takes IPv6 alone, so that `0.0.0.0` and `[::]` can stand side by side.
pub(crate) fn bind_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

/// A listener for peers, with their keys.
pub(crate) fn bind_for_peers(address: SocketAddr, peers: &[Arc<Transport>]) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    let v4 = address.is_ipv4();
    let peers = || peers.iter().filter(|peer| peer.address.is_ipv4() == v4);
    for peer in peers() {
        if let Some(key) = &peer.key {
            key.sign(&socket, peer.address)?;
        }
    }
    // Our SYN-ACK must pass the peer's GTSM too; it says nothing yet, so it may go far.
    set_ttl(&socket, v4, MAX_TTL)?;
    // One rule for all who knock: that of the peer that may be furthest. Each peer's own is checked by `admit`.
    let least = peers().map(|peer| peer.least_ttl.unwrap_or(0)).min();
    if let Some(least) = least.filter(|least| *least > 0) {
        set_least_ttl(&socket, v4, least)?;
    }
    if peers().any(|peer| peer.least_ttl.is_some()) {
        sockopt::set(&socket, IPPROTO_TCP, libc::TCP_SAVE_SYN, &1_i32.to_ne_bytes())?;
    }
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?; // a restart must not wait for TIME_WAIT
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
