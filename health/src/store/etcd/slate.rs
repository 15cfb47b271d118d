//! What each of many processes says of itself, and hears of the others: one value each, under a prefix of a cluster.
//!
//! ```text
//! own value ─► put, under a lease ─► etcd ─► watch of the prefix ─► news of all, the own value among them
//! ```
//!
//! A value may be lost: only the newest is put, and after a cut only the newest is heard. Who is gone without a word is taken
//! away with its lease. Nothing is kept on disk, and nothing waits for the cluster: without it there are no news.

use std::pin::pin;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use steer_topology::EtcdCluster;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::link::{Access, Link, LinkError, is_over};
use super::names::range;
use super::proto::event::EventType;
use super::proto::{Event, KeyValue};
use super::turns::Turns;

/// Longest that an orderly end waits until the own value is gone.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// A lease is renewed when so much of it is over, as one part of so many.
const RENEW_PART: u32 = 3;

/// Values under one prefix, one of them ours.
#[derive(Debug)]
pub struct Slate {
    access: Access,
    prefix: String,
    own: String,
    lease: Lease,
    turns: Turns,
}

/// What is heard. Names are what keys have below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All values that there are: who is not among them is not there.
    All(Vec<(String, Vec<u8>)>),
    /// A value is another one, or new. Ours is heard too: then the cluster takes what we say and tells what it has.
    Put(String, Vec<u8>),
    /// A value was taken away, or its lease is over.
    Gone(String),
    /// A member of the cluster was of no use, or is not any more, and why. Another is tried.
    Lost(String),
}

/// Ours.
#[derive(Debug)]
struct Lease {
    length: Duration,
    held: Option<i64>,
    /// When it was granted or renewed.
    since: Instant,
}

impl Slate {
    /// `prefix` ends with a slash, and `own` is our name below it. Our value is taken for gone `lease` after our last word.
    #[must_use]
    pub fn new(cluster: EtcdCluster, prefix: &str, own: &str, lease: Duration, seed: u64) -> Self {
        Self {
            access: Access::new(cluster),
            prefix: prefix.to_owned(),
            own: format!("{prefix}{own}"),
            lease: Lease {
                length: lease,
                held: None,
                since: Instant::now(),
            },
            turns: Turns::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Puts each of `values` while it is the newest, and tells the news, until `stop` or until nobody hears them. Takes the own
    /// value away at the end.
    pub async fn run(
        mut self,
        mut values: watch::Receiver<Vec<u8>>,
        news: mpsc::Sender<News>,
        stop: impl Future<Output = ()>,
    ) {
        let mut link = None;
        let follow = async {
            loop {
                let why = self.session(&mut link, &mut values, &news).await;
                if news.send(News::Lost(why)).await.is_err() {
                    return;
                }
                let wait = self.turns.on_failure(self.access.members());
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = stop => {}
        }
        self.leave(link.as_ref()).await;
    }

    /// One member for as long as it lasts. Returns why it does not any more.
    async fn session(
        &mut self,
        used: &mut Option<Link>,
        values: &mut watch::Receiver<Vec<u8>>,
        news: &mpsc::Sender<News>,
    ) -> String {
        let member = self.turns.member(self.access.members()).to_owned();
        let link = match self.access.open(&member).await {
            Ok(link) => &*used.insert(link),
            Err(error) => return error.why,
        };
        match self.speak(link, values, news).await {
            Ok(gone) => gone,
            Err(error) => format!("{member}: {}", error.why),
        }
    }

    async fn speak(
        &mut self,
        link: &Link,
        values: &mut watch::Receiver<Vec<u8>>,
        news: &mpsc::Sender<News>,
    ) -> Result<String, LinkError> {
        let keys = range(self.prefix.clone());
        let (past, all) = link.read(keys.clone()).await?;
        let mut watch = link.watch(keys, past.revision.saturating_add(1)).await?;
        self.turns.on_success();
        let all = all.into_iter();
        let all = all.filter_map(|KeyValue { key, value, .. }| Some((name(&self.prefix, key)?, value)));
        if news.send(News::All(all.collect())).await.is_err() {
            return Ok(UNHEARD.to_owned());
        }
        let mut put = pin!(self.lease.put(link, &self.own, values));
        loop {
            let told = tokio::select! {
                told = watch.next() => told,
                ended = &mut put => return ended,
            };
            let why = match told {
                Ok(message) => match is_over(&message) {
                    Some(why) => why,
                    None => match tell(&self.prefix, message.events, news).await {
                        Ok(()) => continue,
                        Err(_unheard) => UNHEARD.to_owned(),
                    },
                },
                Err(why) => why,
            };
            return Ok(why);
        }
    }

    /// Takes the own value away, so that nobody waits for the end of its lease.
    async fn leave(&self, link: Option<&Link>) {
        let Some((link, lease)) = link.zip(self.lease.held) else {
            return;
        };
        let left = tokio::time::timeout(LEAVE_LIMIT, link.revoke(lease)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!(lease, "the lease was not given back; it ends by itself");
        }
    }
}

const UNHEARD: &str = "nobody hears the news";

async fn tell(
    prefix: &str,
    events: Vec<Event>,
    news: &mpsc::Sender<News>,
) -> Result<(), mpsc::error::SendError<News>> {
    for event in events {
        let kind = event.r#type();
        let Some(KeyValue { key, value, .. }) = event.kv else {
            continue;
        };
        let Some(name) = name(prefix, key) else { continue };
        let heard = match kind {
            EventType::Put => News::Put(name, value),
            EventType::Delete => News::Gone(name),
        };
        news.send(heard).await?;
    }
    Ok(())
}

/// What a key is below the prefix; none where it is no text.
fn name(prefix: &str, key: Vec<u8>) -> Option<String> {
    let key = String::from_utf8(key).ok()?;
    key.strip_prefix(prefix).map(str::to_owned)
}

impl Lease {
    /// Puts the newest value, and the lease in its time. Returns when there will be no other value, or why it cannot go on.
    async fn put(
        &mut self,
        link: &Link,
        key: &str,
        values: &mut watch::Receiver<Vec<u8>>,
    ) -> Result<String, LinkError> {
        // Another member of the cluster may know that it is over.
        self.hold(link).await?;
        let mut is_new = true;
        loop {
            let due = self.since + self.length / RENEW_PART;
            if Instant::now() >= due {
                is_new |= self.hold(link).await?; // what was under the old one is gone
            }
            let value = values.borrow_and_update().clone();
            if let Some(lease) = self.held.filter(|_| is_new && !value.is_empty()) {
                link.put(key.as_bytes().to_vec(), value, lease).await?;
            }
            is_new = tokio::select! {
                changed = values.changed() => match changed {
                    Ok(()) => true,
                    Err(_dropped) => return Ok("there are no more values".to_owned()),
                },
                () = tokio::time::sleep_until(due) => false,
            };
        }
    }

    /// Renews it, or takes another one where it was over; whether it is another one.
    async fn hold(&mut self, link: &Link) -> Result<bool, LinkError> {
        let asked = Instant::now();
        let renewed = match self.held {
            Some(lease) => link.renew(lease).await?,
            None => false,
        };
        if !renewed {
            self.held = None;
            let seconds = i64::try_from(self.length.as_secs()).unwrap_or(i64::MAX);
            self.held = Some(link.grant(seconds.max(1)).await?);
        }
        self.since = asked;
        Ok(!renewed)
    }
}
