//! `type`, `target` and `alpn` of a steered name, and whether its pool can say what they ask for.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use toml::Spanned;

use super::super::context::Context;
use super::super::health::Draft;
use crate::config::check::values::span_of;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::did_you_mean;
use crate::{AllDown, Binding, BindingTarget, Endpoint, Kind, Kinds, Name, PoolId, Steer};

/// Default: addresses.
pub(super) fn kinds(sink: &Sink<'_>, field: &Field<OneOrMany<&str>>) -> Result<Kinds, Reported> {
    let Some(written) = field.as_ref().map_err(|reported| *reported)? else {
        return Ok(Kinds::NONE.with(Kind::Address));
    };
    let words = &written.get_ref().0;
    let kinds: Kinds = all(words.iter().map(|word| kind(sink, word)).collect())?
        .into_iter()
        .collect();
    if kinds.is_empty() {
        return Err(sink.fault(
            written.span(),
            "`type` is an empty list",
            "write for example \"address\", or remove the key",
        ));
    }
    if kinds.has(Kind::Cname) && kinds != Kinds::NONE.with(Kind::Cname) {
        return Err(sink.conflict(
            written.span(),
            "`type` has `cname` beside other types",
            "write \"cname\" alone (RFC 1034 §3.6.2: a CNAME stands alone at its name)",
        ));
    }
    Ok(kinds)
}

fn kind(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<Kind, Reported> {
    let word = *written.get_ref();
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| {
            let remedy = match word.to_ascii_lowercase().as_str() {
                "a" | "aaaa" => "write \"address\", which is A and AAAA".to_owned(),
                lower => did_you_mean(lower, Kind::ALL.map(Kind::as_str), "the types are"),
            };
            sink.fault(written.span(), format!("`type` has {word:?}"), remedy)
        })
}

/// `kinds` is `None` where it was faulted.
pub(super) fn binding(
    sink: &Sink<'_>,
    kinds: Option<Kinds>,
    target: Field<&str>,
    alpn: Field<OneOrMany<&str>>,
) -> Result<Binding, Reported> {
    let written = [("target", span_of(&target)), ("alpn", span_of(&alpn))];
    if kinds.is_some_and(|kinds| !kinds.iter().any(Kind::is_binding)) {
        for (key, span) in written {
            if let Some(span) = span {
                let message = format!("`{key}` belongs to service bindings, and `type` has none");
                sink.conflict(span, message, "remove it, or add \"https\" or \"svcb\" to `type`");
            }
        }
        return Ok(Binding::default());
    }
    let target = binding_target(sink, target);
    let alpn = protocols(sink, alpn);
    Ok(Binding {
        target: target?,
        alpn: alpn?,
    })
}

fn binding_target(sink: &Sink<'_>, field: Field<&str>) -> Result<BindingTarget, Reported> {
    let Some(written) = field? else {
        return Ok(BindingTarget::Itself);
    };
    match *written.get_ref() {
        "itself" => Ok(BindingTarget::Itself),
        "endpoint" => Ok(BindingTarget::Endpoint),
        other => Err(sink.fault(
            written.span(),
            format!("`target` is {other:?}"),
            "write \"itself\", or \"endpoint\" for the `target` of each endpoint",
        )),
    }
}

/// RFC 9460 §7.1.1: a list of ids of 1 to 255 octets. Commas and backslashes would need escapes in zone files.
fn protocols(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Vec<String>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let span = written.span();
    let ids = written.into_inner().0;
    if ids.is_empty() || ids.len() > 16 {
        return Err(sink.fault(
            span,
            format!("`alpn` has {} protocols", ids.len()),
            "write 1 to 16, for example [\"h2\", \"h3\"], or remove the key",
        ));
    }
    let mut seen = BTreeSet::new();
    let one = |written: &Spanned<&str>| {
        let id = *written.get_ref();
        let fits = |octet: u8| octet.is_ascii_graphic() && octet != b',' && octet != b'\\';
        if id.is_empty() || id.len() > 255 || !id.bytes().all(fits) {
            return Err(sink.fault(
                written.span(),
                format!("`alpn` has {id:?}, which is no protocol id"),
                "write an id such as \"h2\" or \"h3\"",
            ));
        }
        if !seen.insert(id.to_owned()) {
            return Err(sink.fault(
                written.span(),
                format!("`alpn` has {id:?} twice"),
                "remove one of them",
            ));
        }
        Ok(id.to_owned())
    };
    all(ids.iter().map(one).collect())
}

