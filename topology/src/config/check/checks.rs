//! `[[check]]`: when to probe, and what judges the outcomes. What a probe does is in [`super::kinds`].

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::context::Context;
use super::{kinds, values};
use crate::config::raw::{Maybe, RawCheck, RawPhi, RawWindow};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::{
    Bgp, Check, CheckKind, Combine, DetectorRules, LatencyRules, PhiModel, PhiRules, Sources, WindowRules,
};

const HOUR: Duration = Duration::from_hours(1);

pub(super) fn checks(cx: &Context<'_, '_>, raw: List<RawCheck<'_>>) -> Result<Vec<Check>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let formulas: Vec<_> = items
        .iter()
        .map(|raw| values::span_of(&raw.of_kind.when))
        .collect();
    let checks = all(items.into_iter().map(|raw| check(cx, raw)).collect());
    whole?;
    let checks = checks?;
    for (check, span) in checks.iter().zip(formulas) {
        if let (CheckKind::Calculated { when }, Some(span)) = (&check.kind, span) {
            let is_no_probe = |id: &crate::CheckId| {
                let of = checks.get(id.0 as usize);
                of.is_some_and(|check| {
                    matches!(
                        check.kind,
                        CheckKind::Calculated { .. }
                            | CheckKind::External { .. }
                            | CheckKind::Bfd { .. }
                            | CheckKind::Load(_)
                    )
                })
            };
            if when.checks().iter().any(is_no_probe) {
                return Err(cx.sink.conflict(
                    span,
                    "`when` names a check that probes nothing itself, or gives no verdict",
                    "name checks of other kinds than \"calculated\", \"external\", \"bfd\" and \"load\"",
                ));
            }
        }
    }
    Ok(checks)
}

fn check(cx: &Context<'_, '_>, raw: RawCheck<'_>) -> Result<Check, Reported> {
    let RawCheck {
        name,
        kind,
        of_kind,
        interval,
        fast_interval,
        timeout,
        fall,
        rise,
        forget,
        detect,
        combine,
        window,
        phi,
        tripwire,
        process,
        port,
        source,
        vantage_points,
    } = raw;
    let sink = cx.sink;
    let name = values::label(sink, name);
    let span = of_kind.span.clone();
    let tripwire_span = values::span_of(&tripwire);
    let kind = kinds::kind(cx, kind, of_kind);
    let is_external = matches!(kind, Ok(CheckKind::External { .. } | CheckKind::Bfd { .. }));
    if let Ok(CheckKind::Load(_)) = &kind {
        let judging = [
            ("fast_interval", values::span_of(&fast_interval)),
            ("fall", values::span_of(&fall)),
            ("rise", values::span_of(&rise)),
            ("forget", values::span_of(&forget)),
            ("detect", values::span_of(&detect)),
            ("combine", values::span_of(&combine)),
            ("process", values::span_of(&process)),
        ];
        for (key, span) in judging {
            if let Some(span) = span {
                sink.conflict(
                    span,
                    format!("`{key}` means nothing to a check of kind \"load\", which gives no verdict"),
                    "remove it",
                );
            }
        }
    }
    let times = times(sink, interval, fast_interval, timeout);
    // Whoever reports to us has counted already.
    let (fall_default, rise_default) = if is_external { (1, 1) } else { (3, 2) };
    let fall = count(sink, "fall", fall, fall_default);
    let rise = count(sink, "rise", rise, rise_default);
    let forget = count(sink, "forget", forget, 1);
    let window = window_rules(sink, window, fall.map_or(3, NonZeroU8::get));
    let phi = phi_rules(sink, phi);
    let detect = detectors(sink, detect, window, phi, span);
    let combine = values::word(
        sink,
        "combine",
        combine,
        &[("any", Combine::Any), ("all", Combine::All)],
        Combine::Any,
    );
    let tripwire = values::flag(tripwire, false);
    if let (Ok(true), Some(span)) = (tripwire, tripwire_span) {
        tripwire_fits(sink, span, kind.as_ref().ok(), detect.as_deref().ok());
    }
    let process_span = values::span_of(&process);
    let process = process.and_then(|process| process.map(|process| pid_file(sink, &process)).transpose());
    if let (Some(span), Ok(detect)) = (process_span, &detect)
        && !detect.contains(&DetectorRules::Threshold)
    {
        needs_threshold(sink, span, "process");
    }
    let port = values::optional_int(sink, "port", port, 1..=u16::MAX);
    let source = sources(sink, source);
    let vantage_points = vantage_points_of(sink, vantage_points, kind.as_ref().ok());
    let (interval, fast_interval, timeout) = times?;
    Ok(Check {
        name: name?,
        kind: kind?,
        interval,
        fast_interval,
        timeout,
        fall: fall?,
        rise: rise?,
        forget: forget?,
        detect: detect?,
        combine: combine?,
        tripwire: tripwire?,
        process: process?,
        port: port?.and_then(NonZeroU16::new),
        source: source?,
        vantage_points: vantage_points?,
    })
}

