//! The thin part: one task with a UDP socket and a TCP listener, and a task per stream beside it.
//!
//! ```text
//! UDP ─────────────────────────► Gossip ──► UDP
//! streams (bounded) ◄─ channel ─►   │
//! own words ─► desk ───────────►    ▼
//!                               Agreement ──► desk ──► the checks' loop
//! ```
//!
//! Bounds: [`STREAMS_MAX`] streams of others (half of them for addresses that the file does not name) and one of our own at a time, each within [`STREAM_LIMIT`]; one that is too
//! many is closed at once and counted. A datagram that the socket does not take at once is lost and counted: it is
//! one of those that the protocol expects to lose. The agreement is asked again at most every [`RULE_EVERY`], or ten times
//! as long as it took, whichever is longer: so it never takes more than a tenth of a core.

mod datagram;
mod handle;
mod sockets;
mod stream;
mod warn;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_topology::Fleet;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::core::{Action, Arrival, Gossip};
use super::council::Council;
use super::keys::Keys;
use super::moment::Moment;
use super::seal::{DATAGRAM_MAX, Dropped};
use super::site::SiteName;
use super::swim::{LATE, MemberEvent, MemberState};
use datagram::Received;

/// Streams of others at once.
pub const STREAMS_MAX: usize = 8;

/// How long a stream may take.
pub const STREAM_LIMIT: Duration = Duration::from_secs(30);

/// Between two counts of the votes, at least.
pub const RULE_EVERY: Duration = Duration::from_millis(20);

/// Votes are counted anew after this even if nothing came: words expire.
const RULE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Datagrams that are read before the loop looks at the time again.
const BATCH: usize = 256;

/// Frames that wait for the loop.
const FRAMES: usize = 16;

pub use handle::{GossipHandle, GossipView};
pub use sockets::{GossipSockets, GossipUnavailable};

use handle::Shared;
use warn::Warnings;

/// The gossip of one site, ready to run.
#[derive(Debug)]
pub struct GossipService {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    me: SiteName,
    shared: Arc<Shared>,
    frames: mpsc::Sender<stream::Frame>,
    waiting: mpsc::Receiver<stream::Frame>,
    streams: JoinSet<()>,
    own_stream: JoinSet<()>,
    warnings: Warnings,
    rule_at: Instant,
    /// Since the last count took its time.
    rule_not_before: Instant,
    refused: u64,
}

impl GossipService {
    /// The service, and the handle by which the checks and the status reach it. `seed` is 32 octets of chance.
    #[must_use]
    pub fn new(
        sockets: GossipSockets,
        fleet: &Arc<Fleet>,
        keys: Keys,
        seed: [u8; 32],
    ) -> Option<(Self, GossipHandle)> {
        let GossipSockets { udp, tcp, own, local } = sockets;
        let council = Council::new(fleet, local, keys, seed, moment())?;
        describe_metrics();
        let shared = Arc::new(Shared {
            desk: council.desk().clone(),
            council: Mutex::new(council),
            changed: Notify::new(),
        });
        let (frames, waiting) = mpsc::channel(FRAMES);
        let service = Self {
            udp: Arc::new(udp),
            tcp,
            me: own.site,
            shared: Arc::clone(&shared),
            frames,
            waiting,
            streams: JoinSet::new(),
            own_stream: JoinSet::new(),
            warnings: Warnings::default(),
            rule_at: Instant::now(),
            rule_not_before: Instant::now(),
            refused: 0,
        };
        Some((service, GossipHandle { shared }))
    }

    /// Runs until `stop`, then leaves: the others are told.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut buffer = vec![0; DATAGRAM_MAX + 1];
        let udp = Arc::clone(&self.udp);
        let shared = Arc::clone(&self.shared);
        loop {
            let wake = self.shared.lock().gossip.next_deadline().min(self.rule_at);
            // Fair: a flood of datagrams must not keep streams and the stop waiting.
            tokio::select! {
                () = stop.cancelled() => break,
                () = shared.desk.own.news() => self.say(),
                () = shared.changed.notified() => self.rule_soon(),
                Some(frame) = self.waiting.recv() => self.on_frame(frame),
                received = datagram::receive(&udp, &mut buffer) => self.receive(received, &mut buffer),
                accepted = self.tcp.accept() => self.accept(accepted).await,
                Some(_) = self.streams.join_next() => {}
                Some(_) = self.own_stream.join_next() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if wake + LATE <= Instant::now() {
                self.catch_up(&mut buffer).await;
            }
            self.shared.lock().gossip.on_deadline(moment());
            self.act();
            if self.rule_at <= Instant::now() {
                self.rule();
            }
        }
        self.shared.lock().gossip.leave(moment());
        self.act();
        self.streams.shutdown().await;
        self.own_stream.shutdown().await;
    }

