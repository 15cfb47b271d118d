//! What a probe of a `[[check]]` does: `kind`, and the keys that belong to some kinds only.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::condition;
use super::context::Context;
use super::values::{self, span_of};
use crate::config::raw::{Needed, RawKind};
use crate::config::read::{Field, Number, OneOrMany, TextOrInt, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::did_you_mean;
use crate::{
    BodyRule, CheckKind, DnsCheck, Feeds, GrpcCheck, HttpCheck, LoadCheck, Name, TlsRules, ValueAt, ValueRule,
};

const KINDS: [&str; 12] = [
    "http",
    "https",
    "tcp",
    "tls",
    "dns",
    "grpc",
    "icmp",
    "exec",
    "external",
    "bfd",
    "load",
    "calculated",
];

const HTTP: &[&str] = &["http", "https"];
const PAGE: &[&str] = &["http", "https", "load"];
const OVER_TLS: &[&str] = &["https", "tls", "grpc", "load"];
/// Of these, TLS is an option.
const TLS_OR_NOT: &[&str] = &["grpc", "load"];

pub(super) fn kind(
    cx: &Context<'_, '_>,
    kind: Needed<&str>,
    raw: RawKind<'_>,
) -> Result<CheckKind, Reported> {
    let sink = cx.sink;
    let written = written(&raw);
    let RawKind {
        span,
        path,
        host,
        status,
        body,
        body_regex,
        header,
        value,
        min,
        max,
        reuse,
        tls,
        server_name,
        verify,
        roots,
        expiry_warning,
        query,
        rtype,
        rcode,
        answer,
        service,
        command,
        lease,
        when,
        peer,
        feeds,
        scale,
    } = raw;
    let path = http_path(sink, path);
    let host = http_host(sink, host);
    let status = statuses(sink, status);
    let body = body_rule(sink, body, body_regex);
    let header = header_rule(sink, header);
    let value = value_rule(sink, value, min, max);
    let reuse = values::flag(reuse, false);
    let tls = values::flag(tls, false);
    let rules = tls_rules(cx, server_name, verify, roots, expiry_warning);
    let dns = dns_check(sink, query, rtype, rcode, answer);
    let service =
        service.map(|service| service.map_or_else(String::new, |service| (*service.get_ref()).to_owned()));
    let command = command_line(sink, command);
    let lease = values::duration(
        sink,
        "lease",
        lease,
        Duration::from_millis(100)..=Duration::from_hours(24),
        Duration::from_secs(10),
    );
    let when = when.and_then(|when| when.map(|when| condition::formula(cx, &when)).transpose());
    let peer = peer.and_then(|peer| peer.map(|peer| values::ip(sink, "peer", &peer)).transpose());
    let feeds = values::word(
        sink,
        "feeds",
        feeds,
        &[("load", Feeds::Load), ("weight", Feeds::Weight)],
        Feeds::Load,
    );
    let scale = scale_of(sink, scale);

    let kind = kind?;
    let name = *kind.get_ref();
    if !KINDS.contains(&name) {
        let remedy = did_you_mean(name, KINDS, "write one of");
        return Err(sink.fault(kind.span(), format!("`kind` is {name:?}"), remedy));
    }
    misplaced(sink, name, &written);
    let missing = |key: &str, example: &str| {
        let message = format!("a check of kind {name:?} has no `{key}`");
        sink.conflict(
            span.clone(),
            message,
            format!("add for example `{key} = {example}`"),
        )
    };
    match name {
        "http" | "https" => Ok(CheckKind::Http(HttpCheck {
            tls: (name == "https").then_some(rules).transpose()?,
            path: path?,
            host: host?,
            status: status?,
            body: body?,
            header: header?,
            value: value?,
            reuse: reuse?,
        })),
        "tls" => rules.map(CheckKind::Tls),
        "dns" => dns?
            .map(CheckKind::Dns)
            .ok_or_else(|| missing("query", "\"example.com\"")),
        "grpc" => {
            let (rules, tls) = (rules?, tls?);
            Ok(CheckKind::Grpc(GrpcCheck {
                service: service?,
                tls: tls.then_some(rules),
            }))
        }
        "icmp" => Ok(CheckKind::Icmp),
        "exec" => {
            let command =
                command?.ok_or_else(|| missing("command", "[\"/usr/lib/steer/check\", \"web\"]"))?;
            Ok(CheckKind::Exec { command })
        }
        "external" => Ok(CheckKind::External { lease: lease? }),
        "bfd" => peer?
            .map(|peer| CheckKind::Bfd { peer })
            .ok_or_else(|| missing("peer", "\"192.0.2.1\"")),
        "load" => {
            let (rules, tls) = (rules?, tls?);
            let value = value?.ok_or_else(|| missing("value", "\"json:/requests_per_second\""))?;
            let page = HttpCheck {
                tls: tls.then_some(rules),
                path: path?,
                host: host?,
                status: status?,
                header: header?,
                value: Some(value),
                ..HttpCheck::plain()
            };
            Ok(CheckKind::Load(LoadCheck {
                page,
                feeds: feeds?,
                scale: scale?,
                lease: lease?,
            }))
        }
        "calculated" => {
            let when = when?.ok_or_else(|| missing("when", "\"check:web and not check:full\""))?;
            Ok(CheckKind::Calculated { when })
        }
        _ => Ok(CheckKind::Tcp),
    }
}

/// A key, where it is written if it is, and the kinds that it belongs to.
type Key = (&'static str, Option<Range<usize>>, &'static [&'static str]);

/// A key that is written, where, and the kinds that it belongs to.
type Written = (&'static str, Range<usize>, &'static [&'static str]);

fn written(raw: &RawKind<'_>) -> Vec<Written> {
    let keys: [Key; 26] = [
        ("path", span_of(&raw.path), PAGE),
        ("host", span_of(&raw.host), PAGE),
        ("status", span_of(&raw.status), PAGE),
        ("body", span_of(&raw.body), HTTP),
        ("body_regex", span_of(&raw.body_regex), HTTP),
        ("header", span_of(&raw.header), PAGE),
        ("value", span_of(&raw.value), PAGE),
        ("min", span_of(&raw.min), HTTP),
        ("max", span_of(&raw.max), HTTP),
        ("reuse", span_of(&raw.reuse), HTTP),
        ("tls", span_of(&raw.tls), TLS_OR_NOT),
        ("server_name", span_of(&raw.server_name), OVER_TLS),
        ("verify", span_of(&raw.verify), OVER_TLS),
        ("roots", span_of(&raw.roots), OVER_TLS),
        ("expiry_warning", span_of(&raw.expiry_warning), OVER_TLS),
        ("query", span_of(&raw.query), &["dns"]),
        ("type", span_of(&raw.rtype), &["dns"]),
        ("rcode", span_of(&raw.rcode), &["dns"]),
        ("answer", span_of(&raw.answer), &["dns"]),
        ("service", span_of(&raw.service), &["grpc"]),
        ("command", span_of(&raw.command), &["exec"]),
        ("lease", span_of(&raw.lease), &["external", "load"]),
        ("when", span_of(&raw.when), &["calculated"]),
        ("peer", span_of(&raw.peer), &["bfd"]),
        ("feeds", span_of(&raw.feeds), &["load"]),
        ("scale", span_of(&raw.scale), &["load"]),
    ];
    let there = keys
        .into_iter()
        .filter_map(|(key, span, kinds)| Some((key, span?, kinds)));
    there.collect()
}

/// Faults what means nothing to the kind.
fn misplaced(sink: &Sink<'_>, kind: &str, written: &[Written]) {
    for (key, span, kinds) in written.iter().filter(|(_, _, kinds)| !kinds.contains(&kind)) {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
        sink.conflict(
            span.clone(),
            format!("`{key}` means nothing to a check of kind {kind:?}"),
            format!("remove it, or write kind = {}", kinds.join(" or ")),
        );
    }
    let tls_off = TLS_OR_NOT.contains(&kind) && !written.iter().any(|(key, _, _)| *key == "tls");
    let needs_tls = |(key, _, kinds): &&Written| *kinds == OVER_TLS && *key != "tls";
    for (key, span, _) in written.iter().filter(|one| tls_off && needs_tls(one)) {
        sink.conflict(
            span.clone(),
            format!("`{key}` means nothing without TLS"),
            "remove it, or add `tls = true`",
        );
    }
}

fn http_path(sink: &Sink<'_>, field: Field<&str>) -> Result<String, Reported> {
    let Some(written) = field? else {
        return Ok("/".to_owned());
    };
    let path = *written.get_ref();
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(path.to_owned());
    }
    Err(sink.fault(
        written.span(),
        format!("`path` is {path:?}"),
        "start it with '/', and write other than visible ASCII as %XX",
    ))
}

fn http_host(sink: &Sink<'_>, field: Field<&str>) -> Result<Option<String>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let host = *written.get_ref();
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if !bare.contains(':') && port.parse::<u16>().is_ok() => bare,
        Some(_) | None => host,
    };
    let is_host = bare.parse::<Name>().is_ok() || host.parse::<IpAddr>().is_ok();
    if is_host || host.parse::<SocketAddr>().is_ok() {
        return Ok(Some(host.to_owned()));
    }
    Err(sink.fault(
        written.span(),
        format!("`host` is {host:?}, which cannot stand in a Host header"),
        "write a host name, for example \"www.example.com\"",
    ))
}

fn statuses(sink: &Sink<'_>, field: Field<OneOrMany<TextOrInt<'_>>>) -> Result<Vec<(u16, u16)>, Reported> {
    let Some(written) = field? else {
        return Ok(vec![(200, 299)]);
    };
    let (span, OneOrMany(list)) = (written.span(), written.into_inner());
    if list.is_empty() {
        return Err(sink.fault(
            span,
            "`status` is empty",
            "write at least one status, or leave it out",
        ));
    }
    all(list.into_iter().map(|one| status(sink, &one)).collect())
}

fn status(sink: &Sink<'_>, written: &Spanned<TextOrInt<'_>>) -> Result<(u16, u16), Reported> {
    let (shown, range) = match *written.get_ref() {
        TextOrInt::Int(status) => (
            status.to_string(),
            u16::try_from(status).ok().map(|one| (one, one)),
        ),
        TextOrInt::Text(text) => (format!("{text:?}"), status_range(text)),
    };
    match range {
        Some((low, high)) if 100 <= low && low <= high && high <= 599 => Ok((low, high)),
        Some(_) | None => Err(sink.fault(
            written.span(),
            format!("`status` is {shown}"),
            "write one status or a range within 100 to 599, for example 204 or \"200-299\"",
        )),
    }
}

fn status_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
}

fn body_rule(
    sink: &Sink<'_>,
    contains: Field<&str>,
    matches: Field<&str>,
) -> Result<Option<BodyRule>, Reported> {
    match (contains?, matches?) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(BodyRule::Contains((*text.get_ref()).to_owned()))),
        (None, Some(pattern)) => match regex::Regex::new(pattern.get_ref()) {
            Ok(_) => Ok(Some(BodyRule::Matches((*pattern.get_ref()).to_owned()))),
            Err(error) => Err(sink.fault(
                pattern.span(),
                format!(
                    "`body_regex` is {:?}, which is no regular expression: {}",
                    pattern.get_ref(),
                    last_line(&error)
                ),
                "write one without look-around and back-references, for example \"^ok$\"",
            )),
        },
        (Some(_), Some(pattern)) => Err(sink.conflict(
            pattern.span(),
            "`body` and `body_regex` are both written",
            "remove one of them",
        )),
    }
}