/// Two besides its own site, so that a dead site is down for the others: one vantage point alone takes nothing down.
const VANTAGE_POINTS_MIN: u16 = 3;

/// What nothing is sent for costs nothing at a site more.
fn vantage_points_of(
    sink: &Sink<'_>,
    field: Field<i128>,
    kind: Option<&CheckKind>,
) -> Result<Option<NonZeroU16>, Reported> {
    let sends = kind.is_none_or(|kind| match kind {
        CheckKind::Http(_)
        | CheckKind::Tcp
        | CheckKind::Tls(_)
        | CheckKind::Dns(_)
        | CheckKind::Grpc(_)
        | CheckKind::Icmp
        | CheckKind::Exec { .. }
        | CheckKind::Calculated { .. } => true,
        CheckKind::External { .. } | CheckKind::Bfd { .. } | CheckKind::Load(_) => false,
    });
    if let (Some(span), false) = (values::span_of(&field), sends) {
        return Err(sink.conflict(
            span,
            "`vantage_points` means nothing to a check of this kind, which is each site's own",
            "remove it, or write a kind that probes",
        ));
    }
    let points = values::optional_int(sink, "vantage_points", field, VANTAGE_POINTS_MIN..=u16::MAX)?;
    Ok(points.and_then(NonZeroU16::new))
}

/// A held connection needs something that holds it, and its end needs somebody who takes it for a proof.
fn tripwire_fits(
    sink: &Sink<'_>,
    span: Range<usize>,
    kind: Option<&CheckKind>,
    detect: Option<&[DetectorRules]>,
) {
    let is_tcp = kind.is_none_or(|kind| match kind {
        CheckKind::Http(_) | CheckKind::Tcp | CheckKind::Tls(_) | CheckKind::Grpc(_) => true,
        CheckKind::Dns(_)
        | CheckKind::Icmp
        | CheckKind::Exec { .. }
        | CheckKind::External { .. }
        | CheckKind::Bfd { .. }
        | CheckKind::Load(_)
        | CheckKind::Calculated { .. } => false,
    });
    if !is_tcp {
        sink.conflict(
            span,
            "`tripwire` means nothing to a check of this kind",
            "remove it, or write a kind that probes over TCP",
        );
    } else if detect.is_some_and(|detect| !detect.contains(&DetectorRules::Threshold)) {
        needs_threshold(sink, span, "tripwire");
    }
}

fn needs_threshold(sink: &Sink<'_>, span: Range<usize>, key: &str) {
    sink.conflict(
        span,
        format!("`{key}` needs the detector \"threshold\", which takes a refusal for a proof"),
        format!("add \"threshold\" to `detect`, or remove `{key}`"),
    );
}

/// It need not be there yet: the process writes it.
fn pid_file(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<PathBuf, Reported> {
    let path = *written.get_ref();
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path.into());
    }
    Err(sink.fault(
        written.span(),
        format!("`process` is {path:?}"),
        "write the absolute path of a file with the number of a process, for example \"/run/nginx.pid\"",
    ))
}

/// A path has a state where BFD runs on it.
pub(super) fn paths_are_watched(
    sink: &Sink<'_>,
    checks: &[Check],
    written: Vec<Option<Range<usize>>>,
    bgp: Option<&Bgp>,
) {
    for (check, span) in checks.iter().zip(written) {
        let (CheckKind::Bfd { peer }, Some(span)) = (&check.kind, span) else {
            continue;
        };
        let mut peers = bgp.into_iter().flat_map(|bgp| &bgp.peers);
        if !peers.any(|one| one.address == *peer && one.bfd.is_some()) {
            sink.conflict(
                span,
                format!("`peer` is {peer}, with whom nobody speaks BFD"),
                "write the address of a [[bgp.peer]] that has `bfd`",
            );
        }
    }
}

/// Interval, fast interval and time-out.
fn times(
    sink: &Sink<'_>,
    interval: Field<Duration>,
    fast: Field<Duration>,
    timeout: Field<Duration>,
) -> Result<(Duration, Duration, Duration), Reported> {
    let shortest = Duration::from_millis(10);
    let second = Duration::from_secs(1);
    let interval = values::duration(sink, "interval", interval, shortest..=HOUR, second);
    // The default of one follows the other; with a bad interval any will do.
    let longest = interval.unwrap_or(HOUR);
    let half = (longest / 2).max(shortest);
    let fast = values::duration(sink, "fast_interval", fast, shortest..=longest, half);
    let default = Duration::from_millis(300).min(longest);
    let timeout = values::duration(sink, "timeout", timeout, Duration::from_millis(1)..=HOUR, default);
    Ok((interval?, fast?, timeout?))
}

fn count(sink: &Sink<'_>, key: &str, field: Field<i128>, default: u8) -> Result<NonZeroU8, Reported> {
    let count = values::int(sink, key, field, 1..=u8::MAX, default)?;
    Ok(NonZeroU8::new(count).unwrap_or(NonZeroU8::MIN))
}

/// The rules of a window, and where they are written.
type Written<T> = (T, Option<Range<usize>>);

