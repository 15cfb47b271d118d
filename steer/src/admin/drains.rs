//! `/v1/drains`: the operator's wishes over HTTP.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_health::store::keeper::Keeping;
use steer_health::store::{StoredDrain, StoredWish, WishKind};
use steer_health::{Drain, Kept, Order, Refused, Snapshot, Target, What};

use super::{Admin, failed};

/// What `POST` wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainRequest {
    target: String,
    /// A time such as `2h`; without it there is no end.
    #[serde(default, rename = "for")]
    time: Option<String>,
    #[serde(default)]
    reason: String,
    author: String,
    #[serde(default)]
    force: bool,
}

/// A drain as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrainView {
    /// Its full name.
    pub(crate) target: String,
    /// `site` or `endpoint`.
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) author: String,
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

/// What came of a wish.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The snapshot that carries it.
    pub(crate) snapshot: u64,
    pub(crate) target: String,
    /// What stands; absent after an end.
    pub(crate) drain: Option<DrainView>,
    #[serde(flatten)]
    pub(crate) kept: KeptView,
}

/// Whether the store knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptView {
    /// Whether it survives a restart.
    pub(crate) kept: bool,
    /// Why not.
    pub(crate) not_kept_because: Option<String>,
}

/// Every drain, and how the store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrainsView {
    pub(crate) snapshot: u64,
    /// Oldest first.
    pub(crate) drains: Vec<DrainView>,
    #[serde(flatten)]
    pub(crate) kept: KeptView,
    /// Kept, but the configuration has no such target.
    pub(crate) without_target: Vec<StoredDrain>,
}

impl DrainView {
    /// What came of a wish for a drain; absent where it was for something else.
    fn of_wish(wish: StoredWish, snapshot: &Snapshot) -> Option<Self> {
        let StoredWish::Drain(drain) = wish else {
            return None;
        };
        let StoredDrain {
            target,
            reason,
            author,
            since,
            until,
        } = drain;
        Some(Self {
            kind: kind_of(snapshot.fleet.site_named(&target).is_some()).to_owned(),
            target,
            reason,
            author,
            since,
            until,
        })
    }

    fn of(drain: &Drain, snapshot: &Snapshot) -> Self {
        let Drain {
            target,
            reason,
            author,
            since,
            until,
        } = drain;
        let kind = kind_of(matches!(target, Target::Site(_)));
        Self {
            target: target.name(&snapshot.fleet),
            kind: kind.to_owned(),
            reason: reason.clone(),
            author: author.clone(),
            since: *since,
            until: *until,
        }
    }
}

/// Of a target, as the API calls it.
pub(super) fn kind_of(is_site: bool) -> &'static str {
    if is_site { "site" } else { "endpoint" }
}

impl KeptView {
    /// Of this moment.
    pub(crate) fn of(keeping: &Keeping) -> Self {
        match &keeping.trouble {
            Some(trouble) => Kept::No(trouble.clone()),
            None if keeping.outlives_us => Kept::Yes,
            None => Kept::NoStore,
        }
        .into()
    }
}

impl From<Kept> for KeptView {
    fn from(kept: Kept) -> Self {
        let (kept, not_kept_because) = match kept {
            Kept::Yes => (true, None),
            Kept::NoStore => (false, Some("`[fleet] store` is not written".to_owned())),
            Kept::No(why) => (false, Some(why)),
        };
        Self {
            kept,
            not_kept_because,
        }
    }
}

impl DrainsView {
    /// Of this moment.
    pub(crate) fn of(admin: &Admin, snapshot: &Snapshot) -> Self {
        let keeping = admin.operator.keeping();
        let kept = KeptView::of(&keeping);
        let orphans = keeping.orphans.into_iter();
        let drains = snapshot.drains.iter();
        Self {
            snapshot: snapshot.number,
            drains: drains.map(|drain| DrainView::of(drain, snapshot)).collect(),
            kept,
            without_target: orphans
                .filter_map(|orphan| match orphan {
                    StoredWish::Drain(drain) => Some(drain),
                    StoredWish::Force(_) => None,
                })
                .collect(),
        }
    }
}

pub(super) async fn list(State(admin): State<Admin>) -> Response {
    Json(DrainsView::of(&admin, &admin.cell.load())).into_response()
}

pub(super) async fn drain(
    State(admin): State<Admin>,
    request: Result<Json<DrainRequest>, JsonRejection>,
) -> Response {
    let order = match understood(request, DrainRequest::order) {
        Ok(order) => order,
        Err((status, error)) => return failed(status, error),
    };
    match admin.operator.wish(order).await {
        Ok(done) => Json(Done {
            snapshot: done.snapshot,
            target: done.wish.key().target,
            drain: DrainView::of_wish(done.wish, &admin.cell.load()),
            kept: done.kept.into(),
        })
        .into_response(),
        Err(refused) => refuse(&refused),
    }
}

#[derive(Deserialize)]
pub(super) struct AuthorQuery {
    pub(super) author: String,
}

pub(super) async fn undrain(
    State(admin): State<Admin>,
    Path(target): Path<String>,
    Query(query): Query<AuthorQuery>,
) -> Response {
    match admin
        .operator
        .take_back(WishKind::Drain, &target, &query.author)
        .await
    {
        Ok(undrained) => Json(Done {
            snapshot: undrained.snapshot,
            target: undrained.name,
            drain: None,
            kept: undrained.kept.into(),
        })
        .into_response(),
        Err(refused) => refuse(&refused),
    }
}

impl DrainRequest {
    fn order(self) -> Result<Order, String> {
        let Self {
            target,
            time,
            reason,
            author,
            force,
        } = self;
        Ok(Order {
            time: lasting(time)?,
            what: What::Drain,
            target,
            reason,
            author,
            force,
        })
    }
}

/// `for` of a request: no end without it.
pub(super) fn lasting(time: Option<String>) -> Result<Option<Duration>, String> {
    let Some(text) = time else { return Ok(None) };
    let time = steer_topology::parse_duration(&text).ok_or_else(|| {
        format!("`for` is {text:?}, which is no time; write a number and a unit, for example \"2h\"")
    })?;
    Ok(Some(time))
}

/// The order in the body of a request, or what is wrong with it.
pub(super) fn understood<R, O>(
    request: Result<Json<R>, JsonRejection>,
    order: impl FnOnce(R) -> Result<O, String>,
) -> Result<O, (StatusCode, String)> {
    let Json(request) = request.map_err(|rejection| (rejection.status(), rejection.body_text()))?;
    order(request).map_err(|error| (StatusCode::BAD_REQUEST, error))
}

pub(super) fn refuse(refused: &Refused) -> Response {
    let status = match refused {
        Refused::NoTarget(_) | Refused::NotDrained(_) | Refused::NotForced(_) | Refused::NoSite { .. } => {
            StatusCode::NOT_FOUND
        }
        Refused::Guard(_) | Refused::NotReported(_) | Refused::NoEndpoint(_) => StatusCode::CONFLICT,
        Refused::TooLong { .. } | Refused::Time | Refused::Lease => StatusCode::BAD_REQUEST,
        Refused::Stopping | Refused::Store(_) | Refused::Doubt(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    failed(status, refused.to_string())
}
