//! UDP: one thread per core, each with a socket of its own for every address (`SO_REUSEPORT`).
//!
//! A thread reads a batch, answers it and sends the replies in one call. It never waits for anything but the next
//! query: what the kernel cannot take at once is lost and counted, for the client asks again.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use rand::rngs::SmallRng;

use super::mmsg::{BATCH, Envelope, Inbox, Outbox};
use crate::count::{self, Dropped, Tally};
use crate::engine::{Engine, seconds};
use crate::quick::Quick;
use crate::reply::{Reply, Transport};
use crate::rrl::{Class, Judgement, Limiter};

/// Batches that one socket may take before the others of its thread are looked at.
const TURN: usize = 16;
/// At the end, so long a thread goes on with what has been received.
const LAST_TURN: Duration = Duration::from_millis(500);

/// A thread's share.
pub(super) struct Worker {
    /// One per address.
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) engine: Arc<Engine>,
    /// Shared by all threads, since the kernel spreads a network over them.
    pub(super) limiter: Option<Arc<Limiter>>,
    /// Readable as soon as the thread shall end; nobody reads it.
    pub(super) stop: Arc<EventFd>,
}

impl Worker {
    /// Answers until `stop`, and then what was received before it.
    pub(super) fn run(self) -> io::Result<()> {
        let Self {
            sockets,
            engine,
            limiter,
            stop,
        } = self;
        let mut desk = Desk::new(engine, limiter);
        let mut watched: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        watched.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
        loop {
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if watched.last().is_some_and(is_ready) {
                break;
            }
            for (socket, watched) in sockets.iter().zip(&watched) {
                if is_ready(watched) {
                    desk.turn(socket);
                }
            }
        }
        let deadline = Instant::now() + LAST_TURN;
        while Instant::now() < deadline {
            // every socket gets its turn, so no `any`, which stops early
            let busy = sockets.iter().filter(|socket| desk.turn(socket)).count();
            if busy == 0 {
                break;
            }
        }
        Ok(())
    }
}

fn is_ready(watched: &PollFd<'_>) -> bool {
    watched.any().unwrap_or(true)
}

/// Where one thread works.
struct Desk {
    writer: Writer,
    inbox: Inbox,
    outbox: Outbox,
}

impl Desk {
    fn new(engine: Arc<Engine>, limiter: Option<Arc<Limiter>>) -> Self {
        Self {
            writer: Writer {
                engine,
                quick: Quick::new(),
                limiter,
                rng: rand::make_rng(),
                tally: Tally::new(),
            },
            inbox: Inbox::new(),
            outbox: Outbox::new(),
        }
    }

    /// Answers what waits in a socket, up to a bound. Whether there was anything.
    fn turn(&mut self, socket: &UdpSocket) -> bool {
        for round in 0..TURN {
            match self.inbox.receive(socket) {
                Ok(count) => {
                    self.answer_all(socket);
                    if count < BATCH {
                        return count > 0 || round > 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return round > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The kernel clears it with the call; the socket itself is fine.
                    count::dropped(Dropped::Receive);
                    tracing::debug!(%error, "a UDP socket told an error");
                    return round > 0;
                }
            }
        }
        true
    }

    fn answer_all(&mut self, socket: &UdpSocket) {
        let Self {
            writer,
            inbox,
            outbox,
        } = self;
        let now = SystemTime::now();
        let mut began = Instant::now();
        for (query, envelope) in inbox.datagrams() {
            if let Some(why) = unanswerable(envelope) {
                count::dropped(why);
                continue;
            }
            outbox.add(envelope, |octets| {
                writer.write(query, envelope.peer.ip(), now, octets)
            });
            let ended = Instant::now();
            writer.tally.took(ended - began);
            began = ended;
        }
        let sent = outbox.send(socket);
        if let Some(error) = sent.error {
            count::unsent(sent.lost);
            tracing::debug!(%error, lost = sent.lost, "replies not sent");
        }
    }
}

/// Writes replies: by the quick path where it knows one, or by the full path.
struct Writer {
    engine: Arc<Engine>,
    quick: Quick,
    limiter: Option<Arc<Limiter>>,
    rng: SmallRng,
    tally: Tally,
}

impl Writer {
    /// The reply to one datagram. `false`: none is sent.
    fn write(&mut self, query: &[u8], client: IpAddr, now: SystemTime, octets: &mut Vec<u8>) -> bool {
        let Self {
            engine,
            quick,
            limiter,
            rng,
            tally,
        } = self;
        let limiter = limiter.as_deref();
        let time = seconds(now);
        if let Some(written) = engine.answer_quickly(quick, query, client, time, rng, octets) {
            tally.answered(written.rtype, written.rcode);
            return match judge(limiter, written.class, written.is_verified, client, now) {
                Judgement::Send => true,
                Judgement::Slip => {
                    written.cut(octets);
                    true
                }
                Judgement::Hold => false,
            };
        }
        let Some(mut reply) = engine.answer(query, client, Transport::Udp, time, rng) else {
            return false;
        };
        match judge(limiter, reply.class(), reply.is_verified, client, now) {
            Judgement::Send => {}
            Judgement::Slip => reply.cut(),
            Judgement::Hold => return false,
        }
        encode(&reply, octets)
    }
}

/// A reply that cannot be encoded is lost, and counted as such.
fn encode(reply: &Reply, octets: &mut Vec<u8>) -> bool {
    let result = reply.encode_into(octets);
    if let Err(error) = &result {
        count::unsent(1);
        tracing::warn!(%error, "a reply cannot be encoded");
    }
    result.is_ok()
}

/// Whether a reply is sent. Who has shown a good cookie is not forged, and not limited.
fn judge(
    limiter: Option<&Limiter>,
    class: Class,
    is_verified: bool,
    client: IpAddr,
    now: SystemTime,
) -> Judgement {
    let Some(limiter) = limiter.filter(|_| !is_verified) else {
        return Judgement::Send;
    };
    let judgement = limiter.judge(client, class, milliseconds(now));
    count::limited(judgement, limiter.is_log_only());
    if judgement != Judgement::Send {
        let (network, length) = limiter.network(client);
        tracing::debug!(%network, length, ?class, ?judgement, "rate limit reached");
    }
    if limiter.is_log_only() {
        Judgement::Send
    } else {
        judgement
    }
}

/// Milliseconds, modulo 2^32.
fn milliseconds(time: SystemTime) -> u32 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u32)
}

/// Port 0 can be nobody's: such a query is forged, and its reply would go nowhere.
fn unanswerable(envelope: Envelope) -> Option<Dropped> {
    if envelope.peer.port() == 0 {
        Some(Dropped::PortZero)
    } else {
        envelope.is_cut.then_some(Dropped::Long)
    }
}