/// What was declared at each name.
#[derive(Default)]
pub(super) struct Declared(HashMap<Name, Vec<(Kinds, usize)>>);

impl Declared {
    /// Each type once at a name, and a CNAME alone and not at the apex.
    pub(super) fn take(
        &mut self,
        sink: &Sink<'_>,
        span: Range<usize>,
        name: &Name,
        kinds: Kinds,
    ) -> Result<(), Reported> {
        let entries = self.0.entry(name.clone()).or_default();
        let line = sink.line(span.start);
        let twice = entries.iter().find_map(|(other, line)| {
            let kind = kinds.iter().find(|kind| other.has(*kind))?;
            Some((kind, *line))
        });
        let cname = |kinds: Kinds| kinds.has(Kind::Cname);
        let beside = entries
            .iter()
            .find(|(other, _)| cname(*other) != cname(kinds))
            .map(|(_, line)| *line);
        entries.push((kinds, line));
        let (message, remedy) = match (twice, beside) {
            (Some((Kind::Address, first)), _) => (
                format!("steered name `{name}` is declared twice, first in line {first}"),
                "remove one of them",
            ),
            (Some((kind, first)), _) => (
                format!("steered name `{name}` is declared twice for type `{kind}`, first in line {first}"),
                "remove one of them, or that type from one of them",
            ),
            (None, Some(other)) => (
                format!("steered name `{name}` has type `cname` beside other types, in line {other}"),
                "remove one of them (RFC 1034 §3.6.2: a CNAME stands alone at its name)",
            ),
            (None, None) => return Ok(()),
        };
        Err(sink.conflict(span, message, remedy))
    }
}

/// RFC 1034 §3.6.2: the apex has SOA and NS.
pub(super) fn not_at_the_apex(
    sink: &Sink<'_>,
    span: Range<usize>,
    name: &Name,
    kinds: Kinds,
    is_apex: bool,
) -> Result<(), Reported> {
    if !kinds.has(Kind::Cname) || !is_apex {
        return Ok(());
    }
    Err(sink.conflict(
        span,
        format!("`{name}` has type `cname`, and is the apex of its zone, where SOA and NS stand"),
        "write type = \"address\": addresses work at the apex, a CNAME does not (RFC 1034 §3.6.2)",
    ))
}

/// The pools of the file, as far as they are known.
#[derive(Clone, Copy)]
pub(in crate::config::check) struct Pools<'p> {
    pub(in crate::config::check) drafts: &'p [Result<Draft, Reported>],
    /// By pool: it and all in it.
    pub(in crate::config::check) nests: &'p Result<Vec<Vec<usize>>, Reported>,
}

impl<'p> Pools<'p> {
    /// The endpoints of a pool and of those in it, with the names of their pools.
    fn members(self, pool: PoolId) -> Vec<(&'p str, &'p Endpoint)> {
        let nest = self
            .nests
            .as_ref()
            .ok()
            .and_then(|nests| nests.get(pool.0 as usize));
        let drafts = nest
            .into_iter()
            .flatten()
            .filter_map(|pool| self.drafts.get(*pool));
        drafts
            .filter_map(|draft| draft.as_ref().ok())
            .flat_map(|(pool, endpoints)| endpoints.iter().map(|endpoint| (pool.name.as_str(), endpoint)))
            .collect()
    }
}

