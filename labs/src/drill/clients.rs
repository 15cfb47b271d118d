//! The clients: open loop, by address or by name.
//!
//! A request is due at its time whatever became of those before it, so an outage cannot hide itself (coordinated
//! omission). A client that asks for a name keeps the answer for its TTL, as a stub resolver with a cache does, and
//! asks once while several of its requests wait; one that pins the address keeps it for as long as it runs.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use super::line::{Line, Over};
use crate::LabError;
use crate::netns::{NetError, World};
use crate::watch::answers::{Question, resolved};
use crate::watch::{Nanos, now};
use crate::world::node;

/// A question without answer is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(400);

/// Most requests of one client under way. Beyond it a request fails at once, and says so.
const IN_FLIGHT_MAX: usize = 1024;

/// One client and what it does.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) node: String,
    pub(super) target: Target,
    pub(super) over: Over,
    pub(super) every: Duration,
    pub(super) limit: Duration,
    /// A reply that took longer does not count as service.
    pub(super) late: Duration,
    /// Begins so much later than the others.
    pub(super) offset: Duration,
    /// Any other site is a wrong one.
    pub(super) right: Vec<String>,
}

/// How it finds the service.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Address(SocketAddr),
    Name {
        question: Question,
        resolver: SocketAddr,
        port: u16,
        /// The first answer is kept, whatever its TTL.
        pin: bool,
    },
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) due: Nanos,
    /// When it was over.
    pub(super) at: Nanos,
    /// Who answered, or why nobody did.
    pub(super) reply: Result<String, String>,
    /// Answered by a right site, in time.
    pub(super) good: bool,
    /// Answered by a right site, but late.
    pub(super) late: bool,
}

/// What is known of a client while it runs.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) samples: Vec<Sample>,
    /// Due times of the latest bad one, and of the latest of all that have ended.
    last_bad: Nanos,
    last: Nanos,
    first: Option<Nanos>,
    /// Who gave the latest good reply, and when that was due.
    site: Option<(Nanos, String)>,
}

impl Log {
    fn push(&mut self, sample: Sample) {
        let due = sample.due;
        self.first = Some(self.first.map_or(due, |first| first.min(due)));
        self.last = self.last.max(due);
        if sample.good {
            if let Ok(site) = &sample.reply
                && self.site.as_ref().is_none_or(|(at, _)| *at < due)
            {
                self.site = Some((due, site.clone()));
            }
        } else {
            self.last_bad = self.last_bad.max(due);
        }
        self.samples.push(sample);
    }

    /// Who has served it without a bad reply for so long; otherwise what is wrong.
    pub(super) fn served(&self, by: &[String], calm: Duration) -> Result<(), String> {
        let calm = i64::try_from(calm.as_nanos()).unwrap_or(i64::MAX);
        let Some((_, site)) = &self.site else {
            let last = self.samples.last().map(|sample| sample.reply.clone());
            return Err(format!("no good reply yet; the last one is {last:?}"));
        };
        if !by.contains(site) {
            return Err(format!("served by {site}, not by {}", by.join(" or ")));
        }
        let since = self.last_bad.max(self.first.unwrap_or(self.last));
        if self.last - since < calm {
            let bad = self.samples.iter().rev().find(|sample| !sample.good);
            return Err(match bad {
                Some(bad) => format!("served by {site}, but lately {:?}", bad.reply),
                None => format!("served by {site} for a moment only"),
            });
        }
        Ok(())
    }
}

/// All clients of a stage.
#[derive(Debug)]
pub(super) struct Crowd {
    logs: Vec<Arc<Mutex<Log>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<io::Result<()>, NetError>>>,
}

impl Crowd {
    /// Starts one thread per node.
    pub(super) fn start(world: &World, askers: &[Asker]) -> Result<Self, LabError> {
        let mut crowd = Self {
            logs: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let mut by_node: BTreeMap<&str, Vec<Seated>> = BTreeMap::new();
        for asker in askers {
            let log = Arc::new(Mutex::new(Log::default()));
            crowd.logs.push(Arc::clone(&log));
            by_node.entry(&asker.node).or_default().push((asker.clone(), log));
        }
        for (name, askers) in by_node {
            let stop = Arc::clone(&crowd.stop);
            let thread = node(world, name)?.thread("clients", move || run(askers, &stop))?;
            crowd.threads.push(thread);
        }
        Ok(crowd)
    }

    /// What is known of the client with this number.
    pub(super) fn log(&self, number: usize) -> MutexGuard<'_, Log> {
        self.logs[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is asked any more; returns when every request has ended, with what became of them in order of their
    /// due times.
    pub(super) fn end(mut self) -> Result<Vec<Vec<Sample>>, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join().map_err(|_| LabError::failed("a client panicked"))?;
            ended?.map_err(|error| LabError::failed(format!("a client ended: {error}")))?;
        }
        let take = |log: &Arc<Mutex<Log>>| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let mut samples = std::mem::take(&mut log.samples);
            samples.sort_by_key(|sample| sample.due);
            samples
        };
        Ok(self.logs.iter().map(take).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a client panicked");
            }
        }
    }
}