/// The parser of regular expressions draws a picture; the last line of it says what is wrong.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn header_rule(sink: &Sink<'_>, field: Field<&str>) -> Result<Option<(String, String)>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let text = *written.get_ref();
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    // RFC 9110 §5.6.2: a token.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_token) {
        return Ok(Some((name.to_ascii_lowercase(), value.trim().to_owned())));
    }
    Err(sink.fault(
        written.span(),
        format!("`header` is {text:?}"),
        "write a name, or a name and what its value must contain, for example \"x-ready: yes\"",
    ))
}

fn value_rule(
    sink: &Sink<'_>,
    value: Field<&str>,
    min: Field<Number>,
    max: Field<Number>,
) -> Result<Option<ValueRule>, Reported> {
    let limit_span = span_of(&min).or_else(|| span_of(&max));
    let at = value.and_then(|value| {
        value
            .map(|value| Ok((value.span(), value_at(sink, &value)?)))
            .transpose()
    });
    let (at, min, max) = (at?, min?, max?);
    let Some((span, at)) = at else {
        return match limit_span {
            None => Ok(None),
            Some(span) => Err(sink.conflict(
                span,
                "`min` and `max` are limits of `value`, which is not written",
                "add `value`, for example value = \"json:/load\"",
            )),
        };
    };
    let [min, max] = [min, max].map(|limit| limit.map(|limit| limit.get_ref().0));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(sink.conflict(
            span,
            format!("no `value` can be at least {min} and at most {max}"),
            "write a `min` that is not above `max`",
        ));
    }
    Ok(Some(ValueRule { at, min, max }))
}

