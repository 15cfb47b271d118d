//! `[[anycast]]`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::bgp::family;
use super::context::Context;
use super::{condition, drain, peer, policy, values};
use crate::config::raw::{Needed, RawAnycast, RawBind, RawFlapBudget, RawLease, RawTo};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::{
    Anycast, At, Bgp, Bind, Condition, FlapBudget, InService, Lease, OnExpiry, Prefix, SiteId, Subject,
    ToPeer,
};

/// A prefix with the place where it is written.
pub(super) type Announcement = (Range<usize>, Anycast);

/// The prefixes, good and bad.
pub(super) fn anycast(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    speaker: Option<&Bgp>,
    raw: List<RawAnycast<'_>>,
) -> Vec<Result<Announcement, Reported>> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = HashMap::new();
    let read = items
        .into_iter()
        .map(|raw| announcement(cx, places, speaker, &mut seen, raw));
    read.chain(whole.err().map(Err)).collect()
}

fn announcement(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    speaker: Option<&Bgp>,
    seen: &mut HashMap<Prefix, usize>,
    raw: RawAnycast<'_>,
) -> Result<Announcement, Reported> {
    let RawAnycast {
        span,
        prefix,
        sites,
        while_up,
        next_hop,
        policy,
        to,
        rise,
        fall,
        hold_down,
        flap_budget,
        bind,
        lease,
        on_drain,
    } = raw;
    let sink = cx.sink;
    let span = prefix.as_ref().map_or(span, Spanned::span);
    let prefix = announced_prefix(sink, seen, prefix);
    let sites = cx.sites_of(sites, "announce");
    let named = sites
        .as_ref()
        .ok()
        .map(|sites| sites.as_deref().unwrap_or_default());
    let while_up = conditions(cx, places, named.unwrap_or_default(), while_up);
    let next_hop = next_hop.and_then(|hop| hop.map(|hop| next_hop_of(sink, &hop, prefix)).transpose());
    let policy = policy::policy(sink, policy);
    let to = to_peers(sink, speaker, to);
    let time = |key, field| values::duration(sink, key, field, Duration::ZERO..=DAY, Duration::ZERO);
    let (rise, fall, hold_down) = (
        time("rise", rise),
        time("fall", fall),
        time("hold_down", hold_down),
    );
    let flap_budget = flap_budget.and_then(|raw| raw.map(|raw| budget(sink, raw)).transpose());
    let bind = bind.and_then(|raw| raw.map(|raw| bound(sink, prefix, raw)).transpose());
    let lease = lease.and_then(|raw| raw.map(|raw| leased(sink, raw)).transpose());
    let on_drain = drain::steps(sink, on_drain);
    let sites = sites?.unwrap_or_else(|| cx.all_sites());
    Ok((
        span,
        Anycast {
            prefix: prefix?,
            sites,
            while_up: while_up?,
            next_hop: next_hop?,
            policy: policy?,
            to: to?,
            rise: rise?,
            fall: fall?,
            hold_down: hold_down?,
            flap_budget: flap_budget?,
            bind: bind?,
            lease: lease?,
            on_drain: on_drain?,
        },
    ))
}

const DAY: Duration = Duration::from_hours(24);

fn to_peers(sink: &Sink<'_>, speaker: Option<&Bgp>, raw: List<RawTo<'_>>) -> Result<Vec<ToPeer>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = HashSet::new();
    let to = items
        .into_iter()
        .map(|raw| to_peer(sink, speaker, &mut seen, raw));
    let to = all(to.collect());
    whole?;
    to
}

fn to_peer(
    sink: &Sink<'_>,
    speaker: Option<&Bgp>,
    seen: &mut HashSet<IpAddr>,
    raw: RawTo<'_>,
) -> Result<ToPeer, Reported> {
    let RawTo {
        peer,
        announce,
        policy,
    } = raw;
    let peer = peer.and_then(|written| {
        let address = values::ip(sink, "peer", &written)?;
        let known = speaker.is_none_or(|bgp| bgp.peers.iter().any(|peer| peer.address == address));
        if !known {
            let message = format!("there is no [[bgp.peer]] with address {address}");
            return Err(sink.conflict(
                written.span(),
                message,
                "write the `address` of a configured peer",
            ));
        }
        if !seen.insert(address) {
            let message = format!("peer {address} stands twice in `to`");
            return Err(sink.conflict(written.span(), message, "remove one of them"));
        }
        Ok(address)
    });
    let announce = values::flag(announce, true);
    let policy = policy::policy(sink, policy);
    Ok(ToPeer {
        peer: peer?,
        announce: announce?,
        policy: policy?,
    })
}

fn budget(sink: &Sink<'_>, raw: RawFlapBudget) -> Result<FlapBudget, Reported> {
    let RawFlapBudget {
        penalty,
        half_life,
        suppress,
    } = raw;
    let span = suppress.as_ref().ok().and_then(Option::as_ref).map(Spanned::span);
    let penalty = values::int(sink, "penalty", penalty, 1..=100_000, 1_000);
    let range = Duration::from_secs(1)..=DAY;
    let half_life = values::duration(sink, "half_life", half_life, range, Duration::from_mins(15));
    let suppress = values::int(sink, "suppress", suppress, 1..=1_000_000, 2_000);
    let (penalty, suppress) = (penalty?, suppress?);
    if suppress <= penalty {
        return Err(sink.conflict(
            span.unwrap_or_default(),
            format!("`suppress` is {suppress}, no more than the `penalty` of one flap, which is {penalty}"),
            "write a larger `suppress`, or no prefix could ever come back",
        ));
    }
    Ok(FlapBudget {
        penalty,
        half_life: half_life?,
        suppress,
    })
}

