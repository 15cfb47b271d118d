//! The steps of `on_drain`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use toml::Spanned;

use crate::DrainStep;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::{Reported, Sink};

/// One step may wait this long at most.
const WAIT_MAX: Duration = Duration::from_hours(24);

pub(super) fn steps(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Vec<DrainStep>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let steps = all(written
        .get_ref()
        .0
        .iter()
        .map(|written| step(sink, written))
        .collect())?;
    let early = steps.iter().position(|step| *step == DrainStep::Withdraw);
    if let Some(behind) = early.and_then(|early| written.get_ref().0.get(early + 1)) {
        return Err(sink.conflict(
            behind.span(),
            format!("step {:?} stands behind \"withdraw\"", behind.get_ref()),
            "let \"withdraw\" be the last step",
        ));
    }
    Ok(steps)
}

fn step(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<DrainStep, Reported> {
    let text = *written.get_ref();
    parse(text).ok_or_else(|| {
        sink.fault(
            written.span(),
            format!("`on_drain` has {text:?}, which is no step"),
            "write \"graceful-shutdown\", \"prepend 1\" to \"prepend 32\", \"med 100\", \"wait 30s\", \"wait dns-horizon\", \
             \"wait streams 5m\" or \"withdraw\"; one wait is 24 h at most",
        )
    })
}

fn parse(text: &str) -> Option<DrainStep> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["graceful-shutdown"] => Some(DrainStep::GracefulShutdown),
        ["prepend", times] => {
            let times = times.parse().ok().filter(|times| (1..=32).contains(times))?;
            Some(DrainStep::Prepend(times))
        }
        ["med", value] => Some(DrainStep::Med(value.parse().ok()?)),
        ["wait", "dns-horizon"] => Some(DrainStep::WaitDnsHorizon),
        ["wait", "streams", time @ ..] => Some(DrainStep::WaitStreams(duration(time)?)),
        ["wait", time @ ..] => Some(DrainStep::Wait(duration(time)?)),
        ["withdraw"] => Some(DrainStep::Withdraw),
        _ => None,
    }
}

fn duration(words: &[&str]) -> Option<Duration> {
    let span: Span = words.join(" ").parse().ok()?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(time).ok().filter(|time| *time <= WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_what_is_none_is_not() {
        for (text, want) in [
            ("graceful-shutdown", Some(DrainStep::GracefulShutdown)),
            ("prepend 3", Some(DrainStep::Prepend(3))),
            ("prepend 0", None),
            ("prepend 33", None),
            ("med 100", Some(DrainStep::Med(100))),
            ("med -1", None),
            ("wait 30s", Some(DrainStep::Wait(Duration::from_secs(30)))),
            ("wait 1m 30s", Some(DrainStep::Wait(Duration::from_secs(90)))),
            ("wait dns-horizon", Some(DrainStep::WaitDnsHorizon)),
            (
                "wait streams 5m",
                Some(DrainStep::WaitStreams(Duration::from_mins(5))),
            ),
            ("wait", None),
            ("wait -5s", None),
            ("wait 25h", None),
            ("withdraw", Some(DrainStep::Withdraw)),
            ("withdraw now", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
