//! `[[bgp.peer]]`.

mod ao;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::bgp::family;
use super::context::Context;
use super::{policy, values};
use crate::config::raw::{RawBfd, RawGracefulRestart, RawPeer};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::{
    Bfd, BfdAuth, BfdAuthKind, GracefulRestart, Peer, PeerFamilies, PeerReach, Role, RoleName, SiteId,
};

pub(super) fn peers(
    cx: &Context<'_, '_>,
    listening: bool,
    raw: List<RawPeer<'_>>,
) -> Result<Vec<Peer>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = Neighbours::default();
    let peers = all(items
        .into_iter()
        .map(|raw| peer(cx, listening, &mut seen, raw))
        .collect());
    whole?;
    peers
}

/// Which neighbour is written where: a peer of every site clashes with one of a single site.
#[derive(Default)]
struct Neighbours(HashMap<Neighbour, Vec<Written>>);

/// Address, interface of a link-local one, port.
type Neighbour = (IpAddr, Option<String>, u16);

/// At which site, in which line.
type Written = (Option<SiteId>, usize);

impl Neighbours {
    /// The line of an earlier peer that is the same neighbour at a common site.
    fn clash(&mut self, site: Option<SiteId>, neighbour: Neighbour, line: usize) -> Option<usize> {
        let earlier = self.0.entry(neighbour).or_default();
        // One entry per site is enough, so the list stays as short as the table of sites.
        let clash = earlier
            .iter()
            .find(|(other, _)| *other == site || other.is_none() || site.is_none());
        let clash = clash.map(|(_, line)| *line);
        if clash.is_none() {
            earlier.push((site, line));
        }
        clash
    }
}

fn peer(
    cx: &Context<'_, '_>,
    listening: bool,
    seen: &mut Neighbours,
    raw: RawPeer<'_>,
) -> Result<Peer, Reported> {
    let RawPeer {
        site,
        address,
        port,
        asn,
        source,
        passive,
        hold_time,
        connect_retry,
        interface,
        password_file,
        tcp_ao,
        ttl_security,
        multihop,
        families,
        extended_next_hop,
        extended_messages,
        role,
        role_strict,
        graceful_restart,
        max_prefixes,
        sample,
        policy,
        bfd,
    } = raw;
    let sink = cx.sink;
    let site = site.and_then(|site| site.map(|site| cx.site(&site)).transpose());
    let written = address.as_ref().ok().map(Spanned::span);
    let address = address.and_then(|address| values::ip(sink, "address", &address));
    let interface = interface_of(sink, written.clone(), address, interface);
    let port = values::int(sink, "port", port, 1..=u16::MAX, 179);
    let asn = values::asn(sink, asn);
    let source = source.and_then(|source| source.map(|source| source_of(sink, &source, address)).transpose());
    let passive = passive.and_then(|passive| is_passive(sink, listening, passive));
    let hold_time = hold(sink, hold_time);
    let range = Duration::from_millis(100)..=Duration::from_hours(1);
    let connect_retry = values::duration(
        sink,
        "connect_retry",
        connect_retry,
        range,
        Duration::from_secs(5),
    );
    let tcp_ao = tcp_ao.and_then(|raw| raw.map(|raw| ao::key(cx, &password_file, raw)).transpose());
    let password_file = optional_file(cx, "password_file", password_file);
    let reach = reach(sink, ttl_security, multihop);
    let families = families_of(sink, families);
    let extended_next_hop = values::flag(extended_next_hop, address.is_ok_and(|address| address.is_ipv6()));
    let extended_messages = values::flag(extended_messages, true);
    let role = role_of(sink, role, role_strict);
    let graceful_restart = graceful_restart.and_then(|raw| raw.map(|raw| restart(sink, raw)).transpose());
    let max_prefixes = values::optional_int(sink, "max_prefixes", max_prefixes, 1..=u32::MAX);
    let sample = values::int(sink, "sample", sample, 0..=SAMPLE_MAX, 0);
    let policy = policy::policy(sink, policy);
    let bfd = bfd.and_then(|raw| raw.map(|raw| detection(cx, raw)).transpose());
    if let (Some(span), Ok(site), Ok(address), Ok(interface), Ok(port)) =
        (written, &site, address, &interface, port)
    {
        let line = sink.line(span.start);
        if let Some(first) = seen.clash(*site, (address, interface.clone(), port), line) {
            sink.conflict(
                span,
                format!(
                    "peer {address} port {port} is written twice for the same site, first in line {first}"
                ),
                "remove one of them, or give each its own `site`",
            );
        }
    }
    Ok(Peer {
        site: site?,
        address: address?,
        interface: interface?,
        port: port?,
        asn: asn?,
        source: source?,
        passive: passive?,
        hold_time: hold_time?,
        connect_retry: connect_retry?,
        password_file: password_file?,
        tcp_ao: tcp_ao?,
        reach: reach?,
        families: families?,
        extended_next_hop: extended_next_hop?,
        extended_messages: extended_messages?,
        role: role?,
        graceful_restart: graceful_restart?,
        max_prefixes: max_prefixes?,
        sample: sample?,
        policy: policy?,
        bfd: bfd?,
    })
}

