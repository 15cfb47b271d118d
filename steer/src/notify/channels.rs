//! The channels that run, after what the configuration says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use steer_health::events::Event;
use steer_rpc::fate::Backoff;
use steer_rpc::outbox::{Channel, Letter, Rate, Rules, Sink, SinkError, Spool, Standing};
use steer_topology::{Fleet, Notify, SiteId};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::sink::Outlet;

/// A letter may take so long; its sink bounds itself below that.
const LETTER: Duration = Duration::from_secs(35);

/// Waits between tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A channel at work. Clones are the same.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) config: Notify,
    /// Whether this process tells what happens by it.
    pub(crate) tells: bool,
    outlet: Arc<Outlet>,
    standing: Arc<Mutex<Standing>>,
    task: Arc<Task>,
}

/// Ends with the last who knows of it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Live {
    fn start(config: &Notify, tells: bool, spool: &Spool) -> Self {
        let (outlet, standing) = (Arc::new(Outlet::new(&config.to)), Arc::default());
        let rules = Rules {
            tries_max: config.tries,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, 2.0).unwrap_or(Backoff::DEFAULT),
            batch: 1,
            batch_time: LETTER,
            rate: Rate::per_minute(config.per_minute),
        };
        let channel = Channel::new(
            spool.clone(),
            &config.name,
            rules,
            Arc::clone(&outlet),
            Arc::clone(&standing),
        );
        Self {
            config: config.clone(),
            tells,
            outlet,
            standing,
            task: Arc::new(Task(tokio::spawn(channel.run()))),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells something past all that waits.
    pub(crate) async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        self.outlet.tell(letter).await
    }

    /// Whether an event is told by it.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.tells && self.config.events.contains(&event.key.kind)
    }
}

/// The channels of a fleet: those that are as they were go on, the others begin anew, and what waits for none is forgotten.
pub(super) async fn follow(
    before: &[Live],
    fleet: &Fleet,
    sites: &[Option<SiteId>],
    spool: &Spool,
) -> Vec<Live> {
    let names: Vec<_> = fleet.notify.iter().map(|channel| channel.name.clone()).collect();
    let mut live = Vec::new();
    for config in &fleet.notify {
        let here = |site: &Option<SiteId>| site.is_some_and(|site| config.sites.contains(&site));
        let tells = config.sites.is_empty() || sites.iter().any(here);
        let same = before
            .iter()
            .find(|live| live.config == *config && live.tells == tells);
        if let Some(same) = same {
            live.push(same.clone());
            continue;
        }
        if let Some(old) = before.iter().find(|live| live.config.name == config.name) {
            old.task.0.abort();
        }
        live.push(Live::start(config, tells, spool));
    }
    for gone in before.iter().filter(|live| !names.contains(&live.config.name)) {
        gone.task.0.abort();
    }
    match spool.blocking(move |spool| spool.keep_only(&names)).await {
        Ok(forgotten) => {
            for (channel, counts) in forgotten {
                let (waiting, dead) = (counts.waiting, counts.dead);
                warn!(
                    channel,
                    waiting, dead, "the file has no such [[notify]] any more: what was for it is dropped"
                );
            }
        }
        Err(error) => error!(%error, "channels that are gone"),
    }
    live
}
