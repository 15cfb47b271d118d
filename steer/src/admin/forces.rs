//! `/v1/forces`: the verdicts that an operator forces, over HTTP.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_health::store::{StoredForce, StoredWish, WishKind};
use steer_health::{Forced, Order, Snapshot, What};

use super::drains::{AuthorQuery, KeptView, kind_of, lasting, refuse, understood};
use super::{Admin, failed};

/// What `POST` wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForceRequest {
    target: String,
    to: Forced,
    /// A time such as `2h`; without it there is no end.
    #[serde(default, rename = "for")]
    time: Option<String>,
    #[serde(default)]
    reason: String,
    author: String,
    #[serde(default)]
    force: bool,
}

/// A forced verdict as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForceView {
    /// Its full name.
    pub(crate) target: String,
    /// `site` or `endpoint`.
    pub(crate) kind: String,
    pub(crate) to: Forced,
    pub(crate) reason: String,
    pub(crate) author: String,
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

/// What came of a wish.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForceDone {
    /// The snapshot that carries it.
    pub(crate) snapshot: u64,
    pub(crate) target: String,
    /// What stands; absent after an end.
    pub(crate) force: Option<ForceView>,
    #[serde(flatten)]
    pub(crate) kept: KeptView,
}

/// Every forced verdict, and how the store is.
#[derive(Debug, Serialize)]
struct ForcesView {
    snapshot: u64,
    /// Oldest first.
    forces: Vec<ForceView>,
    #[serde(flatten)]
    kept: KeptView,
    /// Kept, but the configuration has no such target.
    without_target: Vec<StoredForce>,
}

impl ForceView {
    fn new(force: StoredForce, snapshot: &Snapshot) -> Self {
        let StoredForce {
            target,
            to,
            reason,
            author,
            since,
            until,
        } = force;
        Self {
            kind: kind_of(snapshot.fleet.site_named(&target).is_some()).to_owned(),
            target,
            to,
            reason,
            author,
            since,
            until,
        }
    }

    /// All that a snapshot carries, oldest first.
    pub(crate) fn all(snapshot: &Snapshot) -> Vec<Self> {
        let forces = snapshot.forces.iter();
        forces
            .map(|force| Self::new(StoredForce::of(force, &snapshot.fleet), snapshot))
            .collect()
    }
}

pub(super) async fn list(State(admin): State<Admin>) -> Response {
    let (snapshot, keeping) = (admin.cell.load(), admin.operator.keeping());
    let kept = KeptView::of(&keeping);
    let orphans = keeping.orphans.into_iter();
    Json(ForcesView {
        snapshot: snapshot.number,
        forces: ForceView::all(&snapshot),
        kept,
        without_target: orphans
            .filter_map(|orphan| match orphan {
                StoredWish::Force(force) => Some(force),
                StoredWish::Drain(_) => None,
            })
            .collect(),
    })
    .into_response()
}

pub(super) async fn force(
    State(admin): State<Admin>,
    request: Result<Json<ForceRequest>, JsonRejection>,
) -> Response {
    let order = match understood(request, ForceRequest::order) {
        Ok(order) => order,
        Err((status, error)) => return failed(status, error),
    };
    match admin.operator.wish(order).await {
        Ok(done) => Json(ForceDone {
            snapshot: done.snapshot,
            target: done.wish.key().target,
            force: match done.wish {
                StoredWish::Force(force) => Some(ForceView::new(force, &admin.cell.load())),
                StoredWish::Drain(_) => None,
            },
            kept: done.kept.into(),
        })
        .into_response(),
        Err(refused) => refuse(&refused),
    }
}

pub(super) async fn unforce(
    State(admin): State<Admin>,
    Path(target): Path<String>,
    Query(query): Query<AuthorQuery>,
) -> Response {
    let over = admin
        .operator
        .take_back(WishKind::Force, &target, &query.author)
        .await;
    match over {
        Ok(over) => Json(ForceDone {
            snapshot: over.snapshot,
            target: over.name,
            force: None,
            kept: over.kept.into(),
        })
        .into_response(),
        Err(refused) => refuse(&refused),
    }
}

impl ForceRequest {
    fn order(self) -> Result<Order, String> {
        let Self {
            target,
            to,
            time,
            reason,
            author,
            force,
        } = self;
        Ok(Order {
            what: What::Force(to),
            target,
            reason,
            author,
            time: lasting(time)?,
            force,
        })
    }
}
