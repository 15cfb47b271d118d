//! Moments and times as people read them.

use jiff::{SpanRound, Timestamp, Unit};

/// "3m 20s": how long ago, to the second.
pub(crate) fn ago(since: Timestamp) -> String {
    between(since, Timestamp::now())
}

/// "1h 59m 3s": how long until then, to the second.
pub(crate) fn ahead(until: Timestamp) -> String {
    between(Timestamp::now(), until)
}

fn between(from: Timestamp, to: Timestamp) -> String {
    let rounded = to.since(from).and_then(|span| {
        span.round(
            SpanRound::new()
                .largest(Unit::Day)
                .smallest(Unit::Second)
                .days_are_24_hours(),
        )
    });
    rounded.map_or_else(|_| "?".to_owned(), |span| format!("{span:#}"))
}

/// "2026-01-01T14:00:00Z (in 2h)"
pub(crate) fn end(until: Timestamp) -> String {
    format!("{until:.0} (in {})", ahead(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_units() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let from = at("2026-01-01T00:00:00Z");
        let rows = [
            ("2026-01-01T00:03:20.4Z", "3m 20s"),
            ("2026-01-03T02:00:00Z", "2d 2h"),
            ("2026-01-01T00:00:00.2Z", "0s"),
        ];
        for (to, want) in rows {
            assert_eq!(between(from, at(to)), want);
        }
    }
}
