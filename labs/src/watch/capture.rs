//! The router's packets: BGP UPDATEs with the kernel's time of arrival, and a pcap file of the sessions.
//!
//! A listener of its own beside the two speakers: it trusts neither our log nor the router's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IoSliceMut, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal};
use socket2::{SockFilter, SockRef};

use super::{Nanos, Seen, Timeline, now};

const BGP_PORT: u16 = 179;
/// Marker, length, type (RFC 4271 §4.1).
const BGP_HEADER: usize = 19;
const BGP_MAX: usize = 4096;
const UPDATE: u8 = 2;

/// Reads packets of the current namespace until the timeline is stopped.
pub(crate) fn watch(socket: &OwnedFd, pcap: &mut Pcap, prefix: &[u8], timeline: &Timeline) -> io::Result<()> {
    let mut streams: BTreeMap<Ipv4Addr, Stream> = BTreeMap::new();
    let mut packet = vec![0; 65_536];
    while !timeline.stopped() {
        let (length, at) = match receive(socket, &mut packet) {
            Ok(received) => received,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue, // time to look whether to stop
            Err(error) => return Err(error.into()),
        };
        let bytes = packet.get(..length).unwrap_or_default();
        let Some(segment) = Segment::of(bytes) else {
            continue;
        };
        pcap.packet(at, bytes)?;
        if segment.to_port != BGP_PORT && segment.from_port != BGP_PORT {
            continue;
        }
        let stream = streams.entry(segment.from).or_default();
        stream.add(&segment);
        while let Some(message) = stream.message() {
            let change = Change::of(&message, prefix);
            let peer = segment.from;
            if change.withdrawn {
                timeline.push(at, Seen::Withdrawn { peer });
            }
            if change.announced {
                timeline.push(at, Seen::Announced { peer });
            }
        }
    }
    pcap.flush()
}

/// A raw socket on all interfaces of the current namespace, with kernel time stamps.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    SockRef::from(&socket).attach_filter(&bgp_only())?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    Ok(socket)
}

/// The kernel drops all but BGP over IPv4, so that the clients' load does not wake us for each packet.
fn bgp_only() -> [SockFilter; 11] {
    // Classic BPF: load half word, load byte, header length into x, jump if equal, return.
    const LDH: u16 = 0x28;
    const LDB: u16 = 0x30;
    const LDX_MSH: u16 = 0xb1;
    const LDH_X: u16 = 0x48;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    let load = |code, at| SockFilter::new(code, 0, 0, at);
    let equal = |value, then, otherwise| SockFilter::new(JEQ, then, otherwise, value);
    [
        load(LDH, 12),
        equal(0x0800, 0, 7), // IPv4
        load(LDB, 23),
        equal(6, 0, 5), // TCP
        load(LDX_MSH, 14),
        load(LDH_X, 14), // port it comes from
        equal(BGP_PORT.into(), 3, 0),
        load(LDH_X, 16), // port it goes to
        equal(BGP_PORT.into(), 1, 0),
        load(RET, 0),
        load(RET, u32::MAX),
    ]
}

fn receive(socket: &OwnedFd, packet: &mut [u8]) -> nix::Result<(usize, Nanos)> {
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(packet)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let stamp = message.cmsgs()?.find_map(|part| {
        if let ControlMessageOwned::ScmTimestampns(time) = part {
            Some(time)
        } else {
            None
        }
    });
    let at = stamp.map_or_else(now, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
    Ok((message.bytes, at))
}

/// A TCP segment of a BGP session over IPv4 and Ethernet.
struct Segment<'p> {
    from: Ipv4Addr,
    from_port: u16,
    to_port: u16,
    sequence: u32,
    syn: bool,
    payload: &'p [u8],
}

impl<'p> Segment<'p> {
    /// `None` for everything else.
    fn of(frame: &'p [u8]) -> Option<Self> {
        if frame.get(12..14)? != [0x08, 0x00] {
            return None; // not IPv4
        }
        let ip = frame.get(14..)?;
        let total = usize::from(be16(ip, 2)?);
        let ip = ip.get(..total)?; // without the padding of short frames
        if *ip.get(9)? != 6 {
            return None; // not TCP
        }
        let octets: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
        let tcp = ip.get(usize::from(*ip.first()? & 0x0f) * 4..)?;
        let (from_port, to_port) = (be16(tcp, 0)?, be16(tcp, 2)?);
        if from_port != BGP_PORT && to_port != BGP_PORT {
            return None;
        }
        let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let payload = tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?;
        let syn = *tcp.get(13)? & 0x02 != 0;
        Some(Self {
            from: Ipv4Addr::from(octets),
            from_port,
            to_port,
            sequence,
            syn,
            payload,
        })
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// One direction of a session, put together again.
#[derive(Default)]
struct Stream {
    next: Option<u32>,
    bytes: Vec<u8>,
}

impl Stream {
    fn add(&mut self, segment: &Segment<'_>) {
        if segment.syn {
            self.next = Some(segment.sequence.wrapping_add(1));
            self.bytes.clear();
            return;
        }
        let next = self.next.unwrap_or(segment.sequence);
        let behind = next.wrapping_sub(segment.sequence);
        let fresh = if behind < 1 << 31 {
            segment.payload.get(behind as usize..).unwrap_or_default() // the rest came before
        } else {
            self.bytes.clear(); // a hole: start anew at a message
            segment.payload
        };
        if !fresh.is_empty() {
            self.next = Some(segment.sequence.wrapping_add(segment.payload.len() as u32));
            self.bytes.extend_from_slice(fresh);
        }
    }

    /// The next whole BGP message.
    fn message(&mut self) -> Option<Vec<u8>> {
        if self.bytes.len() < BGP_HEADER {
            return None;
        }
        let length = usize::from(be16(&self.bytes, 16)?);
        if self.bytes[..16] != [0xff; 16] || !(BGP_HEADER..=BGP_MAX).contains(&length) {
            self.bytes.clear();
            return None;
        }
        (self.bytes.len() >= length).then(|| self.bytes.drain(..length).collect())
    }
}

/// What an UPDATE does to the watched IPv4 prefix.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    withdrawn: bool,
    announced: bool,
}

impl Change {
    /// `prefix` as on the wire: length in bits, then as many octets as it needs (RFC 4271 §4.3).
    fn of(message: &[u8], prefix: &[u8]) -> Self {
        Self::read(message, prefix).unwrap_or_default()
    }

