//! The load: open loop, a new connection for each request, one thread.
//!
//! A request is due at its time whatever became of those before it, so a stalled service cannot hide its own outage
//! (coordinated omission), and it is timed from when it was due.
//!
//! A connection ends by RST once its reply is whole. Otherwise one edge would keep tens of thousands of them in
//! TIME-WAIT, and answer the packets of a flow that moved to it, when its port happens to be among those, by an ACK
//! instead of the RST that the flow needs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Socket, Type};

use super::replies::{REPLY_MAX, body};
use super::{Method, Nanos, Reply, Seen, Timeline, now};

/// Most requests under way. Beyond it a request fails at once, and says so.
const IN_FLIGHT_MAX: usize = 16_384;

/// The kernel sends a SYN again after 1 s (RFC 6298 §2.1); a connection that took about that long has lost one.
const SYN_LOST: Nanos = 900_000_000;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

/// No request has this number.
const TICK: u64 = u64::MAX;

/// What is sent, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) every: Duration,
    pub(crate) limit: Duration,
}

/// Runs in the current namespace until the timeline is stopped.
pub(crate) fn watch(load: &Load, timeline: &Timeline) -> io::Result<()> {
    let mut client = Client::new(load, timeline)?;
    while !timeline.stopped() {
        client.turn()?;
    }
    Ok(())
}

struct Client<'a> {
    timeline: &'a Timeline,
    address: SocketAddr,
    every: Nanos,
    limit: Nanos,
    epoll: Epoll,
    ticks: TimerFd,
    /// By number, that is, in the order they were due.
    requests: BTreeMap<u64, Request>,
    next: u64,
    next_due: Nanos,
}

struct Request {
    socket: Socket,
    due: Nanos,
    opened: Nanos,
    connected: Option<Nanos>,
    reply: Vec<u8>,
}

impl<'a> Client<'a> {
    fn new(load: &Load, timeline: &'a Timeline) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let ticks = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        ticks.set(
            Expiration::Interval(load.every.into()),
            TimerSetTimeFlags::empty(),
        )?;
        epoll.add(&ticks, EpollEvent::new(EpollFlags::EPOLLIN, TICK))?;
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Ok(Self {
            timeline,
            address: load.address,
            every: nanos(load.every).max(1),
            limit: nanos(load.limit),
            epoll,
            ticks,
            requests: BTreeMap::new(),
            next: 0,
            next_due: now(),
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(100u8)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in events.iter().take(count) {
            match event.data() {
                // How many ticks went by does not matter: the clock says what is due.
                TICK => drop(self.ticks.wait()),
                number => self.progress(number, event.events()),
            }
        }
        let now = now();
        while self.next_due <= now {
            self.open(self.next_due);
            self.next_due += self.every;
        }
        self.expire(now);
        let oldest = self.requests.values().next().map(|request| request.due);
        self.timeline.set_oldest(oldest.unwrap_or(self.next_due));
        Ok(())
    }

    fn open(&mut self, due: Nanos) {
        let number = self.next;
        self.next += 1;
        let opened = now();
        let socket = if self.requests.len() < IN_FLIGHT_MAX {
            self.connect(number)
        } else {
            Err(io::Error::other("not sent: too many under way"))
        };
        match socket {
            Ok(socket) => {
                let request = Request {
                    socket,
                    due,
                    opened,
                    connected: None,
                    reply: Vec::new(),
                };
                self.requests.insert(number, request);
            }
            Err(error) => self.tell(due, opened, false, Err(error)),
        }
    }

    fn connect(&self, number: u64) -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(self.address),
            Type::STREAM.nonblocking(),
            None,
        )?;
        match socket.connect(&self.address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        // Every change once: no request is ever asked about in vain.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(socket.as_fd(), EpollEvent::new(flags, number))?;
        socket.set_linger(Some(Duration::ZERO))?; // RST at the end
        Ok(socket)
    }

    fn progress(&mut self, number: u64, flags: EpollFlags) {
        let Some(request) = self.requests.get_mut(&number) else {
            return; // it has ended, and this event was under way
        };
        if let Some(result) = request.progress(flags) {
            self.end(number, result);
        }
    }

    fn expire(&mut self, now: Nanos) {
        while let Some((&number, request)) = self.requests.first_key_value()
            && now >= request.due + self.limit
        {
            let error = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            self.end(number, Err(error));
        }
    }

    fn end(&mut self, number: u64, result: io::Result<String>) {
        let Some(request) = self.requests.remove(&number) else {
            return;
        };
        let until = request.connected.unwrap_or_else(now);
        let syn_lost = until - request.opened >= SYN_LOST;
        self.tell(request.due, request.opened, syn_lost, result);
    }

