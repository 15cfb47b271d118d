//! A capture file of conversations that never were on a wire: IPv4 without a link layer, TCP and UDP.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Raw IP: a packet begins with its IP header.
const LINKTYPE_RAW: u32 = 101;

/// Payload per TCP segment, so that long messages have to be put together again.
const SEGMENT: usize = 1_460;

/// The octets of a capture file.
#[derive(Debug)]
pub(crate) struct Capture(Vec<u8>);

/// One direction of one TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    /// Of the next octet.
    sequence: u32,
}

impl Flow {
    /// Nothing sent yet; like a SYN it takes the first number.
    pub(crate) fn new(from: SocketAddrV4, to: SocketAddrV4) -> Self {
        let sequence = 1;
        Self { from, to, sequence }
    }
}

impl Capture {
    pub(crate) fn new() -> Self {
        let mut octets = Vec::new();
        octets.extend(0xa1b2_3c4d_u32.to_le_bytes()); // times in nanoseconds
        octets.extend([2, 0, 4, 0]); // version 2.4
        octets.extend([0; 8]);
        octets.extend(262_144_u32.to_le_bytes());
        octets.extend(LINKTYPE_RAW.to_le_bytes());
        Self(octets)
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The handshake, so that the reader knows where a stream begins.
    pub(crate) fn connect(&mut self, at: Duration, client: &Flow, server: &Flow) {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        self.tcp(at, client, 0, 0, SYN, &[]);
        self.tcp(at, server, 0, 1, SYN | ACK, &[]);
        self.tcp(at, client, 1, 1, ACK, &[]);
    }

    /// Octets in order, in as many segments as they need.
    pub(crate) fn send(&mut self, at: Duration, flow: &mut Flow, acknowledges: &Flow, octets: &[u8]) {
        const PUSH_ACK: u8 = 0x18;
        for segment in octets.chunks(SEGMENT) {
            self.tcp(at, flow, flow.sequence, acknowledges.sequence, PUSH_ACK, segment);
            flow.sequence = flow
                .sequence
                .wrapping_add(u32::try_from(segment.len()).unwrap_or(0));
        }
    }

    fn tcp(
        &mut self,
        at: Duration,
        flow: &Flow,
        sequence: u32,
        acknowledges: u32,
        flags: u8,
        payload: &[u8],
    ) {
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(flow.from.port().to_be_bytes());
        segment.extend(flow.to.port().to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledges.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]); // 5 words of header; checksum not looked at
        segment.extend(payload);
        self.ip(at, 6, 64, *flow.from.ip(), *flow.to.ip(), &segment);
    }

    /// A UDP datagram with TTL 255, as BFD wants it (RFC 5881 §5).
    pub(crate) fn datagram(
        &mut self,
        at: Duration,
        from: (Ipv4Addr, u16),
        to: (Ipv4Addr, u16),
        octets: &[u8],
    ) {
        let length = u16::try_from(8 + octets.len()).expect("a datagram fits");
        let mut datagram = Vec::with_capacity(length.into());
        datagram.extend(from.1.to_be_bytes());
        datagram.extend(to.1.to_be_bytes());
        datagram.extend(length.to_be_bytes());
        datagram.extend([0, 0]); // no checksum
        datagram.extend(octets);
        self.ip(at, 17, 255, from.0, to.0, &datagram);
    }

    fn ip(&mut self, at: Duration, protocol: u8, ttl: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) {
        let length = u16::try_from(20 + payload.len()).expect("a segment fits");
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0, 0, ttl, protocol, 0, 0]);
        packet.extend(from.octets());
        packet.extend(to.octets());
        packet.extend(payload);
        self.0
            .extend(u32::try_from(at.as_secs()).unwrap_or(0).to_le_bytes());
        self.0.extend(at.subsec_nanos().to_le_bytes());
        for _captured_and_original in 0..2 {
            self.0.extend(u32::from(length).to_le_bytes());
        }
        self.0.extend(packet);
    }
}
