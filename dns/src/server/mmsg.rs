//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, with the address that each was sent to.
//!
//! Everything is allocated once and used again. A call builds its headers anew on the stack, since the kernel
//! writes lengths into them.

#![expect(
    unsafe_code,
    reason = "no safe wrapper of recvmmsg and sendmmsg can be used twice and carries one IP_PKTINFO per datagram"
)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::{c_int, c_uint};

/// Datagrams per system call. Beyond some tens the call itself no longer costs much.
pub(super) const BATCH: usize = 32;
/// Octets of a query that are read. What is longer is dropped: no query comes near it.
pub(super) const LONGEST: usize = 4096;
/// Room for one `in6_pktinfo` with its header (40 octets), and so for one `in_pktinfo` (32).
const CONTROL: usize = 64;

/// Control messages begin with a `size_t`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// From whom a datagram came, and where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope {
    /// The peer.
    pub(super) peer: SocketAddr,
    /// Our address; the reply leaves from it. Absent where the kernel does not tell.
    pub(super) local: Option<IpAddr>,
    /// Longer than [`LONGEST`]: the rest is lost.
    pub(super) is_cut: bool,
    length: usize,
}

/// What one call has read.
pub(super) struct Inbox {
    octets: Vec<[u8; LONGEST]>,
    names: [libc::sockaddr_in6; BATCH],
    controls: [Control; BATCH],
    envelopes: Vec<Envelope>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            octets: vec![[0; LONGEST]; BATCH],
            names: [no_name(); BATCH],
            controls: [Control([0; CONTROL]); BATCH],
            envelopes: Vec::with_capacity(BATCH),
        }
    }

    /// Reads what is there, at most [`BATCH`] datagrams, and waits for nothing. What came before is gone.
    pub(super) fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.envelopes.clear();
        let mut vectors = [no_vector(); BATCH];
        let mut headers = [no_header(); BATCH];
        let places = self
            .octets
            .iter_mut()
            .zip(&mut self.names)
            .zip(&mut self.controls);
        for (((octets, name), control), (vector, header)) in places.zip(vectors.iter_mut().zip(&mut headers))
        {
            vector.iov_base = octets.as_mut_ptr().cast();
            vector.iov_len = LONGEST;
            let message = &mut header.msg_hdr;
            message.msg_name = ptr::from_mut(name).cast();
            message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = CONTROL;
        }
        // SAFETY: the descriptor is open while it is borrowed. Each header points to one vector, one name and
        // one control buffer of the lengths it says, all of which live until the end of this function and are
        // touched by nobody else meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, name) in headers.iter().zip(&self.names).take(count) {
            let envelope = peer(name).map(|peer| Envelope {
                peer,
                local: local(&header.msg_hdr),
                is_cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                length: (header.msg_len as usize).min(LONGEST),
            });
            // an unbound peer cannot be answered; port 0 is dropped by whoever reads it
            self.envelopes.push(envelope.unwrap_or(NOBODY));
        }
        Ok(count)
    }

    /// The datagrams of the last call.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], Envelope)> {
        self.octets
            .iter()
            .zip(&self.envelopes)
            .map(|(octets, envelope)| (octets.get(..envelope.length).unwrap_or_default(), *envelope))
    }
}

/// In place of a peer that the kernel does not name.
const NOBODY: Envelope = Envelope {
    peer: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
    local: None,
    is_cut: false,
    length: 0,
};

/// Datagrams for one call.
pub(super) struct Outbox {
    octets: Vec<Vec<u8>>,
    envelopes: Vec<Envelope>,
    names: [libc::sockaddr_in6; BATCH],
    controls: [Control; BATCH],
}