    fn tell(&self, due: Nanos, opened: Nanos, syn_lost: bool, result: io::Result<String>) {
        let reply = Reply {
            method: Method::Anycast,
            due,
            opened,
            syn_lost,
            body: result.map_err(|error| error.to_string()),
        };
        self.timeline.push(now(), Seen::Reply(reply));
    }
}

impl Request {
    /// Goes on as far as the socket lets it; the result when it is over.
    fn progress(&mut self, flags: EpollFlags) -> Option<io::Result<String>> {
        if flags.contains(EpollFlags::EPOLLERR) {
            let error = self.socket.take_error().ok().flatten();
            return Some(Err(error.unwrap_or_else(|| io::ErrorKind::Other.into())));
        }
        if self.connected.is_none() {
            if !flags.contains(EpollFlags::EPOLLOUT) {
                return None;
            }
            self.connected = Some(now());
            if let Err(error) = self.socket.write_all(REQUEST) {
                return Some(Err(error));
            }
        }
        self.read()
    }

    fn read(&mut self) -> Option<io::Result<String>> {
        let mut bytes = [0; 1024];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.reply.extend(bytes.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error)),
            }
            let reply = String::from_utf8_lossy(&self.reply);
            if is_whole(&reply) {
                return Some(body(&reply));
            }
            if self.reply.len() > REPLY_MAX {
                return Some(Err(io::Error::other("the reply has no end")));
            }
        }
    }
}

/// Whether all that the head of a reply promises is there.
pub(crate) fn is_whole(reply: &str) -> bool {
    let Some((head, body)) = reply.split_once("\r\n\r\n") else {
        return false;
    };
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length
        .and_then(|(_, value)| value.trim().parse().ok())
        .is_some_and(|length: usize| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Serves on a thread: each connection gets its reply after a pause.
    fn server(pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::sleep(pause);
                let mut request = [0; 256];
                let _gone = stream.read(&mut request);
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfra\n");
            }
        });
        address
    }

    /// What a client saw in a while.
    fn run(address: SocketAddr, every: Duration, limit: Duration, run_for: Duration) -> Vec<Reply> {
        let timeline = Timeline::default();
        let load = Load {
            address,
            every,
            limit,
        };
        let started = now();
        let watched = timeline.clone();
        let thread = std::thread::spawn(move || watch(&load, &watched));
        std::thread::sleep(run_for);
        timeline.stop();
        thread.join().unwrap().unwrap();
        assert!(timeline.oldest() >= started);
        let replies = timeline.take().into_iter().map(|event| {
            let Seen::Reply(reply) = event.seen else {
                panic!("{event:?}")
            };
            reply
        });
        replies.collect()
    }

    #[test]
    fn requests_keep_their_schedule_and_bring_their_bodies() {
        let address = server(Duration::ZERO);
        let replies = run(
            address,
            Duration::from_millis(1),
            Duration::from_secs(2),
            Duration::from_millis(400),
        );
        assert!(replies.len() >= 300, "{}", replies.len());
        let good = replies
            .iter()
            .filter(|reply| reply.body.as_deref() == Ok("fra"))
            .count();
        assert_eq!(good, replies.len(), "{replies:?}");
        let mut due: Vec<_> = replies.iter().map(|reply| reply.due).collect();
        due.sort_unstable();
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000));
    }

    #[test]
    fn a_slow_service_does_not_slow_the_schedule_and_late_is_counted_from_the_due_time() {
        let address = server(Duration::from_millis(30)); // one at a time
        let replies = run(
            address,
            Duration::from_millis(5),
            Duration::from_millis(100),
            Duration::from_millis(500),
        );
        let failed = replies.iter().filter(|reply| reply.body.is_err()).count();
        assert!(
            failed > 50,
            "of 80 that are over only every sixth was served: {failed}"
        );
    }

    #[test]
    fn a_reply_is_whole_when_its_length_is_there() {
        for (reply, whole) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfra\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfra\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\n\r\nno length", false),
        ] {
            assert_eq!(is_whole(reply), whole, "{reply:?}");
        }
    }

    #[test]
    fn a_closed_port_fails_at_once_with_its_reason() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let ms = Duration::from_millis;
        let replies = run(address, ms(5), ms(1_000), ms(100));
        assert!(!replies.is_empty());
        for reply in replies {
            assert!(reply.body.unwrap_err().contains("refused") && !reply.syn_lost);
        }
    }
}
