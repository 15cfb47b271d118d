//! The other end of every session of a bench: a minimal passive BGP speaker with many addresses, which notes when
//! the kernel had each UPDATE.
//!
//! Own code and not steer's codec: what measures must not share a fault with what is measured.

use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

/// Nanoseconds since 1970, by the system's clock: what kernel and logs write.
pub(super) type Nanos = u128;

pub(super) fn now() -> Nanos {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

/// An IPv4 prefix: address and length.
pub(super) type Net = (u32, u8);

/// All peers of all speakers.
pub(super) struct Receiver {
    listeners: Vec<TcpListener>,
    sessions: Vec<Session>,
}

/// One connection from a speaker to one of our addresses.
struct Session {
    speaker: Ipv4Addr,
    stream: TcpStream,
    inbox: Vec<u8>,
    routes: BTreeSet<Net>,
    /// Since the last [`Receiver::expect`].
    heard: Vec<(Nanos, Net, bool)>,
}

/// The AS number of the peer with this index.
pub(super) fn peer_asn(index: usize) -> u32 {
    64_601 + index as u32
}

impl Receiver {
    /// Listens at every address; a speaker is told by the address that it comes from.
    pub(super) fn bind(addresses: &[Ipv4Addr]) -> Result<Self, String> {
        let listen = |address: &Ipv4Addr| {
            let listener =
                TcpListener::bind((*address, 179)).map_err(|error| format!("{address}:179: {error}"))?;
            listener
                .set_nonblocking(true)
                .map_err(|error| error.to_string())?;
            Ok(listener)
        };
        let listeners = addresses.iter().map(listen).collect::<Result<Vec<_>, String>>()?;
        let sessions = Vec::new();
        Ok(Self { listeners, sessions })
    }

    /// Waits until `speaker` has a session with every peer and `count` routes in each.
    pub(super) fn await_routes(
        &mut self,
        speaker: Ipv4Addr,
        count: usize,
        limit: Duration,
    ) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            let of = self.sessions.iter().filter(|session| session.speaker == speaker);
            let held: Vec<usize> = of.map(|session| session.routes.len()).collect();
            if held.len() == self.listeners.len() && held.iter().all(|held| *held == count) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let sessions = self.listeners.len();
                return Err(format!(
                    "{speaker}: wanted {sessions} sessions with {count} routes each, got {held:?}"
                ));
            }
            self.pump(Duration::from_millis(50))?;
        }
    }

    /// Forgets what was heard so far.
    pub(super) fn forget(&mut self) {
        self.sessions.iter_mut().for_each(|session| session.heard.clear());
    }

    /// When each peer of `speaker` heard that `net` is announced (or withdrawn), since [`Receiver::forget`].
    pub(super) fn expect(
        &mut self,
        speaker: Ipv4Addr,
        net: Net,
        announced: bool,
        limit: Duration,
    ) -> Result<Vec<Nanos>, String> {
        let deadline = Instant::now() + limit;
        loop {
            let of = self.sessions.iter().filter(|session| session.speaker == speaker);
            let times: Vec<Nanos> = of.filter_map(|session| session.when(net, announced)).collect();
            if times.len() == self.listeners.len() {
                return Ok(times);
            }
            if Instant::now() >= deadline {
                let missing = self.listeners.len() - times.len();
                return Err(format!(
                    "{missing} peers of {speaker} heard nothing within {limit:?}"
                ));
            }
            self.pump(Duration::from_millis(20))?;
        }
    }

    /// Takes what has come, or waits for it.
    pub(super) fn pump(&mut self, wait: Duration) -> Result<(), String> {
        self.accept()?;
        let mut ready: Vec<PollFd<'_>> = self
            .sessions
            .iter()
            .map(|session| session.stream.as_fd())
            .chain(self.listeners.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
        let readable: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut kept = Vec::with_capacity(self.sessions.len());
        for (mut session, readable) in self.sessions.drain(..).zip(readable) {
            if !readable || session.read()? {
                kept.push(session);
            }
        }
        self.sessions = kept;
        Ok(())
    }

    fn accept(&mut self) -> Result<(), String> {
        for (index, listener) in self.listeners.iter().enumerate() {
            while let Ok((stream, from)) = listener.accept() {
                self.sessions.push(Session::open(index, stream, from)?);
            }
        }
        Ok(())
    }
}

impl Session {
    fn open(index: usize, stream: TcpStream, from: SocketAddr) -> Result<Self, String> {
        let fail = |error: std::io::Error| format!("{from}: {error}");
        stream.set_nonblocking(true).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        setsockopt(&stream, sockopt::ReceiveTimestampns, &true)
            .map_err(|error| format!("timestamps: {error}"))?;
        let IpAddr::V4(local) = stream.local_addr().map_err(fail)?.ip() else {
            return Err(format!("{from}: not IPv4"));
        };
        let IpAddr::V4(speaker) = from.ip() else {
            return Err(format!("{from}: not IPv4"));
        };
        let session = Self {
            speaker,
            stream,
            inbox: Vec::new(),
            routes: BTreeSet::new(),
            heard: Vec::new(),
        };
        session.send(1, &open_body(peer_asn(index), local))?;
        Ok(session)
    }

