//! Pools in pools: no circle, no pool in another in two ways.

use std::collections::HashSet;
use std::ops::Range;

use super::context::Context;
use super::health::Draft;
use crate::SiteId;
use crate::config::sink::Reported;

/// By pool: it and all that are in it, at any depth. `spans` says where the pools stand.
pub(super) fn nests(
    cx: &Context<'_, '_>,
    spans: &[Range<usize>],
    drafts: &[Result<Draft, Reported>],
) -> Result<Vec<Vec<usize>>, Reported> {
    let name = |pool: usize| u32::try_from(pool).map_or("", |pool| cx.pools.name(pool));
    let mut nests = Vec::with_capacity(drafts.len());
    for (pool, span) in spans.iter().enumerate() {
        let nest = nest_of(drafts, pool).map_err(|again| {
            let (message, remedy) = if again == pool {
                let message = format!("pool `{}` is in itself", name(pool));
                (message, "remove one of the `pool` entries on the way")
            } else {
                let message = format!("pool `{}` is in pool `{}` in two ways", name(again), name(pool));
                (message, "remove one of the `pool` entries that lead to it")
            };
            cx.sink.conflict(span.clone(), message, remedy)
        });
        nests.push(nest);
    }
    crate::config::read::all(nests)
}

/// The pools in a pool, or the one that comes up twice. A circle that does not lead through the pool itself comes up
/// as a pool that is in it in two ways, and is told at its own pools too.
fn nest_of(drafts: &[Result<Draft, Reported>], pool: usize) -> Result<Vec<usize>, usize> {
    let mut seen = HashSet::from([pool]);
    let mut nest = vec![pool];
    let mut next = 0;
    while let Some(outer) = nest.get(next) {
        next += 1;
        let Some(Ok((draft, _))) = drafts.get(*outer) else {
            continue;
        };
        for nested in &draft.nested {
            let inner = nested.pool.0 as usize;
            if !seen.insert(inner) {
                return Err(inner);
            }
            nest.push(inner);
        }
    }
    Ok(nest)
}

/// The sites where each pool has endpoints, of its own or of pools in it; `None` where that cannot be known.
pub(super) fn places(
    drafts: &[Result<Draft, Reported>],
    nests: &Result<Vec<Vec<usize>>, Reported>,
) -> Vec<Option<HashSet<SiteId>>> {
    let own = |pool: &usize| {
        let (_, endpoints) = drafts.get(*pool)?.as_ref().ok()?;
        Some(endpoints.iter().filter_map(|endpoint| endpoint.site))
    };
    let all = |pool: usize| {
        let nest = nests.as_ref().ok()?.get(pool)?;
        let sites: Option<Vec<_>> = nest.iter().map(own).collect();
        Some(sites?.into_iter().flatten().collect())
    };
    (0..drafts.len()).map(all).collect()
}