    /// We were not let run: what waits in the socket came in time, and is heard before anybody is judged by the clock.
    async fn catch_up(&mut self, buffer: &mut [u8]) {
        // Only then does the runtime look at what has come.
        tokio::task::yield_now().await;
        let received = datagram::try_receive(&self.udp, buffer);
        self.receive(received, buffer);
    }

    /// What our own checks say, to the others.
    fn say(&mut self) {
        self.shared.lock().say(Instant::now());
        self.rule_soon();
    }

    fn receive(&mut self, received: io::Result<Received>, buffer: &mut [u8]) {
        let mut received = received;
        for _ in 0..BATCH {
            match received {
                Ok(Received { length, from, waited }) => {
                    metrics::counter!("steer_health_gossip_octets_total", "way" => "in")
                        .increment(length as u64);
                    let octets = buffer.get(..length).unwrap_or_default();
                    let mut state = self.shared.lock();
                    let arrival = Arrival {
                        from: Some(from.ip()),
                        waited,
                    };
                    let taken = state.gossip.on_datagram_from(arrival, octets, moment());
                    drop(state);
                    if let Err(cause) = taken {
                        self.count_dropped(cause, from);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of a packet sent before: the other end is not there, which SWIM finds out itself.
                Err(error) => tracing::debug!(%error, "gossip"),
            }
            received = datagram::try_receive(&self.udp, buffer);
        }
    }

    fn count_dropped(&mut self, cause: Dropped, from: SocketAddr) {
        metrics::counter!("steer_health_gossip_dropped_total", "cause" => cause.label()).increment(1);
        if self.warnings.is_due(cause, from.ip(), Instant::now()) {
            tracing::warn!(%from, cause = cause.label(), "gossip dropped: {cause}");
        }
    }

    fn act(&mut self) {
        let mut actions = Vec::new();
        {
            let mut council = self.shared.lock();
            while let Some(action) = council.gossip.poll_action() {
                actions.push(action);
            }
        }
        for action in actions {
            match action {
                Action::Send { to, octets } => self.send(to, &octets),
                Action::Sync { with, at } => self.sync(with, at),
                Action::Member(site, event) => {
                    let (from, what) = (
                        self.me,
                        match event {
                            MemberEvent::Up => "up",
                            MemberEvent::Down => "down",
                            MemberEvent::Rejoined => "rejoined",
                        },
                    );
                    tracing::info!(%from, member = %site, state = what, "gossip: a member changed");
                    self.rule_soon();
                }
                Action::Changed(_) => self.rule_soon(),
            }
        }
    }

    fn send(&self, to: SocketAddr, octets: &[u8]) {
        match self.udp.try_send_to(octets, to) {
            Ok(sent) => {
                metrics::counter!("steer_health_gossip_octets_total", "way" => "out").increment(sent as u64);
            }
            Err(error) => {
                metrics::counter!("steer_health_gossip_unsent_total").increment(1);
                tracing::debug!(%to, %error, "gossip not sent");
            }
        }
    }

    /// Opens a stream, unless one of ours is still on its way.
    fn sync(&mut self, with: SiteName, at: SocketAddr) {
        if self.own_stream.is_empty() {
            let (session, request) = self.shared.lock().gossip.sync_request(with, moment());
            self.own_stream
                .spawn(stream::ask(at, session, request, self.frames.clone()));
        }
    }

    async fn accept(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, from)) if self.streams.len() < self.streams_for(from.ip()) => {
                self.streams
                    .spawn(stream::answer(stream, from, self.frames.clone()));
            }
            Ok(_) => {
                metrics::counter!("steer_health_gossip_streams_total", "result" => "too-many").increment(1);
            }
            Err(error) => {
                // No file descriptor left: it would fail again at once.
                tracing::debug!(%error, "gossip");
                tokio::time::sleep(RULE_EVERY).await;
            }
        }
    }

    /// Streams at once, counted for a source: strangers leave half of them to those whose address the file names.
    fn streams_for(&self, from: IpAddr) -> usize {
        let state = self.shared.lock();
        let mut sites = state
            .agreement
            .fleet()
            .sites
            .iter()
            .filter_map(|site| site.gossip);
        let is_named = sites.any(|site| site.ip() == from.to_canonical());
        if is_named { STREAMS_MAX } else { STREAMS_MAX / 2 }
    }

    fn on_frame(&mut self, frame: stream::Frame) {
        let moment = moment();
        // Whoever waits for the answer may have run out of time.
        match frame {
            stream::Frame::Asked { from, octets, answer } => {
                let answered = self.shared.lock().gossip.sync_answer(&octets, moment);
                if let Err(cause) = &answered {
                    self.count_dropped(*cause, from);
                }
                let _ = answer.send(answered.unwrap_or_default());
            }
            stream::Frame::Told {
                from,
                session,
                octets,
                is_last,
            } => {
                let applied = self.shared.lock().gossip.sync_apply(session, &octets, moment);
                if let Err(cause) = &applied {
                    self.count_dropped(*cause, from);
                }
                let _ = is_last.send(applied.unwrap_or(true));
            }
        }
    }

    fn rule_soon(&mut self) {
        let soon = (Instant::now() + RULE_EVERY).max(self.rule_not_before);
        self.rule_at = self.rule_at.min(soon);
    }

    fn rule(&mut self) {
        let started = Instant::now();
        let mut council = self.shared.lock();
        council.rule(Moment {
            now: started,
            at: Timestamp::now(),
        });
        let refused = council.gossip.refused();
        show(&council.gossip);
        drop(council);
        if refused > self.refused {
            metrics::counter!("steer_health_gossip_refused_total").increment(refused - self.refused);
            self.refused = refused;
        }
        let now = Instant::now();
        self.rule_not_before = now + now.saturating_duration_since(started) * 10;
        self.rule_at = self.rule_not_before.max(now + RULE_AT_LEAST_EVERY);
    }
}

