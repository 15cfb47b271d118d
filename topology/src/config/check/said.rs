//! `target`, `priority` and `text` of an endpoint: what it says in records other than its address.

use toml::Spanned;

use super::values;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::{Name, Said};

/// RFC 1035 §3.3: a character-string has at most 255 octets.
const MAX_STRING: usize = 255;

/// More does not fit into a reply over UDP, and nobody reads it.
const MAX_STRINGS: usize = 64;

pub(super) fn said(
    sink: &Sink<'_>,
    target: Field<&str>,
    priority: Field<i128>,
    text: Field<OneOrMany<&str>>,
) -> Result<Said, Reported> {
    let target = target.and_then(|target| target.map(|written| host(sink, "target", &written)).transpose());
    // RFC 9460 §2.4.1: 0 would make an alias of a service binding.
    let priority = values::optional_int(sink, "priority", priority, 1..=u16::MAX);
    let text = strings(sink, text);
    Ok(Said {
        target: target?,
        priority: priority?,
        text: text?,
    })
}

fn host(sink: &Sink<'_>, key: &str, written: &Spanned<&str>) -> Result<Name, Reported> {
    let text = *written.get_ref();
    let remedy = "write the name of a host, for example \"fra.example.com\"";
    let wrong = |what: String| sink.fault(written.span(), format!("`{key}` is {text:?}{what}"), remedy);
    let name: Name = text
        .parse()
        .map_err(|invalid: crate::name::InvalidName| wrong(format!(": {invalid}")))?;
    if name.as_str() == "." || name.as_str().starts_with('*') {
        return Err(wrong(", which is no host".to_owned()));
    }
    Ok(name)
}

fn strings(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Vec<String>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let span = written.span();
    let strings = written.into_inner().0;
    if strings.is_empty() || strings.len() > MAX_STRINGS {
        return Err(sink.fault(
            span,
            format!("`text` has {} strings", strings.len()),
            format!("write one string, or a list of 1 to {MAX_STRINGS}"),
        ));
    }
    let one = |written: &Spanned<&str>| {
        let text = *written.get_ref();
        if text.len() <= MAX_STRING {
            return Ok(text.to_owned());
        }
        Err(sink.fault(
            written.span(),
            format!("`text` has a string of {} octets", text.len()),
            format!("split it into a list of strings of at most {MAX_STRING} octets (RFC 1035 §3.3)"),
        ))
    };
    all(strings.iter().map(one).collect())
}
