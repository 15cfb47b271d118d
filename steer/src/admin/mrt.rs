//! `POST /v1/mrt`: all that is sent and received in a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use steer_anycast::mrt;

use super::{Admin, bad, failed};

/// The longest that a dump takes.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(600);

/// Octets of a dump. It is held in memory until it is over.
const LIMIT: usize = 32 * 1024 * 1024;

/// Dumps at one time.
const MAX_DUMPS: usize = 2;

/// What is said beside the dump.
pub(crate) const RECORDS: &str = "steer-records";
/// Messages that there was no room for.
pub(crate) const LOST: &str = "steer-lost";
/// Why it ended.
pub(crate) const END: &str = "steer-end";

/// What `POST` wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DumpRequest {
    /// A time such as `60s`.
    #[serde(rename = "for")]
    time: String,
}

/// Counts the dumps under way, also those whose client has gone.
struct Place;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Option<Self> {
        if UNDER_WAY.fetch_add(1, Ordering::Relaxed) < MAX_DUMPS {
            return Some(Self);
        }
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn dump(
    State(admin): State<Admin>,
    request: Result<Json<DumpRequest>, JsonRejection>,
) -> Response {
    let Json(DumpRequest { time }) = match request {
        Ok(request) => request,
        Err(rejection) => return bad(rejection.body_text()),
    };
    let Some(time) =
        steer_topology::parse_duration(&time).filter(|time| !time.is_zero() && *time <= MAX_TIME)
    else {
        return bad(format!(
            "for {time:?} is no time up to 10 min; write one such as 60s"
        ));
    };
    let Some(_place) = Place::take() else {
        let error = format!("{MAX_DUMPS} dumps are under way already; try again when one is over");
        return failed(StatusCode::TOO_MANY_REQUESTS, error);
    };
    let dump = mrt::dump(&admin.taps, time, LIMIT, &admin.stop).await;
    let end = serde_json::to_value(dump.end).unwrap_or_default();
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/mrt".to_owned()),
        (RECORDS, dump.records.to_string()),
        (LOST, dump.lost.to_string()),
        (END, end.as_str().unwrap_or_default().to_owned()),
    ];
    (headers, dump.octets).into_response()
}
