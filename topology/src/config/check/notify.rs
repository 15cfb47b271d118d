//! `[[notify]]`

use toml::Spanned;

use super::context::Context;
use super::names::Names;
use super::values;
use crate::config::raw::{RawEmail, RawNotify, RawWebhook};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::did_you_mean;
use crate::{EventKind, HookUrl, MailTls, Mailing, Name, Notify, NotifyTo, SiteId};

/// As many as anybody has, and some.
const RECIPIENTS_MAX: usize = 100;

pub(super) fn channels(cx: &Context<'_, '_>, raw: List<RawNotify<'_>>) -> Result<Vec<Notify>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    Names::gather(cx.sink, "notify", whole, items.iter().map(|raw| &raw.name));
    let channels = all(items.into_iter().map(|raw| channel(cx, raw)).collect());
    whole?;
    channels
}

fn channel(cx: &Context<'_, '_>, raw: RawNotify<'_>) -> Result<Notify, Reported> {
    let RawNotify {
        span,
        name,
        webhook,
        email,
        events,
        sites,
        per_minute,
        tries,
    } = raw;
    let name = values::label(cx.sink, name);
    let webhook = webhook.and_then(|raw| raw.map(|raw| self::webhook(cx, raw)).transpose());
    let email = email.and_then(|raw| raw.map(|raw| mailing(cx, raw)).transpose());
    let events = kinds(cx.sink, events);
    let sites = self::sites(cx, sites);
    let per_minute = values::int(cx.sink, "per_minute", per_minute, 1..=60_000_u32, 60);
    let tries = values::int(cx.sink, "tries", tries, 1..=10_000_u32, 60);
    let to = match (webhook?, email?) {
        (Some(to), None) => to,
        (None, Some(mailing)) => NotifyTo::Email(Box::new(mailing)),
        (Some(_), Some(_)) => {
            return Err(cx.sink.conflict(
                span,
                "[[notify]] has both `webhook` and `email`",
                "write two [[notify]], so that each has its own rate and what waits for it",
            ));
        }
        (None, None) => {
            return Err(cx.sink.conflict(
                span,
                "[[notify]] has neither `webhook` nor `email`: nobody would be told",
                "add for example `webhook = { url = \"https://example.net/hook\", secret_file = \"hook.secret\" }`",
            ));
        }
    };
    Ok(Notify {
        name: name?,
        to,
        events: events?,
        sites: sites?,
        per_minute: per_minute?,
        tries: tries?,
    })
}

fn kinds(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Vec<EventKind>, Reported> {
    let Some(written) = field? else {
        return Ok(EventKind::ALL.to_vec());
    };
    let kinds = written.get_ref().0.iter().map(|word| {
        let text = *word.get_ref();
        let found = EventKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            let known = EventKind::ALL.into_iter().map(EventKind::as_str);
            sink.fault(
                word.span(),
                format!("`events` has {text:?}"),
                did_you_mean(text, known, "write some of"),
            )
        })
    });
    let mut kinds = all(kinds.collect())?;
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return Err(sink.fault(
            written.span(),
            "`events` is empty: nothing would be told",
            "name at least one, or leave it out for all",
        ));
    }
    Ok(kinds)
}

fn sites(cx: &Context<'_, '_>, field: Field<OneOrMany<&str>>) -> Result<Vec<SiteId>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let mut sites = all(written.get_ref().0.iter().map(|name| cx.site(name)).collect())?;
    sites.sort_unstable();
    sites.dedup();
    if sites.is_empty() {
        return Err(cx.sink.fault(
            written.span(),
            "`sites` is empty: nobody would tell",
            "name at least one, or leave it out for all",
        ));
    }
    Ok(sites)
}

fn webhook(cx: &Context<'_, '_>, raw: RawWebhook<'_>) -> Result<NotifyTo, Reported> {
    let RawWebhook { url, secret_file } = raw;
    let url = url.and_then(|written| {
        let text = *written.get_ref();
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        let is_url = host.is_some_and(|host| !host.is_empty())
            && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
        if is_url {
            return Ok(HookUrl(text.to_owned()));
        }
        Err(cx.sink.fault(
            written.span(),
            "`url` is no URL of http or https",
            "write \"https://HOST/PATH\"",
        ))
    });
    let secret_file = secret_file.and_then(|file| cx.file("secret_file", &file));
    Ok(NotifyTo::Webhook {
        url: url?,
        secret_file: secret_file?,
    })
}

