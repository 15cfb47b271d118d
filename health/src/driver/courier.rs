//! Who carries probes out and brings what they came to.
//!
//! ```text
//!  loop, control thread                       probing thread
//!  send ─► flush ──── jobs, one wake ───────► a task per probe
//!  next ◄─────────── reports ◄─────────────── each as it ends
//!    ▲      a wake at once for what may change a verdict, within 10 ms for the rest
//!    └── probes that decide alone (a tripwire asked) run beside the loop, on its own thread
//! ```
//!
//! A probe is mostly work of the kernel, and at 10,000 a second that is a third of a core: what decides and announces
//! must not wait behind it. Ten thousand wakes a second would cost as much again, so reports that change nothing wait for
//! the loop, which looks whenever it runs. Where the thread cannot be made, all probes run beside the loop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Errand, Job, Purpose, Report, send};
use crate::outcome::{Outcome, Void};
use crate::probe::{Place, Prober};
use crate::snapshot::Verdict;

/// A report that changes nothing is with the loop after this time at most.
const FLUSH: Duration = Duration::from_millis(10);

/// Sends probes and has what they came to.
pub(super) struct Courier<P: Prober> {
    prober: Arc<P>,
    beside: JoinSet<Report>,
    thread: Option<Thread>,
    /// To go to the thread.
    leaving: Vec<Errand>,
    /// Came from the thread.
    arrived: VecDeque<Report>,
    /// Went to the thread and have not come back.
    away: usize,
}

/// The other thread. It ends when this is dropped.
struct Thread {
    desk: Arc<Desk>,
    stop: CancellationToken,
    handle: Option<JoinHandle<()>>,
}

/// What lies between the two threads. Bounded by the probes in flight.
#[derive(Default)]
struct Desk {
    jobs: Mutex<Vec<Errand>>,
    more_jobs: Notify,
    /// Probes that run.
    out: AtomicUsize,
    reports: Mutex<Vec<Report>>,
    more_reports: Notify,
}

impl<P: Prober> Courier<P> {
    /// All probes run beside the loop.
    pub(super) fn beside(prober: Arc<P>) -> Self {
        Self {
            prober,
            beside: JoinSet::new(),
            thread: None,
            leaving: Vec::new(),
            arrived: VecDeque::new(),
            away: 0,
        }
    }

    /// From now on they run on a thread of their own.
    pub(super) fn start_thread(&mut self) {
        match Thread::start(Arc::clone(&self.prober)) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                tracing::error!(%error, "no thread for the probes: they run where verdicts are made");
            }
        }
    }

    /// Where a probe runs.
    fn place(&self, job: &Job) -> Place {
        if job.decides_alone || self.thread.is_none() {
            Place::Loop
        } else {
            Place::Thread
        }
    }

    /// Sent and not back.
    pub(super) fn in_flight(&self) -> usize {
        self.beside.len() + self.away + self.arrived.len()
    }

    /// Those for the thread leave with [`Courier::flush`].
    pub(super) fn send(&mut self, job: Job, purpose: Purpose) {
        let place = self.place(&job);
        let errand = Errand { job, place, purpose };
        match place {
            Place::Loop => drop(self.beside.spawn(send(Arc::clone(&self.prober), errand))),
            Place::Thread => {
                self.leaving.push(errand);
                self.away += 1;
            }
        }
    }

    pub(super) fn flush(&mut self) {
        if let Some(thread) = self.thread.as_ref().filter(|_| !self.leaving.is_empty()) {
            lock(&thread.desk.jobs).append(&mut self.leaving);
            thread.desk.more_jobs.notify_one();
        }
    }

    /// What the next probe came to; `None` when none is out beside the loop and there is no thread. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Report, JoinError>> {
        loop {
            if let Some(report) = self.try_next() {
                return Some(report);
            }
            let Some(thread) = &self.thread else {
                return self.beside.join_next().await;
            };
            tokio::select! {
                Some(report) = self.beside.join_next() => return Some(report),
                () = thread.desk.more_reports.notified() => {}
            }
        }
    }

    /// What a probe came to, if one has ended.
    pub(super) fn try_next(&mut self) -> Option<Result<Report, JoinError>> {
        if let Some(report) = self.beside.try_join_next() {
            return Some(report);
        }
        if self.arrived.is_empty() {
            let thread = self.thread.as_ref()?;
            let mut reports = lock(&thread.desk.reports);
            self.away -= reports.len();
            self.arrived.extend(reports.drain(..));
        }
        self.arrived.pop_front().map(Ok)
    }

    /// Ends every probe.
    pub(super) async fn shutdown(&mut self) {
        self.beside.shutdown().await;
        drop(self.thread.take());
    }
}

impl Thread {
    fn start<P: Prober>(prober: Arc<P>) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (desk, stop) = (Arc::new(Desk::default()), CancellationToken::new());
        let work = {
            let (desk, stop) = (Arc::clone(&desk), stop.clone());
            move || {
                runtime.block_on(stop.run_until_cancelled_owned(carry_out(prober, desk)));
                runtime.shutdown_background(); // and all probes with it
            }
        };
        let handle = std::thread::Builder::new()
            .name("steer-probes".to_owned())
            .spawn(work)?;
        Ok(Self {
            desk,
            stop,
            handle: Some(handle),
        })
    }
}

impl Drop for Thread {
    /// Waits for as long as one step of one probe takes.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(Err(_panic)) = self.handle.take().map(JoinHandle::join) {
            tracing::error!("the thread of the probes panicked");
        }
    }
}

/// The life of the thread.
async fn carry_out<P: Prober>(prober: Arc<P>, desk: Arc<Desk>) {
    let mut flush = tokio::time::interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = desk.more_jobs.notified() => {
                let jobs = std::mem::take(&mut *lock(&desk.jobs));
                desk.out.fetch_add(jobs.len(), Ordering::Relaxed);
                for job in jobs {
                    tokio::spawn(carry_one(Arc::clone(&prober), job, Arc::clone(&desk)));
                }
            }
            // Whoever has nothing out has nothing to bring.
            _ = flush.tick(), if desk.out.load(Ordering::Relaxed) > 0 || !lock(&desk.reports).is_empty() => {
                if !lock(&desk.reports).is_empty() {
                    desk.more_reports.notify_one();
                }
            }
        }
    }
}

async fn carry_one<P: Prober>(prober: Arc<P>, errand: Errand, desk: Arc<Desk>) {
    let report = send(prober, errand).await;
    let is_news = match &report.outcome {
        Outcome::Success(_) => errand.job.verdict != Verdict::Up,
        Outcome::Void(Void::NoReport) => false,
        Outcome::Failure(_) | Outcome::Void(_) => true,
    };
    lock(&desk.reports).push(report);
    desk.out.fetch_sub(1, Ordering::Relaxed);
    if is_news {
        desk.more_reports.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
