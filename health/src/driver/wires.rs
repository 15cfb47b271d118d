//! The wires of all endpoints that have a tripwire: their machines, and the tasks that dial and hold.
//!
//! Bounds: at most [`WIRES_MAX`] connections at once, each of them one file descriptor and one task. What is beyond
//! that has no wire and is found dead by its probes alone; it asks again at intervals. That is counted, and warned of
//! once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steer_topology::{EndpointId, Fleet};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::outcome::Outcome;
use crate::probe::Prober;
use crate::tripwire::{Cut, Event, Number, Output, Tripwire};

/// Most held connections at once.
const WIRES_MAX: usize = 4096;

/// Every tripwire of the fleet.
pub(super) struct Wires<P: Prober> {
    prober: Arc<P>,
    /// By endpoint; `None` where its check has no tripwire.
    wires: Vec<Option<Wire>>,
    /// One per wire that stands or is being made.
    tasks: JoinSet<News<P::Wire>>,
    tasks_max: usize,
    /// When a machine wants to be told of the time. One that has changed its mind meanwhile lets it pass.
    due: BinaryHeap<Reverse<(Instant, EndpointId)>>,
    held: u32,
    warned: bool,
}

struct Wire {
    machine: Tripwire,
    /// Longest time to connect: that of a probe.
    timeout: Duration,
    task: Option<AbortHandle>,
    /// The newest entry in `due`.
    due: Option<Instant>,
}

/// What a task came to.
pub(super) struct News<W> {
    pub(super) endpoint: EndpointId,
    number: Number,
    what: What<W>,
}

enum What<W> {
    Stands(W),
    NotMade(Outcome),
    Ended(Cut),
}

impl<P: Prober> Wires<P> {
    pub(super) fn new(fleet: &Fleet, prober: Arc<P>) -> Self {
        let wire = |endpoint: &steer_topology::Endpoint| {
            let check = fleet.check(fleet.pool(endpoint.pool).check?);
            (check.tripwire || check.process.is_some()).then(|| Wire {
                machine: Tripwire::new(),
                timeout: check.timeout,
                task: None,
                due: None,
            })
        };
        Self {
            prober,
            wires: fleet.endpoints.iter().map(wire).collect(),
            tasks: JoinSet::new(),
            tasks_max: WIRES_MAX,
            due: BinaryHeap::new(),
            held: 0,
            warned: false,
        }
    }

    #[cfg(test)]
    pub(super) fn limit(&mut self, tasks: usize) {
        self.tasks_max = tasks;
    }

    /// What the next task comes to; `None` when there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<News<P::Wire>, JoinError>> {
        self.tasks.join_next().await
    }

    /// What a task came to, if one has ended.
    pub(super) fn try_next(&mut self) -> Option<Result<News<P::Wire>, JoinError>> {
        self.tasks.try_join_next()
    }

    /// When to call [`Wires::run_due`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Makes the connections whose back-off is over.
    pub(super) fn run_due(&mut self, now: Instant) {
        while let Some(Reverse((at, endpoint))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            if let Some(wire) = &mut self.wires[endpoint.0 as usize] {
                wire.due = wire.due.filter(|due| *due != at);
            }
            self.on_event(endpoint, Event::Due, now);
        }
    }

    /// Takes what a task came to; `Some`: the endpoint is to be looked at.
    pub(super) fn on_news(&mut self, news: News<P::Wire>, now: Instant) -> Option<Cut> {
        let News {
            endpoint,
            number,
            what,
        } = news;
        let machine = &self.wires[endpoint.0 as usize].as_ref()?.machine;
        if !machine.is_current(number) {
            return None;
        }
        let event = match what {
            What::Stands(connection) => {
                self.hold(endpoint, number, connection);
                Event::Connected
            }
            What::NotMade(Outcome::Failure(failure)) if failure.says_gone() => Event::Refused,
            What::NotMade(Outcome::Failure(_) | Outcome::Void(_) | Outcome::Success(_)) => Event::Failed,
            What::Ended(cut) => {
                metrics::counter!("steer_health_tripwire_cuts_total", "how" => cut.label()).increment(1);
                Event::Cut(cut)
            }
        };
        self.on_event(endpoint, event, now)
    }

    /// Tells a wire, if the endpoint has one, and does what it asks for; `Some`: the endpoint is to be looked at.
    pub(super) fn on_event(&mut self, endpoint: EndpointId, event: Event, now: Instant) -> Option<Cut> {
        let wire = self.wires[endpoint.0 as usize].as_mut()?;
        let was_held = wire.machine.is_held();
        wire.machine.on_event(event, now);
        let is_held = wire.machine.is_held();
        let mut look = None;
        while let Some(output) = self.poll_output(endpoint) {
            match output {
                Output::Dial(number) => self.dial(endpoint, number, now),
                Output::Drop => self.let_go(endpoint),
                Output::Recheck(cut) => look = Some(cut),
            }
        }
        self.count(was_held, is_held);
        self.plan(endpoint);
        look
    }

    /// Ends every connection.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn poll_output(&mut self, endpoint: EndpointId) -> Option<Output> {
        self.wires[endpoint.0 as usize].as_mut()?.machine.poll_output()
    }

    fn dial(&mut self, endpoint: EndpointId, number: Number, now: Instant) {
        let Some(wire) = &mut self.wires[endpoint.0 as usize] else {
            return;
        };
        if self.tasks.len() >= self.tasks_max {
            metrics::counter!("steer_health_tripwires_skipped_total").increment(1);
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    max = self.tasks_max,
                    "some endpoints have no held connection: too many"
                );
            }
            wire.machine.on_event(Event::Failed, now);
            return;
        }
        let (prober, timeout) = (Arc::clone(&self.prober), wire.timeout);
        wire.task = Some(self.tasks.spawn(async move {
            let what = match tokio::time::timeout(timeout, prober.dial(endpoint, timeout)).await {
                Ok(Ok(connection)) => What::Stands(connection),
                Ok(Err(outcome)) => What::NotMade(outcome),
                Err(_elapsed) => What::NotMade(Outcome::no_answer(timeout)),
            };
            News {
                endpoint,
                number,
                what,
            }
        }));
    }

    /// In the place of the task that dialled, which has ended.
    fn hold(&mut self, endpoint: EndpointId, number: Number, connection: P::Wire) {
        let Some(wire) = &mut self.wires[endpoint.0 as usize] else {
            return;
        };
        let prober = Arc::clone(&self.prober);
        wire.task = Some(self.tasks.spawn(async move {
            let what = What::Ended(prober.hold(connection).await);
            News {
                endpoint,
                number,
                what,
            }
        }));
    }

    fn let_go(&mut self, endpoint: EndpointId) {
        let task = self.wires[endpoint.0 as usize]
            .as_mut()
            .and_then(|wire| wire.task.take());
        if let Some(task) = task {
            task.abort();
        }
    }

    fn count(&mut self, was_held: bool, is_held: bool) {
        match (was_held, is_held) {
            (false, true) => self.held += 1,
            (true, false) => self.held -= 1,
            (false, false) | (true, true) => return,
        }
        metrics::gauge!("steer_health_tripwires_held").set(self.held);
    }

    /// Enters the machine's deadline unless it is there already.
    fn plan(&mut self, endpoint: EndpointId) {
        let Some(wire) = &mut self.wires[endpoint.0 as usize] else {
            return;
        };
        let due = wire.machine.next_deadline();
        if let Some(at) = due
            && wire.due != due
        {
            self.due.push(Reverse((at, endpoint)));
            wire.due = due;
        }
    }
}
