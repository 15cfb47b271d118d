//! `ttl` of a steered name.

use std::time::Duration;

use toml::Spanned;

use super::super::values;
use crate::Ttl;
use crate::config::check::values::span_of;
use crate::config::read::{DurationOrAuto, Field};
use crate::config::sink::{Reported, Sink};

/// RFC 2181 §8 allows 2^31 - 1 s; nobody steers with more than a week.
const WEEK: Duration = Duration::from_hours(7 * 24);

const DEFAULT: Duration = Duration::from_secs(30);
const DEFAULT_MIN: Duration = Duration::from_secs(5);
const DEFAULT_MAX: Duration = Duration::from_mins(5);

pub(super) fn ttl(
    sink: &Sink<'_>,
    ttl: Field<DurationOrAuto>,
    min: Field<Duration>,
    max: Field<Duration>,
) -> Result<Ttl, Reported> {
    let bounds = [("ttl_min", span_of(&min)), ("ttl_max", span_of(&max))];
    let min = seconds(sink, "ttl_min", min, DEFAULT_MIN);
    let max = seconds(sink, "ttl_max", max, DEFAULT_MAX);
    let written = ttl?;
    let span = written.as_ref().map(Spanned::span);
    match written.map(Spanned::into_inner) {
        Some(DurationOrAuto::Auto) => {
            let (min, max) = (min?, max?);
            if min <= max {
                return Ok(Ttl::Auto { min, max });
            }
            let place = bounds.into_iter().find_map(|(_, span)| span).unwrap_or_default();
            Err(sink.conflict(
                place,
                format!(
                    "`ttl_min` is {}, more than `ttl_max`, {}",
                    values::show(min),
                    values::show(max)
                ),
                "write a `ttl_min` that is at most `ttl_max`",
            ))
        }
        fixed => {
            let fixed = match fixed {
                Some(DurationOrAuto::Duration(fixed)) => Some(fixed),
                Some(DurationOrAuto::Auto) | None => None,
            };
            for (key, span) in bounds {
                if let Some(span) = span {
                    let message = format!("`{key}` means nothing to a fixed `ttl`");
                    sink.conflict(span, message, "remove it, or write ttl = \"auto\"");
                }
            }
            let fixed = fixed.zip(span).map(|(ttl, span)| Spanned::new(span, ttl));
            let ttl = seconds(sink, "ttl", Ok(fixed), DEFAULT)?;
            min.and(max).map(|_| Ttl::Fixed(ttl))
        }
    }
}

fn seconds(
    sink: &Sink<'_>,
    key: &str,
    field: Field<Duration>,
    default: Duration,
) -> Result<Duration, Reported> {
    let span = span_of(&field);
    let ttl = values::duration(sink, key, field, Duration::ZERO..=WEEK, default)?;
    match span {
        Some(span) => values::whole_seconds(sink, key, span, ttl),
        None => Ok(ttl),
    }
}