fn detectors(
    sink: &Sink<'_>,
    field: Field<OneOrMany<&str>>,
    window: Result<Written<WindowRules>, Reported>,
    phi: Result<Written<PhiRules>, Reported>,
    check: Range<usize>,
) -> Result<Vec<DetectorRules>, Reported> {
    let names = match field? {
        None => vec!["threshold", "window"],
        Some(written) => {
            let (span, OneOrMany(list)) = (written.span(), written.into_inner());
            let words = [("threshold", "threshold"), ("window", "window"), ("phi", "phi")];
            let names = list
                .into_iter()
                .map(|one| values::word(sink, "detect", Ok(Some(one)), &words, ""));
            let mut names = all(names.collect())?;
            if names.is_empty() {
                return Err(sink.fault(
                    span,
                    "`detect` is empty",
                    "name at least one of \"threshold\", \"window\" and \"phi\"",
                ));
            }
            names.sort_by_key(|name| words.iter().position(|(word, _)| word == name));
            names.dedup();
            names
        }
    };
    let ((window, window_span), (phi, phi_span)) = (window?, phi?);
    for (name, span) in [("window", window_span), ("phi", phi_span)] {
        if let Some(span) = span
            && !names.contains(&name)
        {
            let span = if span.is_empty() { check.clone() } else { span };
            sink.conflict(
                span,
                format!("`{name}` is written, but `detect` does not name it"),
                format!("add \"{name}\" to `detect`, or remove the table"),
            );
        }
    }
    let rules = |name| match name {
        "window" => DetectorRules::Window(window.clone()),
        "phi" => DetectorRules::Phi(phi.clone()),
        _ => DetectorRules::Threshold,
    };
    Ok(names.into_iter().map(rules).collect())
}

fn window_rules(sink: &Sink<'_>, raw: Maybe<RawWindow>, fall: u8) -> Result<Written<WindowRules>, Reported> {
    let size_default = u16::from(fall).saturating_mul(2).max(10);
    let Some(raw) = raw? else {
        let rules = WindowRules {
            size: size_default,
            min_success: 50,
            recover: 80,
            latency: None,
        };
        return Ok((rules, None));
    };
    let RawWindow {
        span,
        size,
        min_success,
        recover,
        latency,
        quantile,
    } = raw;
    let size = values::int(sink, "size", size, 2..=10_000_u16, size_default);
    let min_success = values::int(sink, "min_success", min_success, 1..=100_u8, 50);
    let least = min_success.unwrap_or(1);
    let recover = values::int(sink, "recover", recover, least..=100_u8, least.max(80));
    let quantile_span = values::span_of(&quantile);
    let quantile = values::int(sink, "quantile", quantile, 1..=99_u8, 90);
    let latency = match latency? {
        None => {
            if let Some(span) = quantile_span {
                return Err(sink.conflict(
                    span,
                    "`quantile` is written, but no `latency` that it stands for",
                    "add `latency`, or remove it",
                ));
            }
            None
        }
        Some(written) => {
            let max = values::duration(
                sink,
                "latency",
                Ok(Some(written)),
                Duration::from_micros(100)..=HOUR,
                HOUR,
            )?;
            Some(LatencyRules {
                quantile: quantile?,
                max,
            })
        }
    };
    let rules = WindowRules {
        size: size?,
        min_success: min_success?,
        recover: recover?,
        latency,
    };
    Ok((rules, Some(span)))
}

fn phi_rules(sink: &Sink<'_>, raw: Maybe<RawPhi<'_>>) -> Result<Written<PhiRules>, Reported> {
    let default = PhiRules {
        threshold: 8,
        samples: 1000,
        model: PhiModel::Normal,
        pause: Duration::ZERO,
    };
    let Some(raw) = raw? else {
        return Ok((default, None));
    };
    let RawPhi {
        span,
        threshold,
        samples,
        model,
        pause,
    } = raw;
    let threshold = values::int(sink, "threshold", threshold, 1..=100_u8, default.threshold);
    let samples = values::int(sink, "samples", samples, 10..=10_000_u16, default.samples);
    let models = [("normal", PhiModel::Normal), ("empirical", PhiModel::Empirical)];
    let model = values::word(sink, "model", model, &models, default.model);
    let pause = values::duration(sink, "pause", pause, Duration::ZERO..=HOUR, default.pause);
    let rules = PhiRules {
        threshold: threshold?,
        samples: samples?,
        model: model?,
        pause: pause?,
    };
    Ok((rules, Some(span)))
}

fn sources(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Sources, Reported> {
    let mut sources = Sources::default();
    let Some(written) = field? else { return Ok(sources) };
    for one in written.into_inner().0 {
        let twice = match values::ip(sink, "source", &one)? {
            IpAddr::V4(ip) => sources.v4.replace(ip).is_some(),
            IpAddr::V6(ip) => sources.v6.replace(ip).is_some(),
        };
        if twice {
            return Err(sink.conflict(
                one.span(),
                "`source` has two addresses of one family",
                "write at most one IPv4 and one IPv6 address",
            ));
        }
    }
    Ok(sources)
}