fn bound(sink: &Sink<'_>, prefix: Result<Prefix, Reported>, raw: RawBind<'_>) -> Result<Bind, Reported> {
    let RawBind {
        span,
        interface,
        address,
    } = raw;
    let interface = interface.and_then(|written| match written {
        Some(written) => peer::interface_name(sink, &written),
        None => Ok("lo".to_owned()),
    });
    let address = match address? {
        Some(written) => {
            let address = values::ip(sink, "address", &written)?;
            match prefix {
                Ok(prefix) if !prefix.contains(address) => Err(sink.conflict(
                    written.span(),
                    format!("`address` {address} is not in {prefix}"),
                    "write an address that the prefix covers",
                )),
                Ok(_) | Err(_) => Ok(address),
            }
        }
        None => prefix.and_then(|prefix| {
            let whole = if prefix.is_ipv4() { 32 } else { 128 };
            if prefix.length() == whole {
                return Ok(prefix.address());
            }
            let message = format!("`bind` does not say which address of {prefix}");
            Err(sink.conflict(span, message, "add `address`, an address that the prefix covers"))
        }),
    };
    Ok(Bind {
        interface: interface?,
        address: address?,
    })
}

fn leased(sink: &Sink<'_>, raw: RawLease<'_>) -> Result<Lease, Reported> {
    let RawLease { max, on_expiry } = raw;
    let max = values::duration(
        sink,
        "max",
        max,
        Duration::from_secs(1)..=DAY,
        Duration::from_hours(1),
    );
    let on_expiry = on_expiry.and_then(|written| {
        let Some(written) = written else {
            return Ok(OnExpiry::Withdraw);
        };
        match *written.get_ref() {
            "withdraw" => Ok(OnExpiry::Withdraw),
            "deprefer" => Ok(OnExpiry::Deprefer),
            "keep" => Ok(OnExpiry::Keep),
            other => Err(sink.fault(
                written.span(),
                format!("`on_expiry` is {other:?}"),
                "write \"withdraw\", \"deprefer\" or \"keep\"",
            )),
        }
    });
    Ok(Lease {
        max: max?,
        on_expiry: on_expiry?,
    })
}

fn announced_prefix(
    sink: &Sink<'_>,
    seen: &mut HashMap<Prefix, usize>,
    prefix: Needed<&str>,
) -> Result<Prefix, Reported> {
    let written = prefix?;
    let prefix: Prefix = written
        .get_ref()
        .parse()
        .map_err(|invalid: crate::prefix::InvalidPrefix| {
            let text = invalid.to_string();
            let (message, remedy) = text.split_once("; ").unwrap_or((&text, "write ADDRESS/LENGTH"));
            sink.fault(written.span(), format!("`prefix`: {message}"), remedy)
        })?;
    let line = sink.line(written.span().start);
    match seen.insert(prefix, line) {
        Some(first) => Err(sink.conflict(
            written.span(),
            format!("prefix {prefix} is declared twice, first in line {first}"),
            "remove one of them; several sites go into `sites`",
        )),
        None => Ok(prefix),
    }
}

/// `None` where no sites are written.
fn conditions(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    sites: &[SiteId],
    field: Field<OneOrMany<&str>>,
) -> Result<Vec<Condition>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let read = written.get_ref().0.iter().map(|written| {
        let condition = condition::condition(cx, written)?;
        can_hold(cx, places, sites, written, &condition)?;
        Ok(condition)
    });
    all(read.collect())
}

/// A condition that must hold by itself, on endpoints that do not exist, would never hold.
fn can_hold(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    sites: &[SiteId],
    written: &Spanned<&str>,
    condition: &Condition,
) -> Result<(), Reported> {
    let (pool, at) = match condition {
        Condition::All(all) => {
            return all
                .iter()
                .try_for_each(|one| can_hold(cx, places, sites, written, one));
        }
        Condition::InService(InService {
            subject: Subject::Pool(pool),
            at,
            at_least: _,
        }) => (pool.0, *at),
        Condition::InService(_)
        | Condition::Address(_)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::AtLeast { .. } => return Ok(()),
    };
    let name = cx.pools.name(pool);
    let Some(Some(places)) = places.get(pool as usize) else {
        return Ok(());
    };
    let lacking = match at {
        At::Anywhere => None,
        At::Local => sites.iter().find(|site| !places.contains(site)).copied(),
        At::Site(site) => (!places.contains(&site)).then_some(site),
    };
    let Some(site) = lacking else { return Ok(()) };
    let site = cx.site_name(site);
    Err(cx.sink.conflict(
        written.span(),
        format!(
            "pool `{name}` has no endpoint at site `{site}`, so {:?} can never hold there",
            written.get_ref()
        ),
        format!("add an endpoint with site = \"{site}\" to the pool, or take the site out"),
    ))
}

fn next_hop_of(
    sink: &Sink<'_>,
    written: &Spanned<&str>,
    prefix: Result<Prefix, Reported>,
) -> Result<IpAddr, Reported> {
    let next_hop = values::ip(sink, "next_hop", written)?;
    match prefix {
        // RFC 8950: IPv4 routes may have an IPv6 next hop; whether a peer takes it is agreed in the session.
        Ok(prefix) if !prefix.is_ipv4() && next_hop.is_ipv4() => Err(sink.conflict(
            written.span(),
            format!("`next_hop` {next_hop} is not of the address family of {prefix}"),
            format!("write an {} address", family(prefix.is_ipv4())),
        )),
        Ok(_) | Err(_) => Ok(next_hop),
    }
}
