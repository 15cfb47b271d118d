//! The thin part: one loop around the [`Announcer`], run by the speaker's own task, which runs the sessions too: between a
//! snapshot and the octets to the peers no other task has a turn.
//!
//! ```text
//! snapshots, deadlines, requests ─► Announcer ─► Sessions ─► one loop per peer
//!                  Kernel (a task) ◄──► │ ▲
//!                             status of the sessions: is each withdrawal sent?
//! ```
//!
//! What is wanted is published before anything is logged. The kernel's task is started when a prefix needs it, and
//! what it cannot take at once waits: one command for each prefix at most. While an address waits for its withdrawal to be
//! sent, the sessions are looked at every [`SENT_POLL`]; while a drain waits for streams, they are counted every
//! [`COUNT_EVERY`].

use std::collections::{BTreeSet, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::SnapshotCell;
use steer_topology::{Prefix, SiteId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::handle::Request;
use super::output::Output;
use super::{Announcer, Moment, Settings};
use crate::address::{Command, Kernel, News};
use crate::wanted::Wanted;

/// The snapshot is looked at again this often, even when nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);

/// Short beside the time that an address outlives its withdrawal.
const SENT_POLL: Duration = Duration::from_millis(50);

/// A drain notices its last stream this late.
const COUNT_EVERY: Duration = Duration::from_millis(200);

/// How long the addresses may take to go at the orderly end, beyond their lingering.
const RELEASE_SLACK: Duration = Duration::from_secs(1);

/// An announcer at work.
#[derive(Debug)]
pub(crate) struct Driver {
    announcer: Announcer,
    snapshots: Arc<SnapshotCell>,
    /// Whether the sessions were told that all of a start is wanted.
    told_settled: bool,
    requests: mpsc::Receiver<Request>,
    kernel: Option<Kernel>,
    /// What the kernel's task has not taken yet: one for each prefix at most.
    commands: VecDeque<Command>,
    linger: Duration,
    count_at: Option<Instant>,
}

/// The other side: whoever obeys what is wanted.
pub(crate) trait Sessions {
    /// This is wanted from now on, and differs from before in `changed` at most; `settled`: it is all that a start
    /// wants at first. Every session has written what comes of it when this returns, as far as its socket takes it.
    fn want(&self, wanted: &Arc<Wanted>, changed: BTreeSet<Prefix>, settled: bool);

    /// Gives each session that has something to do its turn, and sees to it that `cx` is woken when one has again.
    fn tend(&self, cx: &mut Context<'_>);

    /// Whether a session was given `prefix` and not yet its withdrawal.
    fn announce(&self, prefix: &Prefix) -> bool;
}

/// No session is left.
pub(crate) struct Ended;

impl Sessions for Ended {
    fn want(&self, _: &Arc<Wanted>, _: BTreeSet<Prefix>, _: bool) {}

    fn tend(&self, _: &mut Context<'_>) {}

    fn announce(&self, _: &Prefix) -> bool {
        false
    }
}

impl Driver {
    /// Has obeyed the snapshot that is there.
    pub(crate) fn new(
        site: Option<SiteId>,
        snapshots: Arc<SnapshotCell>,
        requests: mpsc::Receiver<Request>,
        settings: Settings,
    ) -> Self {
        let mut driver = Self {
            announcer: Announcer::new(site, settings, now().now),
            snapshots,
            told_settled: false,
            requests,
            kernel: None,
            commands: VecDeque::new(),
            linger: settings.linger,
            count_at: None,
        };
        driver.look();
        driver
    }

    /// What is wanted at this moment, and whether that is all that a start wants at first: what the sessions begin
    /// with.
    pub(crate) fn begin(&mut self) -> (Arc<Wanted>, bool) {
        self.announcer.take_changed();
        self.told_settled = self.announcer.is_settled();
        (Arc::clone(self.announcer.wanted()), self.told_settled)
    }

    /// Until `shutdown`, or until nobody publishes snapshots any more and `shutdown` comes.
    pub(crate) async fn run(&mut self, sessions: &impl Sessions, shutdown: &CancellationToken) {
        let mut numbers = self.snapshots.subscribe_first();
        numbers.mark_changed(); // one may have come since we looked
        loop {
            self.turn(sessions);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = numbers.changed() => match changed {
                    Ok(()) => self.look(),
                    Err(_) => return tending(sessions, shutdown.cancelled()).await,
                },
                () = tending(sessions, pending()) => {}
                () = self.something(sessions) => {}
                () = sleep(RESYNC) => self.look(),
            }
        }
    }

    /// After the last session has ended: takes the addresses off, in order.
    pub(crate) async fn release(&mut self, sessions: &impl Sessions) {
        let limit = self.linger + RELEASE_SLACK;
        self.announcer.stop(now());
        self.turn(sessions);
        let released = async {
            while !self.announcer.is_clear() {
                self.something(sessions).await;
                self.turn(sessions);
            }
        };
        if tokio::time::timeout(limit, released).await.is_err() {
            tracing::warn!("service addresses stay behind: the kernel did not take them off in time");
        }
    }

    /// Any news but a snapshot.
    async fn something(&mut self, sessions: &impl Sessions) {
        let deadline = self.announcer.next_deadline(Instant::now());
        let withdrawing = self.announcer.withdrawing().next().is_some();
        tokio::select! {
            biased;
            news = heard(&mut self.kernel) => self.on_news(news),
            () = until(deadline) => self.announcer.on_deadline(now()),
            () = until(self.count_at) => self.count(),
            Some(request) = self.requests.recv() => request.serve(&mut self.announcer, now()),
            () = sleep(SENT_POLL), if withdrawing => self.note_sent(sessions),
        }
    }

    fn look(&mut self) {
        let snapshot = self.snapshots.load();
        self.announcer.on_snapshot(&snapshot, now());
    }

    /// After every piece of news: the peers first, then the kernel, then the log.
    fn turn(&mut self, sessions: &impl Sessions) {
        let (changed, settled) = (self.announcer.take_changed(), self.announcer.is_settled());
        if !changed.is_empty() || settled != self.told_settled {
            self.told_settled = settled;
            // The kernel has the octets of every session then.
            sessions.want(self.announcer.wanted(), changed, settled);
            self.announcer.tidy();
        }
        self.obey();
        self.plan_count();
    }

    fn obey(&mut self) {
        while let Some(output) = self.announcer.poll_output() {
            match output {
                Output::Changed(change) => change.tell(),
                Output::Bind(prefix, bind) => self.commands.push_back(Command::Bind(prefix, bind)),
                Output::Unbind(prefix, bind) => self.commands.push_back(Command::Unbind(prefix, bind)),
            }
        }
        if self.kernel.is_none() && (self.announcer.needs_addresses() || !self.commands.is_empty()) {
            self.kernel = Some(Kernel::start());
        }
        while let (Some(kernel), Some(command)) = (&self.kernel, self.commands.pop_front()) {
            if let Err(TrySendError::Full(command) | TrySendError::Closed(command)) =
                kernel.commands.try_send(command)
            {
                self.commands.push_front(command); // its news wake us, and then there is room
                return;
            }
        }
    }

    fn plan_count(&mut self) {
        let now = Instant::now();
        let waits = self.announcer.stream_counts(now).next().is_some();
        self.count_at = match self.count_at {
            _ if !waits => None,
            Some(at) => Some(at),
            None => Some(now),
        };
    }

    fn count(&mut self) {
        let now = Instant::now();
        self.count_at = Some(now + COUNT_EVERY);
        let counts = self.announcer.stream_counts(now).collect();
        let kernel = self.kernel.get_or_insert_with(Kernel::start);
        // Full: busy with what matters more; the next count is soon enough.
        drop(kernel.commands.try_send(Command::Count(counts)));
    }

    fn on_news(&mut self, news: News) {
        let moment = now();
        match news {
            News::Addresses(addresses) => self.announcer.on_addresses(addresses, moment),
            News::Bound(prefix, result) => self.announcer.on_bound(prefix, result, moment),
            News::Unbound(prefix, result) => self.announcer.on_unbound(prefix, result, moment),
            News::Streams(prefix, count) => self.announcer.on_streams(prefix, count, moment),
        }
    }

    fn note_sent(&mut self, sessions: &impl Sessions) {
        let sent = self
            .announcer
            .withdrawing()
            .filter(|prefix| !sessions.announce(prefix));
        for prefix in sent.collect::<Vec<_>>() {
            self.announcer.on_withdrawn(prefix, now());
        }
    }
}

/// Tends the sessions until `end`.
async fn tending(sessions: &impl Sessions, end: impl Future<Output = ()>) {
    let mut end = pin!(end);
    poll_fn(|cx| {
        sessions.tend(cx);
        end.as_mut().poll(cx)
    })
    .await;
}

fn now() -> Moment {
    Moment {
        now: Instant::now(),
        at: Timestamp::now(),
    }
}

async fn heard(kernel: &mut Option<Kernel>) -> News {
    let news = match kernel {
        Some(kernel) => kernel.news.recv().await,
        None => None,
    };
    match news {
        Some(news) => news,
        None => pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
