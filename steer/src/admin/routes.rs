//! `/v1/routes`: what becomes of each prefix, and the requests of those who announce from outside.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_anycast::announcer::{AnnouncerHandle, Granted, HandleError, PrefixStatus, RequestError};
use steer_anycast::speaker::{PeerStatus, RouteStatus};
use steer_topology::{Asn, Prefix};

use super::{Admin, Format, failed};
use crate::routes;

/// Every prefix of this process.
#[derive(Debug, Serialize)]
pub(crate) struct RoutesView {
    /// The newest snapshot.
    pub(crate) snapshot: u64,
    /// By prefix, and by site where this process runs as several.
    pub(crate) routes: Vec<RouteView>,
}

/// One prefix at one site.
#[derive(Debug, Serialize)]
pub(crate) struct RouteView {
    pub(crate) site: Option<String>,
    /// What the announcer decided, and why.
    #[serde(flatten)]
    pub(crate) status: PrefixStatus,
    /// What each session has of it.
    pub(crate) sessions: Vec<SessionView>,
}

/// One prefix in one session.
#[derive(Debug, Serialize)]
pub(crate) struct SessionView {
    pub(crate) peer: IpAddr,
    pub(crate) asn: Asn,
    /// State of the session.
    pub(crate) state: steer_anycast::session::State,
    #[serde(flatten)]
    pub(crate) route: RouteStatus,
}

impl RoutesView {
    /// Of this moment. A site whose announcer has stopped has no routes any more.
    async fn of(admin: &Admin) -> Self {
        let snapshot = admin.cell.load();
        let mut routes = Vec::new();
        for (index, site) in admin.sites.iter().enumerate() {
            let (Some(announcer), Some(speaker)) = (admin.announcers.get(index), admin.speakers.get(index))
            else {
                continue;
            };
            let site = site.map(|site| snapshot.fleet.site(site).name.clone());
            let statuses = announcer.status().await.unwrap_or_default();
            let peers = speaker.peers();
            routes.extend(statuses.into_iter().map(|status| RouteView {
                site: site.clone(),
                sessions: sessions(&peers, &status.prefix),
                status,
            }));
        }
        routes.sort_by_key(|route| route.status.prefix);
        Self {
            snapshot: snapshot.number,
            routes,
        }
    }
}

fn sessions(peers: &[PeerStatus], prefix: &Prefix) -> Vec<SessionView> {
    let with = peers
        .iter()
        .filter_map(|peer| Some((peer, peer.routes.get(prefix)?)));
    with.map(|(peer, route)| SessionView {
        peer: peer.address,
        asn: peer.asn,
        state: peer.state,
        route: *route,
    })
    .collect()
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    format: Format,
    #[serde(default)]
    color: bool,
    width: Option<u16>,
}

