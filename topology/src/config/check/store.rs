//! `[fleet] store` and `[fleet] etcd`.

use std::path::PathBuf;

use super::context::Context;
use crate::config::raw::{Maybe, RawEtcd};
use crate::config::read::Field;
use crate::config::sink::Reported;
use crate::{EtcdStore, EtcdTls, StorePlace};

/// Where etcd listens for its clients when it is not told otherwise.
const DEFAULT_PORT: u16 = 2379;

/// As many as anybody runs in one cluster, and some.
const MEMBERS_MAX: usize = 15;

const REMEDY: &str = "write \"embedded:\" and the path of a file, for example \"embedded:state/steer.redb\", or \
                      \"etcd://\" and the members of a cluster, for example \"etcd://10.0.0.1:2379,10.0.0.2:2379\"";

/// What `store` names; the file of `embedded:` may be new, since the first wish makes it.
pub(super) fn place(
    cx: &Context<'_, '_>,
    store: Field<&str>,
    etcd: Maybe<RawEtcd<'_>>,
    fleet: &str,
) -> Result<Option<StorePlace>, Reported> {
    let (store, etcd) = (store?, etcd?);
    let span = etcd.as_ref().map(|etcd| etcd.span.clone());
    let alone = |span: Option<std::ops::Range<usize>>| match span {
        Some(span) => Err(cx.sink.conflict(
            span,
            "`etcd` without a `store` that is one: nobody would ask it",
            "write `store = \"etcd://HOST:PORT\"` in [fleet], or remove `etcd`",
        )),
        None => Ok(()),
    };
    let Some(store) = store else {
        return alone(span).map(|()| None);
    };
    let text = *store.get_ref();
    if let Some(path) = text.strip_prefix("embedded:").filter(|path| !path.is_empty()) {
        return alone(span).map(|()| Some(StorePlace::Embedded(cx.path(path))));
    }
    let (list, is_tls) = match (text.strip_prefix("etcd://"), text.strip_prefix("etcds://")) {
        (Some(list), _) => (list, false),
        (None, Some(list)) => (list, true),
        (None, None) => {
            return Err(cx
                .sink
                .fault(store.span(), format!("`store` is {text:?}"), REMEDY));
        }
    };
    let members: Result<Vec<_>, _> = list.split(',').map(member).collect();
    let members = match members {
        Ok(members) if members.len() <= MEMBERS_MAX => members,
        Ok(members) => {
            let message = format!("`store` names {} members", members.len());
            return Err(cx
                .sink
                .fault(store.span(), message, "write at most 15; a cluster has 3 or 5"));
        }
        Err(wrong) => {
            let message = format!("`store` has {wrong:?} among its members");
            return Err(cx.sink.fault(store.span(), message, REMEDY));
        }
    };
    let Some(raw) = etcd else {
        return Err(cx.sink.conflict(
            store.span(),
            "`store` is an etcd cluster, and no file keeps what it said",
            "add `etcd = { cache = \"state/etcd.redb\" }` to [fleet]: steer starts from it when the cluster is away",
        ));
    };
    cluster(cx, raw, members, is_tls, fleet).map(|etcd| Some(StorePlace::Etcd(Box::new(etcd))))
}

/// `HOST:PORT` or `HOST`, or what is wrong.
fn member(text: &str) -> Result<String, &str> {
    let is_bare_v6 = text.starts_with('[') && text.ends_with(']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 => (host, port.parse::<u16>().map_err(|_| text)?),
        Some(_) | None => (text, DEFAULT_PORT),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        }
    };
    if is_host && port != 0 {
        Ok(format!("{host}:{port}"))
    } else {
        Err(text)
    }
}

fn cluster(
    cx: &Context<'_, '_>,
    raw: RawEtcd<'_>,
    members: Vec<String>,
    is_tls: bool,
    fleet: &str,
) -> Result<EtcdStore, Reported> {
    let RawEtcd {
        span,
        cache,
        prefix,
        ca_file,
        cert_file,
        key_file,
        user,
        password_file,
    } = raw;
    let file = |key, field: Field<&str>| -> Result<Option<PathBuf>, Reported> {
        field?.map(|written| cx.file(key, &written)).transpose()
    };
    let cache = cache.map(|cache| cx.path(cache.get_ref()));
    let prefix = prefix.and_then(|prefix| match prefix {
        None => Ok(format!("/steer/{fleet}/")),
        Some(written) => match *written.get_ref() {
            text if text.ends_with('/') && text.len() <= 200 => Ok(text.to_owned()),
            text => Err(cx.sink.fault(
                written.span(),
                format!("`prefix` is {text:?}"),
                "write at most 200 octets that end with \"/\", for example \"/steer/\"",
            )),
        },
    });
    let ca_file = file("ca_file", ca_file);
    let (cert, key) = (file("cert_file", cert_file), file("key_file", key_file));
    let user = user.map(|user| user.map(|user| (*user.get_ref()).to_owned()));
    let password = file("password_file", password_file);
    let (cache, prefix, ca_file) = (cache?, prefix?, ca_file?);
    let conflict = |message, remedy| Err(cx.sink.conflict(span.clone(), message, remedy));
    let client = match (cert?, key?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return conflict(
                "`cert_file` and `key_file` belong together, and one is missing",
                "write both or none",
            );
        }
    };
    let user = match (user?, password?) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return conflict(
                "`user` and `password_file` belong together, and one is missing",
                "write both or none",
            );
        }
    };
    if !is_tls && (ca_file.is_some() || client.is_some()) {
        return conflict(
            "certificates, and a `store` without TLS",
            "write `store = \"etcds://..\"`, or remove `ca_file`, `cert_file` and `key_file`",
        );
    }
    Ok(EtcdStore {
        members,
        tls: is_tls.then_some(EtcdTls { ca_file, client }),
        user,
        prefix,
        cache,
    })
}

#[cfg(test)]
mod tests {
    use super::member;

    #[test]
    fn a_member_has_a_host_and_etcds_port_unless_it_says_another() {
        let rows = [
            ("10.0.0.1", Ok("10.0.0.1:2379")),
            ("10.0.0.1:1", Ok("10.0.0.1:1")),
            ("etcd-1.example", Ok("etcd-1.example:2379")),
            ("[2001:db8::1]", Ok("[2001:db8::1]:2379")),
            ("[2001:db8::1]:7", Ok("[2001:db8::1]:7")),
            ("2001:db8::1", Err("2001:db8::1")),
            ("", Err("")),
            (":2379", Err(":2379")),
            ("host:", Err("host:")),
            ("host:0", Err("host:0")),
            ("user@host", Err("user@host")),
            ("host:1/path", Err("host:1/path")),
        ];
        for (text, want) in rows {
            assert_eq!(member(text), want.map(str::to_owned), "{text}");
        }
    }
}
