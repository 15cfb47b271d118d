//! `[edge]`.

use super::context::Context;
use crate::EdgePlace;
use crate::config::raw::{Maybe, RawEdge};
use crate::config::sink::Reported;

pub(super) fn edge(cx: &Context<'_, '_>, raw: Maybe<RawEdge<'_>>) -> Result<Option<EdgePlace>, Reported> {
    let Some(RawEdge { file, sites }) = raw? else {
        return Ok(None);
    };
    let file = file.and_then(|file| cx.file("file", &file));
    let sites = cx.sites_of(sites, "run");
    Ok(Some(EdgePlace {
        file: file?,
        sites: sites?.unwrap_or_else(|| cx.all_sites()),
    }))
}
