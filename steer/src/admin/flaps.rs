//! `/v1/flaps`: what is remembered of endpoints that fell (`damping` of a pool).

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Admin, drains};

/// The falls of an endpoint are forgotten.
#[derive(Serialize, Deserialize)]
pub(crate) struct Cleared {
    /// Its full name.
    pub(crate) target: String,
    /// The snapshot that stands then.
    pub(crate) snapshot: u64,
}

pub(super) async fn clear(State(admin): State<Admin>, Path(target): Path<String>) -> Response {
    match admin.operator.clear_flaps(&target).await {
        Ok((target, snapshot)) => Json(Cleared { target, snapshot }).into_response(),
        Err(refused) => drains::refuse(&refused),
    }
}