    fn read(message: &[u8], prefix: &[u8]) -> Option<Self> {
        if *message.get(18)? != UPDATE {
            return None;
        }
        let body = message.get(BGP_HEADER..)?;
        let withdrawn_length = usize::from(be16(body, 0)?);
        let withdrawn = body.get(2..2 + withdrawn_length)?;
        let rest = body.get(2 + withdrawn_length..)?;
        let attributes_length = usize::from(be16(rest, 0)?);
        let announced = rest.get(2 + attributes_length..)?;
        Some(Self {
            withdrawn: holds(withdrawn, prefix),
            announced: holds(announced, prefix),
        })
    }
}

fn holds(mut prefixes: &[u8], wanted: &[u8]) -> bool {
    while let Some(bits) = prefixes.first() {
        let length = 1 + usize::from(*bits).div_ceil(8);
        let Some(one) = prefixes.get(..length) else {
            return false;
        };
        if one == wanted {
            return true;
        }
        prefixes = &prefixes[length..];
    }
    false
}

/// `192.0.2.0/24` as it stands in an UPDATE.
pub(crate) fn wire_prefix(text: &str) -> Option<Vec<u8>> {
    let (address, bits) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mut wire = vec![bits];
    wire.extend(address.octets().iter().take(usize::from(bits).div_ceil(8)));
    Some(wire)
}

/// A capture file with nanoseconds, for Wireshark and tcpdump.
pub(crate) struct Pcap {
    file: BufWriter<File>,
}

impl Pcap {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?; // magic of the format with nanoseconds
        file.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?; // version 2.4, UTC
        file.write_all(&65_535_u32.to_le_bytes())?;
        file.write_all(&1_u32.to_le_bytes())?; // Ethernet
        Ok(Self { file })
    }

    fn packet(&mut self, at: Nanos, bytes: &[u8]) -> io::Result<()> {
        let length = (bytes.len() as u32).to_le_bytes();
        self.file
            .write_all(&((at / 1_000_000_000) as u32).to_le_bytes())?;
        self.file
            .write_all(&((at % 1_000_000_000) as u32).to_le_bytes())?;
        self.file.write_all(&length)?;
        self.file.write_all(&length)?;
        self.file.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: [u8; 5] = [32, 192, 0, 2, 53];

    fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
        let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(withdrawn);
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend_from_slice(attributes);
        body.extend_from_slice(announced);
        let mut message = vec![0xff; 16];
        message.extend(((BGP_HEADER + body.len()) as u16).to_be_bytes());
        message.push(UPDATE);
        message.extend(body);
        message
    }

    fn segment(sequence: u32, payload: &[u8]) -> Segment<'_> {
        let from = Ipv4Addr::LOCALHOST;
        Segment {
            from,
            from_port: 40_000,
            to_port: BGP_PORT,
            sequence,
            syn: false,
            payload,
        }
    }

    #[test]
    fn withdrawals_and_announcements_are_told_apart() {
        let withdraw = update(&[24, 10, 0, 0, 32, 192, 0, 2, 53], &[], &[]);
        assert_eq!(
            Change::of(&withdraw, &PREFIX),
            Change {
                withdrawn: true,
                announced: false
            }
        );
        let announce = update(&[], &[0x40, 1, 1, 0], &PREFIX);
        assert_eq!(
            Change::of(&announce, &PREFIX),
            Change {
                withdrawn: false,
                announced: true
            }
        );
        let other = update(&[32, 192, 0, 2, 54], &[], &[24, 192, 0, 2]);
        assert_eq!(Change::of(&other, &PREFIX), Change::default());
        assert_eq!(wire_prefix("192.0.2.53/32").unwrap(), PREFIX);
        assert_eq!(wire_prefix("10.0.0.0/9").unwrap(), [9, 10, 0]);
    }

    #[test]
    fn a_message_cut_anywhere_and_sent_twice_is_read_once() {
        let bytes = [update(&PREFIX, &[], &[]), update(&[], &[], &PREFIX)].concat();
        for cut in 1..bytes.len() {
            let mut stream = Stream::default();
            let start = u32::MAX - 10; // the sequence number wraps on the way
            let mut messages = Vec::new();
            let parts = [(0, &bytes[..cut]), (0, &bytes[..cut]), (cut, &bytes[cut..])];
            for (offset, part) in parts {
                stream.add(&segment(start.wrapping_add(offset as u32), part));
                messages.extend(std::iter::from_fn(|| stream.message()));
            }
            assert_eq!(messages.len(), 2, "cut at {cut}");
        }
    }

    #[test]
    fn short_and_wild_bytes_are_no_segment_and_no_change() {
        let good = update(&PREFIX, &[], &[]);
        for length in 0..good.len() {
            assert_eq!(
                Change::of(&good[..length], &PREFIX),
                Change::default(),
                "{length}"
            );
            assert!(Segment::of(&good[..length]).is_none());
        }
    }
}
