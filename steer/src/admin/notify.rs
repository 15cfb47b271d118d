//! `/v1/notify`: the channels of `[[notify]]`, what waits for them, and what was not taken.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_rpc::key::StoreError;
use steer_rpc::outbox::Letter;
use steer_rpc::outbox::spool::DeadLetter;
use steer_topology::{EventKind, NotifyTo};

use super::{Admin, bad, failed};
use crate::notify::{Live, Notifier, Payload, teller_site};

/// Dead letters of a channel that are listed.
const LISTED: usize = 1_000;

/// A channel as the API and the status show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChannelView {
    pub(crate) channel: String,
    /// `webhook` or `email`.
    pub(crate) to: String,
    /// What it tells.
    pub(crate) events: Vec<EventKind>,
    /// Whether this process tells by it; else only others do.
    pub(crate) tells: bool,
    /// Letters that wait.
    pub(crate) waiting: usize,
    pub(crate) dead: usize,
    /// Letters that were taken since the start.
    pub(crate) told: u64,
    pub(crate) last_told: Option<Timestamp>,
    /// Why the last letter was not taken.
    pub(crate) trouble: Option<String>,
    /// Whether that is because nobody is there.
    pub(crate) away: bool,
}

/// A letter that was not taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeadView {
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) subject: String,
    /// What it says in a line.
    pub(crate) text: String,
    pub(crate) tries: u32,
    pub(crate) died: Option<Timestamp>,
    pub(crate) why: String,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NotifyView {
    /// Whether what waits survives a restart.
    pub(crate) kept: bool,
    pub(crate) channels: Vec<ChannelView>,
    /// Of all channels, the oldest of each first.
    pub(crate) dead: Vec<DeadView>,
}

impl ChannelView {
    /// Every channel, in the order of the file.
    pub(crate) fn all(notifier: &Notifier) -> Vec<Self> {
        let channels = notifier.channels();
        channels.iter().map(|live| Self::of(live, notifier)).collect()
    }

    fn of(live: &Live, notifier: &Notifier) -> Self {
        let (config, standing) = (&live.config, live.standing());
        let counts = notifier.spool().map(|spool| spool.counts(&config.name));
        let counts = counts.unwrap_or_default();
        Self {
            channel: config.name.clone(),
            to: match &config.to {
                NotifyTo::Webhook { .. } => "webhook".to_owned(),
                NotifyTo::Email(_) => "email".to_owned(),
            },
            events: config.events.clone(),
            tells: live.tells,
            waiting: counts.waiting,
            dead: counts.dead,
            told: standing.told,
            last_told: standing.last_told.and_then(timestamp),
            trouble: standing.trouble,
            away: standing.is_away,
        }
    }
}

impl DeadView {
    fn of(channel: &str, dead: DeadLetter) -> Self {
        let DeadLetter {
            number: _,
            letter,
            tries,
            died,
            why,
        } = dead;
        let said = serde_json::from_slice::<Payload>(&letter.payload).ok();
        Self {
            id: letter.id,
            channel: channel.to_owned(),
            subject: said
                .as_ref()
                .map_or(letter.partition, |said| said.subject.clone()),
            text: said.map(|said| said.text).unwrap_or_default(),
            tries,
            died: timestamp(died),
            why,
        }
    }
}

fn timestamp(since_1970: std::time::Duration) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(since_1970.as_millis()).ok()?).ok()
}

pub(super) async fn list(State(admin): State<Admin>) -> Response {
    let notifier = &admin.notifier;
    let mut view = NotifyView {
        kept: false,
        channels: ChannelView::all(notifier),
        dead: Vec::new(),
    };
    if let Some(spool) = notifier.spool() {
        view.kept = spool.is_durable();
        for channel in &view.channels {
            let name = channel.channel.clone();
            match spool.blocking(move |spool| spool.dead(&name, LISTED)).await {
                Ok(dead) => view
                    .dead
                    .extend(dead.into_iter().map(|dead| DeadView::of(&channel.channel, dead))),
                Err(error) => return unavailable(&error),
            }
        }
    }
    Json(view).into_response()
}