/// How sending went.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Datagrams that the kernel did not take.
    pub(super) lost: usize,
    /// Why it did not take the last of them.
    pub(super) error: Option<io::Error>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            octets: vec![Vec::new(); BATCH],
            envelopes: Vec::with_capacity(BATCH),
            names: [no_name(); BATCH],
            controls: [Control([0; CONTROL]); BATCH],
        }
    }

    /// One more datagram to whom `envelope` came from, with the octets that `fill` writes. Dropped where `fill`
    /// says `false`, and beyond [`BATCH`].
    pub(super) fn add(&mut self, envelope: Envelope, fill: impl FnOnce(&mut Vec<u8>) -> bool) {
        let Some(octets) = self.octets.get_mut(self.envelopes.len()) else {
            return;
        };
        octets.clear();
        if fill(octets) {
            self.envelopes.push(envelope);
        }
    }

    /// Sends everything and is empty afterwards. Never waits: what does not fit the socket's buffer is lost, as
    /// it would be on the way.
    pub(super) fn send(&mut self, socket: &impl AsFd) -> Sent {
        let mut vectors = [no_vector(); BATCH];
        let mut headers = [no_header(); BATCH];
        let letters = self.octets.iter_mut().zip(&self.envelopes);
        let places = self.names.iter_mut().zip(&mut self.controls);
        for (((octets, envelope), (name, control)), (vector, header)) in
            letters.zip(places).zip(vectors.iter_mut().zip(&mut headers))
        {
            vector.iov_base = octets.as_mut_ptr().cast();
            vector.iov_len = octets.len();
            let message = &mut header.msg_hdr;
            message.msg_namelen = write_name(name, envelope.peer);
            message.msg_name = ptr::from_mut(name).cast();
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            if let Some(local) = envelope.local {
                message.msg_control = control.0.as_mut_ptr().cast();
                message.msg_controllen = CONTROL;
                write_source(message, local);
            }
        }
        let count = self.envelopes.len();
        self.envelopes.clear();
        send_all(socket, headers.get_mut(..count).unwrap_or_default())
    }
}

/// Headers that point to live buffers.
fn send_all(socket: &impl AsFd, headers: &mut [libc::mmsghdr]) -> Sent {
    let mut sent = Sent::default();
    let mut rest = headers;
    while !rest.is_empty() {
        // SAFETY: the descriptor is open while it is borrowed, and the caller keeps what the headers point to.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as c_uint, // at most `BATCH`
                libc::MSG_DONTWAIT,
            )
        };
        let done = usize::try_from(count).unwrap_or_else(|_| {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                return 0;
            }
            // The error is the first datagram's; the others may still go.
            sent.lost += 1;
            sent.error = Some(error);
            1
        });
        rest = rest.get_mut(done..).unwrap_or_default();
    }
    sent
}

fn no_name() -> libc::sockaddr_in6 {
    // SAFETY: a structure of numbers, for which zero is a value.
    unsafe { mem::zeroed() }
}

fn no_vector() -> libc::iovec {
    libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: a structure of numbers and of pointers that may be null.
    unsafe { mem::zeroed() }
}

/// The address that the kernel wrote.
fn peer(name: &libc::sockaddr_in6) -> Option<SocketAddr> {
    match c_int::from(name.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is the shorter `sockaddr_in`; alignments are the same.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => Some(
            SocketAddrV6::new(
                Ipv6Addr::from(name.sin6_addr.s6_addr),
                u16::from_be(name.sin6_port),
                0,
                name.sin6_scope_id,
            )
            .into(),
        ),
        _ => None,
    }
}

