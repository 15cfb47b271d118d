//! Checks of single values, shared by all tables.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use jiff::SignedDuration;
use toml::Spanned;

use crate::config::raw::Needed;
use crate::config::read::Field;
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::did_you_mean;
use crate::{Asn, Bias};

/// A whole number within `range`, or the default.
pub(super) fn int<T>(
    sink: &Sink<'_>,
    key: &str,
    field: Field<i128>,
    range: RangeInclusive<T>,
    default: T,
) -> Result<T, Reported>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    let Some(written) = field? else { return Ok(default) };
    let value = *written.get_ref();
    let (low, high) = (range.start(), range.end());
    match T::try_from(value) {
        Ok(value) if range.contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(sink.fault(
            written.span(),
            format!("`{key}` is {}", sink.written(written.span())),
            format!("write a number from {low} to {high}"),
        )),
    }
}

/// A whole number within `range`, or nothing.
pub(super) fn optional_int<T>(
    sink: &Sink<'_>,
    key: &str,
    field: Field<i128>,
    range: RangeInclusive<T>,
) -> Result<Option<T>, Reported>
where
    T: TryFrom<i128> + PartialOrd + Display + Copy,
{
    let written = matches!(field, Ok(Some(_)));
    let default = *range.start();
    let value = int(sink, key, field, range, default)?;
    Ok(written.then_some(value))
}

/// Where a value stands, if one was written and read.
pub(super) fn span_of<T>(field: &Field<T>) -> Option<Range<usize>> {
    field
        .as_ref()
        .ok()
        .and_then(|value| value.as_ref().map(Spanned::span))
}

/// One of a few words, or the default.
pub(super) fn word<T: Copy>(
    sink: &Sink<'_>,
    key: &str,
    field: Field<&str>,
    words: &[(&'static str, T)],
    default: T,
) -> Result<T, Reported> {
    let Some(written) = field? else { return Ok(default) };
    let text = *written.get_ref();
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known = words.iter().map(|(word, _)| *word);
        sink.fault(
            written.span(),
            format!("`{key}` is {text:?}"),
            did_you_mean(text, known, "write one of"),
        )
    })
}

/// Two keys that stand together or not at all.
pub(super) fn both_or_none<A, B>(
    sink: &Sink<'_>,
    span: Range<usize>,
    keys: [&str; 2],
    values: (Option<A>, Option<B>),
) -> Result<Option<(A, B)>, Reported> {
    let [one, other] = keys;
    match values {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(sink.conflict(
            span,
            format!("`{one}` and `{other}` belong together, and one is missing"),
            "write both or none",
        )),
    }
}

/// True or false, or the default.
pub(super) fn flag(field: Field<bool>, default: bool) -> Result<bool, Reported> {
    Ok(field?.map_or(default, |written| *written.get_ref()))
}

