//! `[dns]`.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::context::{Context, Wire};
use super::values;
use crate::config::raw::{Maybe, RawDns, RawRrl, RawTls};
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::did_you_mean;
use crate::prefix::InvalidPrefix;
use crate::{CookieUse, Dns, Nat64, Prefix, Rrl, Tls};

/// Characters of an identity or version: one string of a TXT record (RFC 1035 §3.3) that leaves room beside it.
const LONGEST_TEXT: usize = 64;

pub(super) fn server(
    cx: &Context<'_, '_>,
    raw: Maybe<RawDns<'_>>,
    has_zones: bool,
) -> Result<Option<Dns>, Reported> {
    let default = Dns::default();
    let Some(RawDns {
        listen,
        udp_threads,
        max_udp_payload,
        tcp_connections,
        tcp_connections_per_client,
        tcp_idle,
        nat64,
        identity,
        version,
        cookies,
        cookie_secrets,
        rrl,
        tls,
    }) = raw?
    else {
        return Ok(has_zones.then_some(default));
    };
    let sink = cx.sink;
    let listen = addresses(cx, listen);
    let udp_threads = values::optional_int(sink, "udp_threads", udp_threads, 1..=256_u16);
    let payloads = 512..=4096_u16;
    let max_udp_payload = values::int(
        sink,
        "max_udp_payload",
        max_udp_payload,
        payloads,
        default.max_udp_payload,
    );
    let connections = 1..=1_000_000_u32;
    let tcp_connections = values::int(
        sink,
        "tcp_connections",
        tcp_connections,
        connections.clone(),
        default.tcp_connections,
    );
    let tcp_connections_per_client = values::int(
        sink,
        "tcp_connections_per_client",
        tcp_connections_per_client,
        connections,
        default.tcp_connections_per_client,
    );
    let idle = Duration::from_secs(1)..=Duration::from_hours(1);
    let tcp_idle = values::duration(sink, "tcp_idle", tcp_idle, idle, default.tcp_idle);
    let nat64 = translations(sink, nat64);
    let identity = text(sink, "identity", identity);
    let version = text(sink, "version", version);
    let cookies = cookie_use(sink, cookies);
    let cookie_secrets = files(cx, "cookie_secrets", cookie_secrets);
    let rrl = rrl.and_then(|raw| raw.map(|raw| rate_limit(sink, raw)).transpose());
    let tls = tls.and_then(|raw| raw.map(|raw| encrypted(cx, raw)).transpose());
    Ok(Some(Dns {
        listen: listen?.unwrap_or(default.listen),
        udp_threads: udp_threads?.and_then(NonZeroU16::new),
        max_udp_payload: max_udp_payload?,
        tcp_connections: tcp_connections?,
        tcp_connections_per_client: tcp_connections_per_client?,
        tcp_idle: tcp_idle?,
        nat64: nat64?,
        identity: identity?,
        version: version?,
        cookies: cookies?,
        cookie_secrets: cookie_secrets?,
        rrl: rrl?,
        tls: tls?,
    }))
}

fn addresses(
    cx: &Context<'_, '_>,
    field: Field<OneOrMany<&str>>,
) -> Result<Option<Vec<SocketAddr>>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let listen = &written.get_ref().0;
    if listen.is_empty() {
        let remedy = "write an address, or remove `listen` for all addresses at port 53";
        return Err(cx.sink.fault(written.span(), "[dns] listens nowhere", remedy));
    }
    all(listen
        .iter()
        .map(|written| cx.listen("listen", written, &[Wire::Datagrams, Wire::Connections]))
        .collect())
    .map(Some)
}

