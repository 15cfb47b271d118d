//! A packet socket bound to one interface, which gives and takes frames as the kernel holds them.
//!
//! With `PACKET_VNET_HDR` each frame comes behind a header that says which checksum is still missing and into which
//! segments the kernel would cut it, and is sent with the same header: so neither needs to be done here (packet(7),
//! virtio 1.2 §5.1.6).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// Octets of `struct virtio_net_hdr`.
pub(super) const HEADER: usize = 10;

/// Since Linux 4.20: what is sent by this host is not heard.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Opens it in the current namespace.
#[expect(
    unsafe_code,
    reason = "socket(2), setsockopt(2) and bind(2) with sockaddr_ll, which nix cannot make"
)]
pub(super) fn open(interface: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: plain numbers; the result is checked.
    let raw = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0, // nothing is heard before it is bound
        )
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    for (level, name, value) in [
        (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1),
        (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20),
        (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 8 << 20),
    ] {
        let value: libc::c_int = value;
        // SAFETY: the pointer is to an int that outlives the call, and its size is given.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol;
    address.sll_ifindex = libc::c_int::try_from(index).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer is to an address of this family that outlives the call, and its size is given.
    let done = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}