/// A duration within `range`, or the default.
pub(super) fn duration(
    sink: &Sink<'_>,
    key: &str,
    field: Field<Duration>,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> Result<Duration, Reported> {
    let Some(written) = field? else { return Ok(default) };
    let value = *written.get_ref();
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (show(*range.start()), show(*range.end()));
    Err(sink.fault(
        written.span(),
        format!("`{key}` is {}", sink.written(written.span())),
        format!("write a duration from {low} to {high}"),
    ))
}

/// A duration that goes on the wire in seconds.
pub(super) fn whole_seconds(
    sink: &Sink<'_>,
    key: &str,
    span: Range<usize>,
    value: Duration,
) -> Result<Duration, Reported> {
    if value.subsec_nanos() == 0 {
        return Ok(value);
    }
    let seconds = value.as_secs();
    let written = sink.written(span.clone());
    Err(sink.fault(
        span,
        format!("`{key}` is {written}, which is not a whole number of seconds"),
        format!("write \"{seconds}s\" or \"{}s\"", seconds.saturating_add(1)),
    ))
}

/// `"500 km"` or `"-10 %"`.
pub(super) fn bias(sink: &Sink<'_>, field: Field<&str>) -> Result<Bias, Reported> {
    let Some(written) = field? else {
        return Ok(Bias::NONE);
    };
    let text = *written.get_ref();
    let number = |unit| text.strip_suffix(unit)?.trim_end().parse::<f64>().ok();
    let bias = match (number("km"), number("%")) {
        // Half of the Earth's circumference is as far as anything can be.
        (Some(km), _) if km.abs() <= 20_000.0 => Some(Bias::Km(km)),
        (_, Some(percent)) if (-900.0..=90.0).contains(&percent) => Some(Bias::Percent(percent)),
        (Some(_) | None, Some(_) | None) => None,
    };
    bias.ok_or_else(|| {
        sink.fault(
            written.span(),
            format!("`bias` is {text:?}"),
            "write kilometres from -20000 to 20000 or a percentage from -900 to 90, for example \"500 km\" or \"-10 %\"",
        )
    })
}

/// "1m 30s"
pub(super) fn show(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// The name of a check or pool: conditions write it between `pool:` and `@`.
pub(super) fn label(sink: &Sink<'_>, name: Needed<&str>) -> Result<String, Reported> {
    let name = name?;
    let text = *name.get_ref();
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(sink.fault(
        name.span(),
        format!("`name` is {text:?}"),
        "write at least one character, and only letters, digits, '-', '_' and '.'",
    ))
}

/// `IP:PORT`; port 0 lets the kernel choose.
pub(super) fn listen(sink: &Sink<'_>, key: &str, written: &Spanned<&str>) -> Result<SocketAddr, Reported> {
    let text = *written.get_ref();
    text.parse().map_err(|_| {
        let remedy = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => format!("write a port too, for example \"{ip}:53\""),
            Ok(IpAddr::V6(ip)) => format!("write brackets and a port, for example \"[{ip}]:53\""),
            Err(_) => "write IP:PORT, for example \"192.0.2.53:53\" or \"[2001:db8::53]:53\"".to_owned(),
        };
        sink.fault(
            written.span(),
            format!("`{key}` has {text:?}, which is no IP address with a port"),
            remedy,
        )
    })
}

/// An address that is a single host's.
pub(super) fn ip(sink: &Sink<'_>, key: &str, written: &Spanned<&str>) -> Result<IpAddr, Reported> {
    let text = *written.get_ref();
    let ip = text.parse().map_err(|_| {
        sink.fault(
            written.span(),
            format!("`{key}` is {text:?}, which is no IP address"),
            "write an address without a port or length, for example \"192.0.2.1\" or \"2001:db8::1\"",
        )
    })?;
    host(sink, key, written.span(), ip)?;
    Ok(ip)
}

/// An address and port that one host can have.
pub(super) fn usable(
    sink: &Sink<'_>,
    key: &str,
    span: Range<usize>,
    address: SocketAddr,
) -> Result<(), Reported> {
    host(sink, key, span.clone(), address.ip())?;
    if address.port() == 0 {
        return Err(sink.fault(
            span,
            format!("`{key}` is {address}"),
            "write a port from 1 to 65535",
        ));
    }
    Ok(())
}

fn host(sink: &Sink<'_>, key: &str, span: Range<usize>, ip: IpAddr) -> Result<(), Reported> {
    let (is, remedy) = if ip.is_unspecified() {
        (
            "the unspecified address",
            "write the address of one host".to_owned(),
        )
    } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        ("a group address", "write the address of one host".to_owned())
    } else if let IpAddr::V6(v6) = ip
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        ("an IPv4 address in IPv6 form", format!("write {v4}"))
    } else {
        return Ok(());
    };
    Err(sink.fault(span, format!("`{key}` is {ip}, {is}"), remedy))
}

/// A BGP Identifier: any number but zero (RFC 6286 §2.1), written as an IPv4 address.
pub(super) fn router_id(sink: &Sink<'_>, field: Field<&str>) -> Result<Option<Ipv4Addr>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let text = *written.get_ref();
    match text.parse::<Ipv4Addr>() {
        Ok(id) if !id.is_unspecified() => Ok(Some(id)),
        Ok(_) | Err(_) => Err(sink.fault(
            written.span(),
            format!("`router_id` is {text:?}"),
            "write an IPv4 address other than 0.0.0.0, for example \"192.0.2.10\"",
        )),
    }
}

/// An AS number that a speaker can have.
pub(super) fn asn(sink: &Sink<'_>, needed: Needed<i128>) -> Result<Asn, Reported> {
    let written = needed?;
    let value = *written.get_ref();
    let asn = u32::try_from(value).ok().and_then(Asn::new).ok_or_else(|| {
        sink.fault(
            written.span(),
            format!("`asn` is {}", sink.written(written.span())),
            "write a number from 1 to 4294967295",
        )
    })?;
    if asn == Asn::TRANS {
        // RFC 6793 §9: reserved, since it stands in for others.
        return Err(sink.fault(
            written.span(),
            "`asn` is 23456 (AS_TRANS), which only stands in for 4-octet numbers",
            "write the true AS number; 64512 to 65534 and 4200000000 to 4294967294 are for private use",
        ));
    }
    Ok(asn)
}