/// Routes kept as a sample: a bound on memory, about 100 octets each.
const SAMPLE_MAX: u32 = 100_000;

/// A link-local address means nothing without its interface (RFC 4007 §6), any other has no need of one.
fn interface_of(
    sink: &Sink<'_>,
    address_span: Option<Range<usize>>,
    address: Result<IpAddr, Reported>,
    field: Field<&str>,
) -> Result<Option<String>, Reported> {
    let written = field?;
    let Ok(address) = address else { return Ok(None) };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match (written, link_local) {
        (None, false) => Ok(None),
        (None, true) => Err(sink.conflict(
            address_span.unwrap_or_default(),
            format!("`address` {address} is link-local, and no `interface` is written"),
            "add for example interface = \"eth1\"",
        )),
        (Some(written), false) => Err(sink.conflict(
            written.span(),
            format!("`interface` is for link-local peers, and `address` is {address}"),
            "remove it, or write the peer's fe80:: address",
        )),
        (Some(written), true) => interface_name(sink, &written).map(Some),
    }
}

/// What Linux takes as the name of an interface.
pub(super) fn interface_name(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<String, Reported> {
    let name = *written.get_ref();
    let fine = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':');
    if (1..=15).contains(&name.len()) && name.chars().all(fine) && !matches!(name, "." | "..") {
        return Ok(name.to_owned());
    }
    Err(sink.fault(
        written.span(),
        format!("`interface` is {name:?}"),
        "write the name of an interface, at most 15 octets, for example \"eth1\"",
    ))
}

fn optional_file(cx: &Context<'_, '_>, key: &str, field: Field<&str>) -> Result<Option<PathBuf>, Reported> {
    field?.map(|written| cx.file(key, &written)).transpose()
}

fn reach(sink: &Sink<'_>, security: Field<i128>, multihop: Field<i128>) -> Result<PeerReach, Reported> {
    let span = security.as_ref().ok().and_then(Option::as_ref).map(Spanned::span);
    let security = values::optional_int(
        sink,
        "ttl_security",
        security,
        NonZeroHops::LOW..=NonZeroHops::HIGH,
    );
    let multihop = values::optional_int(sink, "multihop", multihop, NonZeroHops::LOW..=NonZeroHops::HIGH);
    let hops = |value: Option<u8>| value.and_then(NonZeroU8::new);
    match (hops(security?), hops(multihop?)) {
        (None, None) => Ok(PeerReach::Default),
        (Some(hops), None) => Ok(PeerReach::TtlSecurity(hops)),
        (None, Some(hops)) => Ok(PeerReach::Multihop(hops)),
        (Some(_), Some(hops)) => Err(sink.conflict(
            span.unwrap_or_default(),
            "`ttl_security` and `multihop` are two answers to the same question",
            format!("write `ttl_security = {hops}` alone: it sends TTL 255 and bounds the hops as well"),
        )),
    }
}

/// Bounds of both keys: a TTL is one octet.
struct NonZeroHops;

impl NonZeroHops {
    const LOW: u8 = 1;
    const HIGH: u8 = 254;
}

