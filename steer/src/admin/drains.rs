//! `/v1/drains`: the operator's wishes over HTTP.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_health::store::StoredDrain;
use steer_health::{Drain, Kept, Order, Refused, Snapshot, Target};

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
    fn of(drain: &Drain, snapshot: &Snapshot) -> Self {
        let Drain {
            target,
            reason,
            author,
            since,
            until,
        } = drain;
        let kind = match target {
            Target::Site(_) => "site",
            Target::Endpoint(_) => "endpoint",
        };
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
        let kept = match keeping.trouble {
            Some(trouble) => Kept::No(trouble),
            None if keeping.outlives_us => Kept::Yes,
            None => Kept::NoStore,
        };
        let drains = snapshot.drains.iter();
        Self {
            snapshot: snapshot.number,
            drains: drains.map(|drain| DrainView::of(drain, snapshot)).collect(),
            kept: kept.into(),
            without_target: keeping.orphans,
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
    match admin.operator.drain(order).await {
        Ok(drained) => Json(Done {
            snapshot: drained.snapshot,
            drain: Some(DrainView::of(&drained.drain, &admin.cell.load())),
            target: drained.name,
            kept: drained.kept.into(),
        })
        .into_response(),
        Err(refused) => refuse(&refused),
    }
}

#[derive(Deserialize)]
pub(super) struct UndrainQuery {
    author: String,
}

pub(super) async fn undrain(
    State(admin): State<Admin>,
    Path(target): Path<String>,
    Query(query): Query<UndrainQuery>,
) -> Response {
    match admin.operator.undrain(&target, &query.author).await {
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
        let time = match time {
            None => None,
            Some(text) => Some(steer_topology::parse_duration(&text).ok_or_else(|| {
                format!("`for` is {text:?}, which is no time; write a number and a unit, for example \"2h\"")
            })?),
        };
        Ok(Order {
            target,
            reason,
            author,
            time,
            force,
        })
    }
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
        Refused::NoTarget(_) | Refused::NotDrained(_) | Refused::NoSite { .. } => StatusCode::NOT_FOUND,
        Refused::Guard(_) | Refused::NotReported(_) => StatusCode::CONFLICT,
        Refused::TooLong { .. } | Refused::Time | Refused::Lease => StatusCode::BAD_REQUEST,
        Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    failed(status, refused.to_string())
}
