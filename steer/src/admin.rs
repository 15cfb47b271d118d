//! The admin API: a local HTTP listener for status, explanations and metrics.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`Status`] as JSON |
//! | `GET /v1/status?after=N` | the same, as soon as the snapshot number is above `N` (at most 25 s later) |
//! | `GET /v1/explain?client=ADDRESS&name=NAME` | the engine's explanation as JSON; 400 where a value is wrong |
//! | `GET /v1/drains` | every drain that stands, and how the store is |
//! | `POST /v1/drains` | drains `{target, for, reason, author, force}`; 404 no such target, 409 the guard forbids it, 503 the store of the fleet did not take it |
//! | `DELETE /v1/drains/TARGET?author=NAME` | ends a drain; 404 where there is none |
//! | `GET /v1/forces` | every forced verdict that stands, and how the store is |
//! | `POST /v1/forces` | forces `{target, to, for, reason, author, force}`, `to` is `up` or `down`; errors as for drains |
//! | `DELETE /v1/forces/TARGET?author=NAME` | ends a forced verdict; 404 where there is none |
//! | `GET /v1/loads` | what each site can serve and gets, and how `overflow` shares it out |
//! | `POST /v1/loads` | what a site gets: `{site, per_second, for, author}`; 404 no such site |
//! | `PUT /v1/reports/ENDPOINT?state=up&reason=TEXT` | what somebody else saw of an endpoint under a check of kind `external`; 409 is another kind |
//! | `POST /v1/reload` | reads everything again, `{allow_withdraw: [..], now: false}`; 400 with every fault, and then nothing has changed |
//! | `POST /v1/mrt` | all that is sent and received in `{for}`, as MRT, when it is over |
//! | `GET /v1/notify` | the channels of `[[notify]]`, what waits for them, and their dead letters |
//! | `POST /v1/notify/CHANNEL/test` | sends a test letter and says what came of it; 502 is what the receiver said |
//! | `POST /v1/notify/CHANNEL/resend` | sends dead letters again: `{ids: [..]}`, or all; 404 where there is none of them |
//! | `GET /v1/routes` | what becomes of each prefix, and what each session has of it |
//! | `PUT /v1/routes/PREFIX?lease=30s&owner=NAME` | a lease on a prefix, or another term of it; 409 is somebody else's |
//! | `DELETE /v1/routes/PREFIX?owner=NAME` | gives a lease back |
//! | `POST /v1/flaps/ENDPOINT` | forgets its falls: nothing holds it back |
//! | `POST /v1/routes/PREFIX/clear` | forgets its flaps |
//! | `GET /metrics` | Prometheus text |
//!
//! What changes something is answered when the snapshot that carries it is published. The listener is on loopback
//! (the configuration allows nothing else), and a browser on the same machine is kept out: nothing is answered that
//! comes from a page (`Origin`), or that asks for us by another name than an address or `localhost` (`Host`).
//!
//! Status, routes and explanation give text for a terminal with `&format=text` (the first two also with
//! `&color=true&width=COLUMNS`).

pub(crate) mod drains;
pub(crate) mod flaps;
pub(crate) mod forces;
pub(crate) mod loads;
pub(crate) mod mrt;
pub(crate) mod notify;
pub(crate) mod reports;
pub(crate) mod routes;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use steer_anycast::announcer::AnnouncerHandle;
use steer_anycast::{ObserverStatus, SpeakerStatus, Tap};
use steer_dns::Engine;
use steer_health::gossip::GossipHandle;
use steer_health::{Operator, SnapshotCell};
use steer_rpc::edge::Observer;
use steer_topology::{Name, SiteId};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::notify::Notifier;
use crate::reload::Reloader;
use crate::status::Status;

/// The longest that `?after=` holds a request.
const LONG_POLL: Duration = Duration::from_secs(25);

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) sites: Arc<[Option<SiteId>]>,
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) operator: Operator,
    /// Present where this site gossips.
    pub(crate) gossip: Option<GossipHandle>,
    /// Present where this site has an edge.
    pub(crate) edge: Option<Observer>,
    pub(crate) reloader: Reloader,
    pub(crate) speakers: Arc<[Arc<SpeakerStatus>]>,
    /// What looks on at each of them, and the taps for those who want to.
    pub(crate) observers: Arc<[Arc<ObserverStatus>]>,
    pub(crate) taps: Arc<[Arc<Tap>]>,
    /// By site, like the speakers.
    pub(crate) announcers: Arc<[AnnouncerHandle]>,
    pub(crate) notifier: Notifier,
    pub(crate) stop: CancellationToken,
}

/// An error as the API words it.
#[derive(Serialize)]
struct ApiError {
    error: String,
}