fn families_of(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<PeerFamilies, Reported> {
    let Some(written) = field? else {
        return Ok(PeerFamilies {
            ipv4: true,
            ipv6: true,
        });
    };
    let (mut ipv4, mut ipv6) = (false, false);
    for name in &written.get_ref().0 {
        match *name.get_ref() {
            "ipv4" => ipv4 = true,
            "ipv6" => ipv6 = true,
            other => {
                let message = format!("`families` has {other:?}");
                return Err(sink.fault(name.span(), message, "write \"ipv4\", \"ipv6\" or both"));
            }
        }
    }
    if ipv4 || ipv6 {
        return Ok(PeerFamilies { ipv4, ipv6 });
    }
    let remedy = "write \"ipv4\", \"ipv6\" or both";
    Err(sink.fault(
        written.span(),
        "`families` is empty: the session would carry nothing",
        remedy,
    ))
}

fn role_of(sink: &Sink<'_>, role: Field<&str>, strict: Field<bool>) -> Result<Option<Role>, Reported> {
    let strict_span = strict.as_ref().ok().and_then(Option::as_ref).map(Spanned::span);
    let strict = values::flag(strict, false);
    let Some(written) = role? else {
        return match strict_span {
            Some(span) if strict? => Err(sink.conflict(
                span,
                "`role_strict` without `role`: there is no role to insist on",
                "add for example role = \"customer\"",
            )),
            Some(_) | None => Ok(None),
        };
    };
    let name = match *written.get_ref() {
        "provider" => RoleName::Provider,
        "rs" => RoleName::RouteServer,
        "rs-client" => RoleName::RouteServerClient,
        "customer" => RoleName::Customer,
        "peer" => RoleName::Peer,
        other => {
            return Err(sink.fault(
                written.span(),
                format!("`role` is {other:?}"),
                "write what we are to the peer: \"customer\", \"provider\", \"peer\", \"rs\" or \"rs-client\" (RFC 9234)",
            ));
        }
    };
    Ok(Some(Role {
        name,
        strict: strict?,
    }))
}

fn restart(sink: &Sink<'_>, raw: RawGracefulRestart) -> Result<GracefulRestart, Reported> {
    let RawGracefulRestart {
        restart_time,
        notification,
    } = raw;
    let span = restart_time
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(Spanned::span);
    let range = Duration::from_secs(1)..=Duration::from_secs(4_095); // RFC 4724 §3: 12 bits
    let time = values::duration(sink, "restart_time", restart_time, range, Duration::from_mins(2));
    let time = time.and_then(|time| match span {
        Some(span) => values::whole_seconds(sink, "restart_time", span, time),
        None => Ok(time),
    });
    let notification = values::flag(notification, true);
    Ok(GracefulRestart {
        restart_time: time?,
        notification: notification?,
    })
}

fn detection(cx: &Context<'_, '_>, raw: RawBfd<'_>) -> Result<Bfd, Reported> {
    let RawBfd {
        span,
        interval,
        multiplier,
        strict,
        auth,
        key_id,
        key_file,
    } = raw;
    let range = Duration::from_millis(10)..=Duration::from_mins(1);
    let interval = values::duration(cx.sink, "interval", interval, range, Duration::from_millis(300));
    let multiplier = values::int(cx.sink, "multiplier", multiplier, 1..=u8::MAX, 3);
    let strict = values::flag(strict, false);
    let auth = authentication(cx, span, auth, key_id, key_file);
    Ok(Bfd {
        interval: interval?,
        multiplier: NonZeroU8::new(multiplier?).unwrap_or(NonZeroU8::MIN),
        strict: strict?,
        auth: auth?,
    })
}

fn authentication(
    cx: &Context<'_, '_>,
    span: Range<usize>,
    kind: Field<&str>,
    key_id: Field<i128>,
    key_file: Field<&str>,
) -> Result<Option<BfdAuth>, Reported> {
    let id = values::int(cx.sink, "key_id", key_id, 0..=u8::MAX, 1);
    let file = optional_file(cx, "key_file", key_file);
    let kind = kind?.map(|written| auth_kind(cx.sink, &written)).transpose();
    match (kind?, file?) {
        (None, None) => {
            id?;
            Ok(None)
        }
        (Some(kind), Some(key_file)) => Ok(Some(BfdAuth {
            kind,
            key_id: id?,
            key_file,
        })),
        (Some(_), None) => Err(cx.sink.conflict(
            span,
            "`auth` without `key_file`",
            "add for example key_file = \"bfd.key\"",
        )),
        (None, Some(_)) => Err(cx.sink.conflict(
            span,
            "`key_file` without `auth`",
            "add for example auth = \"meticulous-keyed-sha1\"",
        )),
    }
}

fn auth_kind(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<BfdAuthKind, Reported> {
    match *written.get_ref() {
        "keyed-sha1" => Ok(BfdAuthKind::KeyedSha1),
        "meticulous-keyed-sha1" => Ok(BfdAuthKind::MeticulousKeyedSha1),
        other => Err(sink.fault(
            written.span(),
            format!("`auth` is {other:?}"),
            "write \"keyed-sha1\" or \"meticulous-keyed-sha1\"; simple passwords and MD5 are not offered",
        )),
    }
}

fn source_of(
    sink: &Sink<'_>,
    written: &Spanned<&str>,
    address: Result<IpAddr, Reported>,
) -> Result<IpAddr, Reported> {
    let source = values::ip(sink, "source", written)?;
    match address {
        Ok(address) if address.is_ipv4() != source.is_ipv4() => Err(sink.conflict(
            written.span(),
            format!("`source` {source} and `address` {address} are of different address families"),
            format!("write an {} address", family(address.is_ipv4())),
        )),
        Ok(_) | Err(_) => Ok(source),
    }
}

fn is_passive(sink: &Sink<'_>, listening: bool, passive: Option<Spanned<bool>>) -> Result<bool, Reported> {
    match passive {
        Some(written) if *written.get_ref() && !listening => Err(sink.conflict(
            written.span(),
            "a passive peer waits for the neighbour to connect, but `[bgp] listen` is not written",
            "add for example listen = [\"192.0.2.10:179\"] to [bgp], or remove `passive`",
        )),
        Some(written) => Ok(*written.get_ref()),
        None => Ok(false),
    }
}

/// RFC 4271 §4.2: zero or at least three seconds, in two octets.
fn hold(sink: &Sink<'_>, field: Field<Duration>) -> Result<Duration, Reported> {
    let Some(written) = field? else {
        return Ok(Duration::from_secs(90));
    };
    let value = values::whole_seconds(sink, "hold_time", written.span(), *written.get_ref())?;
    match value.as_secs() {
        0 | 3..=65_535 => Ok(value),
        _ => Err(sink.fault(
            written.span(),
            format!("`hold_time` is {}", sink.written(written.span())),
            "write \"0s\" (never expires) or \"3s\" to \"65535s\" (RFC 4271 §4.2)",
        )),
    }
}