/// What came of a test.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tested {
    pub(crate) channel: String,
    /// Of the letter that was taken.
    pub(crate) id: String,
}

/// `POST /v1/notify/CHANNEL/test`: past all that waits, and once.
pub(super) async fn test(State(admin): State<Admin>, Path(channel): Path<String>) -> Response {
    let live = match find(&admin, &channel) {
        Ok(live) => live,
        Err(wrong) => return *wrong,
    };
    let snapshot = admin.cell.load();
    let site = teller_site(&snapshot.fleet, &admin.sites);
    let id = format!(
        "{}-test-{:016x}",
        site.as_deref().unwrap_or("steer"),
        rand::random::<u64>()
    );
    let payload = Payload::test(
        &id,
        &snapshot.fleet.name,
        site.as_deref(),
        &channel,
        snapshot.number,
    );
    let letter = Letter {
        id: id.clone(),
        subject: "steer.test".to_owned(),
        partition: channel.clone(),
        payload: payload.json().into(),
    };
    match live.tell(&letter).await {
        Ok(()) => Json(Tested { channel, id }).into_response(),
        Err(error) => failed(StatusCode::BAD_GATEWAY, format!("{channel}: {error}")),
    }
}

/// What `POST /v1/notify/CHANNEL/resend` may say. Nothing at all is all of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResendRequest {
    #[serde(default)]
    ids: Vec<String>,
}

/// How many letters are told again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resent {
    pub(crate) channel: String,
    pub(crate) resent: usize,
}

pub(super) async fn resend(
    State(admin): State<Admin>,
    Path(channel): Path<String>,
    body: axum::body::Bytes,
) -> Response {
    if let Err(wrong) = find(&admin, &channel) {
        return *wrong;
    }
    let request = match serde_json::from_slice(&body) {
        _ if body.is_empty() => ResendRequest::default(),
        Ok(request) => request,
        Err(error) => return bad(format!("the request cannot be read: {error}")),
    };
    let Some(spool) = admin.notifier.spool() else {
        return no_channel(&admin, &channel);
    };
    let (name, ids) = (channel.clone(), request.ids);
    let wanted = ids.clone();
    let ids = (!ids.is_empty()).then_some(ids);
    match spool
        .blocking(move |spool| spool.resend(&name, ids.as_deref()))
        .await
    {
        Ok(0) if !wanted.is_empty() => {
            let error = format!(
                "{channel} has no dead letter {}; `steer notify list` shows them",
                wanted.join(", ")
            );
            failed(StatusCode::NOT_FOUND, error)
        }
        Ok(resent) => Json(Resent { channel, resent }).into_response(),
        Err(error) => unavailable(&error),
    }
}

fn find(admin: &Admin, channel: &str) -> Result<Live, Box<Response>> {
    let channels = admin.notifier.channels();
    let live = channels.iter().find(|live| live.config.name == channel);
    live.cloned().ok_or_else(|| Box::new(no_channel(admin, channel)))
}

fn no_channel(admin: &Admin, channel: &str) -> Response {
    let snapshot = admin.cell.load();
    let names: Vec<_> = snapshot
        .fleet
        .notify
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    if names.contains(&channel) {
        let error = format!("{channel} is only being started; ask again in a moment");
        return failed(StatusCode::SERVICE_UNAVAILABLE, error);
    }
    let known = match names.as_slice() {
        [] => "the configuration has no [[notify]]".to_owned(),
        [..] => format!("there are {}", names.join(", ")),
    };
    failed(
        StatusCode::NOT_FOUND,
        format!("no channel is called {channel:?}; {known}"),
    )
}

fn unavailable(error: &StoreError) -> Response {
    failed(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
