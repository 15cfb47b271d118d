//! `[fleet] store` and `[fleet] etcd`.

use std::path::PathBuf;

use super::context::Context;
use super::values;
use crate::config::raw::{Maybe, RawEtcd};
use crate::config::read::Field;
use crate::config::sink::Reported;
use crate::{EtcdCluster, EtcdStore, EtcdTls, EtcdUrl, InvalidEtcdUrl, StorePlace};

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
    let EtcdUrl { members, is_tls } = match EtcdUrl::parse(text) {
        Ok(url) => url,
        Err(wrong) => {
            let (message, remedy) = match wrong {
                InvalidEtcdUrl::Scheme => (format!("`store` is {text:?}"), REMEDY),
                InvalidEtcdUrl::Member(wrong) => (format!("`store` has {wrong:?} among its members"), REMEDY),
                InvalidEtcdUrl::TooMany(count) => (
                    format!("`store` names {count} members"),
                    "write at most 15; a cluster has 3 or 5",
                ),
            };
            return Err(cx.sink.fault(store.span(), message, remedy));
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
    let client = values::both_or_none(cx.sink, span.clone(), ["cert_file", "key_file"], (cert?, key?))?;
    let user = values::both_or_none(
        cx.sink,
        span.clone(),
        ["user", "password_file"],
        (user?, password?),
    )?;
    if !is_tls && (ca_file.is_some() || client.is_some()) {
        return conflict(
            "certificates, and a `store` without TLS",
            "write `store = \"etcds://..\"`, or remove `ca_file`, `cert_file` and `key_file`",
        );
    }
    Ok(EtcdStore {
        cluster: EtcdCluster {
            members,
            tls: is_tls.then_some(EtcdTls { ca_file, client }),
            user,
        },
        prefix,
        cache,
    })
}