/// The length of what was written.
fn write_name(name: &mut libc::sockaddr_in6, peer: SocketAddr) -> libc::socklen_t {
    *name = no_name();
    match peer {
        SocketAddr::V4(peer) => {
            // SAFETY: `sockaddr_in` is the shorter one, with the same alignment.
            let name = unsafe { &mut *ptr::from_mut(name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = peer.port().to_be();
            name.sin_addr.s_addr = u32::from(*peer.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(peer) => {
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = peer.port().to_be();
            name.sin6_addr.s6_addr = peer.ip().octets();
            name.sin6_scope_id = peer.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// The address a datagram was sent to, out of `IP_PKTINFO` (ip(7)) or `IPV6_PKTINFO` (RFC 3542 §6.2).
fn local(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the control buffer and set its length in the header; the macros stay in it.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !at.is_null() {
        // SAFETY: as above; each kind of control message carries the structure that its manual names, and may
        // stand unaligned.
        unsafe {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    // the header's address, or our own where that was a broadcast
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    return (!address.is_multicast()).then_some(address.into());
                }
                _ => at = libc::CMSG_NXTHDR(message, at),
            }
        }
    }
    None
}

/// Sets the source of a datagram. The route stays the kernel's choice: a query may come by another way.
fn write_source(message: &mut libc::msghdr, local: IpAddr) {
    match local {
        IpAddr::V4(local) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(local).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(local) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: local.octets(),
                },
                ipi6_ifindex: 0, // a link-local peer has its scope in the name
            };
            write_control(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn write_control<T>(message: &mut libc::msghdr, level: c_int, kind: c_int, value: T) {
    let length = size_of::<T>() as c_uint;
    // SAFETY: the buffer behind `msg_control` has `CONTROL` octets, which is more than the one message takes,
    // and is aligned for its header. The data may stand unaligned.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(length) as usize;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    /// A socket on all addresses of loopback's family that tells where datagrams were sent to.
    fn wildcard(is_ipv6: bool) -> UdpSocket {
        let any: IpAddr = if is_ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        if is_ipv6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap();
        }
        socket
    }

    /// Waits for one datagram or more.
    fn receive(inbox: &mut Inbox, socket: &UdpSocket) -> usize {
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            match inbox.receive(socket) {
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(std::time::Instant::now() < deadline);
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_reply_leaves_from_the_address_that_was_asked_in_both_families() {
        for (asked, is_ipv6) in [("127.0.0.99", false), ("127.0.0.1", false), ("::1", true)] {
            let asked: IpAddr = asked.parse().unwrap();
            let server = wildcard(is_ipv6);
            let port = server.local_addr().unwrap().port();
            let own = if is_ipv6 { "[::1]:0" } else { "127.0.0.7:0" };
            let client = UdpSocket::bind(own).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(b"question", (asked, port)).unwrap();
            let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
            assert_eq!(receive(&mut inbox, &server), 1);
            for (octets, envelope) in inbox.datagrams() {
                assert_eq!((octets, envelope.local), (&b"question"[..], Some(asked)));
                assert_eq!(envelope.peer, client.local_addr().unwrap());
                outbox.add(envelope, |reply| {
                    reply.extend(b"answer");
                    true
                });
            }
            assert_eq!(outbox.send(&server).lost, 0);
            let mut reply = [0; 64];
            let (length, from) = client.recv_from(&mut reply).unwrap();
            assert_eq!(
                (&reply[..length], from),
                (&b"answer"[..], SocketAddr::new(asked, port))
            );
        }
    }

    #[test]
    fn batches_are_used_again_and_what_is_too_long_is_marked() {
        let server = wildcard(false);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .connect(("127.0.0.1", server.local_addr().unwrap().port()))
            .unwrap();
        let mut inbox = Inbox::new();
        for round in 0..3_u8 {
            for number in 0..40 {
                client.send(&[round, number]).unwrap();
            }
            let mut seen = Vec::new();
            while seen.len() < 40 {
                let count = receive(&mut inbox, &server);
                assert!(count <= BATCH);
                seen.extend(inbox.datagrams().map(|(octets, _)| octets.to_vec()));
            }
            assert_eq!(
                seen,
                (0..40).map(|number| vec![round, number]).collect::<Vec<_>>()
            );
        }
        client.send(&[7; LONGEST]).unwrap();
        client.send(&[7; LONGEST + 1]).unwrap();
        let mut cut = Vec::new();
        while cut.len() < 2 {
            receive(&mut inbox, &server);
            cut.extend(inbox.datagrams().map(|(octets, it)| (octets.len(), it.is_cut)));
        }
        assert_eq!(cut, [(LONGEST, false), (LONGEST, true)]);
    }

    #[test]
    fn one_datagram_that_cannot_go_does_not_hold_the_others() {
        let server = wildcard(false);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to = |peer: SocketAddr| Envelope { peer, ..NOBODY };
        let mut outbox = Outbox::new();
        for (peer, octet) in [
            (client.local_addr().unwrap(), 1),
            ("127.0.0.1:0".parse().unwrap(), 2), // nobody has port 0
            (client.local_addr().unwrap(), 3),
        ] {
            outbox.add(to(peer), |reply| {
                reply.push(octet);
                true
            });
        }
        outbox.add(to(client.local_addr().unwrap()), |_| false);
        let sent = outbox.send(&server);
        assert_eq!((sent.lost, sent.error.is_some()), (1, true));
        for octet in [1, 3] {
            let mut reply = [0; 8];
            assert_eq!(client.recv(&mut reply).unwrap(), 1);
            assert_eq!(reply[0], octet);
        }
    }
}
