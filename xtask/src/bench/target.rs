//! A web server that costs next to nothing: one thread on one core, one page, a count of answers.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{Backlog, listen};
use nix::unistd::Pid;

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LAST_PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const EVENTS: usize = 256;

/// A running server. It ends when dropped.
pub(super) struct Target {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    stop: AtomicBool,
}

impl Target {
    /// In the network of this thread, on `core` alone.
    pub(super) fn start(address: SocketAddr, core: usize) -> Result<Self, String> {
        raise_file_limit()?;
        let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        let fail = |error: nix::Error| format!("the target: {error}");
        listener
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        listen(&listener, Backlog::MAXCONN).map_err(fail)?; // all checks of a round may begin at once
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fail)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, listener.as_raw_fd() as u64);
        epoll.add(&listener, event).map_err(fail)?;
        let mut cores = CpuSet::new();
        cores.set(core).map_err(fail)?;
        let counts = Arc::new(Counts::default());
        let server = Server {
            listener,
            epoll,
            kept: HashMap::new(),
            counts: Arc::clone(&counts),
        };
        let thread = std::thread::spawn(move || {
            // Where there is one core only, all share it.
            let _ = sched_setaffinity(Pid::from_raw(0), &cores);
            server.run();
        });
        Ok(Self {
            counts,
            thread: Some(thread),
        })
    }

    /// Requests answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was printed
        }
    }
}

/// Connections that are kept are many.
fn raise_file_limit() -> Result<(), String> {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    raised.map_err(|error| format!("the limit of open files: {error}"))
}

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    /// Connections that may ask again, or have not asked yet.
    kept: HashMap<RawFd, TcpStream>,
    counts: Arc<Counts>,
}

impl Server {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.counts.stop.load(Ordering::Relaxed) {
            let ready = self.epoll.wait(&mut events, EpollTimeout::from(100_u8));
            for event in events.iter().take(ready.unwrap_or(0)) {
                let Ok(fd) = RawFd::try_from(event.data()) else {
                    continue;
                };
                if fd == self.listener.as_raw_fd() {
                    self.accept();
                } else if self
                    .kept
                    .get_mut(&fd)
                    .is_some_and(|kept| !serve(kept, &self.counts))
                {
                    self.kept.remove(&fd); // its end takes it out of the epoll set
                }
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..EVENTS {
            let Ok((mut stream, _)) = self.listener.accept() else {
                return; // no more, or one that is gone already
            };
            if stream.set_nonblocking(true).is_err() || !serve(&mut stream, &self.counts) {
                continue;
            }
            let fd = stream.as_raw_fd();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, fd as u64);
            if self.epoll.add(&stream, event).is_ok() {
                self.kept.insert(fd, stream);
            }
        }
    }
}

/// Answers what has been asked; false when the connection is over.
fn serve(stream: &mut TcpStream, counts: &Counts) -> bool {
    let mut asked = [0; 1024];
    match stream.read(&mut asked) {
        Ok(0) => false,
        Ok(length) => {
            let asked = asked.get(..length).unwrap_or_default();
            let is_last = says_close(asked);
            let page = if is_last { LAST_PAGE } else { PAGE };
            counts.answered.fetch_add(1, Ordering::Relaxed);
            stream.write_all(page).is_ok() && !is_last
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn says_close(asked: &[u8]) -> bool {
    const CLOSE: &[u8] = b"onnection: close";
    asked.windows(CLOSE.len()).any(|part| part == CLOSE) || asked.windows(8).any(|part| part == b"HTTP/1.0")
}