/// Whether the endpoints have what the records need. `span`: where the pool is named.
pub(super) fn pool_fits(
    cx: &Context<'_, '_>,
    span: &Range<usize>,
    steer: &Steer,
    pools: Pools<'_>,
) -> Result<(), Reported> {
    let mut members = pools.members(steer.pool);
    if let AllDown::Pool(fallback) = steer.if_all_down {
        members.extend(pools.members(fallback));
    }
    let mut outcome = Ok(());
    for kind in steer.kinds.iter() {
        let fits = match kind {
            Kind::Address => Ok(()),
            Kind::Https | Kind::Svcb if steer.binding.target == BindingTarget::Itself => {
                one_port(cx, span, steer, kind, &members)
            }
            Kind::Https | Kind::Svcb | Kind::Cname | Kind::Mx | Kind::Srv => {
                named(cx, span, steer, kind, &members)
            }
            Kind::Txt => texts(cx, span, &members),
        };
        outcome = outcome.and(fits);
    }
    outcome
}

/// A binding that names its own name leads to all of its addresses, and says one port for them.
fn one_port(
    cx: &Context<'_, '_>,
    span: &Range<usize>,
    steer: &Steer,
    kind: Kind,
    members: &[(&str, &Endpoint)],
) -> Result<(), Reported> {
    if !steer.kinds.has(Kind::Address) {
        return Err(cx.sink.conflict(
            span.clone(),
            format!(
                "type `{kind}` of `{}` names its own name, whose addresses this entry does not decide",
                steer.name
            ),
            "add \"address\" to `type`, or write target = \"endpoint\"",
        ));
    }
    let ports: BTreeSet<u16> = members
        .iter()
        .map(|(_, endpoint)| endpoint.address.port())
        .collect();
    let mut ports = ports.into_iter();
    match (ports.next(), ports.next()) {
        (Some(one), Some(other)) => Err(cx.sink.conflict(
            span.clone(),
            format!("type `{kind}` says one port, but the endpoints of the pool have {one} and {other}"),
            "give all endpoints one port, or write target = \"endpoint\" and a `target` for each endpoint",
        )),
        (_, _) => Ok(()),
    }
}

fn named(
    cx: &Context<'_, '_>,
    span: &Range<usize>,
    steer: &Steer,
    kind: Kind,
    members: &[(&str, &Endpoint)],
) -> Result<(), Reported> {
    for (pool, endpoint) in members {
        let address = endpoint.address;
        match endpoint.target() {
            None => {
                return Err(cx.sink.conflict(
                    span.clone(),
                    format!("type `{kind}` needs names, but endpoint {address} of pool `{pool}` has none"),
                    "add for example target = \"fra.example.com\" to it, or write HOST:PORT as its `address`",
                ));
            }
            Some(target) if target == steer.name && kind == Kind::Cname => {
                return Err(cx.sink.conflict(
                    span.clone(),
                    format!("endpoint {address} of pool `{pool}` makes `{target}` an alias of itself"),
                    "write another `target`",
                ));
            }
            Some(_) => {}
        }
        if kind == Kind::Srv && endpoint.weight > u32::from(u16::MAX) {
            return Err(cx.sink.conflict(
                span.clone(),
                format!(
                    "type `srv` carries weights up to 65535, but endpoint {address} of pool `{pool}` has {}",
                    endpoint.weight
                ),
                "write smaller weights (RFC 2782)",
            ));
        }
    }
    Ok(())
}

fn texts(cx: &Context<'_, '_>, span: &Range<usize>, members: &[(&str, &Endpoint)]) -> Result<(), Reported> {
    match members.iter().find(|(_, endpoint)| endpoint.said.text.is_empty()) {
        None => Ok(()),
        Some((pool, endpoint)) => Err(cx.sink.conflict(
            span.clone(),
            format!(
                "type `txt` needs `text`, but endpoint {} of pool `{pool}` has none",
                endpoint.address
            ),
            "add for example text = \"v=1\" to it",
        )),
    }
}