/// Inside a node, until stopped.
fn run(askers: Vec<Seated>, stop: &Arc<AtomicBool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for (asker, log) in askers {
            clients.spawn(client(asker, log, Arc::clone(stop)));
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        Ok(())
    })
}

/// A client and what is known of it.
type Seated = (Asker, Arc<Mutex<Log>>);

type Cache = Arc<tokio::sync::Mutex<Option<(IpAddr, Instant)>>>;

async fn client(asker: Asker, log: Arc<Mutex<Log>>, stop: Arc<AtomicBool>) {
    tokio::time::sleep(asker.offset).await;
    let mut ticks = tokio::time::interval(asker.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let line = Arc::new(Line::new(asker.over));
    let asker = Arc::new(asker);
    let cache = Cache::default();
    let mut requests = JoinSet::new();
    let mut id: u16 = 0;
    while !stop.load(Ordering::Relaxed) {
        let late = ticks.tick().await.elapsed();
        let due = now() - i64::try_from(late.as_nanos()).unwrap_or(0);
        id = id.wrapping_add(1);
        while requests.try_join_next().is_some() {}
        if requests.len() >= IN_FLIGHT_MAX {
            tell(&asker, &log, due, Err("not sent: too many under way".to_owned()));
            continue;
        }
        let (asker, log, cache) = (Arc::clone(&asker), Arc::clone(&log), Arc::clone(&cache));
        let line = Arc::clone(&line);
        requests.spawn(async move {
            let found = found(&asker.target, &cache, id);
            let reply = match timeout(asker.limit, line.ask(found)).await {
                Ok(reply) => reply,
                Err(_) => Err(format!("no answer within {:?}", asker.limit)),
            };
            tell(&asker, &log, due, reply);
        });
    }
    while requests.join_next().await.is_some() {}
}

fn tell(asker: &Asker, log: &Mutex<Log>, due: Nanos, reply: Result<String, String>) {
    let at = now();
    let in_time = at - due <= i64::try_from(asker.late.as_nanos()).unwrap_or(i64::MAX);
    let served = reply.as_ref().is_ok_and(|site| asker.right.contains(site));
    let sample = Sample {
        due,
        at,
        reply,
        good: served && in_time,
        late: served && !in_time,
    };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
}

/// Where the service is: from the cache, or from the resolver; whoever else waits gets the same answer.
async fn found(target: &Target, cache: &Cache, id: u16) -> Result<SocketAddr, String> {
    match target {
        Target::Address(address) => Ok(*address),
        Target::Name {
            question,
            resolver,
            port,
            pin,
        } => {
            let address = address_of(question, *resolver, *pin, cache, id).await?;
            Ok(SocketAddr::new(address, *port))
        }
    }
}

async fn address_of(
    question: &Question,
    resolver: SocketAddr,
    pin: bool,
    cache: &Cache,
    id: u16,
) -> Result<IpAddr, String> {
    let mut cached = cache.lock().await;
    if let Some((address, until)) = *cached
        && (pin || Instant::now() < until)
    {
        return Ok(address);
    }
    let (address, ttl) = ask(question, resolver, id)
        .await
        .map_err(|error| format!("resolver: {error}"))?;
    *cached = Some((address, Instant::now() + ttl));
    Ok(address)
}

async fn ask(question: &Question, resolver: SocketAddr, id: u16) -> Result<(IpAddr, Duration), String> {
    let words = |error: io::Error| error.to_string();
    let socket = UdpSocket::bind("0.0.0.0:0").await.map_err(words)?;
    socket.connect(resolver).await.map_err(words)?;
    let mut buffer = vec![0; 4096];
    loop {
        socket.send(&question.with_id(id)).await.map_err(words)?;
        // Whoever waits for the request ends this loop.
        if let Ok(received) = timeout(ASK_AGAIN, socket.recv(&mut buffer)).await {
            let length = received.map_err(words)?;
            return resolved(buffer.get(..length).unwrap_or_default(), id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: i64, reply: Result<&str, &str>, good: bool) -> Sample {
        Sample {
            due: ms * 1_000_000,
            at: ms * 1_000_000 + 1,
            reply: reply.map(str::to_owned).map_err(str::to_owned),
            good,
            late: false,
        }
    }

    #[test]
    fn a_client_is_served_after_a_while_without_bad_replies_from_the_right_site() {
        let mut log = Log::default();
        let (fra, nrt) = (["fra".to_owned()], ["nrt".to_owned()]);
        let calm = Duration::from_millis(100);
        assert!(log.served(&fra, calm).is_err());
        log.push(sample(0, Ok("fra"), true));
        assert!(log.served(&fra, calm).unwrap_err().contains("for a moment only"));
        log.push(sample(100, Ok("fra"), true));
        assert_eq!(log.served(&fra, calm), Ok(()));
        assert!(log.served(&nrt, calm).unwrap_err().contains("served by fra"));
        log.push(sample(120, Err("refused"), false));
        log.push(sample(140, Ok("fra"), true));
        assert!(log.served(&fra, calm).unwrap_err().contains("refused"));
    }
}
