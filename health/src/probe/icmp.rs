//! ICMP and ICMPv6 echo: over a ping socket where the system lets us have one, else over a raw socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::dial::Dial;
use crate::outcome::{Answer, Outcome, Void};

/// One host.
#[derive(Debug)]
pub(crate) struct Ping {
    dial: Dial,
}

/// Told apart by this from what other programs on a raw socket send.
const MARK: [u8; 8] = *b"steer\0\0\0";

impl Ping {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial }
    }

    pub(super) async fn probe(&self, timeout: Duration) -> Outcome {
        let (socket, raw) = match self.open() {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Outcome::Void(Void::Local(
                    "no ping socket: net.ipv4.ping_group_range does not have our group, and there is no CAP_NET_RAW".to_owned(),
                ));
            }
            Err(error) => return Outcome::of_io_error(&error, timeout),
        };
        match self.echo(socket, raw).await {
            Ok(()) => Outcome::Success(Answer::Seen("echo".into())),
            Err(error) => Outcome::of_io_error(&error, timeout),
        }
    }

    /// A connected socket, and whether it is a raw one.
    fn open(&self) -> io::Result<(Socket, bool)> {
        let (domain, protocol) = match self.dial.address {
            SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (Socket::new(domain, Type::RAW, Some(protocol))?, true)
            }
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        if let Some(source) = self.dial.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        let mut host = self.dial.address;
        host.set_port(0); // RFC 3493 leaves it without meaning, and Linux wants none on a raw socket
        socket.connect(&host.into())?;
        Ok((socket, raw))
    }

    async fn echo(&self, socket: Socket, raw: bool) -> io::Result<()> {
        let v6 = self.dial.address.is_ipv6();
        let nonce: [u8; 8] = rand::random();
        // Send and receive are all that is asked of it, and the same calls for every kind of datagram.
        let socket = UdpSocket::from_std(socket.into())?;
        socket.send(&request(v6, &nonce)).await?;
        let mut bytes = [0; 1500];
        loop {
            let length = socket.recv(&mut bytes).await?;
            if is_reply(&bytes[..length], v6, raw, &nonce) {
                return Ok(());
            }
        }
    }
}

/// Type, code, checksum, identifier, sequence number, data (RFC 792 page 14, RFC 4443 §4.1). A ping socket puts its own
/// identifier in; the data tells our replies from those of others.
fn request(v6: bool, nonce: &[u8; 8]) -> Vec<u8> {
    let kind = if v6 { 128 } else { 8 };
    let mut message = vec![kind, 0, 0, 0, nonce[0], nonce[1], 0, 1];
    message.extend(MARK);
    message.extend(nonce);
    if !v6 {
        // The kernel fills in that of ICMPv6, which covers addresses.
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    message
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn is_reply(received: &[u8], v6: bool, raw: bool, nonce: &[u8; 8]) -> bool {
    let header = match received.first() {
        // A raw IPv4 socket hands the IP header up as well.
        Some(first) if raw && !v6 => usize::from(first & 0x0f) * 4,
        Some(_) | None => 0,
    };
    let Some(message) = received.get(header..) else {
        return false;
    };
    let kind = if v6 { 129 } else { 0 };
    let data = message.get(8..24);
    message.first() == Some(&kind) && data.is_some_and(|data| data[..8] == MARK && data[8..] == *nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_good_checksum_and_its_reply_is_known_by_its_data() {
        let nonce = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut message = request(false, &nonce);
        assert_eq!(checksum(&message), 0, "over a message with its checksum");
        assert!(!is_reply(&message, false, false, &nonce), "a request is no reply");
        message[0] = 0;
        assert!(is_reply(&message, false, false, &nonce));
        assert!(!is_reply(&message, false, false, &[0; 8]));
        let mut with_header = vec![0x45; 20];
        with_header.extend(&message);
        assert!(is_reply(&with_header, false, true, &nonce));
        for length in 0..with_header.len() {
            assert!(!is_reply(&with_header[..length], false, true, &nonce), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_in_is_looked_at_without_a_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            for (v6, raw) in [(false, false), (false, true), (true, false), (true, true)] {
                is_reply(&octets, v6, raw, &[0; 8]);
            }
        }
    }
}
