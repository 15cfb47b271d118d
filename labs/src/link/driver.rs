//! The threads that carry frames through the queues.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::unistd::{read, write};

use super::precision::Precision;
use super::queue::{Queue, Rules, Tick};
use super::socket::{self, HEADER};
use super::spec::{NODE, Wan, ports};
use crate::LabError;
use crate::netns::{NetError, Node, World};

/// The last stretch before a frame is due is waited out awake: a thread that sleeps wakes up later than it asked.
const AWAKE: Tick = 30_000;

/// Longest sleep, so that the end is noticed.
const SLEEP: Tick = 50_000_000;

/// A frame with its header; the kernel hands over up to 64 KiB in one.
const FRAME_MAX: usize = 70_000;

/// Frames that are read before those due are looked at again.
const BATCH: usize = 64;

/// All long lines of a run. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Lines {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), NetError>>>,
    precision: Arc<Precision>,
    lines: Vec<Carried>,
}

/// A line, and what befalls frames of either direction at the moment.
#[derive(Debug)]
struct Carried {
    wan: Wan,
    rules: [Arc<Mutex<Rules>>; 2],
}

impl Lines {
    /// Starts the lines between the ports that [`insert`](super::insert) has made.
    pub(crate) fn start(world: &World, lines: &[Wan]) -> Result<Self, LabError> {
        let mut all = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            precision: Arc::new(Precision::default()),
            lines: Vec::new(),
        };
        let Some(node) = world.get(NODE) else {
            return Ok(all);
        };
        for (number, wan) in lines.iter().enumerate() {
            let (a, b) = ports(number);
            let (a, b) = (open(&node, &a)?, open(&node, &b)?);
            let copy = |socket: &OwnedFd| {
                socket
                    .try_clone()
                    .map_err(|source| LabError::io("copy", "a socket", source))
            };
            let there = (copy(&a)?, copy(&b)?);
            // Each direction has random numbers of its own.
            let seed = wan.seed.wrapping_mul(2);
            let line = Carried {
                wan: wan.clone(),
                rules: [&wan.link.0, &wan.link.1].map(|end| Arc::new(Mutex::new(rules(wan, end)))),
            };
            let [ab, ba] = line.rules.clone();
            all.carry(&node, &format!("w{number}ab"), there, ab, seed)?;
            all.carry(&node, &format!("w{number}ba"), (b, a), ba, seed + 1)?;
            all.lines.push(line);
        }
        Ok(all)
    }

    /// A line becomes as `wan` says, whichever way round its ends are named there.
    pub(crate) fn set(&self, wan: &Wan) -> Result<(), LabError> {
        let line = self.line(wan)?;
        line.befall(wan);
        Ok(())
    }

    /// It becomes as the scenario has it from the start.
    pub(crate) fn reset(&self, wan: &Wan) -> Result<(), LabError> {
        let line = self.line(wan)?;
        line.befall(&line.wan);
        Ok(())
    }

    fn line(&self, wan: &Wan) -> Result<&Carried, LabError> {
        let found = self.lines.iter().find(|line| line.wan.joins(wan));
        found.ok_or_else(|| {
            let (a, b) = &wan.link;
            LabError::failed(format!("there is no long line from `{a}` to `{b}`"))
        })
    }

    fn carry(
        &mut self,
        node: &Node,
        name: &str,
        (from, to): (OwnedFd, OwnedFd),
        rules: Arc<Mutex<Rules>>,
        seed: u64,
    ) -> Result<(), LabError> {
        let (stop, precision) = (Arc::clone(&self.stop), Arc::clone(&self.precision));
        let label = name.to_owned();
        let thread = node.thread(name, move || {
            let mut line = Line {
                from,
                to,
                queue: Queue::new(current(&rules), seed, HEADER),
                rules,
                start: Instant::now(),
                precision: &precision,
            };
            if let Err(error) = line.run(&stop) {
                // Its frames are lost from now on; the clients then fail, and the run with them.
                eprintln!("the long line `{label}` ended: {error}");
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// For the settings of a report: what the delays are worth. `None` without lines.
    pub(crate) fn precision(&self) -> Option<String> {
        let count = self.lines.len();
        (count > 0).then(|| format!("{count} in user space; {}", self.precision))
    }
}

impl Carried {
    fn befall(&self, wan: &Wan) {
        let ends = [&self.wan.link.0, &self.wan.link.1];
        for (end, held) in ends.into_iter().zip(&self.rules) {
            *held.lock().unwrap_or_else(PoisonError::into_inner) = rules(wan, end);
        }
    }
}

fn current(rules: &Mutex<Rules>) -> Rules {
    *rules.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a long line panicked");
            }
        }
    }
}

fn open(node: &Node, port: &str) -> Result<OwnedFd, LabError> {
    node.enter(|| socket::open(port))?
        .map_err(|source| LabError::io("open a packet socket on", port, source))
}

/// Of the direction that begins at `end`.
fn rules(wan: &Wan, end: &String) -> Rules {
    let ticks = |ms: f64| (ms * 1e6) as Tick;
    Rules {
        delay: ticks(wan.delay_ms),
        jitter: ticks(wan.jitter_ms),
        loss: wan.loss / 100.0,
        duplicate: wan.duplicate / 100.0,
        reorder: wan.reorder / 100.0,
        corrupt: wan.corrupt / 100.0,
        mute: wan.mute.as_ref() == Some(end),
    }
}

struct Line<'p> {
    from: OwnedFd,
    to: OwnedFd,
    queue: Queue,
    rules: Arc<Mutex<Rules>>,
    start: Instant,
    precision: &'p Precision,
}

impl Line<'_> {
    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        // A sleep may otherwise be 50 µs longer than asked for (prctl(2)).
        nix::sys::prctl::set_timerslack(1)?;
        let mut buffer = vec![0; FRAME_MAX];
        while !stop.load(Ordering::Relaxed) {
            self.send_due()?;
            self.wait()?;
            self.queue.set_rules(current(&self.rules));
            self.receive(&mut buffer)?;
        }
        self.precision.lost(self.queue.counts.dropped);
        Ok(())
    }

    fn now(&self) -> Tick {
        Tick::try_from(self.start.elapsed().as_nanos()).unwrap_or(Tick::MAX)
    }

    fn send_due(&mut self) -> io::Result<()> {
        let mut now = self.now();
        while let Some((due, frame)) = self.queue.pop(now) {
            match write(&self.to, &frame) {
                Ok(_) => {}
                // No room, or the far end is down: a line loses such frames.
                Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ENETDOWN | Errno::EMSGSIZE) => {
                    self.precision.lost(1);
                }
                Err(error) => return Err(error.into()),
            }
            now = self.now();
            self.precision.left(now.saturating_sub(due));
        }
        Ok(())
    }

    /// Sleeps until a frame arrives or one is nearly due.
    fn wait(&self) -> io::Result<()> {
        let until = self
            .queue
            .next_due()
            .map_or(SLEEP, |due| due.saturating_sub(self.now()));
        let sleep = until.saturating_sub(AWAKE).min(SLEEP);
        let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from(Duration::from_nanos(sleep))), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            match read(&self.from, buffer) {
                Ok(length) => {
                    let now = self.now();
                    self.queue
                        .push(now, buffer.get(..length).unwrap_or_default().to_vec());
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(Errno::ENETDOWN) => return Ok(()), // the interface went down; it may come up again
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
