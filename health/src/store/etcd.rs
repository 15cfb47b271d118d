//! `etcd://..`: a cluster that keeps the wishes of the whole fleet.
//!
//! ```text
//! wish ─► would the guard permit it? ─► transaction ─► etcd ─► watch ─► every site's judge
//!                                            │                  │
//!                                     no answer: refused      cache, for a start without etcd
//! ```
//!
//! What etcd says is adopted by every site as it is, in the order of its revisions: it was weighed where it was
//! wished. A transaction that was weighed against an older picture than etcd's is weighed again, so that two sites
//! cannot drain each other's last resort at the same moment.
//!
//! While the cluster is away every site goes on with what it knows, and says so; nothing can be wished. A start without
//! it goes on from the cache. A cluster that has lost its past (another one under the same name, or an old backup)
//! takes nothing back: what the sites know and it does not is put into it again.
//!
//! A site shows that it is there by a key under a lease ([`Presence`]).
//!
//! What changes by the second and may be lost is no wish: for that there is the [`Slate`].

mod follow;
mod link;
mod names;
mod proto;
mod service;
mod slate;
mod turns;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use follow::Past;
pub use service::FleetStore;
pub use slate::{News, Slate};
pub(crate) use writer::{WriteError, Writer};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the cluster is, as this site sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetKeeping {
    /// The cluster's own number, in hexadecimal; absent until it was reached once.
    pub cluster: Option<String>,
    /// The newest revision whose wishes are in force here.
    pub revision: i64,
    /// The member that tells us; absent while the cluster is away.
    pub member: Option<String>,
    /// Why the cluster is away, and since when.
    pub lost: Option<Lost>,
    /// The sites that hold a lease, as of the last word.
    pub sites: Vec<Presence>,
    /// Keys that cannot be read as what their names say. What was known under them stands.
    pub unreadable: Vec<String>,
}

/// The cluster is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// When it was reached last; absent: not since the start.
    pub since: Option<Timestamp>,
    /// What the last try came to.
    pub why: String,
}

/// A site that is there. Its key is `sites/NAME`, and its value this in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Its name.
    pub site: String,
    /// When its process began.
    pub started: Timestamp,
    /// Its version of steer.
    pub steer: String,
}
