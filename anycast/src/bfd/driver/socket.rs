//! Sockets: one listener per port and family, one socket per session to send from.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rand::RngExt;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::target::Hops;

/// RFC 5881 §4: source ports. None of ours is another session's.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Random ports that are tried before we give up.
const PORT_TRIES: usize = 64;

/// RFC 5881 §5, RFC 5883 §5: nobody behind a router can send it.
const TTL: u32 = 255;

/// Class Selector 6, network control: the packets that others are routed by.
const TRAFFIC_CLASS: u32 = 0xc0;

/// Longer than any control packet can be: its Length is one octet.
pub(super) const LONGEST: usize = 256;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// RFC 5881
    SingleHop,
    /// RFC 5883
    Multihop,
}

impl From<Hops> for Kind {
    fn from(hops: Hops) -> Self {
        match hops {
            Hops::Single => Self::SingleHop,
            Hops::Multi { .. } => Self::Multihop,
        }
    }
}

/// What a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Door {
    pub(super) kind: Kind,
    pub(super) ipv4: bool,
}

/// A datagram that came, without its octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) from: IpAddr,
    /// The address that it was sent to.
    pub(super) to: Option<IpAddr>,
    /// The index of the interface that it came in by; 0: unknown.
    pub(super) interface: u32,
    pub(super) ttl: Option<u8>,
    /// When the kernel had it.
    pub(super) at: Instant,
    pub(super) length: usize,
}

/// A bound port.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) door: Door,
    socket: UdpSocket,
    control: Vec<u8>,
    /// What arrived before was read.
    heard_until: Instant,
}

impl Listener {
    pub(super) fn bind(door: Door, port: u16) -> io::Result<Self> {
        let socket = open(door.ipv4)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        if door.ipv4 {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        socket.bind(&Self::address(door, port).into())?;
        Ok(Self {
            door,
            socket: socket.into(),
            control: nix::cmsg_space!(TimeSpec, libc::in6_pktinfo, libc::c_int, libc::c_int),
            heard_until: Instant::now(),
        })
    }

    pub(super) fn address(door: Door, port: u16) -> SocketAddr {
        SocketAddr::new(any(door.ipv4), port)
    }

    pub(super) fn heard_until(&self) -> Instant {
        self.heard_until
    }

    /// The next datagram that waits, and its octets in `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8; LONGEST]) -> Option<Arrival> {
        let now = Instant::now();
        let mut slices = [IoSliceMut::new(buffer)];
        let socket = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(
            socket,
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        );
        let Ok(message) = message else {
            // EAGAIN: all that came was read. Another error leaves nothing to wait for either.
            self.heard_until = now;
            return None;
        };
        let mut arrival = Arrival {
            from: message.address.as_ref().and_then(ip).unwrap_or(any(true)),
            to: None,
            interface: 0,
            ttl: None,
            at: now,
            length: message.bytes,
        };
        let mut stamp = None;
        for control in message.cmsgs().into_iter().flatten() {
            note(&control, &mut arrival, &mut stamp);
        }
        arrival.at = self.arrived(stamp, now);
        self.heard_until = arrival.at;
        Some(arrival)
    }

    /// From the clock on the wall to ours. A wall clock that was set meanwhile does no harm: the datagram came
    /// after what was read before it, and not in the future.
    fn arrived(&self, stamp: Option<TimeSpec>, now: Instant) -> Instant {
        let age = stamp
            .and_then(|stamp| SystemTime::UNIX_EPOCH.checked_add(Duration::from(stamp)))
            .and_then(|stamp| SystemTime::now().duration_since(stamp).ok())
            .unwrap_or_default();
        let at = now.checked_sub(age).unwrap_or(now);
        at.max(self.heard_until).min(now)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket that a session sends from.
#[derive(Debug)]
pub(super) struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Sender {
    /// `scope`: the interface of a link-local address, or 0.
    pub(super) fn bind(source: Option<IpAddr>, to: SocketAddr, scope: u32) -> io::Result<Self> {
        let ipv4 = to.is_ipv4();
        let socket = open(ipv4)?;
        // The source address may come later than we do, or go and come again: then sending fails for as long.
        if ipv4 {
            socket.set_freebind_v4(true)?;
            socket.set_ttl_v4(TTL)?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
        } else {
            socket.set_freebind_v6(true)?;
            socket.set_unicast_hops_v6(TTL)?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
        }
        // Nobody answers to this port; what comes all the same may fill no more than the least buffer.
        socket.set_recv_buffer_size(0)?;
        bind_source(&socket, source.unwrap_or_else(|| any(ipv4)), scope)?;
        Ok(Self {
            socket: socket.into(),
            to: scoped(to.ip(), to.port(), scope),
        })
    }

    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.socket.send_to(octets, self.to).map(drop)
    }

    #[cfg(test)]
    pub(super) fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }
}

/// RFC 5881 §4: a port of the range, which the system's own choice need not be in.
fn bind_source(socket: &Socket, source: IpAddr, scope: u32) -> io::Result<()> {
    let mut rng = rand::rng();
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..PORT_TRIES {
        let port = rng.random_range(SOURCE_PORTS);
        match socket.bind(&scoped(source, port, scope).into()) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn open(ipv4: bool) -> io::Result<Socket> {
    let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if !ipv4 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn any(ipv4: bool) -> IpAddr {
    if ipv4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// A link-local address means something on its interface alone.
fn scoped(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, scope).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(address, port),
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the system's messages; we asked for these alone"
)]
fn note(control: &ControlMessageOwned, arrival: &mut Arrival, stamp: &mut Option<TimeSpec>) {
    match control {
        ControlMessageOwned::ScmTimestampns(at) => *stamp = Some(*at),
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
            arrival.ttl = u8::try_from(*ttl).ok();
        }
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            arrival.to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
            arrival.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            arrival.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            arrival.interface = info.ipi6_ifindex;
        }
        _ => {}
    }
}