fn encrypted(cx: &Context<'_, '_>, raw: RawTls<'_>) -> Result<Tls, Reported> {
    let RawTls {
        span,
        listen,
        https,
        quic,
        certificate,
        key,
    } = raw;
    let each = |name: &str, field: Field<OneOrMany<&str>>, wire: Wire| {
        let Some(written) = field? else {
            return Ok(Vec::new());
        };
        let addresses = written.get_ref().0.iter();
        all(addresses
            .map(|written| cx.listen(name, written, &[wire]))
            .collect())
    };
    let listen = each("listen", listen, Wire::Connections);
    let https = each("https", https, Wire::Connections);
    let quic = each("quic", quic, Wire::Datagrams);
    let certificate = certificate.and_then(|path| cx.file("certificate", &path));
    let key = key.and_then(|path| cx.file("key", &path));
    let (listen, https, quic) = (listen?, https?, quic?);
    if listen.is_empty() && https.is_empty() && quic.is_empty() {
        return Err(cx.sink.conflict(
            span,
            "[dns] tls listens nowhere",
            "add `listen` for DNS over TLS, for example \"0.0.0.0:853\", `https` for DNS over HTTPS, for example \"0.0.0.0:443\", or `quic` for DNS over QUIC, for example \"0.0.0.0:853\"",
        ));
    }
    Ok(Tls {
        listen,
        https,
        quic,
        certificate: certificate?,
        key: key?,
    })
}

fn translations(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Vec<Nat64>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let mut taken: Vec<Prefix> = Vec::new();
    let read = |written: &Spanned<&str>| {
        let fault = |message: String, remedy: &str| sink.fault(written.span(), message, remedy);
        let prefix: Prefix = written.get_ref().parse().map_err(|invalid: InvalidPrefix| {
            fault(
                format!("`nat64` has {:?}: {invalid}", written.get_ref()),
                "write a prefix, for example \"2001:db8:64::/96\"",
            )
        })?;
        let nat64 = Nat64::new(prefix).ok_or_else(|| {
            fault(
                format!("`nat64` has {prefix}, which is no prefix of RFC 6052"),
                "write an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 whose bits 64 to 71 are zero",
            )
        })?;
        let overlaps = |other: &Prefix| other.contains(prefix.address()) || prefix.contains(other.address());
        if let Some(other) = taken.iter().find(|other| overlaps(other)) {
            return Err(fault(
                format!("`nat64` has {prefix}, which overlaps {other}"),
                "remove one of them",
            ));
        }
        taken.push(prefix);
        Ok(nat64)
    };
    all(written.get_ref().0.iter().map(read).collect())
}

/// Printable, for it is shown by tools as it is.
fn text(sink: &Sink<'_>, key: &str, field: Field<&str>) -> Result<Option<String>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let text = *written.get_ref();
    let fits = text.len() <= LONGEST_TEXT && text.bytes().all(|octet| (0x20..0x7f).contains(&octet));
    if fits {
        return Ok(Some(text.to_owned()));
    }
    Err(sink.fault(
        written.span(),
        format!("`{key}` is {text:?}"),
        format!("write at most {LONGEST_TEXT} printable ASCII characters"),
    ))
}

fn cookie_use(sink: &Sink<'_>, field: Field<&str>) -> Result<CookieUse, Reported> {
    const USES: [&str; 3] = ["on", "require", "off"];
    let Some(written) = field? else {
        return Ok(CookieUse::On);
    };
    match *written.get_ref() {
        "on" => Ok(CookieUse::On),
        "require" => Ok(CookieUse::Require),
        "off" => Ok(CookieUse::Off),
        other => Err(sink.fault(
            written.span(),
            format!("`cookies` is {other:?}"),
            did_you_mean(other, USES, "write one of"),
        )),
    }
}

fn files(cx: &Context<'_, '_>, key: &str, field: Field<OneOrMany<&str>>) -> Result<Vec<PathBuf>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    all(written
        .get_ref()
        .0
        .iter()
        .map(|written| cx.file(key, written))
        .collect())
}

fn rate_limit(sink: &Sink<'_>, raw: RawRrl) -> Result<Rrl, Reported> {
    let RawRrl {
        rate,
        slip,
        v4_prefix,
        v6_prefix,
        table,
        log_only,
    } = raw;
    let rate = values::int(sink, "rate", rate, 1..=1_000_000, 20);
    let slip = values::int(sink, "slip", slip, 0..=100, 2);
    let v4_prefix = values::int(sink, "v4_prefix", v4_prefix, 1..=32, 24);
    let v6_prefix = values::int(sink, "v6_prefix", v6_prefix, 1..=128, 56);
    let table = values::int(sink, "table", table, 1_024..=16_777_216, 131_072);
    let log_only = values::flag(log_only, false);
    Ok(Rrl {
        rate: rate?,
        slip: slip?,
        v4_prefix: v4_prefix?,
        v6_prefix: v6_prefix?,
        table: table?,
        log_only: log_only?,
    })
}
