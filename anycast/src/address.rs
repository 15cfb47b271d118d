//! The kernel's side of a service address: which addresses the host has, putting one on and taking it off, and how
//! many streams it carries.
//!
//! ```text
//! announcer ─► Command ─► task ─► rtnetlink (requests)      ─► addresses, one answer for each command
//!                          ▲  ─► sock_diag                  ─► streams
//!                          └──── rtnetlink (news of change) ─► all addresses are read again
//! ```
//!
//! One task does one thing at a time, so that its news come in the order of what happened. News of a change are
//! only a hint: what counts is what is read then, and it is read at intervals too. When netlink fails, the addresses
//! are unknown and each command is answered with the reason.

mod netlink;
mod streams;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use steer_topology::{Bind, Prefix};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use crate::announcer::StreamCount;
use netlink::{Link, Watch};

/// Commands that may wait: what is more waits in the announcer, one for each prefix at most.
const COMMANDS: usize = 64;

/// News that may wait for the announcer; then we wait.
const NEWS: usize = 64;

/// All addresses are read again this often, even when nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);

/// Wait before netlink is opened again.
const REOPEN: Duration = Duration::from_secs(5);

/// What the kernel shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Answered by [`News::Bound`].
    Bind(Prefix, Bind),
    /// Answered by [`News::Unbound`].
    Unbind(Prefix, Bind),
    /// Answered by one [`News::Streams`] for each.
    Count(Vec<StreamCount>),
}

/// What the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The addresses of the host, as far as they can be used; `None`: not known at the moment.
    Addresses(Option<BTreeSet<IpAddr>>),
    Bound(Prefix, Result<(), String>),
    Unbound(Prefix, Result<(), String>),
    Streams(Prefix, u64),
}

/// The task, as the announcer's driver sees it. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) news: mpsc::Receiver<News>,
    _task: JoinSet<()>,
}

impl Kernel {
    /// Starts the task. Must be called within the runtime, in the network namespace that is meant.
    pub(crate) fn start() -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (outbox, news) = mpsc::channel(NEWS);
        let worker = Worker {
            inbox,
            outbox,
            known: None,
        };
        let mut task = JoinSet::new();
        task.spawn(worker.run());
        Self {
            commands,
            news,
            _task: task,
        }
    }
}

struct Worker {
    inbox: mpsc::Receiver<Command>,
    outbox: mpsc::Sender<News>,
    /// As last told.
    known: Option<BTreeSet<IpAddr>>,
}

/// The announcer is gone.
struct Over;

impl Worker {
    async fn run(mut self) {
        loop {
            let outcome = match Link::open().and_then(|link| Ok((link, Watch::open()?))) {
                Ok((link, watch)) => self.serve(&link, watch).await,
                Err(error) => Ok(error),
            };
            let Ok(error) = outcome else { return };
            warn!(%error, again_in = ?REOPEN, "cannot talk to the kernel about addresses");
            if self.refuse_for_a_while(&error).await.is_err() {
                return;
            }
        }
    }

    /// Until netlink fails, with what it failed of.
    async fn serve(&mut self, link: &Link, mut watch: Watch) -> Result<io::Error, Over> {
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            tokio::select! {
                command = self.inbox.recv() => self.obey(link, command.ok_or(Over)?).await?,
                changed = watch.changed() => if let Err(error) = changed { return Ok(error) },
                _ = resync.tick() => {}
            }
            match link.addresses().await {
                Ok(addresses) => self.tell_addresses(Some(addresses)).await?,
                Err(error) => return Ok(error),
            }
        }
    }

    async fn obey(&mut self, link: &Link, command: Command) -> Result<(), Over> {
        match command {
            Command::Bind(prefix, bind) => {
                let result = link.add(&bind).await;
                self.tell(News::Bound(prefix, result)).await
            }
            Command::Unbind(prefix, bind) => {
                let result = link.remove(&bind).await;
                self.tell(News::Unbound(prefix, result)).await
            }
            Command::Count(counts) => self.count(counts).await,
        }
    }

    /// A count that fails is not told: a drain then waits for its bound.
    async fn count(&mut self, counts: Vec<StreamCount>) -> Result<(), Over> {
        let own = self.known.clone().unwrap_or_default();
        let counted = tokio::task::spawn_blocking(move || {
            let count = |one: StreamCount| Ok((one.prefix, streams::count(one.within, &own)?));
            counts.into_iter().map(count).collect::<io::Result<Vec<_>>>()
        });
        match counted
            .await
            .map_err(io::Error::other)
            .and_then(|counted| counted)
        {
            Ok(counted) => {
                for (prefix, count) in counted {
                    self.tell(News::Streams(prefix, count)).await?;
                }
            }
            Err(error) => warn!(%error, "cannot count the streams that a drain waits for"),
        }
        Ok(())
    }

    /// Answers what comes until it is time to open netlink again.
    async fn refuse_for_a_while(&mut self, error: &io::Error) -> Result<(), Over> {
        self.tell_addresses(None).await?;
        let until = tokio::time::Instant::now() + REOPEN;
        let refusal = || Err(format!("cannot talk to the kernel about addresses: {error}"));
        while let Ok(command) = tokio::time::timeout_at(until, self.inbox.recv()).await {
            match command.ok_or(Over)? {
                Command::Bind(prefix, _) => self.tell(News::Bound(prefix, refusal())).await?,
                Command::Unbind(prefix, _) => self.tell(News::Unbound(prefix, refusal())).await?,
                Command::Count(counts) => self.count(counts).await?,
            }
        }
        Ok(())
    }

    async fn tell_addresses(&mut self, addresses: Option<BTreeSet<IpAddr>>) -> Result<(), Over> {
        if addresses == self.known && addresses.is_some() {
            return Ok(());
        }
        self.known.clone_from(&addresses);
        self.tell(News::Addresses(addresses)).await
    }

    async fn tell(&self, news: News) -> Result<(), Over> {
        self.outbox.send(news).await.map_err(|_| Over)
    }
}