/// What a number is multiplied by: units that differ, never a change of sign.
fn scale_of(sink: &Sink<'_>, field: Field<Number>) -> Result<f64, Reported> {
    let Some(written) = field? else { return Ok(1.0) };
    let scale = written.get_ref().0;
    if (1e-9..=1e9).contains(&scale) {
        return Ok(scale);
    }
    Err(sink.fault(
        written.span(),
        format!("`scale` is {}", sink.written(written.span())),
        "write a number above 0, from 1e-9 to 1e9",
    ))
}

fn value_at(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<ValueAt, Reported> {
    let text = *written.get_ref();
    let at = match text.split_once(':') {
        Some(("json", pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
            Some(ValueAt::Json(pointer.to_owned()))
        }
        Some(("prometheus", sample)) if !sample.is_empty() => Some(ValueAt::Prometheus(sample.to_owned())),
        Some(_) | None => None,
    };
    at.ok_or_else(|| {
        sink.fault(
            written.span(),
            format!("`value` is {text:?}"),
            "write a JSON pointer or a Prometheus sample, for example \"json:/queue/length\" or \"prometheus:node_load1\"",
        )
    })
}

fn tls_rules(
    cx: &Context<'_, '_>,
    server_name: Field<&str>,
    verify: Field<bool>,
    roots: Field<&str>,
    expiry_warning: Field<Duration>,
) -> Result<TlsRules, Reported> {
    let sink = cx.sink;
    let server_name = server_name.and_then(|written| {
        let Some(written) = written else { return Ok(None) };
        let text = *written.get_ref();
        if text.parse::<Name>().is_ok() || text.parse::<IpAddr>().is_ok() {
            return Ok(Some(text.to_owned()));
        }
        let message = format!("`server_name` is {text:?}, which no certificate can have");
        Err(sink.fault(written.span(), message, "write a host name or an IP address"))
    });
    let verify = values::flag(verify, true);
    let roots_span = span_of(&roots);
    let roots = roots.and_then(|roots| roots.map(|roots| cx.file("roots", &roots)).transpose());
    if let (Ok(false), Some(span)) = (verify, roots_span) {
        sink.conflict(
            span,
            "`roots` means nothing with `verify = false`",
            "remove one of them",
        );
    }
    let expiry_warning = values::duration(
        sink,
        "expiry_warning",
        expiry_warning,
        Duration::ZERO..=Duration::from_hours(24 * 365),
        Duration::from_hours(24 * 14),
    );
    Ok(TlsRules {
        server_name: server_name?,
        verify: verify?,
        roots: roots?,
        expiry_warning: expiry_warning?,
    })
}

const TYPES: [&str; 15] = [
    "A", "AAAA", "CAA", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA", "SRV", "SVCB",
    "TXT",
];

const RCODES: [&str; 6] = ["FORMERR", "NOERROR", "NOTIMP", "NXDOMAIN", "REFUSED", "SERVFAIL"];

fn dns_check(
    sink: &Sink<'_>,
    query: Field<&str>,
    rtype: Field<&str>,
    rcode: Field<&str>,
    answer: Field<&str>,
) -> Result<Option<DnsCheck>, Reported> {
    let query = query.and_then(|written| {
        let Some(written) = written else { return Ok(None) };
        let text = *written.get_ref();
        text.parse::<Name>().map(Some).map_err(|error| {
            let message = format!("`query` is {text:?}, which is no domain name: {error}");
            sink.fault(
                written.span(),
                message,
                "write a name, for example \"example.com\"",
            )
        })
    });
    let same = |word: &'static str| (word, word);
    let rtype = values::word(sink, "type", rtype, &TYPES.map(same), "A");
    let rcode = values::word(sink, "rcode", rcode, &RCODES.map(same), "NOERROR");
    let answer = answer.map(|answer| answer.map(|answer| (*answer.get_ref()).to_owned()));
    let (query, rtype, rcode, answer) = (query?, rtype?, rcode?, answer?);
    Ok(query.map(|query| DnsCheck {
        query,
        rtype: rtype.to_owned(),
        rcode: rcode.to_owned(),
        answer,
    }))
}

fn command_line(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Option<Vec<String>>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let (span, OneOrMany(words)) = (written.span(), written.into_inner());
    let words: Vec<String> = words.iter().map(|word| (*word.get_ref()).to_owned()).collect();
    let is_program = words.first().is_some_and(|program| program.starts_with('/'));
    if is_program && !words.iter().any(|word| word.contains('\0')) {
        return Ok(Some(words));
    }
    Err(sink.fault(
        span,
        format!("`command` is {words:?}"),
        "write the absolute path of a program and its arguments, each a string of its own; there is no shell",
    ))
}