/// Installs the recorder that `/metrics` renders. Once per process; later calls return the same handle.
pub(crate) fn install_metrics() -> Result<PrometheusHandle, Failure> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let failed =
        |error: &dyn std::error::Error| Failure::runtime("cannot install the metrics recorder", error);
    // With the buckets of the edge, which may be in this process.
    let recorder = steer_rpc::edge::recorder().map_err(|error| failed(&error))?;
    let handle = recorder.install_recorder().map_err(|error| failed(&error))?;
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// Serves the API until `admin.stop`.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, metrics: PrometheusHandle) {
    let stop = admin.stop.clone();
    let upkeep = tokio::spawn(keep_metrics(metrics.clone(), stop.clone()));
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/explain", get(explain))
        .route("/v1/drains", get(drains::list).post(drains::drain))
        .route("/v1/drains/{*target}", delete(drains::undrain))
        .route("/v1/forces", get(forces::list).post(forces::force))
        .route("/v1/forces/{*target}", delete(forces::unforce))
        .route("/v1/loads", get(loads::list).post(loads::tell))
        .route("/v1/reports/{*target}", put(reports::report))
        .route("/v1/flaps/{*target}", post(flaps::clear))
        .route("/v1/reload", post(reload))
        .route("/v1/notify", get(notify::list))
        .route("/v1/notify/{channel}/test", post(notify::test))
        .route("/v1/notify/{channel}/resend", post(notify::resend))
        .route("/v1/mrt", post(mrt::dump))
        .route("/v1/routes", get(routes::list))
        .route(
            "/v1/routes/{*prefix}",
            put(routes::lease).delete(routes::delete).post(routes::clear),
        )
        .layer(middleware::from_fn(keep_browsers_out))
        .with_state(admin)
        .route("/metrics", get(move || render(metrics.clone())));
    let server = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = server.await {
        tracing::error!(%error, "the admin API ended");
    }
    upkeep.abort();
}

/// The recorder asks for regular upkeep, or histograms grow without bound: by a value for each call of an edge.
async fn keep_metrics(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    while !stop.is_cancelled() {
        every.tick().await;
        metrics.run_upkeep();
        metrics::gauge!("steer_log_lines_dropped").set(crate::logging::lines_dropped() as f64);
    }
}

async fn render(metrics: PrometheusHandle) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics.render(),
    )
}

#[derive(Deserialize)]
struct StatusQuery {
    after: Option<u64>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    color: bool,
    width: Option<u16>,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Text,
}

async fn status(State(admin): State<Admin>, Query(query): Query<StatusQuery>) -> Response {
    if let Some(after) = query.after {
        let mut published = admin.cell.subscribe();
        // Whatever ends the wait, the caller gets the snapshot of that moment.
        tokio::select! {
            _ = published.wait_for(|number| *number > after) => {}
            () = tokio::time::sleep(LONG_POLL) => {}
            () = admin.stop.cancelled() => {}
        }
    }
    let status = Status::of(&admin);
    match query.format {
        Format::Json => axum::Json(status).into_response(),
        Format::Text => status.render(query.color, query.width).into_response(),
    }
}

#[derive(Deserialize)]
struct ExplainQuery {
    client: String,
    name: String,
    #[serde(default)]
    format: Format,
}

async fn explain(State(admin): State<Admin>, Query(query): Query<ExplainQuery>) -> Response {
    let client: IpAddr = match query.client.parse() {
        Ok(client) => client,
        Err(_) => {
            return bad(format!(
                "client {:?} is no address; write one such as 192.0.2.7",
                query.client
            ));
        }
    };
    let name: Name = match query.name.parse() {
        Ok(name) => name,
        Err(error) => return bad(format!("name: {error}")),
    };
    let explanation = admin.engine.tables().explain(client, &name);
    match query.format {
        Format::Json => axum::Json(explanation).into_response(),
        Format::Text => explanation.to_string().into_response(),
    }
}

/// What `POST /v1/reload` may say. Nothing at all is right too.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadRequest {
    /// Prefixes and names that may leave more sites than the guard would let go.
    #[serde(default)]
    allow_withdraw: Vec<String>,
    /// Without the stages of `[fleet] gossip` `staged`.
    #[serde(default)]
    now: bool,
}

async fn reload(State(admin): State<Admin>, body: axum::body::Bytes) -> Response {
    let request = if body.is_empty() {
        ReloadRequest::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => return bad(format!("the request cannot be read: {error}")),
        }
    };
    match admin
        .reloader
        .reload("admin API", request.allow_withdraw, request.now)
        .await
    {
        Ok(reloaded) => axum::Json(reloaded).into_response(),
        Err(Failure::Configuration(faults)) => {
            let count = faults.0.len();
            bad(format!("{count} faults; everything stays as it was\n{faults}"))
        }
        Err(Failure::Usage(error) | Failure::Runtime(error)) => {
            failed(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    }
}

fn bad(error: String) -> Response {
    failed(StatusCode::BAD_REQUEST, error)
}

fn failed(status: StatusCode, error: String) -> Response {
    (status, axum::Json(ApiError { error })).into_response()
}

/// A page in a browser on this machine may send us forms, or have its own name resolve to 127.0.0.1 and then speak
/// to us as to its own server. Its requests carry its name.
async fn keep_browsers_out(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let error = "this API answers no page of a browser".to_owned();
        return failed(StatusCode::FORBIDDEN, error);
    }
    if !is_ours(request.headers(), request.uri()) {
        let error = "this API is asked by its address, or as localhost, and by no other name".to_owned();
        return failed(StatusCode::FORBIDDEN, error);
    }
    next.run(request).await
}

fn is_ours(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
    let host = authority
        .as_ref()
        .or(uri.authority())
        .map(axum::http::uri::Authority::host);
    // HTTP/1.0 has no Host; no browser sends that.
    host.is_none_or(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_our_own_name() {
        let is_ours = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            is_ours(&headers, &Uri::from_static("/v1/drains"))
        };
        for host in ["127.0.0.1:8053", "[::1]:8053", "localhost:8053", "LOCALHOST"] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "example.com:8053",
            "localhost.example.com",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
