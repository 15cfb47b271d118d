//! `/v1/loads`: what sites get, as somebody counts it, and what DNS makes of it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_health::{Load, LoadOrder};

use super::drains::{refuse, understood};
use super::{Admin, failed};

/// How long a figure counts where nothing is said.
const LEASE: Duration = Duration::from_secs(60);

/// Requests per second, as for `load` and `capacity` of a site: more is a slip, and shares are not reckoned with it.
const MOST: u64 = 1_000_000_000_000;

/// What `POST` wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadRequest {
    site: String,
    /// Requests per second; without it the last figure is taken back.
    per_second: Option<u64>,
    /// A time such as `60s`.
    #[serde(default, rename = "for")]
    time: Option<String>,
    author: String,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) site: String,
    /// Absent: nothing counts any more.
    pub(crate) load: Option<LoadView>,
}

/// A figure as the API shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoadView {
    pub(crate) per_second: u64,
    pub(crate) at: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) author: String,
}

/// One site.
#[derive(Debug, Serialize)]
pub(super) struct SiteView {
    site: String,
    capacity: Option<u64>,
    /// As the configuration says.
    written: Option<u64>,
    counted: Option<LoadView>,
    /// By what DNS steers.
    demand: steer_dns::DemandView,
}

impl From<Load> for LoadView {
    fn from(load: Load) -> Self {
        let Load {
            per_second,
            at,
            until,
            author,
        } = load;
        Self {
            per_second,
            at,
            until,
            author,
        }
    }
}

pub(super) async fn list(State(admin): State<Admin>) -> Response {
    let (snapshot, tables) = (admin.cell.load(), admin.engine.tables());
    let sites = (0_u16..).zip(&snapshot.fleet.sites);
    let view = |(index, site): (u16, &steer_topology::Site)| {
        let id = steer_topology::SiteId(index);
        SiteView {
            site: site.name.clone(),
            capacity: site.capacity,
            written: site.load,
            counted: snapshot.load(id).cloned().map(LoadView::from),
            demand: tables.demand(id),
        }
    };
    Json(sites.map(view).collect::<Vec<_>>()).into_response()
}

pub(super) async fn tell(
    State(admin): State<Admin>,
    request: Result<Json<LoadRequest>, JsonRejection>,
) -> Response {
    let order = match understood(request, LoadRequest::order) {
        Ok(order) => order,
        Err((status, error)) => return failed(status, error),
    };
    match admin.operator.load(order).await {
        Ok((site, load)) => Json(Told {
            site,
            load: load.map(LoadView::from),
        })
        .into_response(),
        Err(refused) => refuse(&refused),
    }
}

impl LoadRequest {
    fn order(self) -> Result<LoadOrder, String> {
        let Self {
            site,
            per_second,
            time,
            author,
        } = self;
        if let Some(beyond) = per_second.filter(|per_second| *per_second > MOST) {
            return Err(format!("`per_second` is {beyond}; write 0 to {MOST}"));
        }
        let lease = match time {
            None => LEASE,
            Some(text) => steer_topology::parse_duration(&text).ok_or_else(|| {
                format!("`for` is {text:?}, which is no time; write a number and a unit, for example \"60s\"")
            })?,
        };
        Ok(LoadOrder {
            site,
            per_second,
            lease,
            author,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(per_second: u64) -> Result<LoadOrder, String> {
        let request = LoadRequest {
            site: "fra".to_owned(),
            per_second: Some(per_second),
            time: None,
            author: "ana".to_owned(),
        };
        request.order()
    }

    #[test]
    fn a_figure_has_the_bound_that_the_configuration_has() {
        assert_eq!(order(MOST).unwrap().per_second, Some(MOST));
        assert_eq!(
            order(u64::MAX).unwrap_err(),
            "`per_second` is 18446744073709551615; write 0 to 1000000000000"
        );
    }
}