pub(super) async fn list(State(admin): State<Admin>, Query(query): Query<ListQuery>) -> Response {
    let view = RoutesView::of(&admin).await;
    match query.format {
        Format::Json => Json(view).into_response(),
        // Tens of thousands of rows take a while; the other answers must not wait for them.
        Format::Text => {
            let render = move || routes::render(&view, query.color, query.width);
            match tokio::task::spawn_blocking(render).await {
                Ok(text) => text.into_response(),
                Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RequestQuery {
    /// How long; `PUT` alone.
    lease: Option<String>,
    /// Whose; `PUT` and `DELETE`.
    owner: Option<String>,
    /// Which, where this process runs as several sites.
    site: Option<String>,
}

/// A lease that was granted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeaseView {
    pub(crate) prefix: String,
    pub(crate) owner: String,
    /// What was asked for, or the longest that is granted.
    pub(crate) granted_s: f64,
    pub(crate) until: Timestamp,
}

/// `PUT /v1/routes/PREFIX`: a lease, or another term of it.
pub(super) async fn lease(
    State(admin): State<Admin>,
    Path(prefix): Path<String>,
    Query(query): Query<RequestQuery>,
) -> Response {
    let granted = async {
        let (prefix, announcer) = find(&admin, &prefix, query.site.as_deref())?;
        let time = lease_time(query.lease.as_deref())?;
        let owner = needed("owner", query.owner)?;
        let Granted { ttl, until } = announcer.lease(prefix, time, owner.clone()).await?;
        Ok(LeaseView {
            prefix: prefix.to_string(),
            owner,
            granted_s: ttl.as_secs_f64(),
            until,
        })
    };
    answer(granted.await)
}

/// That a request was carried out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) prefix: String,
    pub(crate) done: String,
}

/// `DELETE /v1/routes/PREFIX`: the owner needs the lease no more.
pub(super) async fn delete(
    State(admin): State<Admin>,
    Path(prefix): Path<String>,
    Query(query): Query<RequestQuery>,
) -> Response {
    let deleted = async {
        let (prefix, announcer) = find(&admin, &prefix, query.site.as_deref())?;
        announcer.delete(prefix, needed("owner", query.owner)?).await?;
        Ok(Carried {
            prefix: prefix.to_string(),
            done: "withdrawn".to_owned(),
        })
    };
    answer(deleted.await)
}

/// `POST /v1/routes/PREFIX/clear`: the flaps so far are forgotten. A prefix has a slash itself, so the path is taken
/// apart here.
pub(super) async fn clear(
    State(admin): State<Admin>,
    Path(path): Path<String>,
    Query(query): Query<RequestQuery>,
) -> Response {
    let cleared = async {
        let prefix = path.strip_suffix("/clear").ok_or_else(|| Wrong {
            status: StatusCode::NOT_FOUND,
            error: format!("nothing is posted to {path:?}; what there is: PREFIX/clear"),
        })?;
        let (prefix, announcer) = find(&admin, prefix, query.site.as_deref())?;
        announcer.clear_flaps(prefix).await?;
        Ok(Carried {
            prefix: prefix.to_string(),
            done: "cleared".to_owned(),
        })
    };
    answer(cleared.await)
}

/// Why a request came to nothing.
struct Wrong {
    status: StatusCode,
    error: String,
}

impl Wrong {
    fn value(error: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
        }
    }
}

impl From<HandleError> for Wrong {
    fn from(error: HandleError) -> Self {
        let status = match &error {
            HandleError::Refused(refused) => match refused {
                RequestError::UnknownPrefix(_) | RequestError::NoLease { .. } => StatusCode::NOT_FOUND,
                RequestError::NotLeased(_) | RequestError::Taken { .. } => StatusCode::CONFLICT,
                RequestError::NoTime | RequestError::Owner { .. } => StatusCode::BAD_REQUEST,
            },
            HandleError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            error: error.to_string(),
        }
    }
}

fn answer(result: Result<impl Serialize, Wrong>) -> Response {
    match result {
        Ok(done) => Json(done).into_response(),
        Err(Wrong { status, error }) => failed(status, error),
    }
}

fn find<'a>(
    admin: &'a Admin,
    prefix: &str,
    site: Option<&str>,
) -> Result<(Prefix, &'a AnnouncerHandle), Wrong> {
    let prefix = prefix
        .parse::<Prefix>()
        .map_err(|error| Wrong::value(format!("prefix {prefix:?}: {error}")))?;
    let fleet = &admin.cell.load().fleet;
    let name = |index: usize| {
        admin
            .sites
            .get(index)
            .copied()
            .flatten()
            .map(|id| fleet.site(id).name.as_str())
    };
    let is_meant = |index: &usize| site.is_none() || name(*index) == site;
    let meant: Vec<_> = (0..admin.announcers.len()).filter(is_meant).collect();
    match (meant.as_slice(), site) {
        ([one], _) => Ok((prefix, &admin.announcers[*one])),
        ([], None) => Err(Wrong::value(
            "this steer announces nothing: its configuration has no [bgp]".to_owned(),
        )),
        ([], Some(site)) => Err(Wrong::value(format!("this steer does not run as site {site:?}"))),
        ([_, ..], _) => {
            let names: Vec<_> = meant.iter().filter_map(|index| name(*index)).collect();
            Err(Wrong::value(format!(
                "this steer runs as several sites; say which: {}",
                names.join(", ")
            )))
        }
    }
}

fn lease_time(text: Option<&str>) -> Result<Duration, Wrong> {
    let text = text.unwrap_or_default();
    steer_topology::parse_duration(text).ok_or_else(|| {
        Wrong::value(format!(
            "`lease` is {text:?}, which is no time; write a number and a unit, for example \"30s\""
        ))
    })
}

fn needed(what: &str, value: Option<String>) -> Result<String, Wrong> {
    value.ok_or_else(|| Wrong::value(format!("`{what}` is missing")))
}
