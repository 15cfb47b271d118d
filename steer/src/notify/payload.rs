//! What is told, as JSON. Fields are added, never renamed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_health::events::{Event, Fact, Place};

/// One event. docs/notify.md has examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// The same each time it is told.
    pub(crate) id: String,
    /// `[fleet] name`
    pub(crate) fleet: String,
    /// The site whose process tells it.
    pub(crate) site: Option<String>,
    /// Number of the snapshot that brought it; counts from 1 at each start.
    pub(crate) snapshot: u64,
    /// When that was.
    pub(crate) at: Timestamp,
    /// `verdict`, `guard`, `drain`, `force`, `route`; `test` where somebody only asked for one.
    pub(crate) kind: String,
    /// What happened, in a word.
    pub(crate) what: String,
    /// To what.
    pub(crate) subject: String,
    /// What was told before.
    pub(crate) from: String,
    /// What is so now.
    pub(crate) to: String,
    /// Why.
    pub(crate) cause: Option<String>,
    /// All of it in a line, for people.
    pub(crate) text: String,
    #[serde(flatten)]
    pub(crate) endpoint: Option<EndpointPart>,
    #[serde(flatten)]
    pub(crate) wish: Option<WishPart>,
}

/// Of verdicts and of the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointPart {
    pub(crate) pool: String,
    pub(crate) address: String,
    /// Where it stands, which may not be who tells it.
    pub(crate) endpoint_site: Option<String>,
    /// What follows from its verdict: `in`, `out`, `held`, `drained`.
    pub(crate) service: String,
}

/// Of drains and forced verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WishPart {
    pub(crate) author: String,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

impl Payload {
    pub(super) fn of(event: &Event, id: &str, fleet: &str, site: Option<&str>) -> Self {
        let place = event.place.as_ref();
        let text = match place.and_then(|place| place.site.as_deref()) {
            Some(site) => format!("{site}: {event}"),
            None => event.to_string(),
        };
        Self {
            id: id.to_owned(),
            fleet: fleet.to_owned(),
            site: site.map(str::to_owned),
            snapshot: event.snapshot,
            at: event.at,
            kind: event.key.kind.as_str().to_owned(),
            what: event.what().as_str().to_owned(),
            subject: event.key.name.clone(),
            from: event.from_word().to_owned(),
            to: event.to_word().to_owned(),
            cause: event.cause().map(str::to_owned),
            text,
            endpoint: place.map(EndpointPart::of),
            wish: event.to.as_ref().or(event.from.as_ref()).and_then(WishPart::of),
        }
    }

    /// What `steer notify test` sends.
    pub(crate) fn test(id: &str, fleet: &str, site: Option<&str>, channel: &str, snapshot: u64) -> Self {
        Self {
            id: id.to_owned(),
            fleet: fleet.to_owned(),
            site: site.map(str::to_owned),
            snapshot,
            at: Timestamp::now(),
            kind: "test".to_owned(),
            what: "test".to_owned(),
            subject: channel.to_owned(),
            from: "test".to_owned(),
            to: "test".to_owned(),
            cause: None,
            text: format!("a test of the channel {channel}: nothing happened"),
            endpoint: None,
            wish: None,
        }
    }

    pub(crate) fn json(&self) -> Vec<u8> {
        // A map with keys that are no strings would fail; there is none.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl EndpointPart {
    fn of(place: &Place) -> Self {
        let Place {
            pool,
            address,
            site,
            service,
        } = place;
        Self {
            pool: pool.clone(),
            address: address.clone(),
            endpoint_site: site.clone(),
            service: (*service).to_owned(),
        }
    }
}

impl WishPart {
    fn of(fact: &Fact) -> Option<Self> {
        let (author, reason, since, until) = match fact {
            Fact::Drain(drain) => (&drain.author, &drain.reason, drain.since, drain.until),
            Fact::Force(force) => (&force.author, &force.reason, force.since, force.until),
            Fact::Verdict { .. } | Fact::Guard { .. } | Fact::Route { .. } => return None,
        };
        Some(Self {
            author: author.clone(),
            reason: reason.clone(),
            since,
            until,
        })
    }
}
