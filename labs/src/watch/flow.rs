//! The old flow: one connection that is held and used, and what becomes of it when routing moves.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Ended, Seen, Timeline, now};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

/// For a connection, and for its first reply.
const LIMIT: Duration = Duration::from_millis(500);

/// Sends a request every `every` on one connection, until it ends; then makes another. Runs in the current namespace
/// until the timeline is stopped.
pub(crate) fn watch(address: SocketAddr, every: Duration, timeline: &Timeline) -> io::Result<()> {
    while !timeline.stopped() {
        match open(address) {
            Ok((stream, body)) => {
                timeline.push(now(), Seen::FlowStarted { body });
                if let Some(how) = run(&stream, every, timeline) {
                    timeline.push(now(), Seen::FlowEnded { how });
                }
            }
            Err(_) => std::thread::sleep(every), // nobody is there yet
        }
    }
    Ok(())
}

/// A connection with its first reply's body, which names who is at the other end.
fn open(address: SocketAddr) -> io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(REQUEST)?;
    let mut reply = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let length = stream.read(&mut bytes)?;
        reply.extend(bytes.iter().take(length));
        let text = String::from_utf8_lossy(&reply);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('\n')
        {
            return Ok((stream, body.trim().to_owned()));
        }
        if length == 0 || reply.len() > 4096 {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

/// How it ended; `None` when the watch was stopped before.
fn run(mut stream: &TcpStream, every: Duration, timeline: &Timeline) -> Option<Ended> {
    let wait = PollTimeout::try_from(every).unwrap_or(PollTimeout::MAX);
    let mut bytes = [0; 4096];
    if let Err(error) = stream.set_nonblocking(true) {
        return Some(Ended::Otherwise(error.to_string()));
    }
    let mut due = now();
    while !timeline.stopped() {
        if now() >= due {
            due = now() + i64::try_from(every.as_nanos()).unwrap_or(i64::MAX);
            match stream.write(REQUEST) {
                Ok(_) => {}
                // The far end says nothing any more and the buffer is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Some(of(&error)),
            }
        }
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, wait).unwrap_or(0);
        if ready == 0 {
            continue;
        }
        match stream.read(&mut bytes) {
            Ok(0) => return Some(Ended::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Some(of(&error)),
        }
    }
    None
}

fn of(error: &io::Error) -> Ended {
    // A write after the RST was read by nobody says EPIPE.
    if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
        Ended::Reset
    } else {
        Ended::Otherwise(error.to_string())
    }
}
