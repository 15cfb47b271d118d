//! `/v1/reports`: what others see of endpoints under a check of kind `external`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Admin, drains, failed};

#[derive(Deserialize)]
pub(super) struct ReportQuery {
    state: String,
    #[serde(default)]
    reason: String,
}

/// A report that was taken.
#[derive(Serialize)]
struct Taken {
    /// The endpoint's full name.
    target: String,
    /// The snapshot that stands then.
    snapshot: u64,
}

pub(super) async fn report(
    State(admin): State<Admin>,
    Path(target): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Response {
    let is_up = match query.state.as_str() {
        "up" => true,
        "down" => false,
        other => {
            let error = format!("`state` is {other:?}; write up or down");
            return failed(StatusCode::BAD_REQUEST, error);
        }
    };
    match admin.operator.report(&target, is_up, &query.reason).await {
        Ok((target, snapshot)) => Json(Taken { target, snapshot }).into_response(),
        Err(refused) => drains::refuse(&refused),
    }
}