fn mailing(cx: &Context<'_, '_>, raw: RawEmail<'_>) -> Result<Mailing, Reported> {
    let RawEmail {
        span,
        server,
        tls,
        ca_file,
        user,
        password_file,
        from,
        to,
    } = raw;
    let words = [
        ("starttls", MailTls::Starttls),
        ("implicit", MailTls::Implicit),
        ("none", MailTls::None),
    ];
    let tls = values::word(cx.sink, "tls", tls, &words, MailTls::Starttls);
    let port = tls.as_ref().map_or(0, |tls| tls.port());
    let server = server.and_then(|written| self::server(cx.sink, &written, port));
    let ca_file = ca_file.and_then(|file| file.map(|file| cx.file("ca_file", &file)).transpose());
    let user = user.map(|user| user.map(|user| (*user.get_ref()).to_owned()));
    let password =
        password_file.and_then(|file| file.map(|file| cx.file("password_file", &file)).transpose());
    let from = from.and_then(|from| address(cx.sink, "from", &from));
    let to = to.and_then(|to| recipients(cx.sink, &to));
    let (tls, ca_file) = (tls?, ca_file?);
    let conflict = |message, remedy| Err(cx.sink.conflict(span.clone(), message, remedy));
    let user = values::both_or_none(
        cx.sink,
        span.clone(),
        ["user", "password_file"],
        (user?, password?),
    )?;
    if tls == MailTls::None && user.is_some() {
        return conflict(
            "`user` with `tls = \"none\"`: the password would go over the network as it is",
            "write `tls = \"starttls\"` or \"implicit\", or remove `user` and `password_file`",
        );
    }
    if tls == MailTls::None && ca_file.is_some() {
        return conflict(
            "`ca_file` with `tls = \"none\"`: no certificate would be looked at",
            "write `tls = \"starttls\"` or \"implicit\", or remove `ca_file`",
        );
    }
    let (host, port) = server?;
    Ok(Mailing {
        host,
        port,
        tls,
        ca_file,
        user,
        from: from?,
        to: to?,
    })
}

/// `HOST` or `HOST:PORT`; an IPv6 address stands in brackets.
fn server(sink: &Sink<'_>, written: &Spanned<&str>, default: u16) -> Result<(String, u16), Reported> {
    let text = *written.get_ref();
    let wrong = || {
        sink.fault(
            written.span(),
            format!("`server` is {text:?}"),
            "write HOST or HOST:PORT, for example \"mail.example.com:587\" or \"[2001:db8::25]:25\"",
        )
    };
    let is_bare_v6 = text.starts_with('[') && text.ends_with(']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 => (host, port.parse::<u16>().map_err(|_| wrong())?),
        Some(_) | None => (text, default),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.contains('*') && host.parse::<Name>().is_ok(),
    };
    // Where the default is 0 `tls` has been faulted.
    if !is_host || (port == 0 && default != 0) {
        return Err(wrong());
    }
    Ok((inner.unwrap_or(host).to_owned(), port))
}

fn recipients(sink: &Sink<'_>, to: &Spanned<OneOrMany<&str>>) -> Result<Vec<String>, Reported> {
    let OneOrMany(list) = to.get_ref();
    let addresses = all(list.iter().map(|one| address(sink, "to", one)).collect())?;
    if (1..=RECIPIENTS_MAX).contains(&addresses.len()) {
        return Ok(addresses);
    }
    Err(sink.fault(
        to.span(),
        format!("`to` has {} addresses", addresses.len()),
        format!("write 1 to {RECIPIENTS_MAX}; a mailing list takes more"),
    ))
}

/// `LOCAL@DOMAIN` in ASCII, without quotes (RFC 5321 §4.1.2, the dot-string).
fn address(sink: &Sink<'_>, key: &str, written: &Spanned<&str>) -> Result<String, Reported> {
    let text = *written.get_ref();
    let is_atom = |atom: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~-".contains(c);
        !atom.is_empty() && atom.chars().all(fits)
    };
    let is_domain = |domain: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        domain.chars().all(fits) && domain.parse::<Name>().is_ok() && !domain.ends_with('.')
    };
    let is_address = text.split_once('@').is_some_and(|(local, domain)| {
        local.len() <= 64 && local.split('.').all(is_atom) && is_domain(domain)
    });
    if is_address {
        return Ok(text.to_owned());
    }
    Err(sink.fault(
        written.span(),
        format!("`{key}` has {text:?}, which is no mail address"),
        "write it bare, for example \"noc@example.com\"",
    ))
}