fn show(gossip: &Gossip) {
    let states = [
        (MemberState::Up, "up"),
        (MemberState::Suspect, "suspect"),
        (MemberState::Down, "down"),
        (MemberState::Absent, "absent"),
    ];
    let members = gossip.view();
    for (state, label) in states {
        let count = members.iter().filter(|member| member.state == state).count();
        metrics::gauge!("steer_health_gossip_members", "state" => label).set(count as f64);
    }
    metrics::gauge!("steer_health_gossip_local_health").set(f64::from(gossip.health()));
    metrics::gauge!("steer_health_gossip_observations").set(gossip.store().len() as f64);
    metrics::gauge!("steer_health_gossip_backlog").set(gossip.backlog() as f64);
}

fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        at: Timestamp::now(),
    }
}

fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!(
        "steer_health_gossip_dropped_total",
        "Gossip that was dropped, by cause"
    );
    describe_counter!(
        "steer_health_gossip_octets_total",
        Unit::Bytes,
        "Octets of gossip over UDP, in and out"
    );
    describe_counter!(
        "steer_health_gossip_unsent_total",
        "Datagrams of gossip that the kernel did not take"
    );
    describe_counter!(
        "steer_health_gossip_streams_total",
        "Streams of gossip, by result"
    );
    describe_counter!(
        "steer_health_gossip_refused_total",
        "Observations not taken: too many of one site"
    );
    describe_gauge!(
        "steer_health_gossip_members",
        "The other sites, by what is believed of them"
    );
    describe_gauge!(
        "steer_health_gossip_local_health",
        "Is it us? 0: well; up to 8 the more of our own probes fail, or we are late or called dead"
    );
    describe_gauge!(
        "steer_health_gossip_observations",
        "Observations held, own ones among them"
    );
    describe_gauge!("steer_health_gossip_backlog", "News that is still to be told");
    for cause in Dropped::ALL {
        metrics::counter!("steer_health_gossip_dropped_total", "cause" => cause.label()).increment(0);
    }
}

#[cfg(test)]
mod tests;