    /// Whether the connection goes on.
    fn read(&mut self) -> Result<bool, String> {
        let mut octets = vec![0; 65_536];
        let mut control = nix::cmsg_space!(TimeSpec);
        let (count, at) = {
            let mut parts = [IoSliceMut::new(&mut octets)];
            let fd = self.stream.as_raw_fd();
            match recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(message) => (message.bytes, arrival(message.cmsgs().into_iter().flatten())),
                Err(Errno::EAGAIN) => return Ok(true),
                Err(_) => return Ok(false),
            }
        };
        if count == 0 {
            return Ok(false);
        }
        self.inbox.extend_from_slice(&octets[..count]);
        while let Some(length) = self.whole_message() {
            let message: Vec<u8> = self.inbox.drain(..length).collect();
            self.take(&message, at)?;
        }
        Ok(true)
    }

    fn whole_message(&self) -> Option<usize> {
        let length = usize::from(be16(self.inbox.get(16..18)?));
        (length >= 19 && self.inbox.len() >= length).then_some(length)
    }

    fn take(&mut self, message: &[u8], at: Nanos) -> Result<(), String> {
        let (kind, body) = (message[18], &message[19..]);
        match kind {
            // The OPEN, and each KEEPALIVE: one KEEPALIVE back.
            1 | 4 => self.send(4, &[]),
            2 => {
                self.take_update(body, at);
                Ok(())
            }
            3 => Err(format!("{} sent NOTIFICATION {body:?}", self.speaker)),
            _ => Ok(()),
        }
    }

    /// IPv4 in the classic fields only; that is what all speakers here send.
    fn take_update(&mut self, body: &[u8], at: Nanos) {
        let Some((withdrawn, announced)) = fields(body) else {
            return;
        };
        for net in nets(withdrawn) {
            self.routes.remove(&net);
            self.heard.push((at, net, false));
        }
        for net in nets(announced) {
            self.routes.insert(net);
            self.heard.push((at, net, true));
        }
    }

    fn when(&self, net: Net, announced: bool) -> Option<Nanos> {
        let found = self
            .heard
            .iter()
            .find(|(_, heard, how)| (*heard, *how) == (net, announced));
        found.map(|(at, ..)| *at)
    }

    fn send(&self, kind: u8, body: &[u8]) -> Result<(), String> {
        use std::io::Write;
        let mut message = vec![0xff; 16];
        message.extend(((19 + body.len()) as u16).to_be_bytes());
        message.push(kind);
        message.extend(body);
        // A few octets into an empty socket: they fit.
        (&self.stream)
            .write_all(&message)
            .map_err(|error| format!("{}: {error}", self.speaker))
    }
}

/// When the kernel took the last segment of what was read; our own clock where it does not say.
fn arrival(messages: impl Iterator<Item = ControlMessageOwned>) -> Nanos {
    let mut at = None;
    for message in messages {
        if let ControlMessageOwned::ScmTimestampns(time) = message {
            at = Some(Duration::from(time).as_nanos());
        }
    }
    at.unwrap_or_else(now)
}

/// RFC 4271 §4.2, with IPv4 unicast and 4-octet AS numbers.
fn open_body(asn: u32, id: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![4];
    body.extend((asn as u16).to_be_bytes());
    body.extend(240_u16.to_be_bytes());
    body.extend(id.octets());
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
    body.extend(asn.to_be_bytes());
    body
}

/// Withdrawn routes and NLRI of an UPDATE.
fn fields(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_at_checked(2)?;
    let (withdrawn, rest) = rest.split_at_checked(usize::from(be16(length)))?;
    let (length, rest) = rest.split_at_checked(2)?;
    Some((withdrawn, rest.get(usize::from(be16(length))..)?))
}

fn nets(mut field: &[u8]) -> Vec<Net> {
    let mut nets = Vec::new();
    while let Some((&length, rest)) = field.split_first() {
        let Some((octets, rest)) = rest.split_at_checked(usize::from(length).div_ceil(8)) else {
            break;
        };
        let bits = octets
            .iter()
            .enumerate()
            .fold(0, |bits, (at, octet)| bits | u32::from(*octet) << (24 - 8 * at));
        nets.push((bits, length));
        field = rest;
    }
    nets
}

fn be16(octets: &[u8]) -> u16 {
    octets
        .iter()
        .take(2)
        .fold(0, |sum, octet| sum << 8 | u16::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_of_an_update_are_read() {
        let body = [0, 4, 24, 198, 51, 100, 0, 3, 64, 1, 1, 32, 192, 0, 2, 1, 0];
        let (withdrawn, announced) = fields(&body).unwrap();
        assert_eq!(nets(withdrawn), [(0xc633_6400, 24)]);
        assert_eq!(nets(announced), [(0xc000_0201, 32), (0, 0)]);
    }
}
