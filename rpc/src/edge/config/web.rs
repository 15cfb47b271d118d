//! `[grpc_web]`: which pages may call.

use http::header::HeaderValue;
use serde::Deserialize;

use super::InvalidEdge;
use crate::edge::web::Origins;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWeb {
    #[serde(default)]
    origins: Vec<String>,
}

pub(super) fn check_web(raw: &RawWeb) -> Result<Origins, InvalidEdge> {
    if raw.origins.iter().any(|origin| origin == "*") {
        return Ok(Origins::Any);
    }
    let origins = raw.origins.iter().map(|origin| check_origin(origin));
    origins.collect::<Result<_, _>>().map(Origins::These)
}

/// As a browser sends it (RFC 6454 §6.2): a scheme, a host, a port where it is not the usual one, and nothing after it.
fn check_origin(origin: &str) -> Result<HeaderValue, InvalidEdge> {
    let host = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
    let is_bare = host.is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '?', '#', ' ']));
    let value = HeaderValue::try_from(origin).ok().filter(|_| is_bare);
    value.ok_or_else(|| InvalidEdge::Place {
        place: "[grpc_web]".to_owned(),
        what: format!("{origin:?} is no origin; one as \"https://shop.example\" is wanted, or \"*\""),
    })
}
