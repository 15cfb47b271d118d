//! How many TCP connections an address carries, by sock_diag(7): the kernel picks them out, we count.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use steer_topology::Prefix;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST, and NLM_F_ROOT with NLM_F_MATCH: all that fit.
const DUMP: u16 = 0x301;

const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// "The local address lies in".
const INET_DIAG_BC_S_COND: u8 = 7;

/// States in which the host may still have something to send: ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING.
const STATES: u32 = 1 << 1 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11;

/// Where `struct inet_diag_msg` has the far address, after the header of 16 octets.
const FAR_ADDRESS: usize = 16 + 24;

/// TCP connections whose local address lies in `within`. The host itself (`own`) is no client: it may hold
/// connections to its own services, checks for example. Blocks for as long as the kernel looks.
pub(super) fn count(within: Prefix, own: &BTreeSet<IpAddr>) -> io::Result<u64> {
    let in_ipv6 = count_family(AF_INET6, within, own)?; // IPv4 too: of sockets that take both
    if !within.is_ipv4() {
        return Ok(in_ipv6);
    }
    Ok(in_ipv6 + count_family(AF_INET, within, own)?)
}

fn count_family(family: u8, within: Prefix, own: &BTreeSet<IpAddr>) -> io::Result<u64> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(2, 0))?;
    let (kernel, request) = (NetlinkAddr::new(0, 0), request(family, within));
    sendto(socket.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
    let mut count = 0;
    let mut buffer = vec![0; 64 * 1024];
    while read_some(&socket, &mut buffer, family, own, &mut count)? {}
    Ok(count)
}

/// Counts what one datagram tells; whether there is more to come.
fn read_some(
    socket: &OwnedFd,
    buffer: &mut [u8],
    family: u8,
    own: &BTreeSet<IpAddr>,
    count: &mut u64,
) -> io::Result<bool> {
    let length = recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?;
    let mut rest = buffer.get(..length).unwrap_or_default();
    while let Some((message, kind)) = first_message(rest) {
        match kind {
            SOCK_DIAG_BY_FAMILY => {
                let far = far_address(message, family);
                let is_client = far.is_some_and(|far| !far.is_loopback() && !own.contains(&far));
                *count += u64::from(is_client);
            }
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR => return Err(error_of(message)),
            _ => {}
        }
        rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// The first message with its header, and its type.
fn first_message(octets: &[u8]) -> Option<(&[u8], u16)> {
    let (length, rest) = octets.split_first_chunk::<4>()?;
    let kind = u16::from_ne_bytes(*rest.first_chunk()?);
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    let message = octets.get(..length).filter(|_| length >= 16)?;
    Some((message, kind))
}

fn far_address(message: &[u8], family: u8) -> Option<IpAddr> {
    let octets: &[u8; 16] = message.get(FAR_ADDRESS..)?.first_chunk()?;
    if family == AF_INET {
        let v4: &[u8; 4] = octets.first_chunk()?;
        return Some(Ipv4Addr::from(*v4).into());
    }
    Some(IpAddr::from(Ipv6Addr::from(*octets)).to_canonical())
}

fn error_of(message: &[u8]) -> io::Error {
    let code = message.get(16..).and_then(|rest| rest.first_chunk::<4>());
    let code = code.map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_neg())
}

/// `struct nlmsghdr`, `struct inet_diag_req_v2`, and the filter.
fn request(family: u8, within: Prefix) -> Vec<u8> {
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    body.extend(STATES.to_ne_bytes());
    body.extend([0; 40]); // ports and addresses
    body.extend([0xff; 8]); // any cookie
    body.extend(filter(within));
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([0; 8]); // sequence and port
    message.extend(body);
    message
}

/// An attribute with a program of one `struct inet_diag_bc_op` and its `struct inet_diag_hostcond`.
fn filter(within: Prefix) -> Vec<u8> {
    let (family, address) = match within.address() {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let length = 4 + 8 + address.len() as u16; // always short
    let mut attribute = Vec::with_capacity(4 + usize::from(length));
    attribute.extend((4 + length).to_ne_bytes());
    attribute.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
    // Where to go on: at the end it is accepted, 4 beyond the end it is not.
    attribute.extend([INET_DIAG_BC_S_COND, length as u8]);
    attribute.extend((length + 4).to_ne_bytes());
    attribute.extend([family, within.length(), 0, 0]);
    attribute.extend((-1_i32).to_ne_bytes()); // any port
    attribute.extend(address);
    attribute
}
